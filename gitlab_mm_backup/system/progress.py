"""How far a job is: jobs tell it here, and the edge shows it where somebody watches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import IO, Protocol

Advance = Callable[[int], object]  # by so many bytes more
Measure = Callable[[], int]  # bytes that are done


class Bar(Protocol):
    """One piece of work on the screen."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more bytes as done."""

    def end(self) -> None:
        """Take it off the screen."""


# What the edge shows bars with: the name, the bytes to expect (None: nobody knows), and what tells
# those that are done where nothing advances the bar.
Start = Callable[[str, "int | None", "Measure | None"], Bar]
_start: list[Start] = []  # one at most


@contextlib.contextmanager
def shown_by(start: Start) -> Iterator[None]:
    """Have ``start`` show what jobs tell in the block, from whatever thread."""
    _start.append(start)
    try:
        yield
    finally:
        _start.remove(start)


def watched() -> bool:
    """Tell whether anybody sees how far a job is: only then is an estimate worth a walk."""
    return bool(_start)


@contextlib.contextmanager
def of(what: str, total: int | None = None) -> Iterator[Advance]:
    """Yield what a job calls with the number of bytes that it has done more.

    ``total`` is how many there will be, as far as known; a wrong one does no harm.
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
    """Show how far the block is, which ``done`` tells whenever it is asked, from another thread."""
    bar = _start[-1](what, total, done) if _start else None
    try:
        yield
    finally:
        if bar is not None:
            bar.end()


def of_file(what: str, file: IO[bytes]) -> contextlib.AbstractContextManager[None]:
    """Show how far ``file`` has been read, by us or by a program that has it as its input.

    A program that was given the descriptor shares its position with us.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    return measured(what, size, lambda: os.lseek(descriptor, 0, os.SEEK_CUR))
