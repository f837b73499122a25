"""Files shared with one child process only: without a name, and in memory where it matters."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import IO

from .redaction import Secret

_PIPE = 1 << 20  # bytes that one of ours holds, where the system lets it
_F_SETPIPE_SZ = 1031  # fcntl(2); the module fcntl knows it from Python 3.10 on


@dataclass(frozen=True)
class InMemory:
    """Content that the program reads as a file; it never touches a disk."""

    content: Secret


@dataclass(frozen=True)
class OpenFile:
    """An open file without a name that the program may read by a path."""

    file: IO[bytes]


@dataclass(frozen=True)
class PipeEnd:
    """The end of a pipe that the program may write to by a path; we read the other one."""

    end: IO[bytes]


class PrivateFiles:
    """The InMemory, OpenFile and PipeEnd files of one child; they vanish with the block."""

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._files: list[IO[bytes]] = []

    @property
    def descriptors(self) -> list[int]:
        return [file.fileno() for file in self._files]

    def resolve(self, value: str | Secret | InMemory | OpenFile | PipeEnd) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, Secret):
            return value.reveal()
        if isinstance(value, InMemory):
            file = self._memory(value)
        elif isinstance(value, OpenFile):
            file = os.fdopen(os.dup(value.file.fileno()), "rb")
            os.fchmod(file.fileno(), 0o400)
        else:
            file = os.fdopen(os.dup(value.end.fileno()), "wb", 0)
        os.fchown(file.fileno(), self._uid, -1)
        self._files.append(file)
        return f"/dev/fd/{file.fileno()}"

    def inherited(self, content: bytes) -> int:
        """Return the descriptor of a file with ``content`` that the child inherits."""
        file = os.fdopen(os.memfd_create("private"), "r+b")
        self._files.append(file)
        file.write(content)
        file.seek(0)
        return file.fileno()

    def hand_over(self) -> None:
        """Close our ends, so that readers see the end when the child exits."""
        for file in self._files:
            file.close()
        self._files = []

    def _memory(self, value: InMemory) -> IO[bytes]:
        file = os.fdopen(os.memfd_create("private"), "r+b")
        file.write(value.content.reveal().encode(errors="surrogateescape"))
        file.flush()
        os.fchmod(file.fileno(), 0o400)  # libpq refuses a password file that others could read
        return file

    def __enter__(self) -> PrivateFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand_over()


def widen(pipe: IO[bytes] | int | None) -> None:
    """Enlarge the buffer of a pipe, so that both ends wait less often (pipe(7))."""
    if pipe is not None:
        with contextlib.suppress(OSError):  # the system has a lower limit
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE)
