"""One run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import ExitCode, Failure

LOCK_FILE = Path("/run/gitlab-mm-backup.lock")


@contextlib.contextmanager
def only_run(lock_file: Path = LOCK_FILE) -> Iterator[None]:
    """Hold the lock; the kernel drops it (flock(2)) however this process ends.

    Raises Failure with ExitCode.LOCKED when another run holds it.
    """
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                "Another run of gitlab-mm is at work",
                f"process {file.read().strip() or 'unknown'} holds {lock_file}",
                "Wait until it has ended, then try again.",
                ExitCode.LOCKED,
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
