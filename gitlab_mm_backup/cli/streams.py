"""stdin, stdout and stderr: all three are open, and writing to one never fails.

cron lines close them, disks behind them fill up, and an SSH session may end in the middle of a
restore: none of it may end the work. What could not be written is asked for at the end.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_raw: dict[int, _Raw] = {}
_before: list[Any] = []  # which could close the descriptors, were they let go of


class _Raw(io.FileIO):
    """A descriptor that takes everything; ``trouble`` says why some of it was dropped."""

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
            select.select([], [self.fileno()], [])  # somebody set O_NONBLOCK on a shared terminal


def settle() -> None:
    """Open what is closed on /dev/null, and have Python's three streams never fail."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # or a file that we open would get the number, and our output
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    _before[:] = [sys.stdin, sys.stdout, sys.stderr]
    stdin = io.BufferedReader(io.FileIO(0, closefd=False))
    sys.stdin = io.TextIOWrapper(stdin, _encoding(sys.stdin), errors="surrogateescape")
    sys.stdout = _tolerant(1, sys.stdout)
    sys.stderr = _tolerant(2, sys.stderr)


def _tolerant(number: int, before: Any) -> io.TextIOWrapper:
    raw = _raw[number] = _Raw(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=_encoding(before),
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty(),
    )


def _encoding(stream: Any) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def trouble() -> OSError | None:
    """Return why some of stdout could not be written, after all of it was tried; None if it was."""
    with contextlib.suppress(ValueError):  # closed by whoever took it
        sys.stdout.flush()
    raw = _raw.get(1)
    return raw.trouble if raw is not None else None
