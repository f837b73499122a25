"""Connections to PostgreSQL with the right account, and what sessions count and wait for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..errors import Failure
from ..system import namespaces, progress, sandbox
from ..system.private_files import InMemory, PrivateFiles
from ..system.redaction import Secret
from . import answers, catalog, contents
from .catalog import READABLE
from .contents import Upload
from .endpoint import Endpoint, Login

if TYPE_CHECKING:
    import psycopg

# The server converts neither (PostgreSQL manual, 24.3.4): bytes are stored unchanged.
_BYTES = ("SQL_ASCII", "MULE_INTERNAL")
_TYPES = ("text", "varchar", "bpchar", "name")
_UNKNOWN, _ANY = 705, 0  # oids: of a literal, and of types that psycopg does not know
# In SQL, an encoding in which text of the database can be compared with file names.
COMPARED = (
    "CASE WHEN current_setting('server_encoding') IN ('SQL_ASCII', 'MULE_INTERNAL')"
    " THEN current_setting('server_encoding') ELSE 'UTF8' END"
)


# Sets a session to the encoding of its database, as pg_restore writes it.
AS_STORED = (
    "SELECT pg_catalog.set_config('client_encoding',"
    " pg_catalog.current_setting('server_encoding'), false)"
)
# Omnibus ends a statement, and a session that idles in a transaction, after 60 s.
NO_TIME_OUTS = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
# ALTER ROLE and ALTER DATABASE may have unsuitable settings for our sessions; a connection's options
# override them (PostgreSQL manual, 20.1.3). Not role and search_path: Mattermost's sessions need them.
PINNED = (
    "-c local_preload_libraries= -c default_transaction_read_only=off"
    " -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off"
    " -c standard_conforming_strings=on -c quote_all_identifiers=off -c row_security=on"
    " -c bytea_output=hex -c DateStyle=ISO -c IntervalStyle=postgres"
    " -c default_tablespace= -c temp_tablespaces= -c xmloption=content "
)
# Settings since PostgreSQL 14 and 17: an older server refuses a connection with them.
ENDLESS = (
    "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
    " WHERE name OPERATOR(pg_catalog.=) 'idle_session_timeout'"
    " OR name OPERATOR(pg_catalog.=) 'transaction_timeout'"
)
# Temporary tables last: by default they are searched first.
_OWN_OBJECTS = "-c search_path=pg_catalog,pg_temp "
APPLICATION = "gitlab-mm-backup"  # what our sessions call themselves in pg_stat_activity
_ROW_LOCK_SECONDS = 20  # that Mattermost may lock a row
LOCK_SECONDS = 600  # that a dump waits for an exclusive lock to be released
TABLES = f"""
    SELECT n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
        AND {READABLE}
    ORDER BY 1, 2"""
# From the catalog, as of the last VACUUM: asking for sizes would wait for locks.
TABLE_BYTES = (
    "SELECT coalesce(sum(c.relpages), 0) * current_setting('block_size')::bigint"
    " FROM pg_class c WHERE c.relkind IN ('r', 't') AND c.oid >= 16384"
)


def agree(session: psycopg.Connection[Any]) -> None:
    """Set ``session`` to UTF-8, or to bytes where the server cannot convert."""
    from psycopg.adapt import Loader
    from psycopg.types.string import StrDumperUnknown

    class Text(Loader):
        def load(self, data: bytes | bytearray | memoryview) -> str:
            return bytes(data).decode(errors="surrogateescape")

    class Dumper(StrDumperUnknown):
        def dump(self, obj: str) -> bytes:
            return obj.encode(errors="surrogateescape")

    if (session.info.parameter_status("server_encoding") or "") not in _BYTES:
        session.execute("SET client_encoding TO 'UTF8'")
    for kind in (*_TYPES, _UNKNOWN, _ANY):
        session.adapters.register_loader(kind, Text)
    session.adapters.register_dumper(str, Dumper)


def as_stored(session: psycopg.Connection[Any]) -> None:
    """Set ``session`` to the encoding of its database, as pg_restore writes it."""
    session.execute(AS_STORED)


if TYPE_CHECKING:
    import psycopg


@contextlib.contextmanager
def within(endpoint: Endpoint, name: str = "") -> Iterator[psycopg.Connection[Any]]:
    """Yield a session in the owner's database, or in its database ``name``, as the owner.

    No other role works there: functions, operators and views that a statement uses may be the
    owner's and run with the session's rights. Each statement is committed. Raises Failure when the
    server cannot be reached or refuses, and for every database error within the block.
    """
    with _session(endpoint, endpoint.owner, name or endpoint.name, endpoint.settings()) as session:
        session.execute(ENDLESS)
        yield session


@contextlib.contextmanager
def transaction(endpoint: Endpoint, *, keep: bool) -> Iterator[psycopg.Connection[Any]]:
    """Yield a session of Mattermost's own role in a transaction, which ``keep`` commits.

    Raises Failure where the database refuses, and where a row is locked for too long.
    """
    import psycopg

    with within(endpoint) as session, session.transaction(force_rollback=not keep):
        session.execute(f"SET LOCAL lock_timeout = '{_ROW_LOCK_SECONDS}s'")
        session.execute("SET LOCAL client_min_messages = error")
        try:
            yield session
        except psycopg.errors.LockNotAvailable:
            raise Failure(
                "Mattermost holds a lock on the rows to bring back",
                f"it was not released in {_ROW_LOCK_SECONDS} seconds; nothing was changed",
                "Run the command again.",
            ) from None


@contextlib.contextmanager
def administering(endpoint: Endpoint) -> Iterator[psycopg.Connection[Any]]:
    """Yield a session in ``postgres`` as the role that may create, rename and drop databases.

    For a superuser search_path is empty: until PostgreSQL 15 everybody may create objects there.
    So statements name the schema of each relation, function, type and operator. Raises Failure as
    ``within`` does.
    """
    role = endpoint.settings("role") if endpoint.admin == endpoint.owner else ""
    with _session(endpoint, endpoint.admin, "postgres", f"{role}{_OWN_OBJECTS}") as session:
        session.execute(ENDLESS)
        yield session


@contextlib.contextmanager
def as_mattermost(endpoint: Endpoint) -> Iterator[psycopg.Connection[Any]]:
    """Yield a session as Mattermost opens it, with all limits of its role."""
    with _session(
        endpoint, endpoint.owner, endpoint.name, endpoint.settings(), ours=False
    ) as session:
        yield session


@contextlib.contextmanager
def founding(endpoint: Endpoint, name: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a superuser's session in the new database ``name``, which no other role has used."""
    with _session(endpoint, endpoint.admin, name, _OWN_OBJECTS) as session:
        session.execute(ENDLESS)
        yield session


@contextlib.contextmanager
def _session(
    endpoint: Endpoint, login: Login, wanted: str, settings: str, *, ours: bool = True
) -> Iterator[psycopg.Connection[Any]]:
    import psycopg

    def connect() -> psycopg.Connection[Any]:
        with sandbox.acting_as(login.account), PrivateFiles(0) as files:
            return psycopg.connect(
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

    try:
        # A temporary server's socket has a path, and is reached in every network.
        connection = connect() if endpoint.by_socket else namespaces.at_database(connect)
        with contextlib.closing(connection):
            answers.refuse_pooler(connection)
            agree(connection)
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


@progress.waiting("PostgreSQL")
def wait_for_server(endpoint: Endpoint, seconds: float = 30) -> None:
    """Wait until the server accepts connections; one that crashed may be recovering.

    Raises Failure when it does not.
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


def server_version(session: psycopg.Connection[Any]) -> str:
    """Return the server's version: "15.14"."""
    row = session.execute("SHOW server_version").fetchone()
    assert row is not None
    return str(row[0]).split()[0]


def count_rows(session: psycopg.Connection[Any]) -> dict[str, int]:
    """Return the rows of every table that the session can see, as schema.table -> rows."""
    from psycopg import sql

    counts = {}
    for schema, table in session.execute(TABLES).fetchall():
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        row = session.execute(query).fetchone()
        assert row is not None
        counts[f"{schema}.{table}"] = int(row[0])
    return counts


def count_people(endpoint: Endpoint) -> tuple[int, int]:
    """Return the number of teams and users of Mattermost.

    Bots do not count: an unused server creates some. A database without the tables has 0 of both.
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
    """Return, as text, what of the live database is in no set and is lost by a restore."""
    with within(endpoint) as session:
        return catalog.lost_for_good(session)


def still_named(endpoint: Endpoint, uploads: Iterable[Upload]) -> set[str]:
    """Return the ids of those ``uploads`` that are still not deleted."""
    with within(endpoint) as session:
        return contents.still_named(session, uploads)


def last_post(endpoint: Endpoint) -> datetime | None:
    """Return the time of the last post; None where there is none."""
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
    """Cancel queries in other threads."""
    for session in sessions:
        namespaces.at_database(session.cancel)


def analyze(session: psycopg.Connection[Any]) -> None:
    """Update the planner's statistics, which a dump does not contain."""
    session.execute("ANALYZE")


def table_bytes(endpoint: Endpoint) -> int:
    """Return the approximate size of a database's tables on disk."""
    with within(endpoint) as session:
        row = session.execute(TABLE_BYTES).fetchone()
    assert row is not None
    return int(row[0])
