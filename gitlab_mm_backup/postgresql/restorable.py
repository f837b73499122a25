"""Objects of a dump that the database's owner cannot load.

Only the database's owner loads a dump. Objects that need a superuser are found by the type of
their entry in the dump's list (pg_restore --list).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..store.properties import Properties
from .catalog import Server

# Extensions that may be created by the superuser, in a database that is still empty: their
# functions let a plain role do no more than look, search and calculate.  Those that PostgreSQL 13
# and later trust, and those for the text search of Mattermost's own documentation.
ALLOWED = frozenset(
    (
        *("btree_gin", "btree_gist", "citext", "cube", "dict_int", "fuzzystrmatch", "hstore"),
        *("intarray", "isn", "ltree", "pg_trgm", "pgcrypto", "seg", "tablefunc", "tcn"),
        *("tsm_system_rows", "tsm_system_time", "unaccent", "uuid-ossp", "earthdistance"),
        *("dict_xsyn", "bloom", "intagg", "autoinc", "insert_username", "moddatetime", "refint"),
        *("pg_stat_statements", "pg_buffercache", "pg_freespacemap", "pg_visibility"),
        *("pgstattuple", "pgrowlocks", "pg_prewarm", "sslinfo", "amcheck", "postgres_fdw"),
        *("zhparser", "pg_jieba", "textsearch_ja", "pg_bigm", "pgroonga", "rum", "hypopg"),
    )
)
# Entries of these types are left out.  Words: what a restore lacks then; "" where other words say it.
_LEFT_OUT = {
    "EVENT TRIGGER": "Event trigger",
    "PUBLICATION": "Publication",
    "PUBLICATION TABLE": "",
    "PUBLICATION TABLES IN SCHEMA": "",
    "SUBSCRIPTION": "Subscription",
    "SUBSCRIPTION TABLE": "",
    "FOREIGN DATA WRAPPER": "Foreign-data wrapper",
    "SERVER": "Foreign server",
    "USER MAPPING": "",
    "FOREIGN TABLE": "Foreign table",
    "PROCEDURAL LANGUAGE": "Language",
    "ACCESS METHOD": "Access method",
    "OPERATOR CLASS": "Operator class",
    "OPERATOR FAMILY": "Operator family",
    "TEXT SEARCH PARSER": "Text search parser",
    "TEXT SEARCH TEMPLATE": "Text search template",
    "TRANSFORM": "Transform",
    "SECURITY LABEL": "Security label",
}
_TYPES = "|".join(sorted(_LEFT_OUT, key=len, reverse=True))
_LINE = re.compile(rf"^\d+; \d+ \d+ ({_TYPES}) (\S+) (.*)$")
# Entries about such an object: comment, privileges, label.
_SAID = re.compile(
    r"^\d+; \d+ \d+ (?:COMMENT|ACL|SECURITY LABEL) \S+ (?:EVENT TRIGGER|PUBLICATION|SUBSCRIPTION"
    r"|FOREIGN DATA WRAPPER|FOREIGN SERVER|SERVER|FOREIGN TABLE|(?:PROCEDURAL )?LANGUAGE"
    r"|ACCESS METHOD|OPERATOR CLASS|OPERATOR FAMILY|TEXT SEARCH PARSER|TEXT SEARCH TEMPLATE) "
)
_EXTENSION = re.compile(r"^\d+; \d+ \d+ (?:COMMENT - )?EXTENSION (?:- )?(\S+) ")


@dataclass(frozen=True)
class Sorted:
    """The lines of a dump's list, sorted by their treatment."""

    lines: Sequence[str]  # the owner loads them
    extensions: Sequence[str]  # the superuser creates them, before the load
    told: Sequence[str]  # in words, what is left out


def sort(lines: Sequence[str], here: Server, properties: Properties | None) -> Sorted:
    """Return the treatment of each of ``lines`` on a server."""
    extensions = _extensions(lines)
    created = _created(extensions, here)
    without = _missing(extensions, created, here)
    names, words = _withheld(properties, here)
    kept = [
        line
        for line in lines
        if not (_LINE.match(line) or _SAID.match(line) or any(name in line for name in names))
        and _extension(line) not in {*created, *without}
    ]
    if created:  # the superuser makes the schemas that these go into
        kept = [line for line in kept if not _schema_of(line, created, properties)]
    return Sorted(kept, created, [*left_out(lines), *without.values(), *words])


def left_out(lines: Sequence[str]) -> list[str]:
    """Return, as text, the objects that no restore brings back."""
    found = (_LINE.match(line) for line in lines)
    return [
        f"{_LEFT_OUT[match[1]]} {_name(match[3])} is left out by a restore; a superuser has to create it again"
        for match in found
        if match and _LEFT_OUT[match[1]]
    ]


def beyond_owner(lines: Sequence[str], here: Server, properties: Properties) -> list[str]:
    """Return, as text, what a restore on a server like ``here`` leaves out."""
    extensions = _extensions(lines)
    without = _missing(extensions, _created(extensions, here), here)
    return [*left_out(lines), *without.values(), *_functions(properties)]


def _name(tag: str) -> str:
    """Return the name before the owner at the end of a line."""
    return tag.rpartition(" ")[0] or tag


def _extension(line: str) -> str:
    found = _EXTENSION.match(line)
    return found[1] if found else ""


def _extensions(lines: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, map(_extension, lines))))


def _created(extensions: Sequence[str], here: Server) -> list[str]:
    """Return the extensions that the superuser creates: all or none, as one may need another."""
    able = [name for name in extensions if name in ALLOWED and name in here.extensions]
    return able if here.superuser and any(here.extensions[name] for name in able) else []


def _missing(extensions: Sequence[str], created: Collection[str], here: Server) -> dict[str, str]:
    """Return the extensions that are left out, and the reasons as text."""
    words = {}
    for name in extensions:
        if name not in here.extensions:
            words[name] = (
                f"Extension {name} is not installed on this server, so a restore leaves it out; what "
                "needs it cannot be loaded. Install its package first"
            )
        elif here.extensions[name] and name not in created:
            words[name] = (
                f"Extension {name} takes a superuser; a restore leaves it out, and what needs it "
                "cannot be loaded"
            )
    return words


def _withheld(properties: Properties | None, here: Server) -> tuple[list[str], list[str]]:
    """Return parts of the lines of objects left out by name, and the warnings."""
    if properties is None:
        return [], []
    parts, words = [], _functions(properties)
    for function in properties.untrusted:
        schema, _, name = function.partition(" ")
        parts += [f" FUNCTION {schema} {name}(", f" {schema} FUNCTION {name}("]
        parts += [f" PROCEDURE {schema} {name}(", f" {schema} PROCEDURE {name}("]
    for cast in properties.casts:
        parts += [f" CAST - CAST ({cast}) ", f" - CAST ({cast}) "]
    for policy, roles in properties.policies.items():
        missing = [role for role in roles if role not in here.roles]
        if missing:
            schema, table, name = [*policy.split(" ", 2), "", ""][:3]
            parts += [f" POLICY {policy} ", f" {schema} POLICY {name} ON {table} "]
            words.append(
                f"Policy {name} on {schema}.{table} is left out: there is no role "
                f"{', '.join(missing)} on this server"
            )
    return parts, words


def _functions(properties: Properties) -> list[str]:
    made = [f"Function {function.replace(' ', '.', 1)}" for function in properties.untrusted]
    made += [f"Cast ({cast})" for cast in properties.casts]
    return [
        f"{what} takes a superuser; a restore leaves it out, and what needs it cannot be loaded"
        for what in dict.fromkeys(made)
    ]


def _schema_of(line: str, created: Collection[str], properties: Properties | None) -> bool:
    schemas = {schema(name, properties) for name in created}
    return any(f" SCHEMA - {schema} " in line for schema in schemas)


def schema(extension: str, properties: Properties | None) -> str:
    """Return the schema that an extension was in."""
    return properties.extensions.get(extension, "public") if properties else "public"
