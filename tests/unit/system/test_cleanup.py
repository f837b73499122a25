"""What is left in temporary folders ends with them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitlab_mm_backup.system import cleanup

WAIT = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def program(argument: str, terminal: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that was started with ``argument`` in its own session, and wait."""

    def take_terminal() -> None:
        if terminal is not None:
            os.setsid()
            os.close(os.open(os.ttyname(terminal), os.O_RDWR))  # the first becomes its terminal

    started = subprocess.Popen(
        [sys.executable, "-c", WAIT, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=terminal is None,
        preexec_fn=take_terminal,
    )
    with started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


def clean(*folders: Path) -> int:
    """Run the program as it is after the end of the other one."""
    words = [sys.executable, "-I", cleanup.__file__, *map(str, folders)]
    return subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode


def test_folders_are_removed_with_all_that_is_in_them(tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("")
    other.mkdir()
    assert clean(folder, tmp_path / "missing") == 0
    assert sorted(tmp_path.iterdir()) == [other]


def test_a_program_that_was_left_in_a_folder_is_ended(tmp_path: Path) -> None:
    for argument in ("{}", "{}/socket", "--target={}"):
        folder = tmp_path / "folder"
        folder.mkdir()
        with program(argument.format(folder)) as left:
            assert clean(folder) == 0
            assert left.wait(30) == -9, argument


def test_programs_of_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    ours, theirs = pty.openpty()
    with (
        program(f"{folder}-2") as beside,
        program(str(tmp_path)) as above,
        program(str(folder), theirs) as administrator,
    ):
        assert clean(folder) == 0
        assert [child.poll() for child in (beside, above, administrator)] == [None] * 3
    os.close(ours)
    os.close(theirs)
