"""Sets that look emptied and are right so: an administrator has said it on this host."""

from __future__ import annotations

from pathlib import Path

from ..system import files, validation
from ..system.files import STATE

FILE = STATE / "accepted.json"


def names(path: Path | None = None) -> frozenset[str]:
    """Return the names of these sets; none where the file cannot be read: that removes nothing."""
    try:
        return frozenset(files.read_state(path or FILE, validation.texts))
    except files.unreadable_state:
        return frozenset()


def add(name: str, path: Path | None = None) -> None:
    """Note that a set is right as it is; raises Failure where that cannot be written."""
    files.write_state(path or FILE, sorted({*names(path), name}))
