"""stdin, stdout and stderr: keep all three open, and never fail when writing to them.

A closed descriptor, a full disk or the end of an SSH session must not end a restore. ``trouble``
returns the error at the end.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_raw: dict[int, _Raw] = {}
_before: list[TextIO] = []  # kept, because deleting them could close the descriptors


class _Raw(io.FileIO):
    """A descriptor whose write() never fails; ``trouble`` is the first error."""

    trouble: OSError | None = None

    def write(self, piece: ReadableBuffer) -> int:
        while True:
            try:
                written = super().write(piece)
            except OSError as error:
                self.trouble = self.trouble or error
                return memoryview(piece).nbytes
            if written is not None:
                return written
            select.select(
                [], [self.fileno()], []
            )  # another process set O_NONBLOCK on a shared terminal


def settle() -> None:
    """Open closed descriptors on /dev/null, and replace Python's streams by ones that never fail."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # else the next file we open would get this number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    _before[:] = [sys.stdin, sys.stdout, sys.stderr]
    stdin = io.BufferedReader(io.FileIO(0, closefd=False))
    sys.stdin = io.TextIOWrapper(stdin, _encoding(sys.stdin), errors="surrogateescape")
    sys.stdout = _tolerant(1, sys.stdout)
    sys.stderr = _tolerant(2, sys.stderr)


def _tolerant(number: int, before: TextIO) -> io.TextIOWrapper:
    raw = _raw[number] = _Raw(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=_encoding(before),
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty(),
    )


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def trouble() -> OSError | None:
    """Flush stdout; return the first error of writing to it, None if there was none."""
    with contextlib.suppress(ValueError):  # already closed
        sys.stdout.flush()
    raw = _raw.get(1)
    return raw.trouble if raw is not None else None
