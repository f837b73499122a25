"""Remove directories when the input ends, which it does however the other process ends.

A separate program, without imports from the package: ``python3 -I cleanup.py FOLDER...``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time

_PATIENCE = 20  # seconds in which the programs that wrote there are gone


def main() -> int:
    """Wait for the end of the input, then remove the folders; 1 when one is still there."""
    while os.read(0, 4096):
        pass
    deadline = time.monotonic() + _PATIENCE
    folders = sys.argv[1:]
    while left := [path for path in folders if os.path.lexists(path)]:
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
