"""Reading a file that another account can replace: a plain file, no link, and only so much of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import Failure

LARGEST = 32 << 20  # bytes of a file of settings; Mattermost's own have some 50 kB
_PIECE = 1 << 18


def plain(path: Path, largest: int = LARGEST, *, links: bool = False) -> bytes:
    """Return the content of the plain file ``path``; through a link only where ``links`` allows it.

    Raises OSError where it cannot be read, and Failure where it is anything else, or larger than
    ``largest`` bytes.
    """
    found = bytearray()  # grows with the file, for the limit is far more than most have
    with opened(path, links=links) as file:
        while len(found) <= largest and (piece := file.read(_PIECE)):
            found += piece
    if len(found) > largest:
        raise Failure(f"{path} cannot be read", f"it is larger than {largest >> 20} MiB")
    return bytes(found)


@contextlib.contextmanager
def opened(path: Path, *, links: bool = False) -> Iterator[IO[bytes]]:
    """Yield the plain file ``path``, without a buffer; raises as ``plain`` does."""
    # Without O_NONBLOCK a pipe would hold us up until somebody writes into it.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    if path.is_symlink() and not links:
        raise Failure(f"{path} cannot be read", "it is a link; put the file itself there")
    with open(os.open(path, flags), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Failure(f"{path} cannot be read", "it is no plain file")
        yield file


def content(path: Path) -> bytes | None:
    """Return the content of a plain file; b"" where it cannot be read, None where there is none."""
    try:
        return plain(path)
    except FileNotFoundError:
        return None
    except (OSError, Failure):
        return b""


def last_lines(path: Path, most: int = 16 << 10) -> list[str]:
    """Return the lines in the last bytes of a plain file of any size; none where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return []
        file.seek(max(0, status.st_size - most))
        return file.read(most).decode(errors="replace").splitlines()
