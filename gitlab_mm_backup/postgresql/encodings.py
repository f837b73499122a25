"""Text of databases in any encoding: asked for as UTF-8, and where the server has no idea, as bytes.

A byte that is no UTF-8 becomes a lone surrogate, as Python has it for file names, and goes back
the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

# The server converts neither (PostgreSQL manual, 24.3.4): what a session says is what is stored.
_BYTES = ("SQL_ASCII", "MULE_INTERNAL")
_TYPES = ("text", "varchar", "bpchar", "name")
_UNKNOWN, _ANY = 705, 0  # oids: of a literal, and of types that psycopg does not know
# In SQL, an encoding in which text of the database can be held against names of files.
COMPARED = (
    "CASE WHEN current_setting('server_encoding') IN ('SQL_ASCII', 'MULE_INTERNAL')"
    " THEN current_setting('server_encoding') ELSE 'UTF8' END"
)


# Has a session take text in the encoding of its database, as pg_restore writes it.
AS_STORED = (
    "SELECT pg_catalog.set_config('client_encoding',"
    " pg_catalog.current_setting('server_encoding'), false)"
)


def agree(session: psycopg.Connection[Any]) -> None:
    """Have ``session`` talk UTF-8, or bytes where the server cannot convert."""
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
    """Have ``session`` take text in the encoding of its database, as pg_restore writes it."""
    session.execute(AS_STORED)
