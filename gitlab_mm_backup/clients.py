"""PostgreSQL's client programs: dump, load and execute, each as the right account."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import process, progress
from .database import APPLICATION, LOCK_SECONDS, NO_TIME_OUTS
from .private_files import InMemory
from .process import DECOMPRESS, Command
from .secret import Secret
from .site import Endpoint


def dump(
    endpoint: Endpoint, programs: Path, snapshot_id: str, leave_out: Iterable[tuple[str, str]] = ()
) -> Command:
    """Return the pg_dump that writes the snapshot in custom form, uncompressed, to its output.

    ``leave_out``: schema and name of tables and sequences.
    """
    options = (
        "--format=custom",
        "--compress=0",
        f"--lock-wait-timeout={LOCK_SECONDS}s",
        f"--snapshot={snapshot_id}",
        *(f"--exclude-table={_pattern(*one)}" for one in leave_out),
    )
    return _command(endpoint, programs / "pg_dump", endpoint.name, *options)


def _pattern(*names: str) -> str:
    """Return what pg_dump takes for this one object (psql(1), Patterns)."""
    quoted = (name.replace('"', '""') for name in names)
    return ".".join(f'"{name}"' for name in quoted)


def load(
    endpoint: Endpoint,
    programs: Path,
    name: str,
    archive: Path,
    lines: Sequence[str],
    *,
    rows: bool = False,
) -> None:
    """Load ``lines`` of the list of the compressed dump ``archive`` into the database ``name``.

    As the database's owner, so that every object is its own and the dump's SQL can do no more
    than Mattermost could.  What brings ``rows`` is done in one transaction: under wal_level
    minimal, what is created and filled in the same needs no log.  Raises Failure on the first error.
    """
    options: list[str | InMemory] = [
        "--no-owner",
        "--no-acl",
        "--exit-on-error",
        *(["--single-transaction"] if rows else []),
        "--use-list",
        InMemory(Secret("".join(lines))),
    ]
    restore = _command(endpoint, programs / "pg_restore", name, *options)
    with open(archive, "rb") as packed, contextlib.ExitStack() as shown:
        if rows:  # other passes read almost nothing
            shown.enter_context(progress.of_file("database", packed))
        process.pipeline(DECOMPRESS, restore, stdin=packed)


def execute(endpoint: Endpoint, programs: Path, name: str, statements: Sequence[str]) -> None:
    """Have psql(1) execute ``statements`` in the database ``name``, as its owner.

    Raises Failure on the first error.
    """
    options = (
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        # So, and not from a file, they are SQL alone: psql's own commands have no place there.
        *(f"--command={statement}" for statement in statements),
    )
    process.run(_command(endpoint, programs / "psql", name, *options))


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
    )


def _plain(name: str) -> str:
    """Return ``name`` so that libpq takes it for a name, not for a connection string."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def _environment(endpoint: Endpoint) -> dict[str, str | InMemory]:
    """Return libpq's environment: options of the connection, and a password file in memory."""
    environment: dict[str, str | InMemory] = {
        "PGAPPNAME": APPLICATION,
        "PGOPTIONS": endpoint.settings() + NO_TIME_OUTS,
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
