"""Progress of jobs: jobs report it here, and the terminal shows it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import IO, Protocol

Advance = Callable[[int], object]  # by so many bytes more
Measure = Callable[[], int]  # bytes that are done


class Bar(Protocol):
    """One progress bar on the screen."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more bytes as done."""

    def end(self) -> None:
        """Remove it from the screen."""


# Shows a bar: its name, the expected bytes (None: unknown), and a function that returns the bytes
# done, for a bar that is not advanced.
Start = Callable[[str, "int | None", "Measure | None"], Bar]
_start: list[Start] = []  # one at most


@contextlib.contextmanager
def shown_by(start: Start) -> Iterator[None]:
    """Use ``start`` to show the progress of jobs in the block, from any thread."""
    _start.append(start)
    try:
        yield
    finally:
        _start.remove(start)


def watched() -> bool:
    """Tell whether progress is shown; only then is an estimate worth its time."""
    return bool(_start)


@contextlib.contextmanager
def of(what: str, total: int | None = None) -> Iterator[Advance]:
    """Yield a function that a job calls with the number of additional bytes done.

    ``total`` is the expected number, if known; a wrong one does no harm.
    """
    if not _start:
        yield lambda amount: None
        return
    bar = _start[-1](what, total, None)
    try:
        yield bar.advance
    finally:
        bar.end()


@contextlib.contextmanager
def measured(what: str, total: int | None, done: Measure) -> Iterator[None]:
    """Show the progress of the block as reported by ``done``, called from another thread."""
    bar = _start[-1](what, total, done) if _start else None
    try:
        yield
    finally:
        if bar is not None:
            bar.end()


def of_file(what: str, file: IO[bytes]) -> contextlib.AbstractContextManager[None]:
    """Show how much of ``file`` has been read, by us or by a program that has it as its input.

    A program that inherited the descriptor shares its position with us.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    return measured(what, size, lambda: os.lseek(descriptor, 0, os.SEEK_CUR))
