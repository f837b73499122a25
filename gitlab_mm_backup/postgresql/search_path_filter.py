"""Let a dump be loaded with the search_path of the loading session.

pg_dump sets an empty one (since 10.3; CVE-2018-1058), with which functions that name others
without a schema fail: in indexes, checks, generated columns, materialized views. It protects a
superuser who loads; a load as the database's owner runs only the owner's own functions.

A separate program, without imports from the package: it changes one statement at the head of
pg_dump's custom format, whose length stays, and copies the rest.
"""

from __future__ import annotations

import os
import signal

_HEAD = 64 << 10  # bytes: the statement is the third entry of the list of contents
_PIECE = 1 << 20  # bytes that a pipe of ours holds
_SET = b"SELECT pg_catalog.set_config('search_path', '', false);\n"
_RESET = b"RESET search_path;".ljust(len(_SET) - 1) + b"\n"


def main() -> None:
    """Copy the input to the output."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    head = b""
    while len(head) < _HEAD and (piece := os.read(0, _HEAD - len(head))):
        head += piece
    _write(head.replace(_SET, _RESET, 1))
    splice = getattr(os, "splice", None)  # from Python 3.10 on: from pipe to pipe without a copy
    try:
        while splice and splice(0, 1, _PIECE):
            pass
    except OSError:  # one of them is no pipe
        pass
    while piece := os.read(0, _PIECE):
        _write(piece)


def _write(piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(1, left) :]


if __name__ == "__main__":
    main()
