"""What people would miss in Mattermost's database, and the id of its installation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..clock import utc
from ..store.manifest import Contents
from ..system import validation

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# Mattermost 4.6 to 11 have these columns; deleted rows have a deleteat (milliseconds since 1970).
_COUNTS = {
    "teams": "count(*) FILTER (WHERE deleteat = 0)",
    "posts": "count(*) FILTER (WHERE deleteat = 0), max(createat) FILTER (WHERE deleteat = 0)",
    "fileinfo": "count(*) FILTER (WHERE deleteat = 0),"
    " coalesce(sum(size) FILTER (WHERE deleteat = 0), 0)::bigint",
}
# Mattermost works with the first of its search_path.
_SCHEMA = """
    SELECT n.nspname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = %s AND c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\\_%%'
    ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname),
        n.nspname <> 'public', n.nspname LIMIT 1"""
# The newest, which show current problems, and a random sample of the others.
_SAMPLE = """
    (SELECT id, path FROM {0} WHERE deleteat = 0 ORDER BY createat DESC LIMIT 100)
    UNION (SELECT id, path FROM {0} WHERE deleteat = 0 ORDER BY random() LIMIT 100)"""
_LAST_MOMENT = 253402300799  # seconds since 1970: 9999-12-31; a bot may write any number


@dataclass(frozen=True)
class Upload:
    """An upload that is not deleted."""

    id: str
    path: str  # below the data directory


def installation(session: psycopg.Connection[Any]) -> str:
    """Return Mattermost's id of the installation (DiagnosticId), "" where it has none yet.

    It is created at the first start on an empty database, and restored with it.
    """
    table = _table(session, "systems")
    if table is None:
        return ""
    row = _one(session, "SELECT value FROM {} WHERE name = 'DiagnosticId'", table)
    try:
        return validation.identifier(row[0]) if row else ""
    except ValueError:
        return ""


def present(session: psycopg.Connection[Any]) -> bool:
    """Tell whether the database has tables of Mattermost: an empty one has no posts either."""
    return any(_table(session, name) is not None for name in ("posts", "users"))


def count(session: psycopg.Connection[Any]) -> Contents | None:
    """Return the counts; a missing table counts 0.

    None where the tables are not Mattermost's.
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


def sample(session: psycopg.Connection[Any]) -> list[Upload]:
    """Return up to 200 uploads to look for on disk; none where the tables are unexpected."""
    from psycopg import sql

    table = _table(session, "fileinfo")
    if table is None:
        return []
    rows = _rows(session, sql.SQL(_SAMPLE).format(table))
    return [Upload(_text(row[0]), _text(row[1])) for row in rows]


def still_named(session: psycopg.Connection[Any], uploads: Iterable[Upload]) -> set[str]:
    """Return the ids of those ``uploads`` that are still not deleted."""
    from psycopg import sql

    table = _table(session, "fileinfo")
    if table is None:
        return set()
    query = "SELECT id FROM {} WHERE deleteat = 0 AND id = ANY(%s)"
    ids = [upload.id for upload in uploads]
    return {_text(row[0]) for row in _rows(session, sql.SQL(query).format(table), ids)}


def _text(value: str | bytes) -> str:
    """Return text of a database in SQL_ASCII, which comes as bytes, like any other."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def from_rows(rows: Mapping[str, int]) -> Contents:
    """Return approximate counts for an older set, from the row counts of its tables."""
    found = {name.rpartition(".")[2]: number for name, number in rows.items()}
    users = max(0, found.get("users", 0) - found.get("bots", 0))
    teams, posts, uploads = (found.get(name, 0) for name in ("teams", "posts", "fileinfo"))
    return Contents(teams, users, posts, uploads, 0, None)


def _users(session: psycopg.Connection[Any]) -> int | None:
    """Return the number of users without bots: an unused server creates some."""
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
    """Return the row of a query; None where its columns do not exist."""
    from psycopg import sql

    return next(iter(_rows(session, sql.SQL(query).format(*tables))), None)


def _rows(
    session: psycopg.Connection[Any], query: sql.Composed, *values: object
) -> list[tuple[Any, ...]]:
    """Return the rows of a query; none where its columns do not exist."""
    import psycopg

    try:
        with session.transaction():  # a savepoint: the snapshot goes on
            return session.execute(query, values or None).fetchall()
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
        return []


def _moment(milliseconds: int) -> str | None:
    seconds = int(milliseconds) // 1000
    if not 0 < seconds <= _LAST_MOMENT:
        return None
    return utc(datetime.fromtimestamp(seconds, timezone.utc))
