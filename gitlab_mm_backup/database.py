"""PostgreSQL: connect as the right account, snapshot, dump, load beside, exchange."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import process, progress
from .errors import Failure
from .manifest import Database
from .private_files import InMemory, OpenFile
from .process import DECOMPRESS, Command
from .secret import Secret
from .site import Endpoint, Login

if TYPE_CHECKING:
    import psycopg

# Omnibus ends a statement, and a session that idles in a transaction, after 60 s.
_NO_TIME_OUTS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
APPLICATION = "gitlab-mm-backup"  # what our sessions call themselves in pg_stat_activity
_MOST_JOBS = 4  # more compete with each other for the disk, and with GitLab
# Entries of a dump's list that belong to the server, not to Mattermost's role: the plain role
# may not touch them, and every target has its own (pg_dump up to 10 lists them always; the
# last is PgBouncer's helper on Omnibus).
_NOT_OURS = re.compile(
    r"^\d+; \d+ \d+ (?:SCHEMA - public|EXTENSION - plpgsql|COMMENT - EXTENSION plpgsql"
    r"|COMMENT - SCHEMA public|ACL - SCHEMA public|(?:ACL )?FUNCTION public pg_shadow_lookup)\b"
)
_INDEX_LINE = re.compile(r"^\d+; \d+ \d+ INDEX (\S+) (\S+) ")
_EXTENSION_LINE = re.compile(r"^\d+; \d+ \d+ EXTENSION - (\S+) ")
_SEARCH_INDEX = re.compile(r"^CREATE INDEX (\S+) ON (\S+)\.\S+ USING gin \(to_tsvector\(", re.M)
_TABLES = """
    SELECT n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    ORDER BY 1, 2"""


@contextlib.contextmanager
def connect(
    endpoint: Endpoint, login: Login, name: str | None = None
) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection in autocommit mode to ``endpoint``, or to another database ``name``.

    Raises Failure when the server cannot be reached or refuses, and for every database error
    within the block.
    """
    import psycopg

    wanted = name or endpoint.name
    try:
        with process.acting_as(login.account):
            connection = psycopg.connect(
                host=endpoint.host,
                port=endpoint.port,
                dbname=wanted,
                user=login.role,
                password=login.password.reveal() if login.password else None,
                options=_NO_TIME_OUTS,
                connect_timeout=10,
                application_name=APPLICATION,
                autocommit=True,
                **dict(endpoint.options),  # type: ignore[arg-type]
            )
        with contextlib.closing(connection):
            yield connection
    except psycopg.Error as error:
        raise _failure(error, wanted, endpoint) from None


def wait_for_server(endpoint: Endpoint, seconds: float = 30) -> None:
    """Wait until the server takes connections: one that has crashed is on its way back.

    Raises Failure when it does not come.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with connect(endpoint, endpoint.admin, "postgres"):
                return
        except Failure:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _failure(error: psycopg.Error, name: str, endpoint: Endpoint) -> Failure:
    import psycopg

    detail = str(error).strip()
    if (
        isinstance(error, psycopg.OperationalError)
        and f'database "{name}" does not exist' in detail
    ):
        return Failure(
            f"There is no database {name}",
            detail,
            "gitlab-ctl reconfigure creates it where Mattermost is enabled.",
        )
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return Failure(
            "PostgreSQL does not answer",
            detail,
            f"Is it running at {endpoint.host} port {endpoint.port}? gitlab-ctl status postgresql; "
            "gitlab-ctl start postgresql",
        )
    return Failure(f"PostgreSQL refused the work on {name}", detail)


@dataclass(frozen=True)
class Snapshot:
    """One exported snapshot of a database, as long as its session is open."""

    id: str
    database: Database  # its ``rows`` are counted by ``count``, beside the dump
    _session: psycopg.Connection[Any]

    def count(self) -> dict[str, int]:
        """Return the rows of every table in the snapshot, as schema.table -> rows."""
        return count_rows(self._session)

    def cancel(self) -> None:
        """End a count in another thread, which may wait for a lock as long as it likes."""
        self._session.cancel()


@contextlib.contextmanager
def snapshot(endpoint: Endpoint) -> Iterator[Snapshot]:
    """Hold a snapshot that pg_dump can share: both then see the same moment."""
    with connect(endpoint, endpoint.admin) as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = session.execute(
            "SELECT pg_export_snapshot(), current_setting('server_version'),"
            " pg_encoding_to_char(encoding), datcollate, datctype, pg_database_size(oid)"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        database = Database(endpoint.name, row[1].split()[0], row[2], row[3], row[4], row[5], {})
        yield Snapshot(row[0], database, session)


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
    with connect(endpoint, endpoint.admin) as session:
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


def dump(endpoint: Endpoint, programs: Path, snapshot_id: str) -> Command:
    """Return the pg_dump that writes the snapshot in custom form, uncompressed, to its output."""
    return Command(
        [
            str(programs / "pg_dump"),
            *_where(endpoint, endpoint.admin, endpoint.name),
            "--format=custom",
            "--compress=0",
            f"--snapshot={snapshot_id}",
        ],
        account=endpoint.admin.account or "nobody",
        environment=_password(endpoint, endpoint.admin),
    )


def load(
    endpoint: Endpoint,
    programs: Path,
    name: str,
    archive: Path,
    scratch: Path,
    without: Collection[str] = (),
) -> None:
    """Load the compressed dump ``archive`` into the empty database ``name``.

    As Mattermost's own role, so that every object is owned by it and the dump's SQL can do no
    more than Mattermost could.  Parallel jobs need a file to seek in: the dump is unpacked to one
    without a name in the folder ``scratch``.  ``without`` names indexes to leave out, each as
    schema.index.  Raises Failure on the first error.
    """
    lines = [line for line in contents(programs, archive) if not _NOT_OURS.match(line)]
    ours = "".join(line for line in lines if _index_name(line) not in without)
    with open(archive, "rb") as packed, _nameless(scratch) as unpacked:
        with progress.of_file("database", packed):
            process.pipeline(DECOMPRESS, stdin=packed, sink=unpacked.write)
        unpacked.flush()
        restore = Command(
            [
                str(programs / "pg_restore"),
                *_where(endpoint, endpoint.owner, name),
                f"--jobs={min(_MOST_JOBS, os.cpu_count() or 1)}",
                "--no-owner",
                "--no-acl",
                "--exit-on-error",
                "--use-list",
                InMemory(Secret(ours)),
                OpenFile(unpacked),
            ],
            account=endpoint.owner.account or "nobody",
            environment=_password(endpoint, endpoint.owner),
        )
        process.run(restore)
    with connect(endpoint, endpoint.admin, name) as session:
        session.execute("ANALYZE")


@contextlib.contextmanager
def _nameless(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a file that has no name, so that nothing of it is left however this ends."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        raise Failure(f"The dump cannot be unpacked in {folder}", str(error.strerror)) from error


def contents(programs: Path, archive: Path) -> list[str]:
    """Return the lines of the compressed dump's list of contents (pg_restore --list)."""
    pieces: list[bytes] = []
    listing = Command([str(programs / "pg_restore"), "--list"], account="nobody")
    with open(archive, "rb") as packed:
        process.pipeline(DECOMPRESS, listing, stdin=packed, sink=pieces.append)
    return b"".join(pieces).decode(errors="surrogateescape").splitlines(keepends=True)


def _index_name(line: str) -> str:
    """Return schema.index of a line that stands for an index, "" for any other."""
    found = _INDEX_LINE.match(line)
    return f"{found[1]}.{found[2]}" if found else ""


def extensions(programs: Path, archive: Path) -> list[str]:
    """Return the names of the extensions that the dump was made with."""
    found = (_EXTENSION_LINE.match(line) for line in contents(programs, archive))
    return [one[1] for one in found if one]


def rows_in(programs: Path, archive: Path, table: str) -> list[list[str]]:
    """Return the rows of public.``table`` in the compressed dump, each a list of its columns.

    All of the dump is read for it.  No rows where there is no such table.
    """
    pieces: list[bytes] = []
    wanted = ["--data-only", "--schema=public", f"--table={table}", "--file=-"]
    extract = Command([str(programs / "pg_restore"), *wanted], account="nobody")
    with open(archive, "rb") as packed:
        process.pipeline(DECOMPRESS, extract, stdin=packed, sink=pieces.append)
    text = b"".join(pieces).decode(errors="surrogateescape")
    copied = re.search(r"^COPY [^\n]* FROM stdin;\n(.*?)^\\\.$", text, re.M | re.S)
    return [line.split("\t") for line in copied[1].splitlines()] if copied else []


def search_indexes(programs: Path, archive: Path) -> list[str]:
    """Return the dump's full text search indexes, each as schema.index, by their definitions.

    They take two thirds of a load's time, and nothing but the search needs them.
    """
    pieces: list[bytes] = []
    definitions = Command(
        [str(programs / "pg_restore"), "--section=post-data", "--file=-"], account="nobody"
    )
    with open(archive, "rb") as packed:
        process.pipeline(DECOMPRESS, definitions, stdin=packed, sink=pieces.append)
    found = _SEARCH_INDEX.findall(b"".join(pieces).decode(errors="surrogateescape"))
    return [f"{schema}.{name}" for name, schema in found]


def _where(endpoint: Endpoint, login: Login, name: str) -> list[str]:
    place = [f"--host={endpoint.host}", f"--port={endpoint.port}"]
    return [*place, f"--username={login.role}", "--no-password", f"--dbname={_plain(name)}"]


def _plain(name: str) -> str:
    """Return ``name`` so that libpq takes it for a name, not for a connection string."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def _password(endpoint: Endpoint, login: Login) -> dict[str, str | InMemory]:
    """Return libpq's environment: options of the connection, and a password file in memory."""
    environment: dict[str, str | InMemory] = {
        f"PG{key.upper()}": value for key, value in endpoint.options.items()
    }
    if login.password is not None:
        word = login.password.reveal().replace("\\", "\\\\").replace(":", "\\:")
        environment["PGPASSFILE"] = InMemory(Secret(f"*:*:*:*:{word}\n"))
    return environment
