"""What a caller does to stdin, stdout and stderr never ends the work, and is told truthfully."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.unit.helpers.builders import ROOT

# As a command begins; it says on descriptor 9 what became of its output.
PROGRAM = """
import os, sys
from gitlab_mm_backup import streams

streams.settle()
print("out" * int(sys.argv[1]))
print("err", file=sys.stderr)
opened = os.open("/dev/zero", os.O_RDONLY)
os.write(9, f"{opened > 2} {streams.trouble() and streams.trouble().strerror}".encode())
"""


def run(redirection: str, size: int = 1) -> tuple[str, str]:
    """Run it by a shell with such a redirection; what it told, and what it printed."""
    program = [sys.executable, "-B", "-c", PROGRAM, str(size)]
    reading, writing = os.pipe()
    with open(reading, "rb") as told:
        done = subprocess.run(
            ["bash", "-c", f'"$@" 9>&{writing} {redirection}', "bash", *program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            pass_fds=[writing],
            check=False,
        )
        os.close(writing)
        words = told.read().decode()
    assert done.returncode == 0, done.stderr
    return words, done.stdout + done.stderr


@pytest.mark.parametrize("redirection", ["", ">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_takes_everything(redirection: str) -> None:
    words, printed = run(redirection)
    assert words == "True None"
    assert ("out" in printed, "err" in printed) == (
        " >&-" not in f" {redirection}",
        "2>" not in redirection,
    )


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_full_disk_behind_stdout_is_told(size: int) -> None:
    assert run(">/dev/full", size)[0] == "True No space left on device"


def test_a_full_disk_behind_stderr_is_no_trouble() -> None:
    assert run("2>/dev/full") == ("True None", "out\n")


def test_a_reader_that_has_gone_is_told() -> None:
    assert run("> >(true)", 1 << 20)[0] == "True Broken pipe"


def test_a_stream_that_does_not_block_is_waited_for() -> None:
    nonblocking = (
        "import fcntl, os, sys; flags = fcntl.fcntl(1, fcntl.F_GETFL);"
        "fcntl.fcntl(1, fcntl.F_SETFL, flags | os.O_NONBLOCK); os.execv(sys.argv[1], sys.argv[1:])"
    )
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", nonblocking, sys.executable, "-B", "-c", PROGRAM, str(1 << 20)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[],
        preexec_fn=lambda: os.dup2(writing, 9),
        close_fds=False,
    )
    os.close(writing)
    out, _ = child.communicate(timeout=60)
    with open(reading, "rb") as told:
        assert told.read() == b"True None"
    assert len(out) == 3 * (1 << 20) + 1
