"""Write the names of teams, channels, users and uploads: a part of a set, found without its messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..system.process import Sink
from . import contents

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

#: Tables and columns of the names of a set, as far as the database has them.
NAMED = {
    "teams": ("id", "name", "displayname", "deleteat"),
    "channels": ("id", "teamid", "type", "name", "displayname", "deleteat"),
    "users": ("id", "username", "deleteat"),
    "bots": ("userid",),
    "fileinfo": (
        *("id", "creatorid", "postid", "channelid", "createat", "deleteat", "size", "name"),
        "path",
    ),
}
# Since Mattermost 7 the row of an upload has its channel; one from before has its post's.
_LACKING = "coalesce({own}, '') = '' AND coalesce(t.postid, '') <> ''"


def write(
    session: psycopg.Connection[Any],
    schema: str,
    readable: Collection[str],
    encoding: str,
    sink: Sink,
) -> None:
    """Write the tables of NAMED as pg_restore prints them: COPY, and rows.

    ``readable`` are tables as schema.table; ``encoding`` is that of the database, as in its dump.
    """
    from psycopg import sql

    for name in NAMED:
        if f"{schema}.{name}" not in readable:
            continue
        table, values = sql.Identifier(schema, name), _values(session, schema, name)
        source: sql.Composable = sql.SQL("ONLY {} t").format(table)
        if name == "fileinfo" and f"{schema}.posts" in readable:
            source += _posts_of_uploads(session, schema, values)
        _copy(session, table, values, source, encoding, sink)


def _values(session: psycopg.Connection[Any], schema: str, table: str) -> dict[str, sql.Composable]:
    """Return the columns of NAMED that a table has, and their values in a row ``t``."""
    from psycopg import sql

    there = contents.columns(session, table, schema)
    return {name: sql.Identifier("t", name) for name in NAMED[table] if name in there}


def _posts_of_uploads(
    session: psycopg.Connection[Any], schema: str, values: dict[str, sql.Composable]
) -> sql.Composable:
    """Give uploads whose rows have no channel their post's; return the join that this needs."""
    from psycopg import sql

    posts = contents.columns(session, "posts", schema)
    if "postid" not in values or not {"id", "channelid"} <= posts.keys():
        return sql.SQL("")
    own = values.get("channelid", sql.NULL)
    lacking = sql.SQL(_LACKING).format(own=own)
    uploads = sql.Identifier(schema, "fileinfo")
    any_lacks = "SELECT 1 FROM ONLY {uploads} t WHERE {lacking} LIMIT 1"
    if not contents.ask(session, any_lacks, uploads=uploads, lacking=lacking):
        return sql.SQL("")
    values["channelid"] = sql.SQL("coalesce(nullif({}, ''), p.channelid)").format(own)
    join = " LEFT JOIN ONLY {} p ON p.id = t.postid AND {}"
    return sql.SQL(join).format(sql.Identifier(schema, "posts"), lacking)


def _copy(
    session: psycopg.Connection[Any],
    table: sql.Identifier,
    values: Mapping[str, sql.Composable],
    source: sql.Composable,
    encoding: str,
    sink: Sink,
) -> None:
    """Write COPY and the rows of ``source``, in the ``encoding`` of the database."""
    from psycopg import sql

    head = sql.SQL("COPY {} ({}) FROM stdin;\n").format(table, contents.named(*values))
    rows = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (ENCODING {})").format(
        sql.SQL(", ").join(values.values()), source, sql.Literal(encoding)
    )
    sink(memoryview(head.as_bytes(session)))
    with session.cursor().copy(rows) as pieces:
        for piece in pieces:
            sink(memoryview(piece))
    sink(memoryview(b"\\.\n"))
