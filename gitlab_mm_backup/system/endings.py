"""How a program ended: what it said last, and whether that is a failure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import IO

from ..errors import Failure

LAST_WORDS = 2000  # bytes


class Stopped(Failure):
    """A program was ended because something else failed: never the cause of anything."""


def last_words(errors: IO[bytes], most: int = LAST_WORDS) -> str:
    """Return the end of ``errors``, whose position is the program's own to move."""
    size = os.fstat(errors.fileno()).st_size
    found = os.pread(errors.fileno(), most, max(0, size - most))
    return found.decode(errors="replace").strip()


def excused(known: re.Pattern[bytes] | None, code: int, errors: IO[bytes]) -> bool:
    """Tell whether all that a program which failed complains of is known to be harmless."""
    words = os.pread(errors.fileno(), os.fstat(errors.fileno()).st_size, 0)
    return bool(known and code > 0 and words and all(map(known.fullmatch, words.splitlines())))


def judge(program: str, may_exit: Collection[int], code: int, words: str) -> None:
    """Raise Failure for an exit code that is one."""
    if code in may_exit:
        return
    if code in (126, 127) and words.startswith("setpriv:"):
        raise Failure(f"{program} cannot be started", words)
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    raise Failure(f"{program} {how}", words)
