"""Loading a set's database beside whatever is live, in a restore and in a rehearsal alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from . import database, exchange
from .errors import Failure
from .site import Endpoint
from .store.local import BackupSet


def load(
    set_: BackupSet,
    endpoint: Endpoint,
    programs: Path,
    name: str,
    scratch: Path,
    without: Collection[str] = (),
) -> list[str]:
    """Make the database ``name`` at ``endpoint`` and load the set's dump into it.

    ``scratch`` is a folder with room for the unpacked dump, ``without`` indexes to leave out.
    Returns warnings.  Raises Failure when the dump cannot be loaded whole.
    """
    warnings = exchange.create_beside(endpoint, name, set_.manifest.database)
    database.load(endpoint, programs, name, set_.file("database"), scratch, without)
    return warnings


def compare_rows(found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raise Failure naming each table that has not the rows that were backed up."""
    if found == wanted:
        return
    tables = [one for one in sorted({*found, *wanted}) if found.get(one) != wanted.get(one)]
    raise Failure(
        "The restored database does not have the rows that were backed up",
        "; ".join(f"{one}: {found.get(one)}, not {wanted.get(one)}" for one in tables),
        "The set's dump is not whole; choose another set.",
    )
