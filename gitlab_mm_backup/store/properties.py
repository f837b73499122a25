"""Properties of a database besides tables and rows, as in a set's manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..system import validation

PUBLIC = ""  # the role that everybody has


@dataclass(frozen=True)
class Setting:
    """One of ALTER DATABASE ... SET, or of ALTER ROLE ... IN DATABASE ... SET."""

    role: str  # PUBLIC: of the database, whoever comes
    name: str
    value: str


@dataclass(frozen=True)
class Grant:
    """A privilege on the database itself."""

    role: str
    privilege: str  # CONNECT, CREATE or TEMPORARY
    grantable: bool


@dataclass(frozen=True)
class Properties:
    """The properties that pg_dump writes with --create only, and Mattermost's session settings."""

    owner: str
    role: str  # Mattermost's
    search_path: str  # of Mattermost's sessions
    tables: Mapping[str, str]  # some of Mattermost's own -> the schema in which a session finds it
    provider: str  # of the locale: libc, icu or builtin
    locale: str  # of the provider, "" for libc
    rules: str  # of ICU's locale (PostgreSQL 16)
    tablespace: str
    connection_limit: int  # -1: none
    comment: str
    grants: Sequence[Grant] | None  # None: those of every new database
    settings: Sequence[Setting]
    grantees: Sequence[str]  # roles with privileges on what is in the database
    extensions: Mapping[str, str]  # -> schema
    policies: Mapping[str, Sequence[str]]  # "schema table policy" -> roles that it names
    untrusted: Sequence[str]  # "schema function" of what only a superuser may create
    casts: Sequence[str]  # "type AS type", the same


def parse(value: Any) -> Properties | None:
    """Return the properties in a manifest; raises ValueError."""
    return None if value is None else Properties(**validation.members(value, _PROPERTIES))


def _list(inner: validation.Check) -> validation.Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("not a list")
        return tuple(inner(item) for item in value)

    return check


def _limit(value: Any) -> int:
    return -1 if value == -1 else validation.count(value)


def _grants(value: Any) -> tuple[Grant, ...] | None:
    return None if value is None else _list(_grant)(value)


def _grant(value: Any) -> Grant:
    return Grant(**validation.members(value, _GRANT))


def _setting(value: Any) -> Setting:
    return Setting(**validation.members(value, _SETTING))


_GRANT = {
    "role": validation.text,
    "privilege": validation.one_of("CONNECT", "CREATE", "TEMPORARY"),
    "grantable": validation.one_of(True, False),
}
_SETTING = dict.fromkeys(("role", "name", "value"), validation.text)
_PROPERTIES: dict[str, validation.Check] = {
    **dict.fromkeys(("owner", "role", "search_path", "locale", "rules"), validation.text),
    **dict.fromkeys(("tablespace", "comment"), validation.text),
    "tables": validation.each(validation.text, validation.text),
    "provider": validation.one_of("libc", "icu", "builtin"),
    "connection_limit": _limit,
    "grants": _grants,
    "settings": _list(_setting),
    "grantees": validation.texts,
    "extensions": validation.each(validation.text, validation.text),
    "policies": validation.each(validation.text, validation.texts),
    **dict.fromkeys(("untrusted", "casts"), validation.texts),
}
