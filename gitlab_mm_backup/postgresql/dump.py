"""Dump a site's database: the dump and the row counts share one snapshot."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
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


def dump(
    endpoint: Endpoint, programs: Path, snapshot: DatabaseSnapshot, compressor: Command, sink: Sink
) -> Counted:
    """Write the compressed dump of ``snapshot`` to ``sink``; return what was counted in it.

    ``programs`` is the folder of pg_dump and pg_restore. Dump and count run at the same time; then
    the snapshot and its locks are released, however long the rest of a backup takes. Raises
    DumpBlockedOthers where another session waited for an exclusive lock.
    """
    over = threading.Event()

    def read() -> Counted:
        try:
            left_out = [(table.schema, table.name) for table in snapshot.unread]
            command = clients.dump(
                endpoint,
                programs,
                snapshot.id,
                snapshot.database.encoding,
                left_out,
                large_objects=snapshot.large_objects,
            )
            with progress.measured("database", snapshot.table_bytes, _written):
                counted: Counted
                _, counted, lines = parallel.run_all(
                    lambda: process.pipeline(command, compressor, sink=sink),
                    snapshot.count,
                    lambda: _listed(endpoint, programs, snapshot, left_out),
                    cancel=snapshot.cancel,
                )
            return dataclasses.replace(counted, lines=lines)
        finally:
            over.set()

    counted: Counted
    counted, _ = parallel.run_all(
        read, lambda: snapshot.refuse_to_block(over), cancel=snapshot.cancel
    )
    snapshot.release()
    return counted


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
