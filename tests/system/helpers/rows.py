"""Tables that tests print: each test file writes its own rows, and the table has those of all files."""

from __future__ import annotations

import fcntl
from pathlib import Path

from tests.lab.disks import CHECKOUT

BUILD = CHECKOUT / "build"


class Rows:
    """The rows of one test file, and build/KIND.txt with those of all files."""

    def __init__(self, kind: str, head: str, name: str) -> None:
        self._folder, self._head = BUILD / kind, head
        self._table = table(kind)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / f"{name}.txt"
        self._path.write_text("")

    def add(self, row: str) -> None:
        """Note a row, and write the table anew."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{row}\n")
        with open(self._folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = [path.read_text() for path in sorted(self._folder.glob("*.txt"))]
            self._table.write_text(f"{self._head}\n" + "".join(rows))


def table(kind: str) -> Path:
    """Where the table of that kind is."""
    return BUILD / f"{kind}.txt"
