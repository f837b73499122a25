"""What a program of ours may leave behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
CODE = """
import ctypes, os, subprocess
from gitlab_mm_backup.system import sandbox
os.chdir({folder!r})
sandbox.leave_no_core()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
print(subprocess.run(["sh", "-c", "ulimit -H -c"], capture_output=True, text=True).stdout, end="")
"""


def test_no_core_is_left_by_us_or_by_a_child(tmp_path: Path) -> None:
    code = CODE.format(folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n0\n", "PR_GET_DUMPABLE, and the child's hard limit"
