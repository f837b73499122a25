"""Locks: one run, rehearsal and opened set at a time, and sets and directories that are in use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import clock
from ..errors import ExitCode, Failure
from . import progress
from .files import open_directory

log = logging.getLogger(__name__)

LOCK_FILE = Path("/run/gitlab-mm-backup.lock")
REHEARSAL_FILE = Path("/run/gitlab-mm-rehearsal.lock")
_OPEN_FILE = Path("/run/gitlab-mm-open.lock")
UPLOADS_FILE = Path("/run/gitlab-mm-uploads.lock")
_SCRATCH_FILE = Path("/run/gitlab-mm-scratch.lock")
# Errors of flock(2) on file systems without locks, such as some network mounts.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
_LONGEST_NOTE = 200  # characters of a lock file


@contextlib.contextmanager
def only_run(lock_file: Path = LOCK_FILE, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock for the block; the kernel releases it (flock(2)) however this process ends.

    Raises Failure with ExitCode.LOCKED when another run holds it, unless told to ``wait``.
    """
    with _exclusive(lock_file, "gitlab-mm is already running", wait=wait):
        yield


@contextlib.contextmanager
def only_rehearsal(lock_file: Path = REHEARSAL_FILE) -> Iterator[None]:
    """Hold the lock of rehearsals, which keeps no other command out; raises as ``only_run``."""
    with _exclusive(lock_file, "Another rehearsal is running"):
        yield


@contextlib.contextmanager
def only_open(lock_file: Path = _OPEN_FILE) -> Iterator[None]:
    """Hold the lock of an opened set; raises as ``only_run``.

    One at a time, because browsers send the cookies of a host to all its ports (RFC 6265, 8.5).
    """
    with _exclusive(lock_file, "Another set is open"):
        yield


@contextlib.contextmanager
def only_uploads(lock_file: Path = UPLOADS_FILE) -> Iterator[None]:
    """Hold the lock of a restore and of the uploads that it unpacks later; raises as ``only_run``.

    Backups run meanwhile.
    """
    with _exclusive(lock_file, "The uploads of a restore are still being unpacked"):
        yield


def holder(lock_file: Path) -> str:
    """Return who holds a lock: "restore, since 18:44 (pid 4711)"; "" for nobody."""
    try:
        with open(lock_file, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file.read(_LONGEST_NOTE)) or f"{lock_file} is locked"
    except OSError:
        pass
    return ""


@contextlib.contextmanager
def _exclusive(lock_file: Path, refusal: str, *, wait: bool = False) -> Iterator[None]:
    """Hold ``lock_file`` and write into it who does, for the message of those that it keeps out."""
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file.read(_LONGEST_NOTE)) or f"{lock_file} is locked"
            if not wait:
                hint = "Wait until it has ended, then try again."
                raise Failure(refusal, holder, hint, ExitCode.LOCKED) from None
            log.info("Waiting for the end of another run: %s", holder)
            with progress.waiting("other run"):
                fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {clock.utc(clock.now())} {_command()}\n")
        file.flush()
        yield


def _command() -> str:
    """Return the command that this process runs, "" where its arguments have none: backup."""
    program = re.sub(r".*gitlab-mm[- ]?", "", sys.argv[0])  # of gitlab-mm-backup: backup
    words = (program, *sys.argv[1:])
    return next((word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)), "")


def _holder(note: str) -> str:
    """Return who holds a lock, from its file: "backup, since 18:44 (pid 4711)"; "" if unknown."""
    found = re.fullmatch(r"(\d+) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ([a-z-]*)\n", note)
    if found is None:
        return ""
    since = clock.parse_moment(found[2]).astimezone()
    today = since.date() == clock.now().astimezone().date()
    begun = since.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
    return f"{f'{found[3]}, ' if found[3] else ''}since {begun} (pid {found[1]})"


@contextlib.contextmanager
def in_use(files: Iterable[Path]) -> Iterator[None]:
    """Hold shared locks on ``files``, the manifests of sets that are read, for the block.

    Raises Failure where one of them is removed, or is being removed.
    """
    with contextlib.ExitStack() as held:
        for path in files:
            if not held.enter_context(_locked(path, fcntl.LOCK_SH)) or not path.exists():
                raise Failure(
                    f"Set {path.parent.name} is gone",
                    "it was removed just now",
                    "gitlab-mm list shows the remaining sets.",
                )
        yield


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Lock ``path`` against use for the block; yield False where it is in use already."""
    with _locked(path, fcntl.LOCK_EX) as free:
        yield free


@contextlib.contextmanager
def making_scratch(lock_file: Path = _SCRATCH_FILE) -> Iterator[None]:
    """Hold the lock for making and clearing scratch directories; waits for it, which is short."""
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        with progress.waiting("other run"):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def noting(folder: Path) -> Iterator[None]:
    """Hold the lock for changing a state file in ``folder``; waits for it, which is short.

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
    """Yield whether we hold the lock of a file or directory; True where its file system has none.

    Some network file systems lock a file exclusively only where it is open for writing.
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
