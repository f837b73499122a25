"""A part of a set as it is written: the file, its bytes and their sum."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import Failure
from ..system import disk_space
from .manifest import Part
from .throttle import Throttle

_DIRTY = 32 << 20  # bytes that memory may hold before the disk is told to take them


class PartWriter:
    """The sink for one part: writes, counts and hashes what passes, syncs once at the end.

    Raises Failure before the disk has no more than its reserve left (see space.py).
    """

    def __init__(self, path: Path, throttle: Throttle | None = None) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._path = path
        self._throttle = throttle or Throttle(None)
        self._guard = disk_space.Guard(descriptor, path.parent)
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        self._sent = 0  # of these the disk was told to take them

    def write(self, piece: bytes | memoryview) -> None:
        self._guard.pass_(len(piece))
        self._throttle.wait(len(piece))
        self._sha256.update(piece)
        self.bytes += len(piece)
        try:
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
            if self.bytes - self._sent >= _DIRTY:
                self._let_go()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Let go of the file, finished or given up."""
        self._file.close()

    def finish(self, form: str) -> Part:
        try:
            os.fsync(self._file.fileno())
            self._let_go()
        except OSError as error:
            raise cannot_write(self._path, error) from error
        finally:
            self._file.close()
        return Part(self._path.name, form, self.bytes, self._sha256.hexdigest())

    def _let_go(self) -> None:
        """Have the disk begin with what is not on it yet, and memory forget the rest.

        Nobody reads it soon; the memory is for what GitLab and Mattermost read all day.
        """
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._sent = self.bytes


def cannot_write(path: Path, error: OSError) -> Failure:
    """Return what to tell where something of a set cannot be written."""
    return Failure(
        f"{path} cannot be written",
        str(error.strerror),
        "Make room or give another place (backup_path in /etc/gitlab-mm-backup/config.yml).",
    )
