"""Where evidence is kept: in each set, and for all sets that ever were in a history of this host."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from .. import clock
from ..errors import Failure
from ..system import lock
from ..system.files import replace_file
from . import check_records
from .check_records import EVIDENCE, Record
from .local import BackupSet

log = logging.getLogger(__name__)

HISTORY = Path("/var/lib/gitlab-mm-backup/rehearsals.jsonl")
_MOST_IN_SET = 30  # a nightly rehearsal of all sets must not grow each of them for ever
_MOST_IN_HISTORY = 2000
_LARGEST = 16 << 20  # bytes; more is no file of ours


def of_set(set_: BackupSet) -> list[Record]:
    """Return what was proven of ``set_``, the oldest first; nothing where it cannot be read.

    What was noted by a clock that was ahead proves nothing until that time has come.
    """
    return _dated(_all_of_set(set_))


def _dated(found: list[Record]) -> list[Record]:
    now = clock.now()
    return [one for one in found if not clock.ahead(one.made, now)]


def _all_of_set(set_: BackupSet) -> list[Record]:
    path = set_.path / EVIDENCE
    data = _read(path)
    try:
        return check_records.parse(data, str(path)) if data else []
    except Failure as failure:
        log.info("%s", failure)
        return []


def history(path: Path = HISTORY) -> list[Record]:
    """Return the records of all sets, the oldest first; a line that a power cut tore is left out."""
    return _dated(_all(path))


def _all(path: Path) -> list[Record]:
    found = []
    for line in _read(path).splitlines():
        with contextlib.suppress(Failure):
            found.append(check_records.parse_line(line, str(path)))
    return found


def keep(set_: BackupSet, record: Record, path: Path = HISTORY) -> list[str]:
    """Note ``record`` in the set and in the history; return warnings where it cannot be noted.

    A rehearsal and another command may do so at the same time: neither loses the other's.
    """
    warnings = []
    try:
        with lock.noting(set_.path):
            kept = [*_all_of_set(set_), record][-_MOST_IN_SET:]
            replace_file(set_.path / EVIDENCE, check_records.to_bytes(kept))
    except OSError as error:
        warnings.append(f"The result is not noted in the set: {set_.path}: {error.strerror}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock.noting(path.parent):
            lines = [
                check_records.to_line(one) for one in [*_all(path), record][-_MOST_IN_HISTORY:]
            ]
            replace_file(path, b"".join(lines))
    except OSError as error:
        warnings.append(f"The result is not noted in the history: {path}: {error.strerror}")
    return warnings


def _read(path: Path) -> bytes:
    """Return the file's bytes; none where there is no file, or one that cannot be ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return b""
