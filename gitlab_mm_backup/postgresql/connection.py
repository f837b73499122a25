"""PostgreSQL: connect as the right account, snapshot, count."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..errors import Failure
from ..store.manifest import Contents, Database
from ..store.properties import Properties
from ..system import sandbox
from ..system.private_files import InMemory, PrivateFiles
from ..system.redaction import Secret
from . import answers, catalog, contents, encodings, unkept
from .catalog import READABLE, Server, Unread
from .contents import Upload
from .endpoint import Endpoint, Login

if TYPE_CHECKING:
    import psycopg

# Omnibus ends a statement, and a session that idles in a transaction, after 60 s.
NO_TIME_OUTS = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
# ALTER ROLE and ALTER DATABASE may have set what a session of ours cannot bear; a connection's options
# win (PostgreSQL manual, 20.1.3). Not role and search_path: Mattermost's own sessions have those.
PINNED = (
    "-c local_preload_libraries= -c default_transaction_read_only=off"
    " -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off"
    " -c standard_conforming_strings=on -c quote_all_identifiers=off -c row_security=on"
    " -c bytea_output=hex -c DateStyle=ISO -c IntervalStyle=postgres"
    " -c default_tablespace= -c temp_tablespaces= -c xmloption=content "
)
# Those that came with PostgreSQL 14 and 17, for a server that does not know them refuses a
# connection that names them.
ENDLESS = (
    "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
    " WHERE name OPERATOR(pg_catalog.=) 'idle_session_timeout'"
    " OR name OPERATOR(pg_catalog.=) 'transaction_timeout'"
)
# Temporary tables come last: else they are looked at before all others.
_OWN_OBJECTS = "-c search_path=pg_catalog,pg_temp "
APPLICATION = "gitlab-mm-backup"  # what our sessions call themselves in pg_stat_activity
LOCK_SECONDS = 600  # that a dump waits for somebody who has a table alone
_LOOK_SECONDS = 1.0  # between two looks at who waits for us; the second one counts
_WAITING = """
    SELECT waits.pid FROM pg_catalog.pg_stat_activity waits
    WHERE waits.wait_event_type OPERATOR(pg_catalog.=) 'Lock' AND EXISTS (
        SELECT 1 FROM pg_catalog.pg_stat_activity ours
        WHERE ours.pid OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids(waits.pid))
            AND ours.application_name OPERATOR(pg_catalog.=) %s)"""
_TABLES = f"""
    SELECT n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
        AND {READABLE}
    ORDER BY 1, 2"""


@contextlib.contextmanager
def within(endpoint: Endpoint, name: str = "") -> Iterator[psycopg.Connection[Any]]:
    """Yield a session in the database, or in another one ``name`` of its owner, as that owner.

    Nobody else works there: whatever a statement calls may be the owner's own function, operator
    or view, and has the rights of the session that called it.  The session commits each statement.
    Raises Failure when the server cannot be reached or refuses, and for every database error
    within the block.
    """
    with _session(endpoint, endpoint.owner, name or endpoint.name, endpoint.settings()) as session:
        session.execute(ENDLESS)
        yield session


@contextlib.contextmanager
def administering(endpoint: Endpoint) -> Iterator[psycopg.Connection[Any]]:
    """Yield a session in ``postgres`` as the role that may create, rename and drop databases.

    Where that is a superuser it sees no object but PostgreSQL's own: everybody may have made
    others there, until PostgreSQL 15.  What is sent there names PostgreSQL's own besides: each
    relation, function, type and operator has its schema.  Raises Failure as ``within`` does.
    """
    role = endpoint.settings("role") if endpoint.admin == endpoint.owner else ""
    with _session(endpoint, endpoint.admin, "postgres", f"{role}{_OWN_OBJECTS}") as session:
        session.execute(ENDLESS)
        yield session


@contextlib.contextmanager
def as_mattermost(endpoint: Endpoint) -> Iterator[psycopg.Connection[Any]]:
    """Yield a session as Mattermost itself has it, with all limits that are set for its role."""
    with _session(
        endpoint, endpoint.owner, endpoint.name, endpoint.settings(), ours=False
    ) as session:
        yield session


@contextlib.contextmanager
def founding(endpoint: Endpoint, name: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield the superuser's session in the new database ``name``, where nobody else has been yet."""
    with _session(endpoint, endpoint.admin, name, _OWN_OBJECTS) as session:
        session.execute(ENDLESS)
        yield session


@contextlib.contextmanager
def _session(
    endpoint: Endpoint, login: Login, wanted: str, settings: str, *, ours: bool = True
) -> Iterator[psycopg.Connection[Any]]:
    import psycopg

    try:
        with sandbox.acting_as(login.account), PrivateFiles(0) as files:
            connection = psycopg.connect(
                host=endpoint.host,
                port=endpoint.port,
                dbname=wanted,
                user=login.role,
                password=login.password.reveal() if login.password else None,
                options=f"{PINNED}{settings}{NO_TIME_OUTS}" if ours else settings,
                connect_timeout=10,
                application_name=APPLICATION,
                autocommit=True,
                **_options(endpoint, files),
            )
        with contextlib.closing(connection):
            answers.refuse_pooler(connection)
            encodings.agree(connection)
            yield connection
    except psycopg.Error as error:
        raise answers.failure(error, wanted, login.role, endpoint) from None
    except UnicodeEncodeError:
        raise Failure(
            f"A name in {wanted} cannot be used",
            "it is not ASCII, and neither is the encoding of the database known",
        ) from None


def _options(endpoint: Endpoint, files: PrivateFiles) -> dict[str, Any]:
    return {
        key: files.resolve(InMemory(value)) if isinstance(value, Secret) else value
        for key, value in endpoint.options.items()
    }


def wait_for_server(endpoint: Endpoint, seconds: float = 30) -> None:
    """Wait until the server takes connections: one that has crashed is on its way back.

    Raises Failure when it does not come.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with administering(endpoint):
                return
        except Failure:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class GaveWay(Failure):
    """Somebody waited for a lock of ours, and got it: the work for the dump was ended."""


@dataclass(frozen=True)
class Counted:
    """What was counted in a snapshot."""

    rows: dict[str, int]  # schema.table -> rows
    contents: Contents | None  # None where the tables are not those of a Mattermost
    uploads: Sequence[Upload]  # some of them, to look for on the disk
    at_odds: Sequence[str]  # in words, what of the rows a restore or rehearsal will fail at
    lines: Sequence[str] = ()  # of the dump's own list


@dataclass(frozen=True)
class Snapshot:
    """One exported snapshot of a database, as long as its session is open."""

    id: str
    database: Database  # its ``rows`` are counted by ``count``, beside the dump
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
        """End a count in another thread, which may wait for a lock as long as it likes."""
        self._session.cancel()

    def release(self) -> None:
        """Let go of the snapshot and of its locks, when everybody has read what they wanted."""
        self._session.execute("COMMIT")

    def refuse_to_block(self, over: threading.Event) -> None:
        """Raise GaveWay as soon as somebody waits for a lock of ours; returns when it is ``over``.

        We only read, but a migration of Mattermost's wants to have its table alone, and whoever
        comes after it waits behind it (PostgreSQL manual, 13.3.1).
        """
        before: set[int] = set()
        while not over.wait(_LOOK_SECONDS):
            waiting = {row[0] for row in self._watch.execute(_WAITING, (APPLICATION,)).fetchall()}
            if waiting & before:
                raise GaveWay(
                    "The dump stood in the way of other work on the database",
                    f"{len(waiting)} sessions waited for it",
                    "Mattermost seems to be migrating; make the backup when it is done.",
                )
            before = waiting


# From the catalog, as of the last VACUUM: asking for sizes would wait for locks.
_TABLE_BYTES = (
    "SELECT coalesce(sum(c.relpages), 0) * current_setting('block_size')::bigint"
    " FROM pg_class c WHERE c.relkind IN ('r', 't') AND c.oid >= 16384"
)


def table_bytes(endpoint: Endpoint) -> int:
    """Return about how many bytes the tables of a database have on the server's disk."""
    with within(endpoint) as session:
        row = session.execute(_TABLE_BYTES).fetchone()
    assert row is not None
    return int(row[0])


@contextlib.contextmanager
def snapshot(endpoint: Endpoint) -> Iterator[Snapshot]:
    """Hold a snapshot that pg_dump can share: both then see the same moment."""
    alone = endpoint.admin == endpoint.owner  # who may not come into postgres
    with within(endpoint) as session, (within if alone else administering)(endpoint) as watch:
        unread = catalog.unread(session)
        _begin_with_all_tables(session)
        row = session.execute(
            "SELECT pg_export_snapshot(), current_setting('server_version'),"
            " pg_encoding_to_char(encoding), datcollate, datctype, pg_database_size(oid),"
            f" ({_TABLE_BYTES})"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        database = Database(endpoint.name, row[1].split()[0], row[2], row[3], row[4], row[5], {})
        made_of = contents.installation(session)
        beside = catalog.properties(session, watch, endpoint.name)
        left_out = {f"{one.schema}.{one.name}" for one in unread}
        left_out |= {one.replace(" ", ".", 1) for one in beside.untrusted}
        large = catalog.unread_large_objects(session)
        told = [*large, *catalog.told(session, watch, endpoint.name, left_out)]
        told += unkept.told(session)
        here = catalog.server(watch)
        yield Snapshot(
            row[0],
            database,
            made_of,
            row[6],
            unread,
            beside,
            here,
            not large,
            told,
            session,
            watch,
        )


def _begin_with_all_tables(session: psycopg.Connection[Any]) -> None:
    """Begin the transaction of a snapshot with every table locked against being rewritten.

    A migration that rewrites a table between snapshot and dump would leave it empty to the
    snapshot (PostgreSQL manual, 13.6).  Raises Failure where a table is not to be had for long.
    """
    import psycopg
    from psycopg import sql

    # Less than the second after which PostgreSQL takes a wait for a deadlock, and ends somebody.
    session.execute("SET lock_timeout = '500ms'")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        tables = [sql.Identifier(*one) for one in session.execute(_TABLES).fetchall()]
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


def server_version(session: psycopg.Connection[Any]) -> str:
    """Return the server's version: "15.14"."""
    row = session.execute("SHOW server_version").fetchone()
    assert row is not None
    return str(row[0]).split()[0]


def count_rows(session: psycopg.Connection[Any]) -> dict[str, int]:
    """Return the rows of every table that the session can see, as schema.table -> rows."""
    from psycopg import sql

    counts = {}
    for schema, table in session.execute(_TABLES).fetchall():
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        row = session.execute(query).fetchone()
        assert row is not None
        counts[f"{schema}.{table}"] = int(row[0])
    return counts


def count_people(endpoint: Endpoint) -> tuple[int, int]:
    """Return how many teams and users Mattermost has.

    Bots are no users: a server that nobody has ever used makes some for itself.  A database
    whose tables were never made has none of either.
    """
    with within(endpoint) as session:
        there = session.execute(
            "SELECT to_regclass('teams') IS NOT NULL, to_regclass('users') IS NOT NULL,"
            " to_regclass('bots') IS NOT NULL"
        ).fetchone()
        assert there is not None
        teams = "SELECT count(*) FROM teams" if there[0] else "SELECT 0"
        users = "SELECT count(*) FROM users" if there[1] else "SELECT 0"
        if there[1] and there[2]:
            users += " WHERE id NOT IN (SELECT userid FROM bots)"
        row = session.execute(f"SELECT ({teams}), ({users})").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def lost_for_good(endpoint: Endpoint) -> list[str]:
    """Return, in words, what no set of the live database holds, and a restore replaces."""
    with within(endpoint) as session:
        return catalog.lost_for_good(session)


def still_named(endpoint: Endpoint, uploads: Iterable[Upload]) -> set[str]:
    """Return the ids of those ``uploads`` that are not deleted by now."""
    with within(endpoint) as session:
        return contents.still_named(session, uploads)


def last_post(endpoint: Endpoint) -> datetime | None:
    """Return when somebody last posted something; None where nobody has."""
    with within(endpoint) as session:
        there = session.execute("SELECT to_regclass('posts') IS NOT NULL").fetchone()
        row = (
            session.execute("SELECT max(createat) FROM posts").fetchone()
            if there and there[0]
            else None
        )
    if row is None or row[0] is None:
        return None
    return datetime.fromtimestamp(row[0] / 1000, timezone.utc)


def cancel(*sessions: psycopg.Connection[Any]) -> None:
    """End what is asked in other threads."""
    for session in sessions:
        session.cancel()


def analyze(session: psycopg.Connection[Any]) -> None:
    """Give the planner its statistics: a dump brings none."""
    session.execute("ANALYZE")
