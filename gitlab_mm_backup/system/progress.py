"""Progress of jobs: jobs report it here, and the terminal shows it."""

from __future__ import annotations

import contextlib
import enum
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Protocol

PATIENCE = 2.0  # seconds that a wait may take without being shown


class Unit(enum.Enum):
    """What a bar counts."""

    BYTES = "bytes"
    THINGS = "things"
    SECONDS = "seconds"  # of a wait so far


Advance = Callable[[int], object]  # by so much more
Measure = Callable[[], int]  # how much is done


class Bar(Protocol):
    """One progress bar on the screen."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more as done."""

    def end(self) -> None:
        """Remove it from the screen."""


# Shows a bar: its name, the expected amount (None: unknown), a function that returns the amount done,
# for a bar that is not advanced, and the unit of both.
Start = Callable[[str, "int | None", "Measure | None", Unit], Bar]
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
def of(what: str, total: int | None = None, unit: Unit = Unit.BYTES) -> Iterator[Advance]:
    """Yield a function that a job calls with the additional amount done.

    ``total`` is the expected number, if known; a wrong one does no harm.
    """
    if not _start:
        yield lambda amount: None
        return
    bar = _start[-1](what, total, None, unit)
    try:
        yield bar.advance
    finally:
        bar.end()


@contextlib.contextmanager
def measured(
    what: str, total: int | None, done: Measure, unit: Unit = Unit.BYTES
) -> Iterator[None]:
    """Show the progress of the block as reported by ``done``, called from another thread."""
    bar = _start[-1](what, total, done, unit) if _start else None
    try:
        yield
    finally:
        if bar is not None:
            bar.end()


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show what is waited for and the seconds so far, once the block takes longer than PATIENCE.

    It decorates a function that waits, too.
    """
    if not _start:
        yield
        return
    began, bars, start = time.monotonic(), list[Bar](), _start[-1]

    def show() -> None:
        bars.append(start(what, None, lambda: int(time.monotonic() - began), Unit.SECONDS))

    timer = threading.Timer(PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # a bar that is just being shown ends too
        for bar in bars:
            bar.end()


def of_file(what: str, file: IO[bytes]) -> contextlib.AbstractContextManager[None]:
    """Show how much of ``file`` has been read, by us or by a program that has it as its input.

    A program that inherited the descriptor shares its position with us.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    return measured(what, size, lambda: os.lseek(descriptor, 0, os.SEEK_CUR))
