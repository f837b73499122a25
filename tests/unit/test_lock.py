"""One run at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.lock import only_run
from tests.unit.builders import ROOT

HOLDER = """
import sys
from pathlib import Path
from gitlab_mm_backup.lock import only_run

with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with only_run(lock):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        with pytest.raises(Failure) as caught, only_run(lock):
            raise AssertionError("two runs at once")
        assert caught.value.exit_code is ExitCode.LOCKED
        assert f"process {os.getpid()} holds" in caught.value.detail
    with only_run(lock):
        pass


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Failure) as caught, only_run(lock):
            raise AssertionError("two runs at once")
        assert f"process {holder.pid} holds" in caught.value.detail
        holder.kill()
    with only_run(lock):
        assert lock.read_text() == f"{os.getpid()}\n"


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("keep", encoding="utf-8")
    (tmp_path / "lock").symlink_to("target")
    with pytest.raises(OSError), only_run(tmp_path / "lock"):
        pass
    assert (tmp_path / "target").read_text() == "keep"
