"""Disk space: free space, the reserve (min_free), mount points, and refusals.

A directory whose disk is in /etc/fstab but not mounted is refused too.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from ..errors import Failure
from . import humanize, process, validation
from .process import Command

log = logging.getLogger(__name__)

_STEP = 4 << 20  # bytes that a file takes between two looks at its disk
MARGIN = 4 * _STEP  # several files are written at the same time
_GLANCE = 0.2  # seconds between two looks at the disk of a program that writes by itself
_UNLIMITED = 1 << 62
WAYS = (
    "Free some space (gitlab-mm prune), set another directory (backup_path) or lower min_free "
    "(0 turns the check off) in /etc/gitlab-mm-backup/config.yml."
)
_chosen: Size | None = None
FSTAB = Path("/etc/fstab")


@dataclass(frozen=True)
class Size:
    """An amount of disk space: a percentage of the disk, or bytes."""

    percent: int = 0
    bytes: int = 0

    def of(self, total: int) -> int:
        """Return the number of bytes on a disk of ``total`` bytes."""
        return total * self.percent // 100 if self.percent else self.bytes


_SHARE, _MOST = Size(percent=5), 2 << 30  # free space of a disk to keep, by default


class NearlyFull(Failure):
    """A disk has hardly more free space than its reserve."""


def leave(min_free: Size | None) -> None:
    """Set ``min_free`` for the whole process; None for the default."""
    global _chosen
    _chosen = min_free


def unchecked() -> bool:
    """Tell whether the administrator has switched the check off (min_free: 0)."""
    return _chosen == Size()


def nearest(folder: Path) -> Path:
    """Return ``folder``, or the nearest one above it that exists: they are on the same disk."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def free(folder: Path) -> int:
    """Return the bytes free on the disk of ``folder``; raises OSError."""
    usage = shutil.disk_usage(nearest(folder))
    return usage.free if usage.total else _UNLIMITED  # some network file systems do not know


def reserve(folder: Path) -> int:
    """Return the bytes that must stay free on the disk of ``folder``; raises OSError."""
    return _reserve(shutil.disk_usage(nearest(folder)).total)


def _reserve(total: int) -> int:
    return min(_SHARE.of(total), _MOST) if _chosen is None else _chosen.of(total)


def available(folder: Path) -> int:
    """Return the bytes free above the reserve on the disk of ``folder``; may be negative."""
    return free(folder) - reserve(folder)


def words(folder: Path, needed: int) -> str:
    """Return, as text, the needed and the free space on the disk of ``folder``."""
    text = f"{folder}: {humanize.size(needed)} needed, {humanize.size(free(folder))} free"
    kept = reserve(folder)
    return f"{text}, of which {humanize.size(kept)} must stay free (min_free)" if kept else text


def refuse_without(folder: Path, needed: int, what: str, ways: str = WAYS) -> None:
    """Raise Failure where ``needed`` bytes and the reserve do not fit on the disk of ``folder``.

    The message names ``what`` they are for; ``ways`` is the hint.
    """
    if needed > available(folder):
        raise Failure(f"Not enough disk space for {what}", words(folder, needed), ways)


class Guard:
    """Stop writing a file before its disk has less free space than the reserve."""

    def __init__(self, descriptor: int, folder: Path) -> None:
        self._descriptor, self._folder = descriptor, folder
        self._unseen = _STEP  # bytes since the last look; the first one comes at once

    def pass_(self, count: int) -> None:
        """Count bytes before they are written; raises Failure."""
        self._unseen += count
        if self._unseen < _STEP:
            return
        self._unseen = 0
        left, kept = _look(self._descriptor)
        if kept and left < kept + MARGIN:
            raise _nearly_full(self._folder, left, kept)


def watch(
    descriptor: int,
    folder: Path,
    over: threading.Event,
    ways: str = WAYS,
    share: float = 1.0,
) -> None:
    """Raise Failure before other writers use up the reserve; returns when ``over`` is set.

    With a ``share`` only that part of the reserve is kept, for work whose estimate fitted.

    ``descriptor`` is of the open ``folder``, which other threads may make unreachable by name;
    ``ways`` is the hint.
    """
    before, kept = _look(descriptor, share)
    while kept and not over.wait(_GLANCE):
        left, kept = _look(descriptor, share)
        if left < kept + max(MARGIN, 3 * (before - left)):
            raise _nearly_full(folder, left, kept, ways)
        before = left


def _look(descriptor: int, share: float = 1.0) -> tuple[int, int]:
    """Return the bytes free on the disk of an open file, and a ``share`` of its reserve."""
    disk = os.fstatvfs(descriptor)
    return disk.f_bavail * disk.f_frsize, int(_reserve(disk.f_blocks * disk.f_frsize) * share)


def _nearly_full(folder: Path, left: int, kept: int, ways: str = WAYS) -> NearlyFull:
    return NearlyFull(
        "Writing was stopped before the disk is full",
        f"{folder}: {humanize.size(left)} free, {humanize.size(kept)} must stay free (min_free)",
        ways,
    )


def mounts() -> set[Path]:
    """Return all mount points, bind mounts included (proc(5), mountinfo).

    Comparing devices, as os.path does, misses bind mounts, and is wrong for regular files of an
    overlay.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return {Path(_unescape(line.split(" ")[4])) for line in lines}


def is_mount(path: Path) -> bool:
    return Path(os.path.realpath(path)) in mounts()


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def refuse_unmounted(folder: Path, table: Path = FSTAB) -> None:
    """Raise Failure where ``folder`` belongs to a disk that is not mounted."""
    real = Path(os.path.realpath(folder))
    for place in unmounted(table):
        if place == real or place in real.parents:
            raise Failure(
                f"The disk of {folder} is not mounted",
                f"{table} has {place}, and nothing is mounted there",
                f"Mount it, then try again: mount {place}. Nothing was written.",
            )


def unmounted(table: Path = FSTAB) -> list[Path]:
    """Return the mount points in ``table``, links resolved, where nothing is mounted.

    Entries with noauto do not count. findmnt(8) parses the file; where it fails, there are none.
    """
    asked = ["findmnt", "--tab-file", str(table), "--list", "--json", "--output", "TARGET,OPTIONS"]
    try:
        told = process.run(Command(asked, may_exit=(0, 1)), timeout=10).out  # 1: there is none
        entries = validation.from_json(told)["filesystems"] if told.strip() else []
    except (Failure, ValueError, KeyError) as error:
        log.warning("findmnt cannot read %s: %s", table, error)
        return []
    wanted = [
        Path(os.path.realpath(entry["target"]))
        for entry in entries
        if str(entry["target"]).startswith("/") and "noauto" not in str(entry["options"]).split(",")
    ]
    here = mounts()
    return [path for path in dict.fromkeys(wanted) if path not in here]
