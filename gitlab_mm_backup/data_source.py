"""Mattermost's DataSource: a keyword string or a URL, as Go's lib/pq takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import Failure

_OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey")


def parse(text: str, hint: str) -> dict[str, str]:
    """Return the parts of ``text`` by libpq's names; raises Failure with ``hint``.

    The detail of a failure never quotes it, for it holds a password.
    """
    import psycopg.conninfo

    # An option of Go's lib/pq alone, which Mattermost's own documents recommend.
    text = re.sub(r"(^|[?&\s])binary_parameters=[^&\s]*&?", r"\1", text).rstrip("?& ")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        raise Failure(
            "Mattermost's DataSource cannot be understood",
            "SqlSettings.DataSource is neither a keyword string nor a postgres:// URL",
            hint,
        ) from None
    return {key: str(value) for key, value in parts.items() if value is not None}


def port(text: str, hint: str) -> int:
    """Return the one port in ``text``; raises Failure for a list of them and for nonsense."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Failure(
            "Mattermost's DataSource cannot be understood",
            "one port of PostgreSQL is wanted, between 1 and 65535",
            hint,
        )
    return int(text)


def options(parts: Mapping[str, str]) -> dict[str, str]:
    """Return what of ``parts`` says how to connect."""
    return {key: parts[key] for key in _OPTIONS if key in parts}
