"""What fstab(5) wants mounted, held against what is."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from ..errors import Failure
from . import documents, process
from .process import Command


def mounts() -> set[Path]:
    """Return every place where something is mounted, bind mounts too (proc(5), mountinfo).

    Comparing devices, as os.path does, misses those, and errs on plain files of an overlay.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return {Path(_unescape(line.split(" ")[4])) for line in lines}


def is_mount(path: Path) -> bool:
    return Path(os.path.realpath(path)) in mounts()


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


log = logging.getLogger(__name__)

TABLE = Path("/etc/fstab")


def refuse_unmounted(folder: Path, table: Path = TABLE) -> None:
    """Raise Failure where ``folder`` would come to lie on a disk that is not mounted."""
    real = Path(os.path.realpath(folder))
    for place in unmounted(table):
        if place == real or place in real.parents:
            raise Failure(
                f"The disk of {folder} is not mounted",
                f"{table} has {place}, and nothing is mounted there",
                f"Mount it, then try again: mount {place}. Nothing was written.",
            )


def unmounted(table: Path = TABLE) -> list[Path]:
    """Return the mount points in ``table``, links followed, at which nothing is mounted.

    Entries that are not mounted at boot (noauto) do not count.  findmnt(8) reads the file; where
    it cannot, there are none.
    """
    asked = ["findmnt", "--tab-file", str(table), "--list", "--json", "--output", "TARGET,OPTIONS"]
    try:
        told = process.run(Command(asked, may_exit=(0, 1)), timeout=10).out  # 1: there is none
        entries = documents.from_json(told)["filesystems"] if told.strip() else []
    except (Failure, ValueError, KeyError) as error:
        log.warning("findmnt does not tell what is in %s: %s", table, error)
        return []
    wanted = [
        Path(os.path.realpath(entry["target"]))
        for entry in entries
        if str(entry["target"]).startswith("/") and "noauto" not in str(entry["options"]).split(",")
    ]
    here = mounts()
    return [path for path in dict.fromkeys(wanted) if path not in here]
