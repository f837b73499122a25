"""Dump a site's database: the dump, names and counts share one snapshot; tell what changed since."""

from __future__ import annotations

import contextlib
import dataclasses
import json
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
from . import catalog, clients, connection, contents, names, unkept
from .catalog import READABLE, Server, Unread
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


_OWN = "pg_catalog."  # the schema of PostgreSQL's own tables


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
    state: DatabaseState | None = None  # where it was asked for


@dataclass(frozen=True)
class DatabaseState:
    """What a snapshot sees, to tell later whether anything was changed since.

    Each change writes a row with a newer transaction, or leaves a table with fewer rows: the same
    number of rows, of which the same are of transactions that may be newer than the snapshot, are
    the same rows (PostgreSQL manual, 13.1 and 24.1.5). The counters of pg_stat_database are late and
    forget; the position in the WAL is that of all databases.
    """

    server: str  # start of the server: after a restart it may have another past
    database: int  # oid
    since: int  # every transaction before this one had ended
    tables: Mapping[str, Sequence[Any]]  # also PostgreSQL's own -> rows, and a sum over new ones
    sequences: Mapping[str, str]
    properties: str

    @property
    def rows(self) -> dict[str, int]:
        """The rows of every table but PostgreSQL's own."""
        return {name: rows for name, (rows, _) in self.tables.items() if not name.startswith(_OWN)}


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
    sequences: Mapping[str, str] | None  # before the dump reads them; None: no state is wanted
    _session: psycopg.Connection[Any]
    _watch: psycopg.Connection[Any]

    def count(self) -> Counted:
        """Count the rows of every table in the snapshot, and what people would miss."""
        session, state = self._session, None
        if self.sequences is not None and not self.unread and self.large_objects:
            state = _state(session, self.sequences, self.properties)
        return Counted(
            state.rows if state else count_rows(session),
            contents.count(session),
            contents.sample(session),
            unkept.at_odds(session),
            state=state,
        )

    def write_names(self, counted: Counted, sink: Sink) -> None:
        schema = self.properties.tables.get("systems", "public")
        names.write(self._session, schema, counted.rows, self.database.encoding, sink)

    def cancel(self) -> None:
        """Cancel a count in another thread, which may be waiting for a lock."""
        connection.cancel(self._session)

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
def snapshot(endpoint: Endpoint, *, watched: bool = False) -> Iterator[DatabaseSnapshot]:
    """Hold a snapshot that pg_dump can use: both then see the same state.

    ``watched`` is whether its state is wanted, for ``same``.
    """
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
            _sequences(session) if watched else None,
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
    endpoint: Endpoint,
    programs: Path,
    snapshot: DatabaseSnapshot,
    names_sink: Sink,
    compressor: Command,
    sink: Sink,
) -> Counted:
    """Write the compressed dump of ``snapshot`` to ``sink``; return what was counted in it.

    ``names_sink`` gets the names. ``programs`` is the folder of pg_dump and pg_restore. Dump and
    count run at the same time; then the snapshot and its locks are released, however long the rest
    of a backup takes. Raises DumpBlockedOthers where another session waited for an exclusive lock.
    """
    over = threading.Event()

    def read() -> Counted:
        try:
            return _read(endpoint, programs, snapshot, names_sink, compressor, sink)
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
    names_sink: Sink,
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
        snapshot.write_names(counted, names_sink)
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


# What a database may change by itself: statistics of the planner. Catalogs of the whole server are
# those of other databases too; Properties has what concerns this one.
_CATALOGS = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'pg_catalog' AND c.relkind = 'r' AND NOT c.relisshared
        AND c.relname NOT IN ('pg_statistic', 'pg_statistic_ext_data')
        AND has_table_privilege(c.oid, 'SELECT')"""
# Small ones first: where something was changed, one of them shows it before a large one is read.
_BY_SIZE = f"""
    SELECT n.nspname, c.relname FROM (({TABLES}) UNION ALL ({_CATALOGS})) every
    JOIN pg_namespace n ON n.nspname = every.nspname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = every.relname
    ORDER BY c.relpages, 1, 2"""
_SEQUENCES = f"""
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname NOT LIKE 'pg\\_%' AND {READABLE}
    ORDER BY 1, 2"""
_HERE = """
    SELECT pg_postmaster_start_time()::text, d.oid::bigint,
        txid_snapshot_xmin(txid_current_snapshot()), txid_snapshot_xmax(txid_current_snapshot())
    FROM pg_database d WHERE d.datname = current_database()"""
# Writes into large objects are in a table that the owner may not read.
_HIDDEN = """
    SELECT EXISTS (SELECT FROM pg_largeobject_metadata)
        AND NOT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')"""
# Rows, and a sum over those of transactions since then: of their transaction and place.
_ROWS = """
    SELECT count(*), coalesce(sum(('x' || substr(md5(t.xmin::text || t.ctid::text), 1, 15))::bit(60)::bigint)
        FILTER (WHERE age(t.xmin) <= {}), 0)::text
    FROM {} t"""
# Numbers of transactions wrap around at 2^32, and half of them are in the past.
_WRAP, _FARTHEST = 1 << 32, 2_000_000_000
_FIRST_TRANSACTION = 3  # the others are special (transam.h)


def _sequences(session: psycopg.Connection[Any]) -> dict[str, str]:
    from psycopg import sql

    found = {}
    for schema, name in session.execute(_SEQUENCES).fetchall():
        query = sql.SQL("SELECT (last_value, is_called)::text FROM {}")
        row = session.execute(query.format(sql.Identifier(schema, name))).fetchone()
        found[f"{schema}.{name}"] = str(row and row[0])
    return found


def _here(session: psycopg.Connection[Any]) -> tuple[str, int, int, int]:
    row = session.execute(_HERE).fetchone()
    assert row is not None
    return str(row[0]), int(row[1]), int(row[2]), int(row[3])


def _state(
    session: psycopg.Connection[Any], sequences: Mapping[str, str], properties: Properties
) -> DatabaseState | None:
    """Return the state that the session's snapshot sees; None where no later one can be compared."""
    server, database, since, _ = _here(session)
    row = session.execute(_HIDDEN).fetchone()
    if since % _WRAP < _FIRST_TRANSACTION or not row or row[0]:
        return None
    tables = dict(_rows(session, since))
    return DatabaseState(server, database, since, tables, sequences, _words(properties))


def _words(properties: Properties) -> str:
    return json.dumps(dataclasses.asdict(properties), sort_keys=True)


def _rows(session: psycopg.Connection[Any], since: int) -> Iterator[tuple[str, list[Any]]]:
    """Yield each table with its number of rows, and the sum over those that may be newer."""
    from psycopg import sql

    row = session.execute("SELECT age(%s::text::xid)", (str(since % _WRAP),)).fetchone()
    assert row is not None
    for schema, name in session.execute(_BY_SIZE).fetchall():
        query = sql.SQL(_ROWS).format(sql.Literal(row[0]), sql.Identifier(schema, name))
        found = session.execute(query).fetchone()
        yield f"{schema}.{name}", list(found or ())


def same(endpoint: Endpoint, before: DatabaseState) -> bool:
    """Tell whether nothing in the database was changed since ``before``.

    Raises Failure where it cannot be read, also where a table is locked.
    """
    alone = endpoint.admin == endpoint.owner
    with within(endpoint) as session, (within if alone else administering)(endpoint) as watch:
        if _words(catalog.properties(session, watch, endpoint.name)) != before.properties:
            return False
        session.execute("SET lock_timeout = '500ms'")
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        server, database, _, newest = _here(session)
        if (server, database) != (before.server, before.database):
            return False
        if not 0 <= newest - before.since < _FARTHEST:
            return False
        left = dict(before.tables)
        for name, rows in _rows(session, before.since):
            if left.pop(name, None) != rows:
                return False
        return not left and _sequences(session) == before.sequences


def _written() -> int:
    """Return the bytes that pg_dump has written: rows as text, about as large as the tables."""
    return process.written_by("pg_dump")
