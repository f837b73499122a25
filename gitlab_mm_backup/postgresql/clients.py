"""PostgreSQL's client programs: dump, load and execute, each as the right account."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..system import process, progress
from ..system.private_files import InMemory
from ..system.process import DECOMPRESS, Command, Finished
from ..system.redaction import Secret
from .connection import APPLICATION, AS_STORED, ENDLESS, LOCK_SECONDS, NO_TIME_OUTS, PINNED
from .endpoint import Endpoint
from .index_builds import IndexBuilds

_AT_ONCE = 500  # statements for one psql(1): the system limits the words of a command


def dump(
    endpoint: Endpoint,
    programs: Path,
    snapshot_id: str,
    encoding: str,
    leave_out: Iterable[tuple[str, str]] = (),
    *,
    large_objects: bool = True,
    rows: bool = True,
) -> Command:
    """Return the pg_dump that writes the snapshot in custom format, uncompressed, to its output.

    ``encoding`` is the database's, because its role may have set another one. ``leave_out``:
    schema and name of tables, views and sequences. Without ``rows`` only the schema is dumped.
    """
    options = (
        "--format=custom",
        "--compress=0",
        f"--lock-wait-timeout={LOCK_SECONDS}s",
        f"--snapshot={snapshot_id}",
        *([] if rows else ["--schema-only"]),
        f"--encoding={encoding}",
        # From PostgreSQL 10 on; 16 has another name for it too.
        *([] if large_objects else ["--no-blobs"]),
        *(f"--exclude-table={_pattern(*table)}" for table in leave_out),
    )
    return _command(endpoint, programs / "pg_dump", endpoint.name, *options)


def print_rows(
    endpoint: Endpoint,
    programs: Path,
    schema: str,
    encoding: str,
    leave_out: Iterable[tuple[str, str]],
) -> Command:
    """Return the pg_dump that prints the rows of a schema as pg_restore does: COPY in text form."""
    options = (
        "--data-only",
        f"--lock-wait-timeout={LOCK_SECONDS}s",
        f"--schema={_pattern(schema)}",
        f"--encoding={encoding}",
        *(f"--exclude-table={_pattern(*table)}" for table in leave_out),
    )
    return _command(endpoint, programs / "pg_dump", endpoint.name, *options)


def _pattern(*names: str) -> str:
    """Return pg_dump's pattern for exactly this object (psql(1), Patterns)."""
    quoted = (name.replace('"', '""') for name in names)
    return ".".join(f'"{name}"' for name in quoted)


def load(
    endpoint: Endpoint,
    programs: Path,
    name: str,
    archive: Path,
    builds: IndexBuilds,
    lines: Sequence[str],
    *,
    rows: bool = False,
) -> None:
    """Load ``lines`` of the list of the compressed dump ``archive`` into the database ``name``.

    As the database's owner, so that it owns every object and the dump's SQL can do no more than
    Mattermost could. ``rows`` are loaded in one transaction: under wal_level minimal, what is
    created and filled in one transaction needs no WAL. ``builds`` counts the indexes. Raises
    Failure on the first error.
    """
    options: list[str | InMemory] = [
        "--no-owner",
        "--no-acl",
        "--no-tablespaces",
        "--exit-on-error",
        *(["--single-transaction"] if rows else []),
        "--use-list",
        InMemory(Secret("".join(lines))),
    ]
    with open(archive, "rb") as packed, contextlib.ExitStack() as shown:
        if rows:  # other passes read almost nothing
            shown.enter_context(progress.of_file("database", packed))
        said = shown.enter_context(builds.heard(lines))
        options += ["--verbose"] if said else []
        restore = _command(endpoint, programs / "pg_restore", name, *options)
        restore = dataclasses.replace(restore, errors=said)
        process.pipeline(DECOMPRESS, own_search_path(), restore, stdin=packed)


@functools.lru_cache(None)
def own_search_path() -> Command:
    """Return the program that makes a load keep its session's search_path.

    Read once: an upgrade may remove its file.
    """
    program = Path(__file__).with_name("search_path_filter.py").read_text(encoding="utf-8")
    argv = [sys.executable, "-I", "-S", "-c", program]
    return Command(argv, account="nobody", may_exit=(0, -signal.SIGPIPE))


def execute(endpoint: Endpoint, programs: Path, name: str, statements: Sequence[str]) -> None:
    """Execute ``statements`` with psql(1) in the database ``name``, as its owner.

    Raises Failure on the first error.
    """
    _psql(endpoint, programs, name, statements, "--set=ON_ERROR_STOP=1")


def try_each(endpoint: Endpoint, programs: Path, name: str, statements: Sequence[str]) -> list[str]:
    """Execute each of the statements separately; return the server's errors."""
    complaints: list[str] = []
    for at in range(0, len(statements), _AT_ONCE):
        some = statements[at : at + _AT_ONCE]
        words = _psql(endpoint, programs, name, some, "--set=VERBOSITY=terse", may_exit=(0, 1)).err
        complaints += filter(None, words.splitlines())
    return list(dict.fromkeys(complaints))


def _psql(
    endpoint: Endpoint,
    programs: Path,
    name: str,
    statements: Sequence[str],
    *more: str,
    may_exit: tuple[int, ...] = (0,),
) -> Finished:
    options = (
        "--no-psqlrc",
        "--quiet",
        *more,
        # With --command instead of a file, psql's own commands are not possible.
        *(f"--command={statement}" for statement in (ENDLESS, AS_STORED, *statements)),
    )
    command = _command(endpoint, programs / "psql", name, *options)
    return process.run(dataclasses.replace(command, may_exit=may_exit))


def _command(endpoint: Endpoint, program: Path, name: str, *options: str | InMemory) -> Command:
    """Return ``program`` connected to the database ``name`` as its owner."""
    login = endpoint.owner
    return Command(
        [
            str(program),
            f"--host={endpoint.host}",
            f"--port={endpoint.port}",
            f"--username={login.role}",
            "--no-password",
            f"--dbname={_plain(name)}",
            *options,
        ],
        account=login.account or "nobody",
        environment=_environment(endpoint),
        shared=[Path(endpoint.host)] if endpoint.by_socket else [],
    )


def _plain(name: str) -> str:
    """Return ``name`` in a form that libpq does not take for a connection string."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def _environment(endpoint: Endpoint) -> dict[str, str | InMemory]:
    """Return libpq's environment: connection options, and a password file in memory."""
    environment: dict[str, str | InMemory] = {
        "PGAPPNAME": APPLICATION,
        "PGOPTIONS": PINNED + endpoint.settings() + NO_TIME_OUTS,
        **{
            f"PG{key.upper()}": InMemory(value) if isinstance(value, Secret) else value
            for key, value in endpoint.options.items()
        },
    }
    password = endpoint.owner.password
    if password is not None:
        word = password.reveal().replace("\\", "\\\\").replace(":", "\\:")
        environment["PGPASSFILE"] = InMemory(Secret(f"*:*:*:*:{word}\n"))
    return environment
