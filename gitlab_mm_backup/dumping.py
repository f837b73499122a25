"""Dumping a site's database: one snapshot for the dump and for the count of its rows."""

from __future__ import annotations

import threading

from . import clients, process, progress, tasks
from .database import Counted, Snapshot
from .process import Command, Sink
from .site import Site


def dump(site: Site, snapshot: Snapshot, compressor: Command, sink: Sink) -> Counted:
    """Write the compressed dump of ``snapshot`` to ``sink``; return what was counted in it.

    Both are read beside each other, and then the snapshot goes with its locks, however long the
    rest of a backup takes.  Raises GaveWay where somebody wanted a table alone meanwhile.
    """
    over = threading.Event()

    def read() -> Counted:
        try:
            left_out = [(one.schema, one.name) for one in snapshot.unread]
            command = clients.dump(site.database, site.client_programs, snapshot.id, left_out)
            with progress.measured("database", snapshot.table_bytes, _written):
                counted: Counted
                _, counted = tasks.together(
                    lambda: process.pipeline(command, compressor, sink=sink),
                    snapshot.count,
                    cancel=snapshot.cancel,
                )
            return counted
        finally:
            over.set()

    counted: Counted
    counted, _ = tasks.together(
        read, lambda: snapshot.refuse_to_block(over), cancel=snapshot.cancel
    )
    snapshot.release()
    return counted


def _written() -> int:
    """Return the bytes that pg_dump has written so far: rows as text, about as large as tables."""
    return process.written_by("pg_dump")
