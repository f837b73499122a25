"""Dumping a site's database: one snapshot for the dump and for the count of its rows."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

from ..system import parallel, process, progress
from ..system.process import Command, Sink
from . import clients
from .connection import Counted, Snapshot
from .endpoint import Endpoint


def dump(
    endpoint: Endpoint, programs: Path, snapshot: Snapshot, compressor: Command, sink: Sink
) -> Counted:
    """Write the compressed dump of ``snapshot`` to ``sink``; return what was counted in it.

    ``programs`` is the folder of pg_dump and pg_restore.

    Both are read beside each other, and then the snapshot goes with its locks, however long the
    rest of a backup takes.  Raises GaveWay where somebody wanted a table alone meanwhile.
    """
    over = threading.Event()

    def read() -> Counted:
        try:
            left_out = [(one.schema, one.name) for one in snapshot.unread]
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
                lines: list[str]
                _, counted, lines = parallel.together(
                    lambda: process.pipeline(command, compressor, sink=sink),
                    snapshot.count,
                    lambda: _listed(endpoint, programs, snapshot, left_out),
                    cancel=snapshot.cancel,
                )
            return dataclasses.replace(counted, lines=lines)
        finally:
            over.set()

    counted: Counted
    counted, _ = parallel.together(
        read, lambda: snapshot.refuse_to_block(over), cancel=snapshot.cancel
    )
    snapshot.release()
    return counted


def _listed(
    endpoint: Endpoint, programs: Path, snapshot: Snapshot, left_out: Sequence[tuple[str, str]]
) -> list[str]:
    """Return the list of the dump, without its rows: wherever the dump goes, it is read at once."""
    encoding = snapshot.database.encoding
    command = clients.dump(endpoint, programs, snapshot.id, encoding, left_out, rows=False)
    lister = Command([str(programs / "pg_restore"), "--list"], account="nobody")
    return process.printed(command, lister).decode(errors="replace").splitlines()


def _written() -> int:
    """Return the bytes that pg_dump has written so far: rows as text, about as large as tables."""
    return process.written_by("pg_dump")
