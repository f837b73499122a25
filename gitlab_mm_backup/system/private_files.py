"""Files shared with one child process only: without a name, and in memory where it matters."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from .redaction import Secret


@dataclass(frozen=True)
class InMemory:
    """Content that the program reads as a file; it never touches a disk."""

    content: Secret


@dataclass(frozen=True)
class OpenFile:
    """An open file without a name that the program may read by a path."""

    file: IO[bytes]


@dataclass(frozen=True)
class Lines:
    """A file that the program writes and we read line by line; ``each`` is called in a thread."""

    each: Callable[[bytes], None]


class PrivateFiles:
    """The InMemory, OpenFile and Lines files of one child; they vanish with the block."""

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._files: list[IO[bytes]] = []
        self._readers: list[threading.Thread] = []
        self._errors: list[Exception] = []

    @property
    def descriptors(self) -> list[int]:
        return [file.fileno() for file in self._files]

    def resolve(self, value: str | Secret | InMemory | OpenFile | Lines) -> str:
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
            file = self._pipe(value)
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

    def _pipe(self, value: Lines) -> IO[bytes]:
        reading, writing = os.pipe()
        source = os.fdopen(reading, "rb")
        reader = threading.Thread(target=self._read, args=(source, value.each), daemon=True)
        reader.start()
        self._readers.append(reader)
        return os.fdopen(writing, "wb")

    def _read(self, source: IO[bytes], each: Callable[[bytes], None]) -> None:
        with source:
            for line in source:
                try:
                    each(line)
                except Exception as error:  # raised where the block ends; the pipe must be emptied
                    self._errors.append(error)

    def __enter__(self) -> PrivateFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand_over()
        for reader in self._readers:
            reader.join()
        if self._errors:
            raise self._errors[0]
