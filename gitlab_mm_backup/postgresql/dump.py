"""Dump a site's database: the dump, the names and the row counts share one snapshot."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Failure
from ..store.manifest import Contents, Database
from ..store.properties import Properties
from ..system import parallel, process, progress
from ..system.process import Command, Sink
from . import catalog, clients, contents, unkept
from .catalog import Server, Unread
from .connection import (
    APPLICATION,
    LOCK_SECONDS,
    TABLE_BYTES,
    TABLES,
    administering,
    count_rows,
    within,
)
from .contents import Upload
from .endpoint import Endpoint

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
_LOOK_SECONDS = 1.0  # between two looks at who waits for us; the second one counts
_WAITING = """
    SELECT waits.pid FROM pg_catalog.pg_stat_activity waits
    WHERE waits.wait_event_type OPERATOR(pg_catalog.=) 'Lock' AND EXISTS (
        SELECT 1 FROM pg_catalog.pg_stat_activity ours
        WHERE ours.pid OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids(waits.pid))
            AND ours.application_name OPERATOR(pg_catalog.=) %s)"""


class DumpBlockedOthers(Failure):
    """Another session waited for a lock of ours; the dump was stopped to release it."""


@dataclass(frozen=True)
class Counted:
    """Counts in a snapshot."""

    rows: dict[str, int]  # schema.table -> rows
    contents: Contents | None  # None where the tables are not those of a Mattermost
    uploads: Sequence[Upload]  # some of them, to look for on the disk
    at_odds: Sequence[str]  # in words, what of the rows a restore or rehearsal will fail at
    lines: Sequence[str] = ()  # of the dump's own list


@dataclass(frozen=True)
class DatabaseSnapshot:
    """One exported snapshot of a database, as long as its session is open."""

    id: str
    database: Database  # its ``rows`` are counted by ``count`` during the dump
    installation: str  # which Mattermost it is of; "" where that is not known
    table_bytes: int  # of its tables on the server's disk, without indexes
    unread: Sequence[Unread]  # what its owner may not read, and the dump leaves out
    properties: Properties
    server: Server
    large_objects: bool  # whether its owner may read them all
    told: Sequence[str]  # what of it no restore brings back as it was
    _session: psycopg.Connection[Any]
    _watch: psycopg.Connection[Any]

    def count(self) -> Counted:
        """Count the rows of every table in the snapshot, and what people would miss."""
        session = self._session
        return Counted(
            count_rows(session),
            contents.count(session),
            contents.sample(session),
            unkept.at_odds(session),
        )

    def write_names(self, counted: Counted, sink: Sink) -> None:
        """Write the tables of NAMED in the snapshot as pg_restore prints them: COPY, and rows."""
        from psycopg import sql

        schema = self.properties.tables.get("systems", "public")
        for name in NAMED:
            if f"{schema}.{name}" not in counted.rows:
                continue
            table, session = sql.Identifier(schema, name), self._session
            values, source = _values(session, schema, name), sql.SQL("ONLY {} t").format(table)
            if name == "fileinfo" and f"{schema}.posts" in counted.rows:
                source += _posts_of_uploads(session, schema, values)
            _copy(session, table, values, source, self.database.encoding, sink)

    def cancel(self) -> None:
        """Cancel a count in another thread, which may be waiting for a lock."""
        self._session.cancel()

    def release(self) -> None:
        """Release the snapshot and its locks, when all readers are done."""
        self._session.execute("COMMIT")

    def refuse_to_block(self, over: threading.Event) -> None:
        """Raise DumpBlockedOthers when a session waits for our locks; returns when ``over``.

        We only read, but a migration of Mattermost wants an exclusive lock, and later sessions
        queue behind it (PostgreSQL manual, 13.3.1).
        """
        before: set[int] = set()
        while not over.wait(_LOOK_SECONDS):
            waiting = {row[0] for row in self._watch.execute(_WAITING, (APPLICATION,)).fetchall()}
            if waiting & before:
                raise DumpBlockedOthers(
                    "The dump blocked other sessions of the database",
                    f"{len(waiting)} sessions waited for it",
                    "Mattermost seems to be migrating; run the backup when it has finished.",
                )
            before = waiting


@contextlib.contextmanager
def snapshot(endpoint: Endpoint) -> Iterator[DatabaseSnapshot]:
    """Hold a snapshot that pg_dump can use: both then see the same state."""
    alone = endpoint.admin == endpoint.owner  # who may not come into postgres
    with within(endpoint) as session, (within if alone else administering)(endpoint) as watch:
        unread = catalog.unread(session)
        _begin_with_all_tables(session)
        row = session.execute(
            "SELECT pg_export_snapshot(), current_setting('server_version'),"
            " pg_encoding_to_char(encoding), datcollate, datctype, pg_database_size(oid),"
            f" ({TABLE_BYTES})"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        database = Database(endpoint.name, row[1].split()[0], row[2], row[3], row[4], row[5], {})
        made_of = contents.installation(session)
        beside = catalog.properties(session, watch, endpoint.name)
        left_out = {f"{table.schema}.{table.name}" for table in unread}
        left_out |= {function.replace(" ", ".", 1) for function in beside.untrusted}
        large = catalog.unread_large_objects(session)
        lines = [*large, *catalog.told(session, watch, endpoint.name, left_out)]
        lines += unkept.told(session)
        here = catalog.server(watch)
        yield DatabaseSnapshot(
            row[0],
            database,
            made_of,
            row[6],
            unread,
            beside,
            here,
            not large,
            lines,
            session,
            watch,
        )


@progress.waiting("locks")
def _begin_with_all_tables(session: psycopg.Connection[Any]) -> None:
    """Begin the snapshot's transaction with a lock on every table against being rewritten.

    Otherwise a migration that rewrites a table between snapshot and dump would make it appear
    empty (PostgreSQL manual, 13.6). Raises Failure where a table stays locked for long.
    """
    import psycopg
    from psycopg import sql

    # Less than deadlock_timeout (1 s), after which PostgreSQL may cancel a session.
    session.execute("SET lock_timeout = '500ms'")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        tables = [sql.Identifier(*row) for row in session.execute(TABLES).fetchall()]
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            if tables:
                lock = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE")
                session.execute(lock.format(sql.SQL(", ").join(tables)))
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable):
            session.execute("ROLLBACK")
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


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


def dump(
    endpoint: Endpoint,
    programs: Path,
    snapshot: DatabaseSnapshot,
    names: Sink,
    compressor: Command,
    sink: Sink,
) -> Counted:
    """Write the compressed dump of ``snapshot`` to ``sink``; return what was counted in it.

    ``names`` gets the rows of NAMED. ``programs`` is the folder of pg_dump and pg_restore. Dump and
    count run at the same time; then the snapshot and its locks are released, however long the rest
    of a backup takes. Raises DumpBlockedOthers where another session waited for an exclusive lock.
    """
    over = threading.Event()

    def read() -> Counted:
        try:
            return _read(endpoint, programs, snapshot, names, compressor, sink)
        finally:
            over.set()

    counted: Counted
    counted, _ = parallel.run_all(
        read, lambda: snapshot.refuse_to_block(over), cancel=snapshot.cancel
    )
    snapshot.release()
    return counted


def _read(
    endpoint: Endpoint,
    programs: Path,
    snapshot: DatabaseSnapshot,
    names: Sink,
    compressor: Command,
    sink: Sink,
) -> Counted:
    left_out = [(table.schema, table.name) for table in snapshot.unread]
    command = clients.dump(
        endpoint,
        programs,
        snapshot.id,
        snapshot.database.encoding,
        left_out,
        large_objects=snapshot.large_objects,
    )

    def count() -> Counted:
        counted = snapshot.count()
        snapshot.write_names(counted, names)
        return counted

    with progress.measured("database", snapshot.table_bytes, _written):
        counted: Counted
        _, counted, lines = parallel.run_all(
            lambda: process.pipeline(command, compressor, sink=sink),
            count,
            lambda: _listed(endpoint, programs, snapshot, left_out),
            cancel=snapshot.cancel,
        )
    return dataclasses.replace(counted, lines=lines)


def _listed(
    endpoint: Endpoint,
    programs: Path,
    snapshot: DatabaseSnapshot,
    left_out: Sequence[tuple[str, str]],
) -> list[str]:
    """Return the list of the dump without rows; it is read at once, wherever the dump goes."""
    encoding = snapshot.database.encoding
    command = clients.dump(endpoint, programs, snapshot.id, encoding, left_out, rows=False)
    lister = Command([str(programs / "pg_restore"), "--list"], account="nobody")
    return process.printed(command, lister).decode(errors="replace").splitlines()


def _written() -> int:
    """Return the bytes that pg_dump has written: rows as text, about as large as the tables."""
    return process.written_by("pg_dump")
