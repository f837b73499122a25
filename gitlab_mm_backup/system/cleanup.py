"""End programs and remove directories when the input ends, however the other process ends.

A separate program, without imports from the package: ``python3 -I cleanup.py FOLDER...``. Programs
are those without a terminal that have one of the folders, or a path in it, as an argument. Most
have ended by then with the process that started them, but a kill between fork(2) and prctl(2)
leaves one behind (PR_SET_PDEATHSIG), also within bwrap(1).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

_PATIENCE = 20  # seconds in which the programs that wrote there are gone


def main() -> int:
    """Wait for the end of the input, then clean up; 1 when something is still there."""
    while os.read(0, 4096):
        pass
    deadline = time.monotonic() + _PATIENCE
    folders = sys.argv[1:]
    while True:
        programs = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        programs = [pid for pid in programs if _works_in(pid, folders)]
        left = [path for path in folders if os.path.lexists(path)]
        if not programs and not left:
            return 0
        if time.monotonic() > deadline:
            return 1
        for pid in programs:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def _works_in(pid: int, folders: list[str]) -> bool:
    """Tell whether this is another program that our process has started for ``folders``."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as arguments:
            words = os.fsdecode(arguments.read()).split("\0")
        with open(f"/proc/{pid}/stat", "rb") as fields:
            # After the name, which may hold blanks: state, parent, group, session, terminal.
            state, *_, terminal = fields.read().rpartition(b")")[2].split()[:5]
    except OSError:  # it has ended
        return False
    if pid == os.getpid() or state in b"ZX" or terminal != b"0":
        return False
    paths = [word.rpartition("=")[2] + "/" for word in words]
    return any(path.startswith(folder + "/") for path in paths for folder in folders)


if __name__ == "__main__":
    raise SystemExit(main())
