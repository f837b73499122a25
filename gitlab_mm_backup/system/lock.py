"""Locks: one run at a time, one rehearsal at a time, and sets and directories that are in use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ExitCode, Failure
from .files import open_directory

LOCK_FILE = Path("/run/gitlab-mm-backup.lock")
REHEARSAL_FILE = Path("/run/gitlab-mm-rehearsal.lock")
_SCRATCH_FILE = Path("/run/gitlab-mm-scratch.lock")
# flock(2) of file systems that have no locks, as some network mounts.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)


@contextlib.contextmanager
def only_run(lock_file: Path = LOCK_FILE) -> Iterator[None]:
    """Hold the lock; the kernel drops it (flock(2)) however this process ends.

    Raises Failure with ExitCode.LOCKED when another run holds it.
    """
    with _alone(lock_file, "Another run of gitlab-mm is at work"):
        yield


@contextlib.contextmanager
def only_rehearsal(lock_file: Path = REHEARSAL_FILE) -> Iterator[None]:
    """Hold the lock of rehearsals, which keeps no other command out; raises as ``only_run``."""
    with _alone(lock_file, "Another rehearsal is running"):
        yield


@contextlib.contextmanager
def _alone(lock_file: Path, refusal: str) -> Iterator[None]:
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                refusal,
                f"process {file.read().strip() or 'unknown'} holds {lock_file}",
                "Wait until it has ended, then try again.",
                ExitCode.LOCKED,
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextlib.contextmanager
def in_use(files: Iterable[Path]) -> Iterator[None]:
    """Share the locks of ``files`` for the block: of the manifests of sets that are read.

    Raises Failure where one of them is removed, or is just being removed.
    """
    with contextlib.ExitStack() as held:
        for path in files:
            if not held.enter_context(_locked(path, fcntl.LOCK_SH)) or not path.exists():
                raise Failure(
                    f"Set {path.parent.name} is gone",
                    "it was removed just now",
                    "gitlab-mm list shows the sets that there are.",
                )
        yield


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Yield whether nobody uses ``path``, and have nobody begin to for the time of the block."""
    with _locked(path, fcntl.LOCK_EX) as free:
        yield free


@contextlib.contextmanager
def making_scratch(lock_file: Path = _SCRATCH_FILE) -> Iterator[None]:
    """Wait until nobody else makes or clears scratch directories; that is soon."""
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def noting(folder: Path) -> Iterator[None]:
    """Wait until nobody else reads, changes and writes a file of state in ``folder``; that is soon.

    Raises OSError where the folder cannot be opened.
    """
    with open_directory(folder, links=True) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[bool]:
    """Yield whether the lock of a file or directory is ours, or cannot be had by anybody.

    A network file system may want an exclusive lock's file open for writing; where none can be
    had it counts as free, for then nobody else has one either.
    """
    try:
        mode = os.O_RDONLY if path.is_dir() or how == fcntl.LOCK_SH else os.O_RDWR
        descriptor = os.open(path, mode | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # it is missing, or its disk is read-only and nothing is removed there
        yield True
        return
    try:
        yield _taken(descriptor, how)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS and not isinstance(error, BlockingIOError):
            raise
        return error.errno in _NO_LOCKS
    return True
