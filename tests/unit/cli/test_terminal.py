"""What a terminal is shown: 80 columns, any encoding, colours only where they are wanted."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import click
import pytest

from gitlab_mm_backup.cli import terminal
from gitlab_mm_backup.translation import Text
from tests.unit.helpers.builders import ROOT

# The terminal is the controlling one, so that Ctrl-C comes as a signal.
START = """
import fcntl, os, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from gitlab_mm_backup.system import signals
signals.heed()
"""
# A job with a step and two bars, one of which turns out longer than expected.
JOB = """
import logging, sys, time
from contextlib import nullcontext
from gitlab_mm_backup.system import progress
from gitlab_mm_backup.cli import terminal
from gitlab_mm_backup.cli.output import _log_steps, _print_text
from gitlab_mm_backup.cli.output import Context
from gitlab_mm_backup.result import CommandResult

terminal.prepare(sys.stdout, sys.stderr)
manner = Context("backup", False, False, False, None)
steps, _ = _log_steps(manner)
done = [0]
with progress.shown_by(steps.start) if isinstance(steps, terminal.Screen) else nullcontext():
    logging.getLogger("gitlab_mm_backup.x").info("Making set caf\\u00e9\\udce9 \\u2026 " + "x" * 90)
    with progress.of("database", 3 << 20) as advance, progress.measured("files", 2000, lambda: done[0]):
        for _ in range(16):
            advance(100 << 10)
            done[0] += 150
            time.sleep(0.05)
steps.close()
_print_text(manner, CommandResult({}, ["Made caf\\u00e9 \\u2026"], ["odd \\u2026"]), None)
"""
COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*[0-9]*[34][0-9](?:;[0-9]+)*m")


# A verb without steps that waits, one thing of three at a time; and is then asked in between.
WAIT = """
import sys, time
from gitlab_mm_backup.system import process, progress
progress.PATIENCE = 0.3
from gitlab_mm_backup.cli import terminal
from gitlab_mm_backup.cli.output import Context, _log_steps
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.system.process import Command
from gitlab_mm_backup.system.progress import Unit

steps, _ = _log_steps(Context("list", False, False, False, None))
with progress.shown_by(steps.start):
    with progress.of("indexes", 1234, Unit.THINGS) as advance:
        for _ in range(3):
            advance(1)
            time.sleep(0.2)
    process.run(Command(["sleep", "1"]))
    process.run(Command(["true"]))
    try:
        with progress.waiting("question"):
            terminal.ask(["told"], [], "Continue?")
    except Failure as failure:
        print(failure.message)
    time.sleep(1)
steps.close()
print("after", flush=True)
"""


def test_waits_are_shown_by_their_names_and_seconds() -> None:
    text = shown(on_a_terminal(WAIT, answer=b"\x03", LC_ALL="C.UTF-8"))
    before, _, after = text.partition("told")
    assert re.search(r"indexes +[━╸╺]+ 2 of 1 234", before)
    assert re.search(r"\S gitlab-mm list\s", before), "there is no step yet"
    assert re.search(r"sleep +[━╸╺ ]+ \d s", before) and "true" not in text
    asked, _, rest = after.partition("Cancelled; nothing changed")
    assert asked.replace("^C", "").split() == ["Continue?", "[y/N]:"], "nothing is drawn meanwhile"
    assert re.search(r"\S gitlab-mm list  1 s", rest), "its own seconds only"
    assert rest.rstrip().endswith("after")


def test_the_seconds_of_a_step_stand_behind_it_on_80_columns() -> None:
    job = WAIT.replace(
        "time.sleep(1)",
        "logging.getLogger('gitlab_mm_backup.x').info('Stopping ' * 20); time.sleep(1)",
    )
    text = shown(on_a_terminal("import logging" + job, answer=b"n\n", LC_ALL="C.UTF-8"))
    rows = [row for row in re.split(r"[\r\n]+", text) if "…  1 s" in row]
    assert rows and max(len(row.rstrip()) for row in rows) <= 80
    assert re.search(r"\d\d:\d\d:\d\d UTC  (Stopping ){20}", text)


ASK = """
from gitlab_mm_backup.cli import terminal
from gitlab_mm_backup.errors import Failure

try:
    {}
    print("agreed")
except Failure as failure:
    print(f"{{failure.message}}|{{failure.detail}}|{{failure.exit_code}}")
"""
NOTHING = "Cancelled; nothing changed||2"
QUESTION = "terminal.ask([], [], 'Continue?')"
AFTER = "terminal.ask([], [], 'Remove them?', done='x stays accepted')"


@pytest.mark.parametrize(
    ("call", "answer", "said"),
    [
        (QUESTION, b"y\n", "agreed"),
        (QUESTION, b"n\n", NOTHING),
        (QUESTION, b"\n", NOTHING),
        (QUESTION, b"\x03", NOTHING),
        (QUESTION, b"\x04", NOTHING),
        (AFTER, b"n\n", "Cancelled|x stays accepted|2"),
        (AFTER, b"\x03", "Cancelled|x stays accepted|2"),
        ("terminal.pick('Several', ['a', 'b'])", b"2\n", "agreed"),
        ("terminal.pick('Several', ['a', 'b'])", b"\x03", NOTHING),
        ("terminal.ask_password('alice')", b"x\n", "agreed"),
        ("terminal.ask_password('alice')", b"\x03", NOTHING),
    ],
)
def test_what_is_said_after_a_question_is_true(call: str, answer: bytes, said: str) -> None:
    text = shown(on_a_terminal(ASK.format(call), answer, LC_ALL="C.UTF-8"))
    assert text.split("\r\n")[-2:] == [said, ""], text


def on_a_terminal(job: str = JOB, answer: bytes = b"", **environment: str) -> bytes:
    """Run the job on a terminal of 80 columns, and answer its question; return all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-B", "-c", START + job],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 1 << 16):
            pieces.append(piece)
            if answer and b"".join(pieces).endswith(b": "):
                time.sleep(1 if WAIT in job else 0)  # in which nothing may be drawn
                wait_for_reader(child.pid)
                os.write(ours, answer)
                answer = b""
    except OSError:  # what a terminal gives for the end
        pass
    os.close(ours)
    written = b"".join(pieces)
    assert child.wait(timeout=30) == 0, written.decode(errors="replace")
    return written


def wait_for_reader(pid: int) -> None:
    """Wait until a process sleeps: a signal just before it reads would be seen after the read."""
    end, stat = time.monotonic() + 10, Path(f"/proc/{pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end, "it does not read"


def shown(written: bytes) -> str:
    """Return the text without what moves the cursor and what colours."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())


def test_steps_and_bars() -> None:
    written = on_a_terminal(LANG="C.UTF-8", LC_ALL="C.UTF-8")
    text = shown(written)
    assert re.search(r"\d\d:\d\d:\d\d [A-Z]+  Making set caf\u00e9", text)
    assert re.search(r"database +[━╸╺]+ [\d.]+ KiB of 3\.0 MiB, \d+ s left", text)
    assert re.search(r"files +[━╸╺]+ \d+ B of 2\.0 KiB", text)
    assert re.search(r"files +[━╸╺]+ 2\.\d KiB *[\r\n]", text), "more than expected has no end"
    assert text.rstrip().endswith("Warning: odd …")
    assert COLOUR.search(written)
    rows = [line for line in re.split(r"[\r\n]+", text) if "database" in line]
    assert max(len(row.rstrip()) for row in rows) <= 80


@pytest.mark.parametrize(
    "locale", [{}, {"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}]
)
def test_the_c_locale_is_shown_ascii_alone(locale: dict[str, str]) -> None:
    written = on_a_terminal(JOB, b"", **locale)
    assert written.isascii()
    text = shown(written)
    assert re.search(r"database +-+ ", text)
    assert "Made caf\\xe9 ..." in text
    assert "odd ..." in text


@pytest.mark.parametrize(
    ("line", "tone"),
    [
        ("20261130_x is intact, and authentic", ("intact", "green")),
        ("tables           passed   12 tables", ("passed", "green")),
        ("Rehearsal of 20261130_x: FAILED", ("FAILED", "red")),
        ("indexes          warning  1 is not valid", ("warning", "yellow")),
        ("remove  20261130_x  no rule keeps it", ("remove", "yellow")),
        ("Made 20261130_failed", ("", "")),
        ("keep    20261130_x  daily", ("", "")),
    ],
)
def test_the_word_of_a_result_has_its_colour_in_every_command(
    line: str, tone: tuple[str, str]
) -> None:
    assert terminal.tone_of(line) == tone
    painted = terminal.toned(line, *tone)
    assert click.unstyle(painted) == line
    assert (painted != line) is bool(tone[0])


def test_no_colour_where_none_is_wanted() -> None:
    written = on_a_terminal(LC_ALL="C.UTF-8", NO_COLOR="1")
    assert not COLOUR.search(written)
    assert b"database" in written


def test_a_dumb_terminal_is_shown_lines() -> None:
    written = on_a_terminal(LC_ALL="C.UTF-8", TERM="dumb")
    assert b"Making set" in written
    assert b"\x1b[?25l" not in written and "━".encode() not in written


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", "é … 会\n".encode()),
        ("latin-1", b"\xe9 ... \\u4f1a\n"),
        ("ascii", b"\\xe9 ... \\u4f1a\n"),
    ],
)
def test_every_text_can_be_written(encoding: str, told: bytes) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    terminal.prepare(stream)
    stream.write("é … 会\n")
    stream.flush()
    assert raw.getvalue() == told
    assert terminal.in_unicode(stream) is (encoding == "utf-8")


@pytest.mark.parametrize(
    ("environment", "c"),
    [
        ({}, True),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # Python's own doing
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, False),
        ({"LANG": "de_DE.UTF-8"}, False),
    ],
)
def test_which_locale_is_c(environment: dict[str, str], c: bool) -> None:
    assert terminal._in_c_locale(environment) is c


def test_a_question_is_asked_in_the_language_of_the_operator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Text("Taking x")
    text.local = "x を使用します"
    monkeypatch.setattr(terminal, "interactive", lambda: True)
    monkeypatch.setattr(terminal, "_agreed", lambda question: True)
    terminal.ask([text], [text], "?")
    assert capsys.readouterr().err == "x を使用します\n" * 2
    monkeypatch.setattr(click, "prompt", lambda *_, **options: 1)
    assert terminal.pick(text, [text]) == 0
    assert capsys.readouterr().err == "x を使用します\n  1. x を使用します\n"
