"""What people would miss in Mattermost's database, and which installation it is of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from . import untrusted
from .manifest import Contents, utc

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# Mattermost 4.6 to 11 have these columns; what is deleted has a deleteat (milliseconds since 1970).
_COUNTS = {
    "teams": "count(*) FILTER (WHERE deleteat = 0)",
    "posts": "count(*) FILTER (WHERE deleteat = 0), max(createat) FILTER (WHERE deleteat = 0)",
    "fileinfo": "count(*) FILTER (WHERE deleteat = 0),"
    " coalesce(sum(size) FILTER (WHERE deleteat = 0), 0)::bigint",
}
_SCHEMA = """
    SELECT n.nspname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = %s AND c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\\_%%' ORDER BY n.nspname <> 'public', n.nspname LIMIT 1"""
_LAST_MOMENT = 253402300799  # seconds since 1970: 9999-12-31; a bot may write any number


def installation(session: psycopg.Connection[Any]) -> str:
    """Return Mattermost's own id of itself (DiagnosticId), "" where it has none yet.

    It is made at the first start on an empty database, and comes back with every restore.
    """
    table = _table(session, "systems")
    if table is None:
        return ""
    row = _one(session, "SELECT value FROM {} WHERE name = 'DiagnosticId'", table)
    try:
        return untrusted.identifier(row[0]) if row else ""
    except ValueError:
        return ""


def count(session: psycopg.Connection[Any]) -> Contents | None:
    """Return what there is; a table that was never made has nothing.

    None where the tables are not those of a Mattermost.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for name, wanted in _COUNTS.items():
        table = _table(session, name)
        row = _one(session, f"SELECT {wanted} FROM {{}}", table) if table else (0, 0)
        if row is None:
            return None
        found[name] = row
    users = _users(session)
    if users is None:
        return None
    moment = found["posts"][1]
    return Contents(
        teams=int(found["teams"][0]),
        users=users,
        posts=int(found["posts"][0]),
        uploads=int(found["fileinfo"][0]),
        upload_bytes=max(0, int(found["fileinfo"][1])),
        last_post=_moment(moment) if moment else None,
    )


def from_rows(rows: Mapping[str, int]) -> Contents:
    """Return about the same of an older set, which knows the rows of its tables alone."""
    found = {name.rpartition(".")[2]: number for name, number in rows.items()}
    users = max(0, found.get("users", 0) - found.get("bots", 0))
    teams, posts, uploads = (found.get(name, 0) for name in ("teams", "posts", "fileinfo"))
    return Contents(teams, users, posts, uploads, 0, None)


def _users(session: psycopg.Connection[Any]) -> int | None:
    """Return how many there are; bots are none: a server that nobody uses makes some for itself."""
    users, bots = _table(session, "users"), _table(session, "bots")
    if users is None:
        return 0
    query = "SELECT count(*) FROM {} WHERE deleteat = 0"
    if bots is None:
        row = _one(session, query, users)
    else:
        row = _one(session, f"{query} AND id NOT IN (SELECT userid FROM {{}})", users, bots)
    return int(row[0]) if row else None


def _table(session: psycopg.Connection[Any], name: str) -> sql.Identifier | None:
    from psycopg import sql

    row = session.execute(_SCHEMA, (name,)).fetchone()
    return sql.Identifier(row[0], name) if row else None


def _one(
    session: psycopg.Connection[Any], query: str, *tables: sql.Identifier
) -> tuple[Any, ...] | None:
    """Return the row of a query; None where its columns are not there."""
    import psycopg
    from psycopg import sql

    try:
        with session.transaction():  # a savepoint: the snapshot goes on
            return session.execute(sql.SQL(query).format(*tables)).fetchone()
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
        return None


def _moment(milliseconds: int) -> str | None:
    seconds = int(milliseconds) // 1000
    if not 0 < seconds <= _LAST_MOMENT:
        return None
    return utc(datetime.fromtimestamp(seconds, timezone.utc))
