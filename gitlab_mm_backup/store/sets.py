"""What of a set is not as it was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import Failure, reason
from ..system import files, progress
from .local import BackupSet
from .manifest import MANIFEST, SUMS, Part, sums, to_bytes

_CHUNK = 1 << 20


def damage(one: BackupSet, *, lent: bool = False) -> list[str]:
    """Read all of a set and return what differs from its manifest, in words; [] when whole.

    Of a set that another builds on, no more than what is ``lent`` to that matters.
    """
    if one.source is not None:
        return one.source.problems()
    problems = list(one.problems)
    try:
        known = files.read_regular(one.path / MANIFEST, links=True) == to_bytes(one.manifest)
        if not known or files.read_regular(one.path / SUMS, links=True) != sums(one.manifest):
            problems.append(f"{SUMS} and {MANIFEST} contradict each other")
    except (OSError, Failure) as error:
        problems.append(f"{SUMS}: {reason(error)}")
    here = dict(one.manifest.parts)
    if one.stream is not None:  # which is weighed as it comes
        del here["files"]
    for part in one.lent if lent else here.values():
        problem = part_problem(one.path / part.file, part)
        if problem:
            problems.append(f"{part.file}: {problem}")
    return problems


def part_problem(path: Path, part: Part) -> str:
    """Read the file of a part and return, in words, how it differs from what was written, or ""."""
    sha256 = hashlib.sha256()
    try:
        with files.open_regular(path, links=True) as file, progress.of_file(path.name, file):
            size = os.fstat(file.fileno()).st_size
            if size != part.bytes:
                return f"has {size} bytes, should have {part.bytes}"
            while piece := file.read(_CHUNK):
                sha256.update(piece)
    except FileNotFoundError:
        return "is missing"
    except (OSError, Failure) as error:
        return reason(error)
    return "" if sha256.hexdigest() == part.sha256 else "has a wrong checksum"
