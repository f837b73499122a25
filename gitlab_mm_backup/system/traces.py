"""Files of ours outside our own folders, noted for debian/postrm, which removes them with the package."""

from __future__ import annotations

import logging
from pathlib import Path

from .files import STATE, replace_file

log = logging.getLogger(__name__)

NOTES = STATE / "files-elsewhere"  # a path a line, for a shell to read


def note(path: Path, notes: Path = NOTES) -> None:
    """Note a file that was written elsewhere; where that fails it is logged, for nothing depends on it."""
    try:
        known = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
        if str(path) not in known:
            notes.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(notes, "".join(f"{one}\n" for one in [*known, path]).encode())
    except (OSError, UnicodeError) as error:
        log.info("%s is not noted in %s: %s", path, notes, error)
