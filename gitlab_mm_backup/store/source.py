"""Where the parts of a set are, and whether at a glance they are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol, TypeVar

from ..system.process import Command
from .manifest import Part

T = TypeVar("T")


class Source(Protocol):
    """The parts of a set that is not on this host."""

    def problems(self) -> list[str]:
        """Read all of the set; return what is wrong with it, in words."""
        ...

    def files(self) -> Command:
        """Return what prints the files part as a tar."""
        ...

    def open(self, part: str) -> AbstractContextManager[IO[bytes]]:
        """Yield the content of a small part; raises Failure."""
        ...


class Stream(Protocol):
    """The files part of a set, where it is elsewhere and is not to be kept here."""

    def read_by(self, take: Callable[[IO[bytes]], T]) -> T:
        """Have ``take`` read its tar to the end, and return what that does.

        Raises Failure where it is not what was written.
        """
        ...


def cut_short(folder: Path, parts: Iterable[Part]) -> str:
    """Tell in words which file of ``parts`` is missing or cut short, or ""; its sums come later."""
    for part in parts:
        path = folder / part.file
        try:
            size = os.lstat(path).st_size
        except OSError as error:
            return f"{path}: {error.strerror}"
        if size != part.bytes:
            return f"{path} has {size} bytes, should have {part.bytes}"
    return ""
