"""One run at a time."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from gitlab_mm_backup import clock
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.system.lock import in_use, making_scratch, only_rehearsal, only_run, unused
from tests.unit.helpers.builders import ROOT

HOLDER = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from gitlab_mm_backup.system.lock import only_run

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
        assert caught.value.message == "gitlab-mm is already running"
        assert f"(pid {os.getpid()})" in caught.value.detail
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
        assert f"(pid {holder.pid})" in caught.value.detail
        holder.kill()
    with only_run(lock):
        assert lock.read_text().startswith(f"{os.getpid()} ")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/usr/bin/gitlab-mm", "backup", "-q"], "backup, "),
        (["/usr/bin/gitlab-mm-backup", "--quiet"], "backup, "),
        (["gitlab-mm gate", "/var/cache/apt/x.deb"], "gate, "),
        (["-c"], ""),
    ],
)
def test_the_refusal_names_command_start_and_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    with only_run(tmp_path / "lock"), pytest.raises(Failure) as caught:
        only_run(tmp_path / "lock").__enter__()
    words = rf"gitlab-mm is already running: {command}since \d\d:\d\d \(pid {os.getpid()}\)"
    assert re.fullmatch(words, str(caught.value))


@pytest.mark.parametrize(
    ("note", "detail"),
    [
        (
            "4711 2026-11-25T08:44:05Z restore\n",
            r"restore, since 2026-11-2\d \d\d:\d\d \(pid 4711\)",
        ),
        ("4711\n", r"/.*/lock is locked"),
        ("", r"/.*/lock is locked"),
    ],
)
def test_what_the_refusal_tells_of_other_lock_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: str, detail: str
) -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
    with only_run(tmp_path / "lock"):
        (tmp_path / "lock").write_text(note, encoding="utf-8")
        monkeypatch.setattr(clock, "now", lambda: now)
        with pytest.raises(Failure) as caught:
            only_run(tmp_path / "lock").__enter__()
    assert re.fullmatch(detail, caught.value.detail)


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("keep", encoding="utf-8")
    (tmp_path / "lock").symlink_to("target")
    with pytest.raises(OSError), only_run(tmp_path / "lock"):
        pass
    assert (tmp_path / "target").read_text() == "keep"


def test_a_rehearsal_keeps_another_one_out_and_nothing_else(tmp_path: Path) -> None:
    run, rehearsal = tmp_path / "run", tmp_path / "rehearsal"
    with only_rehearsal(rehearsal), only_run(run):
        with pytest.raises(Failure, match="Another rehearsal is running") as caught:
            only_rehearsal(rehearsal).__enter__()
        assert caught.value.exit_code is ExitCode.LOCKED


def test_what_is_in_use_is_not_free_and_can_be_used_by_others(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    with in_use([first, second]), in_use([second]):
        for path in (first, second):
            with unused(path) as free:
                assert not free
    for path in (first, second, tmp_path, tmp_path / "missing"):
        with unused(path) as free:
            assert free


def test_what_is_removed_or_being_removed_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a set" / "manifest.json"
    path.parent.mkdir()
    for there in (False, True):
        if there:
            path.touch()
        with unused(path), pytest.raises(Failure, match="Set a set is gone"):
            in_use([path]).__enter__()


def test_scratch_is_made_by_one_at_a_time(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from gitlab_mm_backup.system import lock\n"
    program += "with lock.making_scratch(Path(sys.argv[1])): print('in', flush=True)"
    with making_scratch(tmp_path / "lock"):
        other = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "lock")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.communicate(timeout=30)[0] == b"in\n"
