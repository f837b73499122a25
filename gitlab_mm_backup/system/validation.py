"""Checks of documents that somebody else may have written: each returns the value or refuses it.

All raise ValueError, with a detail that is short and printable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from . import clock

_SHA256 = re.compile(r"[0-9a-f]{64}")

Check = Callable[[Any], Any]


def members(
    value: Any, checks: Mapping[str, Check], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Return the object ``value`` with each member checked; all must be there, and no other."""
    if (
        not isinstance(value, dict)
        or not checks.keys() - set(optional) <= value.keys() <= checks.keys()
    ):
        raise ValueError(f"an object must have exactly: {', '.join(checks)}")
    return {name: checks[name](inner) for name, inner in value.items()}


def text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"not a text: {ascii(value)[:40]}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"not a text: {ascii(value)[:40]}") from None
    return value


def line(value: Any) -> str:
    """Accept a text that can be shown on one line as it is."""
    if not text(value).isprintable():
        raise ValueError(f"not one printable line: {ascii(value)[:40]}")
    return str(value)


def instant(value: Any) -> str:
    """Accept a moment as RFC 3339 has it, with its zone."""
    if clock.moment(text(value)).tzinfo is None:
        raise ValueError("a time without its zone")
    return str(value)


def identifier(value: Any) -> str:
    """Accept the id of a host or of an installation, or "" for one that is not known."""
    if not re.fullmatch(r"[0-9A-Za-z._-]{0,64}", text(value)):
        raise ValueError(f"not an id: {ascii(value)[:40]}")
    return str(value)


def path(value: Any) -> str:
    """Accept an absolute path, of whatever bytes; they come as surrogates (PEP 383)."""
    if not isinstance(value, str) or "\0" in value or not value.startswith("/"):
        raise ValueError(f"not an absolute path: {ascii(value)[:40]}")
    if ".." in value.split("/"):
        raise ValueError(f"a path that climbs: {ascii(value)[:40]}")
    os.fsencode(value)
    return value


def paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return tuple(path(one) for one in value)


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return tuple(text(one) for one in value)


def bytes_as_text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("not the target of a link")
    os.fsencode(value)
    return value


def variables(value: Any) -> dict[str, str]:
    """Accept the variables of a service: names and values that execve(2) takes."""
    if not isinstance(value, dict):
        raise ValueError("not an object of variables")
    for name, content in value.items():
        if not name or re.search(r"[=\0/]", name):
            raise ValueError(f"not the name of a variable: {ascii(name)[:40]}")
        for one in (name, content):
            if not isinstance(one, str) or "\0" in one:
                raise ValueError(f"not the value of a variable: {ascii(name)[:40]}")
            try:
                os.fsencode(one)
            except UnicodeEncodeError:
                raise ValueError(f"no bytes for the variable {ascii(name)[:40]}") from None
    return value


def count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"not a count: {ascii(value)[:40]}")
    return int(value)


def seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError("not a length of time")
    return float(value) if isinstance(value, float) else int(value)


def sha256(value: Any) -> str:
    if not _SHA256.fullmatch(text(value)):
        raise ValueError("not a SHA-256 checksum")
    return str(value)


def one_of(*allowed: object) -> Check:
    def check(value: Any) -> Any:
        if not any(value is one or (isinstance(one, str) and value == one) for one in allowed):
            raise ValueError(f"unknown value {ascii(value)[:40]}")
        return value

    return check


def each(key: Check, inner: Check) -> Check:
    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return {key(name): inner(one) for name, one in value.items()}

    return check
