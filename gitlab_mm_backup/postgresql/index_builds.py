"""How many indexes a load has built, by what pg_restore says about itself, for the progress bar."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO

from ..errors import Failure
from ..system import progress
from ..system.progress import Unit

_LINE = re.compile(r"^\d+; \d+ \d+ (?:INDEX|CONSTRAINT) ")  # of a dump's list
_BEGUN = re.compile(rb"^pg_restore: creating (?:INDEX|CONSTRAINT) ", re.MULTILINE)  # --verbose
_STEP = re.compile(
    r"pg_restore: (?:connecting to|creating|processing|executing|implied|finished|disabling"
    r"|enabling|setting) "
)


class IndexBuilds:
    """The indexes that several pg_restores build at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._said: list[IO[bytes]] = []  # by those that run

    def shown(self, total: int) -> contextlib.AbstractContextManager[None]:
        """Show a bar of ``total`` indexes during the block."""
        if not total:
            return contextlib.nullcontext()
        return progress.measured("indexes", total, self.done, Unit.THINGS)

    def done(self) -> int:
        """Return the number of indexes built so far; the last one that a program names is begun."""
        with self._lock:
            return self._done + sum(max(0, _begun(said) - 1) for said in self._said)

    def add(self, count: int) -> None:
        """Count indexes that were built without pg_restore."""
        with self._lock:
            self._done += count

    @contextlib.contextmanager
    def heard(self, lines: Sequence[str]) -> Iterator[IO[bytes] | None]:
        """Yield a file for the errors of the pg_restore of ``lines``, which names what it creates.

        None if progress is not shown, or if no index is built. A Failure of the block does not
        contain these names.
        """
        count = counted(lines)
        if not count or not progress.watched():
            yield None
            return
        with tempfile.TemporaryFile() as said:
            with self._lock:
                self._said.append(said)
            try:
                yield said
            except Failure as failure:
                failure.detail = _without_steps(failure.detail)
                raise
            finally:
                with self._lock:
                    self._said.remove(said)
        self.add(count)


def counted(lines: Sequence[str]) -> int:
    """Return how many of the ``lines`` of a dump's list build an index."""
    return sum(1 for line in lines if _LINE.match(line))


def _begun(said: IO[bytes]) -> int:
    size = os.fstat(said.fileno()).st_size
    return len(_BEGUN.findall(os.pread(said.fileno(), size, 0)))


def _without_steps(words: str) -> str:
    """Return pg_restore's words from its first one that is no step, which may be cut at its start."""
    lines = words.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("pg_restore: ") and not _STEP.match(line):
            return "\n".join(line for line in lines[at:] if not _STEP.match(line))
    return words
