"""Disk space for a set: checked before a backup, and watched while restic writes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import Failure
from ..mattermost.site import Site
from ..postgresql import connection
from ..store import archive_writer
from ..store.inventory import Store
from ..store.local import LocalStore
from ..store.sets import BackupSet
from ..system import disk_space
from ..system.parallel import run_all

_PACKED = 3  # a dump through zstd has a third of its tables' bytes, or less
_PARTS = ("files", "listing", "index")
_Result = TypeVar("_Result")


def place(store: Store) -> Path | None:
    """Return the local directory that sets are written to, None where there is none."""
    return store.folder if isinstance(store, LocalStore) else store.repository.folder


def refuse_without(
    site: Site, store: Store, own: Sequence[BackupSet], folders: Iterable[Path], *, whole: bool
) -> None:
    """Raise Failure where the next set and the reserve do not fit.

    ``own`` are this host's sets there, newest first. ``whole``: the next one has all files.
    """
    where = place(store)
    if where is None or disk_space.unchecked():
        return
    needed = _expected(site, store, own, folders, whole)
    disk_space.refuse_without(where, needed + disk_space.MARGIN, "the next set")


def _expected(
    site: Site, store: Store, own: Sequence[BackupSet], folders: Iterable[Path], whole: bool
) -> int:
    """Return the estimated size of the next set: that of the newest, if there is one."""
    newest = next((set_ for set_ in own if not set_.manifest.safety), None)
    if newest is None:
        return connection.table_bytes(site.database) // _PACKED + archive_writer.walk(folders)
    if not isinstance(store, LocalStore):
        return 0  # restic stores only new data, and is watched
    rest = sum(part.bytes for name, part in newest.manifest.parts.items() if name not in _PARTS)
    return rest + _of_files(newest.chain[0] if whole else newest)


def _of_files(set_: BackupSet) -> int:
    return sum(part.bytes for name, part in set_.manifest.parts.items() if name in _PARTS)


def watched(store: Store, write: Callable[[], _Result]) -> _Result:
    """Run ``write``; a repository on a disk of this host is stopped before that is full.

    What restic has written is then removed, because the next run needs the space. In a directory
    the writers of the parts check by themselves.
    """
    where = place(store)
    if isinstance(store, LocalStore) or where is None:
        return write()
    over, descriptor = threading.Event(), os.open(disk_space.nearest(where), os.O_RDONLY)

    def work() -> _Result:
        try:
            return write()
        finally:
            over.set()

    try:
        result: _Result = run_all(work, lambda: disk_space.watch(descriptor, where, over))[0]
    except disk_space.NearlyFull:
        with contextlib.suppress(Failure):
            store.repository.prune()
        raise
    finally:
        os.close(descriptor)
    return result
