"""Growth: a database that is loaded never becomes much larger than its set says that it was."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from ..errors import Failure
from ..store.manifest import Database
from ..system import humanize

if TYPE_CHECKING:
    import psycopg

_GLANCE = 2.0  # seconds between two looks
# A load packs rows and indexes more tightly than a server that has been at work.
_SPARE = 512 << 20
_SIZE = """
    SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database
    WHERE datname OPERATOR(pg_catalog.=) %s"""


class Outgrown(Failure):
    """A dump holds more than its set says."""


def limit(was: Database) -> int:
    """Return the bytes that a database may have which is loaded from the dump of ``was``."""
    return was.bytes * 3 // 2 + _SPARE


def refuse(session: psycopg.Connection[Any], name: str, most: int) -> None:
    """Raise Outgrown where the database ``name`` has more than ``most`` bytes."""
    row = session.execute(_SIZE, (name,)).fetchone()
    if row is not None and row[0] > most:
        raise Outgrown(
            "Loading the dump was ended, for the database becomes larger than its set says",
            f"it has {humanize.size(row[0])}, and may have {humanize.size(most)}",
            "Do not use this set; find out where it comes from.",
        )


def watch(
    session: psycopg.Connection[Any], name: str, was: Database, over: threading.Event
) -> None:
    """Raise Outgrown as soon as ``name``, loaded from the dump of ``was``, does; returns when ``over``.

    A server that does not answer any more ends the load itself, which says so.
    """
    import psycopg

    with contextlib.suppress(psycopg.OperationalError, psycopg.InterfaceError):
        while not over.wait(_GLANCE):
            refuse(session, name, limit(was))
