"""A view of this machine in which a changed program can write only what it needs.

Tests run as root in CI: a change to what removes or chowns folders must not meet the machine's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MARK = "GITLAB_MM_MUTANTS_ALONE"
_OF_TESTS = {"/tmp": 1777, "/run": 755}  # what they write to, with its mode
_KERNEL = ("/dev", "/proc", "/sys")
_TOP = Path(__file__).resolve().parents[2]
_BUILD = _TOP / "build"


def without_writing() -> None:
    """Continue in private mount and process namespaces; not needed without root."""
    if os.geteuid() != 0:
        return
    if os.environ.get(_MARK):
        _shut()
        return
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    again = [sys.executable, "-B", "-m", "tests.mutants", *sys.argv[1:]]
    os.execvpe(words[0], [*words, *again], {**os.environ, _MARK: "yes"})


def _shut() -> None:
    _mount("--bind", str(_BUILD), str(_BUILD))  # for the report; it keeps its own mode
    for place, mode in _OF_TESTS.items():
        if Path(place) not in _TOP.parents:
            _mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", place)
    mounted = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    for place in dict.fromkeys(line.split(" ")[4] for line in mounted):
        wanted = place != str(_BUILD) and not place.startswith((*_OF_TESTS, *_KERNEL))
        if wanted and os.path.exists(place):  # some lie below others, out of sight
            _mount("-o", "remount,bind,ro", place)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)
