"""Mattermost's DataSource: a keyword string or a URL, read as Go's lib/pq and pgx read it.

Sources: lib/pq 1.10.9 (conn.go, parseOpts and isDriverSetting; url.go, ParseURL), net/url of Go
1.26, pgx 5.6 (pgconn/config.go).  libpq reads neither as these do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from ..config import settings
from ..errors import Failure
from ..system.redaction import Secret

SCHEMES = ("postgres://", "postgresql://")
# Environment variables of Mattermost's service that those drivers read.
_VARIABLES = {
    "PGHOST": "host",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGOPTIONS": "options",
}
_FILES = ("sslrootcert", "sslcert", "sslkey")
_CONNECTION = ("sslmode", *_FILES, "target_session_attrs")
# Server settings that select the tables and the role; time-outs, time zones and all others
# concern only Mattermost.
_SESSION = ("search_path", "role")
_OPTION = re.compile(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|[^\\\s])*)")
_USERINFO = re.compile(r"[A-Za-z0-9._:~!$&'()*+,;=%@-]*")  # validUserinfo of net/url
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class _Bad(Exception):
    """The text is not a valid DataSource; the reason does not quote it."""


def parse(text: str, hint: str, environment: Mapping[str, Secret] | None = None) -> dict[str, str]:
    """Return the parts of ``text`` by libpq's names, server settings included.

    Missing parts come from the ``environment`` of the service. Raises Failure with ``hint``; its
    detail never quotes the text, which holds a password.
    """
    given = environment or {}
    parts = {key: given[name].reveal() for name, key in _VARIABLES.items() if given.get(name)}
    try:
        found = _of_url(text) if text.startswith(SCHEMES) else _of_keywords(text)
        parts.update((key, value) for key, value in found.items() if value)
        _check(parts)
    except _Bad as bad:
        raise Failure("Mattermost's DataSource cannot be parsed", str(bad), hint) from None
    return parts


def _check(parts: dict[str, str]) -> None:
    for value in parts.values():
        if "\0" in value or re.search("[\ud800-\udfff]", value):
            raise _Bad("SqlSettings.DataSource holds a byte that is not UTF-8")
    if parts.get("host", "").startswith("/"):
        parts["host"] = re.sub("//+", "/", os.path.normpath(parts["host"]))


def _of_keywords(text: str) -> dict[str, str]:
    """Parse a string of key=value pairs; the last value of a repeated key counts."""
    parts, at = {}, 0
    pair = re.compile(
        r"\s*([A-Za-z_][\w.]*)\s*=\s*(?:'((?:\\.|[^'\\])*)'|((?:\\.|[^'\\\s])(?:\\.|[^\\\s])*)?)",
        re.DOTALL,
    )
    while text[at:].strip():
        match = pair.match(text, at)
        if match is None:
            raise _Bad(
                "SqlSettings.DataSource is neither a postgres:// URL nor a string of key=value pairs"
            )
        value = match[2] if match[2] is not None else match[3] or ""
        parts[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = match.end()
    return parts


def _of_url(text: str) -> dict[str, str]:
    rest = text.partition("://")[2].partition("#")[0]
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, at, where = authority.rpartition("@")  # an @ in the password is no end of it
    if not _USERINFO.fullmatch(login) or (not at and "@" in path):
        raise _Bad(
            "the user or password in the URL of SqlSettings.DataSource has to be percent-encoded "
            "(%2F for /, %3F for ?, %23 for #)"
        )
    user, _, password = login.partition(":")
    parts = {"user": _decoded(user), "password": _decoded(password), **_places(where)}
    parts["dbname"] = _decoded(path)
    asked: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        asked.setdefault(key, value)  # Query.Get of net/url: the first
    return {**parts, **{key: value for key, value in asked.items() if value}}


def _decoded(text: str) -> str:
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise _Bad("the URL of SqlSettings.DataSource has a % that is not percent-encoded (%25)")
    return unquote(text, errors="surrogateescape")


def _places(text: str) -> dict[str, str]:
    """Return the host, or several as libpq takes them, separated by commas, with their ports."""
    matches = [_HOST.fullmatch(host) for host in text.split(",")]
    places = [(match[1].strip("[]"), match[2] or "") for match in matches if match is not None]
    if len(places) != len(matches):
        raise _Bad("the URL of SqlSettings.DataSource names no host and port")
    hosts, ports = (",".join(texts) for texts in zip(*places))
    return {"host": _decoded(hosts), "port": ports if ports.strip(",") else ""}


def direct(parts: Mapping[str, str]) -> dict[str, str]:
    """Return ``parts`` with the server from our own settings, if they name one."""
    ours = settings.load()
    place = {"host": ours.database_host or "", "port": str(ours.database_port or "")}
    return {**parts, **{key: value for key, value in place.items() if value}}


def port(parts: Mapping[str, str], usual: str, hint: str) -> int | str:
    """Return the port, or one for each of several hosts; raises Failure for invalid ones."""
    ports = [port.strip() or usual for port in (parts.get("port") or usual).split(",")]
    hosts = parts.get("host", "").split(",")
    fitting = len(ports) in (1, len(hosts))
    if not fitting or not all(number.isdecimal() and 0 < int(number) < 65536 for number in ports):
        raise Failure(
            "Mattermost's DataSource cannot be parsed",
            "each host needs a port between 1 and 65535",
            hint,
        )
    return int(ports[0]) if len(set(ports)) == 1 else ",".join(ports)


def options(parts: Mapping[str, str]) -> dict[str, str | Secret]:
    """Return the connection options in ``parts``; a Secret is the content of a file.

    A socket has no TLS. Of several hosts the writable one is used, because the dump and its
    snapshot must be of the same server.
    """
    if parts.get("host", "").startswith("/"):
        return {}
    found: dict[str, str | Secret] = {key: parts[key] for key in _CONNECTION if key in parts}
    if parts.get("sslinline") == "true":
        found.update((key, Secret(parts[key])) for key in _FILES if key in parts)
    if parts.get("sslmode", "").startswith("verify") and "sslrootcert" not in found:
        found["sslrootcert"] = _AUTHORITIES  # what Go takes; libpq would look in root's home
    if "," in parts.get("host", ""):
        found.setdefault("target_session_attrs", "read-write")
    return found


def has_files(parts: Mapping[str, str]) -> bool:
    """Tell whether the connection needs files that Mattermost's account reads."""
    return parts.get("sslinline") != "true" and any(key in options(parts) for key in _FILES[1:])


def session(parts: Mapping[str, str]) -> dict[str, str]:
    """Return the server settings that our sessions need too."""
    given = {key.lower(): value for key, value in parts.items()}
    words = _OPTION.findall(given.get("options", ""))
    said = {name.lower(): re.sub(r"\\(.)", r"\1", value) for name, value in words}
    return {key: value for key in _SESSION for value in [given.get(key) or said.get(key)] if value}
