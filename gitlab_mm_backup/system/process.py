"""Run other programs: argument lists, a minimal environment, least privilege."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..errors import Failure, reason
from . import environment, progress, sandbox
from .private_files import InMemory, OpenFile, PipeEnd, PrivateFiles, widen
from .redaction import Secret
from .sandbox import Guest, Sandbox

LAST_WORDS = 2000  # bytes
PATH = environment.PATH
PIECE = 256 << 10  # bytes to read at once: small enough for the processor's cache
_GLANCE = 0.5  # seconds between looks at a program's errors
# Takes the output of programs, piece by piece.
Sink = Callable[[memoryview], object]
# Running children; a signal or a failure in one thread ends those of all threads.
_running: dict[subprocess.Popen[bytes], str] = {}  # and the program that each is
_running_lock = threading.Lock()
_stopped: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()  # by stop_all


class Stopped(Failure):
    """A program was ended because another step failed; never a cause itself."""


def last_words(errors: IO[bytes], most: int = LAST_WORDS) -> str:
    """Return the end of ``errors`` without moving the file position, which the program uses."""
    size = os.fstat(errors.fileno()).st_size
    found = os.pread(errors.fileno(), most, max(0, size - most))
    return found.decode(errors="replace").strip()


def excused(known: re.Pattern[bytes] | None, code: int, errors: IO[bytes]) -> bool:
    """Tell whether all error lines of a failed program are known to be harmless."""
    words = os.pread(errors.fileno(), os.fstat(errors.fileno()).st_size, 0)
    return bool(known and code > 0 and words and all(map(known.fullmatch, words.splitlines())))


def judge_ending(program: str, may_exit: Collection[int], code: int, words: str) -> None:
    """Raise Failure for an exit code that means failure."""
    if code in may_exit:
        return
    if code in (126, 127) and words.startswith("setpriv:"):
        raise Failure(f"{program} cannot be started", words)
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    raise Failure(f"{program} {how}", words)


@dataclass(frozen=True)
class Command:
    """A program to run: arguments, account, and additional environment variables.

    InMemory, OpenFile or PipeEnd in either become the path of a file that only the account can use.

    ``account`` None keeps root. Every child loses the means to gain privileges (setpriv(1)
    --no-new-privs) and dies with the thread that started it. In a ``sandbox`` it sees and changes
    only what that allows. ``may_exit`` lists the exit codes that are no failure; in a pipe others
    are accepted too where every error line matches ``excused``. With ``spares_cache`` its reads do
    not fill the page cache (nocache(1), where installed). With ``capabilities`` root has only
    these, as in capabilities(7) without "cap_". ``through_no_link`` names directories whose owners
    may replace entries: none of its paths leads through a link there. ``errors`` is an open file of
    the caller's for its errors, who may read them while it runs. A program of a container runs
    inside it (sandbox.Guest), where ``shared`` directories of this host are seen.
    """

    argv: Sequence[str | InMemory | OpenFile | PipeEnd]
    account: str | None = None
    environment: Mapping[str, str | Secret | InMemory | OpenFile | PipeEnd] = field(
        default_factory=dict
    )
    may_exit: tuple[int, ...] = (0,)
    sandbox: Sandbox | None = None
    spares_cache: bool = False
    excused: re.Pattern[bytes] | None = None
    capabilities: Sequence[str] | None = None
    through_no_link: Sequence[Path] = ()
    errors: IO[bytes] | None = None
    shared: Sequence[Path] = ()

    @property
    def program(self) -> str:
        return Path(str(self.argv[0])).name

    @property
    def guest(self) -> Guest | None:
        return sandbox.guest_of(str(self.argv[0]))

    def code(self, code: int) -> int:
        """Return the exit code, negative for a signal, which bwrap(1) reports as a shell does."""
        return 128 - code if code > 128 and self.guest else code


# A reader may close the pipe early; its own exit code shows whether that was right.
DECOMPRESS = Command(
    ["zstd", "--decompress", "--stdout", "--quiet"],
    account="nobody",
    may_exit=(0, -signal.SIGPIPE),
)


def compress(level: int, threads: int) -> Command:
    """Return the zstd(1) that compresses its input; memory grows with the threads."""
    return Command(["zstd", f"-{level}", f"-T{threads}", "--quiet"], account="nobody")


@dataclass(frozen=True)
class Finished:
    """The result of a program."""

    code: int
    out: str
    err: str


def run(
    command: Command,
    *,
    stdin: IO[bytes] | None = None,
    timeout: float | None = None,
    most_words: int = LAST_WORDS,
    hopeless: Callable[[str], bool] | None = None,
) -> Finished:
    """Run ``command`` to its end; return its output, and the last ``most_words`` of its errors.

    Raises Failure when it cannot be started, exits with a code outside ``may_exit``, still runs
    after ``timeout`` seconds, or when its errors so far are ``hopeless``.
    """
    with progress.waiting(command.program), _started(command, stdin, subprocess.PIPE) as started:
        child, errors = started
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                out, _ = child.communicate(timeout=timeout if hopeless is None else _GLANCE)
                break
            except subprocess.TimeoutExpired:
                words = last_words(errors)
            if hopeless is not None and hopeless(words):
                raise Failure(f"{command.program} cannot continue", words)
            if deadline is not None and time.monotonic() >= deadline:
                raise Failure(f"{command.program} did not end in {timeout:.0f} seconds", words)
        words = last_words(errors, most_words)
    code = command.code(child.returncode)
    _judge(command, child, code, words)
    return Finished(code, out.decode(errors="replace"), words)


def pipeline(
    *commands: Command,
    stdin: IO[bytes] | None = None,
    sink: Sink | None = None,
) -> list[Finished]:
    """Join ``commands`` by pipes; the last one's output goes to ``sink`` in pieces.

    A piece is valid only during the call of ``sink``, because the buffer is reused. Returns the
    result of each. Raises Failure when any of them failed.
    """
    with output(*commands, stdin=stdin) as (stream, ended):
        forward(stream, sink or (lambda piece: None))
    return ended


def forward(stream: IO[bytes], sink: Sink) -> int:
    """Give all of ``stream`` to ``sink`` in pieces, as ``pipeline`` does; return its bytes."""
    piece, total = memoryview(bytearray(PIECE)), 0
    while count := stream.readinto1(piece):  # type: ignore[attr-defined]
        sink(piece[:count])
        total += count
    return total


def printed(*commands: Command, stdin: IO[bytes] | None = None) -> bytes:
    """Join ``commands`` by pipes and return what the last one prints; raises as ``pipeline``."""
    whole = bytearray()
    with progress.waiting(commands[0].program):
        pipeline(*commands, stdin=stdin, sink=whole.extend)
    return bytes(whole)


@contextlib.contextmanager
def output(
    *commands: Command, stdin: IO[bytes] | None = None
) -> Iterator[tuple[IO[bytes], list[Finished]]]:
    """Yield the output of the last of ``commands``, and a list for the results of all.

    After the block a Failure is raised when a program failed: the first one in the pipe, except
    that a broken pipe is the fault of a later one.
    """
    ended: list[Finished] = []
    with contextlib.ExitStack() as stack:
        children: list[tuple[Command, subprocess.Popen[bytes], IO[bytes]]] = []
        source = stdin
        for command in commands:
            child, errors = stack.enter_context(_started(command, source, subprocess.PIPE))
            if children:
                _close(source)  # only the next program may hold it, or a broken pipe goes unseen
            source = child.stdout
            children.append((command, child, errors))
        assert source is not None
        yield source, ended
        _close(source)  # a block that has read enough must not leave the programs waiting
        for command, child, errors in children:
            code = command.code(child.wait())
            code = 0 if excused(command.excused, code, errors) else code
            ended.append(Finished(code, "", last_words(errors)))
    results = zip(children, ended)
    for (command, child, _), finished in sorted(
        results, key=lambda result: result[1].code == -signal.SIGPIPE
    ):
        _judge(command, child, finished.code, finished.err)


def _judge(command: Command, child: subprocess.Popen[bytes], code: int, words: str) -> None:
    """Raise Failure for an exit code that is one; Stopped where ``stop_all`` is the reason."""
    if code == -signal.SIGKILL and child in _stopped:
        raise Stopped(f"{command.program} was ended", "another step failed")
    judge_ending(command.program, command.may_exit, code, words)


@contextlib.contextmanager
def background(command: Command) -> Iterator[Callable[[], Finished | None]]:
    """Run ``command`` during the block; it is ended at the end in any case.

    Yields a function that returns its result with the last of its output; None while it runs.
    """
    with _started(command, None, None) as (child, words):

        def ended() -> Finished | None:
            code = child.poll()
            return None if code is None else Finished(command.code(code), "", last_words(words))

        yield ended


def run_alone(command: Command, *, most_words: int) -> Finished:
    """Run ``command`` until it ends, even if processes that it started keep its output open.

    Returns the last ``most_words`` of its output as its errors. Raises as ``run`` does.
    """
    with progress.waiting(command.program), _started(command, None, None) as (child, words):
        code = command.code(child.wait())
        judge_ending(command.program, command.may_exit, code, last_words(words))
        return Finished(code, "", last_words(words, most_words))


@contextlib.contextmanager
def temporary_folders(*folders: Path) -> Iterator[None]:
    """Remove ``folders`` at the end of the block, even after kill -9.

    Raises Failure when one of them still exists.
    """
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-c", program_of_ours("cleanup.py"), *map(str, folders)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": PATH},
        cwd="/",
        start_new_session=True,
    )
    try:
        yield
    finally:
        _close(sweeper.stdin)
        if sweeper.wait() != 0:
            names = ", ".join(map(str, folders))
            raise Failure("Temporary files could not be removed", names)


@functools.lru_cache(None)
def program_of_ours(name: str) -> str:
    """Return the source of a separate program, read once: an upgrade may remove the file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def lower_priority(niceness: int) -> None:
    """Lower the CPU and disk priority of this process and its children, permanently.

    0 changes nothing, and a process that was started with another priority keeps it.
    """
    if niceness and os.nice(0) == 0:
        os.nice(niceness)
        run(Command(["ionice", "--class=best-effort", "--classdata=7", f"--pid={os.getpid()}"]))


def written_by(program: str) -> int:
    """Return the bytes that our running children of that name have written (proc(5), io)."""
    with _running_lock:
        pids = [child.pid for child, name in _running.items() if name == program]
    written = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"^wchar: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.M)
            written += int(found[1]) if found else 0
    return written


def stop_all() -> None:
    """Kill every program that is running now."""
    with _running_lock:
        for child in _running:
            _stopped.add(child)
            _kill(child)


@contextlib.contextmanager
def _started(
    command: Command, stdin: IO[bytes] | None, stdout: int | None
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start ``command``; it is ended at the end of the block in any case.

    ``stdout`` None sends its output where its errors go.
    """
    with contextlib.ExitStack() as held:
        errors = command.errors or held.enter_context(tempfile.TemporaryFile())
        place = held.enter_context(PrivateFiles(_uid(command.account)))
        program = sandbox.path_inside(command.guest, str(command.argv[0]))
        variables = {name: place.resolve(value) for name, value in command.environment.items()}
        try:
            child = subprocess.Popen(
                [*_privileges(command, place), program, *map(place.resolve, command.argv[1:])],
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=stdout if stdout is not None else errors,
                stderr=errors,
                env={"PATH": PATH, "LC_ALL": "C.UTF-8", **variables},
                cwd="/",
                start_new_session=True,
                pass_fds=place.descriptors,
            )
        except OSError as error:
            raise Failure(f"{command.program} cannot be started", reason(error)) from error
        widen(child.stdout)
        with _running_lock:
            _running[child] = command.program
        place.hand_over()
        try:
            yield child, errors
        finally:
            with _running_lock:
                _running.pop(child, None)
            _kill(child)
            _close(child.stdout)
            child.wait()


def _privileges(command: Command, place: PrivateFiles) -> list[str]:
    """Return the words before the program's own arguments."""
    entry = sandbox.account_entry(command.account) if command.account is not None else None
    spare = ["nocache"] if command.spares_cache and shutil.which("nocache", path=PATH) else []
    given = sandbox.rights_prefix(
        entry, command.capabilities, command.sandbox, place.inherited, command.guest, command.shared
    )
    if not command.through_no_link:
        return [*given, *spare]
    folders = map(str, command.through_no_link)
    # First, because a mount needs a privilege that the next prefix may drop.
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        program_of_ours("nolinks.py"),
        *folders,
        "--",
        *given,
        *spare,
    ]


def _uid(account: str | None) -> int:
    return sandbox.account_entry(account).pw_uid if account is not None else 0


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill ``child`` and all processes of its process group."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()
