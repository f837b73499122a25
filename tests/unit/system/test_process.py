"""Programs that run: how they end, what they see, and that none is left."""

from __future__ import annotations

import dataclasses
import functools
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import pytest

from gitlab_mm_backup.errors import Failure, Interrupted
from gitlab_mm_backup.system import parallel, process, sandbox
from gitlab_mm_backup.system.private_files import InMemory, OpenFile, PipeEnd
from gitlab_mm_backup.system.process import Command
from gitlab_mm_backup.system.redaction import Secret
from tests.unit.helpers.builders import ROOT

SECRET = "glsec-0123456789abcdef"
NOBODY = pwd.getpwnam("nobody")


def shell(script: str, mark: str = "", may_exit: tuple[int, ...] = (0,)) -> Command:
    """Return a shell script; ``mark`` is in its environment and in that of all it starts."""
    return Command(["sh", "-c", script], environment={"MARK": mark}, may_exit=may_exit)


def out(command: Command) -> str:
    return process.run(command).out


def running(mark: str) -> list[int]:
    """Return the processes that have ``mark`` in their environment, those that have ended not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)


@pytest.fixture
def mark() -> Iterator[str]:
    """A word for the environment of programs none of which may be left at the end."""
    word = f"mark-{uuid.uuid4()}"
    yield word
    assert running(word) == []


def forever(mark: str) -> Command:
    """A program that starts another, and both would go on."""
    return shell("sleep 600 & sleep 600; :", mark)


# how a program ends


def test_a_program_ends_well() -> None:
    finished = process.run(shell("echo out; echo err >&2"))
    assert (finished.code, finished.out, finished.err) == (0, "out\n", "err")


def test_an_exit_code_that_may_be_is_no_failure() -> None:
    assert process.run(shell("exit 3", may_exit=(0, 3))).code == 3


@pytest.mark.parametrize(
    ("script", "message", "detail"),
    [
        ("echo why >&2; exit 3", "sh failed with exit code 3", "why"),
        ("kill -9 $$", "sh was ended by signal 9", ""),
        ("head -c 5000 /dev/zero | tr '\\0' x >&2; echo last >&2; exit 1", "exit code 1", "last"),
    ],
)
def test_a_failure_says_how_it_ended_and_its_last_words(
    script: str, message: str, detail: str
) -> None:
    with pytest.raises(Failure, match=message) as caught:
        process.run(shell(script))
    assert caught.value.detail.endswith(detail)
    assert len(caught.value.detail) <= 2000


def test_last_words_may_be_any_bytes() -> None:
    with pytest.raises(Failure) as caught:
        process.run(shell(r"printf 'a\377b' >&2; exit 1"))
    assert caught.value.detail == "a\ufffdb"


def test_a_program_that_is_missing_cannot_be_started() -> None:
    with pytest.raises(Failure, match="no-such-program cannot be started"):
        process.run(Command(["no-such-program"]))


def test_a_file_that_is_no_program_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program", encoding="utf-8")
    with pytest.raises(Failure, match="text cannot be started"):
        process.run(Command([str(tmp_path / "text")]))


def test_a_program_s_own_127_is_its_own() -> None:
    with pytest.raises(Failure, match="sh failed with exit code 127"):
        process.run(shell("no-such-program"))


def test_an_unknown_account_is_a_failure() -> None:
    with pytest.raises(Failure, match="no account no-such-account"):
        process.run(Command(["true"], account="no-such-account"))


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(mark: str) -> None:
    began = time.monotonic()
    with pytest.raises(Failure, match="sh did not end in 0 seconds"):
        process.run(forever(mark), timeout=0.3)
    assert time.monotonic() - began < 5
    wait_until(lambda: not running(mark))


# what a program sees


def test_the_environment_is_small_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    shown = out(Command(["cat", "/proc/self/environ"], environment={"ADDED": "a b"}))
    assert sorted(shown.rstrip("\0").split("\0")) == [
        "ADDED=a b",
        "LC_ALL=C.UTF-8",
        f"PATH={process.PATH}",
    ]


def test_a_program_starts_in_the_root_folder_without_input_and_in_its_own_session() -> None:
    script = "pwd; cat; cut -d' ' -f6 /proc/$$/stat; echo $$"  # proc(5): field 6 is the session
    folder, session, process_id = out(shell(script)).split()
    assert folder == "/"
    assert session == process_id


def test_root_keeps_its_account_but_gains_nothing() -> None:
    status = out(Command(["cat", "/proc/self/status"]))
    assert "NoNewPrivs:\t1\n" in status
    assert "Uid:\t0\t0\t0\t0\n" in status


def test_an_account_is_taken_whole() -> None:
    before = os.getgroups()
    os.setgroups([0, 4, 24])
    try:
        status = out(Command(["cat", "/proc/self/status"], account="nobody"))
    finally:
        os.setgroups(before)
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    assert "NoNewPrivs:\t1\n" in status
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status
    assert f"Gid:\t{gid}\t{gid}\t{gid}\t{gid}\n" in status
    assert "Groups:\t \n" in status
    assert "CapEff:\t0000000000000000\n" in status


def test_no_descriptor_of_ours_is_handed_on() -> None:
    with open("/etc/passwd", "rb") as file:
        os.set_inheritable(file.fileno(), True)
        shown = out(Command(["ls", "-l", "/proc/self/fd"]))
    assert "/etc/passwd" not in shown


# pipes


def collect(*commands: Command) -> bytes:
    return process.printed(*commands)


def test_bytes_go_through_a_pipe_as_they_are(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20000
    (tmp_path / "data").write_bytes(data)
    with open(tmp_path / "data", "rb") as stdin:
        assert process.printed(Command(["cat"]), Command(["cat"]), stdin=stdin) == data


def test_a_pipe_tells_how_each_program_ended() -> None:
    ended = process.pipeline(shell("echo one; echo e1 >&2"), shell("cat; echo e2 >&2"))
    assert [(result.code, result.err) for result in ended] == [(0, "e1"), (0, "e2")]


@pytest.mark.parametrize(
    ("scripts", "blamed"),
    [
        (("exit 3", "cat", "cat"), "exit code 3"),
        (("echo x", "cat >/dev/null; exit 4", "cat"), "exit code 4"),
        (("echo x", "cat", "cat; exit 5"), "exit code 5"),
        # The first that fails is to blame, whatever the others make of it.
        (("echo half; exit 3", "cat; exit 4", "cat >/dev/null; exit 5"), "exit code 3"),
        # A broken pipe is the fault of whom it leads to.
        (("exec cat /dev/zero", "exit 4", "cat"), "exit code 4"),
        (("exec cat /dev/zero", "exec cat", "exit 5"), "exit code 5"),
        (("exec cat /dev/zero", "exec cat", "kill -9 $$"), "ended by signal 9"),
        (("exec cat /dev/zero", "head -c 5", "cat"), "ended by signal 13"),
    ],
)
def test_the_right_program_is_blamed(scripts: tuple[str, ...], blamed: str) -> None:
    with pytest.raises(Failure, match=blamed):
        collect(*map(shell, scripts))


def test_a_program_that_cannot_be_started_ends_the_others(mark: str) -> None:
    with pytest.raises(Failure, match="no-such-program cannot be started"):
        collect(shell("exec cat /dev/zero", mark), Command(["no-such-program"]))


def test_a_sink_that_fails_ends_the_programs(mark: str) -> None:
    def refuse(_: memoryview) -> None:
        raise Failure("the disk is full")

    with pytest.raises(Failure, match="the disk is full"):
        process.pipeline(shell("exec cat /dev/zero", mark), shell("exec cat", mark), sink=refuse)


@pytest.mark.parametrize(
    ("script", "fine"),
    [
        ("echo gone: a >&2; exit 2", True),
        ("echo gone: a >&2; echo gone: b >&2; exit 2", True),
        ("i=0; while [ $i -lt 999 ]; do echo gone: $i >&2; i=$((i+1)); done; exit 2", True),
        ("echo gone: a >&2; echo cannot read b >&2; exit 2", False),
        ("echo cannot read gone: a >&2; exit 2", False),
        # More than the last words that a failure shows.
        (
            "echo bad >&2; i=0; while [ $i -lt 999 ]; do echo gone: $i >&2; i=$((i+1)); done; exit 2",
            False,
        ),
        ("exit 2", False),
        ("echo gone: a >&2; kill -9 $$", False),
    ],
)
def test_a_program_of_a_pipe_is_excused_for_what_it_says_if_it_says_nothing_else(
    script: str, fine: bool
) -> None:
    command = dataclasses.replace(shell(script), excused=re.compile(rb"gone: .*"))
    if fine:
        assert [result.code for result in process.pipeline(command, shell("cat"))] == [0, 0]
    else:
        with pytest.raises(Failure, match="sh "):
            process.pipeline(command, shell("cat"))


def test_a_reader_may_stop_early_where_that_is_no_failure() -> None:
    endless = Command(["cat", "/dev/zero"], may_exit=(0, -signal.SIGPIPE))
    with process.output(endless) as (stream, ended):
        assert stream.read(3) == b"\0\0\0"
    assert [result.code for result in ended] == [-signal.SIGPIPE]


def test_a_block_that_fails_ends_the_programs(mark: str) -> None:
    with pytest.raises(ZeroDivisionError), process.output(forever(mark)):
        raise ZeroDivisionError
    wait_until(lambda: not running(mark))


def test_zstd_packs_and_unpacks_as_nobody(tmp_path: Path) -> None:
    data = b"messages " * 100000
    (tmp_path / "data").write_bytes(data)
    commands = (process.compress(3, 2), process.DECOMPRESS)
    with open(tmp_path / "data", "rb") as stdin:
        assert process.printed(*commands, stdin=stdin) == data
    assert {command.account for command in commands} == {"nobody"}


# together


def test_results_come_in_order() -> None:
    gate = threading.Event()

    def first() -> str:
        assert gate.wait(10)
        return "first"

    def second() -> str:
        gate.set()
        return "second"

    assert parallel.run_all(first, second) == ["first", "second"]


def test_whoever_is_done_takes_the_next_and_no_more_work_than_may() -> None:
    at_work, most, guard = 0, 0, threading.Lock()
    last_began = threading.Event()

    def work(number: int) -> int:
        nonlocal at_work, most
        with guard:
            at_work += 1
            most = max(most, at_work)
        if number == 0:
            assert last_began.wait(10), "the others are done while the first is at work"
        if number == 5:
            last_began.set()
        with guard:
            at_work -= 1
        return number

    ways = [functools.partial(work, number) for number in range(6)]
    assert parallel.run_all(*ways, at_a_time=2) == [0, 1, 2, 3, 4, 5]
    assert most == 2


def test_what_one_gives_goes_through_to_the_other() -> None:
    def give(put: parallel.Put) -> str:
        for number in range(300):
            put(bytes([number % 256]) * 9000)
        return "given"

    whole = b"".join(bytes([number % 256]) * 9000 for number in range(300))
    before = len(os.listdir("/proc/self/fd"))
    assert parallel.pipe_between(give, lambda stream: stream.read()) == ("given", whole)
    assert parallel.pipe_between(
        give, lambda stream: process.run(shell("wc -c"), stdin=stream).out
    ) == (
        "given",
        f"{len(whole)}\n",
    )
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("round_", range(5))
def test_who_gives_is_blamed_and_not_who_misses_the_rest(round_: int, mark: str) -> None:
    def give(put: parallel.Put) -> None:
        put(b"(\xb5/\xfd")  # how what zstd packs begins
        raise Failure("the giver")

    with pytest.raises(Failure, match="the giver"):
        parallel.pipe_between(give, lambda source: process.run(process.DECOMPRESS, stdin=source))
    with pytest.raises(Failure, match="the giver"):
        parallel.pipe_between(give, lambda source: process.run(forever(mark), stdin=source))
    wait_until(lambda: not running(mark))


@pytest.mark.parametrize("round_", range(5))
def test_who_reads_is_blamed_and_the_programs_of_the_giver_end(round_: int, mark: str) -> None:
    def give(put: parallel.Put) -> None:
        process.pipeline(shell("cat /dev/zero", mark), sink=put)

    with pytest.raises(Failure, match="sh failed with exit code 3"):
        parallel.pipe_between(give, lambda source: process.run(shell("exit 3"), stdin=source))
    wait_until(lambda: not running(mark))


def test_who_does_not_read_all_has_failed() -> None:
    def give(put: parallel.Put) -> None:
        put(bytes(3_000_000))

    with pytest.raises(Failure, match="read all its input"):
        parallel.pipe_between(give, lambda source: process.run(shell("head -c 5"), stdin=source))


def test_a_part_of_a_file_comes_without_what_is_around_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before" + bytes(3_000_000) + b"the end")
    descriptors = len(os.listdir("/proc/self/fd"))
    for start, length, whole in ((6, 3_000_000, bytes(3_000_000)), (3_000_006, 99, b"the end")):
        with (
            open(file, "rb") as opened,
            parallel.part_of(opened, length, start) as part,
            process.output(shell("cat"), stdin=part) as (stream, _),
        ):
            part.close()
            assert stream.read() == whole
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_comes_after_a_part_of_a_pipe_is_next_where_a_program_stops_early() -> None:
    with process.output(shell("head -c 3000000 /dev/zero; echo after")) as (stream, _):
        with (
            parallel.part_of(stream, 3_000_000) as part,
            process.output(shell("head -c 5"), stdin=part) as (first, _),
        ):
            part.close()
            assert first.read() == bytes(5)
        assert stream.read() == b"after\n"


def test_who_reads_a_part_may_stop_early_fail_or_never_start(tmp_path: Path, mark: str) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()

    def give_to(program: Command, read: Callable[[IO[bytes]], object]) -> None:
        with (
            open(tmp_path / "file", "rb") as opened,
            parallel.part_of(opened, 3_000_000, 0) as part,
            process.output(program, stdin=part) as (stream, _),
        ):
            part.close()
            read(stream)

    def fail(stream: IO[bytes]) -> None:
        raise Failure("the reader")

    give_to(shell("head -c 5"), lambda stream: stream.read())
    for program, reason in (
        (shell("exit 3"), "exit code 3"),
        (Command(["no-such-program"], account="nobody"), "cannot be started"),
        (forever(mark), "the reader"),
    ):
        with pytest.raises(Failure, match=reason):
            give_to(program, fail if reason == "the reader" else lambda stream: stream.read())
    wait_until(lambda: not running(mark))
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (descriptors, threads)


def test_a_part_of_what_cannot_be_read_is_a_failure() -> None:
    with open("/proc/self/mem", "rb") as opened:  # nothing is there at 4096
        cannot = pytest.raises(Failure, match="/proc/self/mem cannot be read")
        with cannot, parallel.part_of(opened, 10, 4096) as part:
            process.run(shell("cat"), stdin=part)


def test_a_failure_ends_the_programs_of_the_others(mark: str) -> None:
    def fail() -> None:
        wait_until(lambda: len(running(mark)) >= 5)
        raise Failure("the first")

    began = time.monotonic()
    with pytest.raises(Failure, match="the first"):
        parallel.run_all(
            lambda: process.run(forever(mark)),
            fail,
            lambda: collect(shell("cat /dev/zero", mark), shell("cat >/dev/null", mark)),
        )
    assert time.monotonic() - began < 10
    wait_until(lambda: not running(mark))


def test_what_a_block_starts_outlives_the_task_beside_it(mark: str) -> None:
    with parallel.in_background(lambda: "done") as result:
        with process.background(forever(mark)):
            assert result() == "done"
            wait_until(lambda: running(mark))  # while it executes another program it shows nothing
        wait_until(lambda: not running(mark))


def test_a_block_that_fails_ends_the_task_beside_it(mark: str) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        parallel.in_background(lambda: process.run(forever(mark))),
    ):
        wait_until(lambda: bool(running(mark)))
        raise ZeroDivisionError
    wait_until(lambda: not running(mark))


def test_a_task_beside_a_block_tells_how_it_failed() -> None:
    with (
        pytest.raises(Failure, match="false failed"),
        parallel.in_background(lambda: process.run(Command(["false"]))) as result,
    ):
        result()


def test_a_task_between_two_programs_gives_up_too(mark: str) -> None:
    def one_after_the_other() -> None:
        for _ in range(2):
            try:
                process.run(forever(mark))
            except Failure:
                continue

    def fail() -> None:
        wait_until(lambda: running(mark))
        raise Failure("the first")

    with pytest.raises(Failure, match="the first"):
        parallel.run_all(one_after_the_other, fail)
    wait_until(lambda: not running(mark))


def test_what_waits_for_its_turn_is_not_begun_after_a_failure() -> None:
    begun = threading.Semaphore(0)

    def fail() -> None:
        raise Failure("the first")

    def begin() -> None:
        begun.release()
        time.sleep(0.05)

    with pytest.raises(Failure, match="the first"):
        parallel.run_all(fail, *9 * [begin], at_a_time=1)
    assert not (begun.acquire(blocking=False) and begun.acquire(blocking=False))


def test_a_signal_ends_the_programs_of_all(mark: str) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    def send() -> None:
        wait_until(lambda: len(running(mark)) >= 6)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Interrupted, match="SIGUSR1"):
            parallel.run_all(*2 * [lambda: process.run(forever(mark))])
    finally:
        signal.signal(signal.SIGUSR1, before)
        sender.join()
    wait_until(lambda: not running(mark))


PARENT = """
import sys
from gitlab_mm_backup.system import parallel, process
from gitlab_mm_backup.system.process import Command

mark = {"MARK": sys.argv[1]}
parallel.run_all(
    lambda: process.run(Command(["sleep", "600"], environment=mark)),
    lambda: process.run(Command(["sleep", "600"], "nobody", mark)),
    lambda: process.pipeline(
        Command(["cat", "/dev/zero"], "nobody", mark), Command(["cat"], environment=mark)
    ),
)
"""


def name(pid: int) -> str:
    """The program's name; until setpriv has become it, that one's."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_no_program_survives_a_killed_parent(mark: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, mark], cwd=ROOT) as parent:
        try:
            wait_until(lambda: sorted(map(name, running(mark))) == ["cat", "cat", "sleep", "sleep"])
        finally:
            parent.kill()
    wait_until(lambda: not running(mark))


# files that are none


def test_a_file_in_memory_is_for_the_account_alone() -> None:
    for account, uid in ((None, 0), ("nobody", NOBODY.pw_uid)):
        stat = Command(
            ["stat", "--dereference", "--format=%a %u %s", InMemory(Secret(SECRET))], account
        )
        assert out(stat) == f"400 {uid} {len(SECRET)}\n"
        assert out(Command(["cat", InMemory(Secret(SECRET))], account)) == SECRET


def test_a_file_in_memory_cannot_be_opened_by_another_account() -> None:
    script = 'exec setpriv --reuid=12345 --clear-groups cat "$1"'
    with pytest.raises(Failure) as caught:
        process.run(Command(["sh", "-c", script, "sh", InMemory(Secret(SECRET))]))
    assert "Permission denied" in caught.value.detail


def test_an_open_file_is_for_the_account_alone_and_read_from_its_start() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(SECRET.encode())
        file.flush()
        show = 'stat --dereference --format=\'%a %u\' "$1"; cat "$1"'
        command = Command(["sh", "-c", show, "sh", OpenFile(file)], "nobody")
        assert out(command) == f"400 {NOBODY.pw_uid}\n{SECRET}"
        assert not file.closed


def test_a_secret_is_neither_in_the_arguments_nor_in_the_environment() -> None:
    command = Command(
        ["cat", "/proc/self/cmdline", "/proc/self/environ", InMemory(Secret("x" + SECRET))],
        environment={"PGPASSFILE": InMemory(Secret(SECRET))},
    )
    arguments, _, rest = out(command).partition("x" + SECRET)
    assert "PGPASSFILE=/dev/fd/" in arguments
    assert SECRET not in arguments + rest
    assert SECRET not in repr(command)


def test_a_secret_can_be_read_twice_and_hold_any_bytes() -> None:
    word = "latin1: \udce9\n"
    script = 'cat "$1" "$1"'
    shown = collect(Command(["sh", "-c", script, "sh", InMemory(Secret(word))], account="nobody"))
    assert shown == 2 * word.encode(errors="surrogateescape")


def test_a_program_writes_to_the_end_of_a_pipe_of_ours() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as ours, os.fdopen(writing, "wb", 0) as theirs:
        script = 'exec >"$1"; seq 1 500'
        process.run(Command(["sh", "-c", script, "sh", PipeEnd(theirs)], account="nobody"))
        theirs.close()  # the last of its writers: the program has ended
        assert ours.read().split() == [b"%d" % number for number in range(1, 501)]


# connections


def test_acting_as_an_account_ends_with_the_block() -> None:
    with sandbox.acting_as("nobody"):
        assert (os.geteuid(), os.getegid()) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert (os.geteuid(), os.getegid()) == (0, 0)
    with pytest.raises(ZeroDivisionError), sandbox.acting_as("nobody"):
        raise ZeroDivisionError
    assert (os.geteuid(), os.getegid()) == (0, 0)
    with sandbox.acting_as(None):
        assert os.geteuid() == 0


def test_other_threads_act_as_before() -> None:
    asked, told = threading.Event(), threading.Event()
    others = list[int]()

    def look() -> None:
        asked.wait(30)
        others.append(os.geteuid())
        told.set()

    threading.Thread(target=look, daemon=True).start()
    with sandbox.acting_as("nobody"):
        asked.set()
        assert told.wait(30)
    assert others == [0]


# Acts as another account in the main thread and in another, and then waits for its parent to end.
ACTING = """
import sys, threading, time
from gitlab_mm_backup.system import sandbox
def act():
    with sandbox.acting_as("nobody"):
        pass
for _ in range(3):
    act()
    other = threading.Thread(target=act)
    other.start()
    other.join()
print("ready", flush=True)
time.sleep(60)
"""


def test_who_has_acted_as_an_account_still_ends_with_its_parent(mark: str) -> None:
    """As a rehearsal with the backup that has started it."""
    argv = ["sh", "-c", 'setpriv --pdeathsig=KILL "$@" & wait', "sh", sys.executable, "-c", ACTING]
    surroundings = {**os.environ, "MARK": mark}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT, env=surroundings) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        assert len(running(mark)) == 2
        parent.kill()
        wait_until(lambda: not running(mark))


def test_nobody_acts_as_an_unknown_account() -> None:
    unknown = pytest.raises(Failure, match="no account no-such-account")
    with unknown, sandbox.acting_as("no-such-account"):
        pass
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_what_failed_first_is_told_and_not_what_was_ended_for_it(mark: str) -> None:
    """A task within a task fails, and ends itself only when the outer one has seen the other end."""
    seen = threading.Event()

    def fail() -> None:
        wait_until(lambda: running(mark))
        raise Failure("the cause")

    def inner() -> None:
        parallel.run_all(fail, lambda: seen.wait(30))

    with pytest.raises(Failure, match="the cause"):
        parallel.run_all(lambda: process.run(forever(mark)), inner, cancel=seen.set)
    with pytest.raises(Failure, match="signal 9"):
        process.run(Command(["sh", "-c", "kill -9 $$"]))


@pytest.mark.parametrize("capabilities", [None, sandbox.to_read_all()])
def test_no_path_leads_through_a_link_whatever_rights_are_given_up(
    capabilities: tuple[str, ...] | None, tmp_path: Path
) -> None:
    for name in ("home", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside/key").write_text("secret")
    (tmp_path / "home/data").symlink_to(tmp_path / "outside")
    read = Command(["cat", str(tmp_path / "home/data/key")], capabilities=capabilities)
    assert process.run(read).out == "secret"
    with pytest.raises(Failure, match="cat"):
        process.run(dataclasses.replace(read, through_no_link=[tmp_path / "home"]))


def test_the_way_to_a_directory_leads_through_no_link_where_others_can_change_it(
    tmp_path: Path,
) -> None:
    """From the first directory on that is not root's alone, whatever is put there meanwhile."""
    theirs = tmp_path / "theirs"
    (theirs / "deep/data").mkdir(parents=True)
    os.chown(theirs, 65534, 65534)
    (tmp_path / "outside/data").mkdir(parents=True)
    (tmp_path / "outside/data/key").write_text("secret")
    swap = f"mv {theirs}/deep {theirs}/away; ln -s {tmp_path}/outside {theirs}/deep"
    asked = Command(["sh", "-ec", f"{swap}; cat {theirs}/deep/data/key"])
    with pytest.raises(Failure, match="Too many levels of symbolic links"):
        process.run(dataclasses.replace(asked, through_no_link=[theirs / "deep/data"]))
    assert (theirs / "deep").is_symlink()


def test_a_program_that_cannot_begin_behind_such_mounts_is_a_failure(tmp_path: Path) -> None:
    """tar's exit code 1 says that files have changed, and is borne; Python's 1 must not be."""
    asked = Command(["no-such-program"], may_exit=(0, 1), through_no_link=[tmp_path])
    with pytest.raises(Failure, match="No such file or directory"):
        process.run(asked)
