"""Runs one command inside a lab and says what it took.

`python3 -m tests.bench.meter` with a JSON object on stdin: {"argv": [...], "cwd": folder, "sample": bool,
"postmaster": file with the server's process id or "", "ping": URL or ""}; prints the fields of
Reading as JSON. All times are seconds.

Processor time is user and system time of the command's whole process tree, from wait4(2), orphans
included; that of the PostgreSQL server is the growth of the counters of the postmaster and of all
its children. Memory, where it is sampled, is the greatest sum of the proportional set sizes (PSS of
/proc/PID/smaps_rollup) of the tree, looked at every 20 ms, without processes of a PostgreSQL server.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
SAMPLE_SECONDS, PING_SECONDS = 0.02, 0.02
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Reading:
    """What a command took."""

    code: int
    wall: float
    cpu: float  # of the command's tree
    server_cpu: float  # of the PostgreSQL server meanwhile
    peak: int  # bytes, 0 where it was not sampled
    downtime: float  # from the first ping without an answer to the first with one again
    lines: list[tuple[float, str]] = field(default_factory=list)  # of stderr, since the start
    stdout: str = ""


def children(pid: int) -> list[int]:
    """The processes that a process has started, in all its threads."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """A process's whole tree, without itself."""
    found, waiting = [], children(pid)
    while waiting:
        child = waiting.pop()
        found.append(child)
        waiting += children(child)
    return found


def is_server(pid: int) -> bool:
    """Whether a process belongs to a PostgreSQL server; the clients do not."""
    return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"


def tree_memory(pid: int) -> int:
    """Bytes of memory of the tree below a process, each shared page counted once."""
    total = 0
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            if not is_server(child):
                rollup = Path(f"/proc/{child}/smaps_rollup").read_text()
                total += next(
                    int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")
                )
    return total * 1024


def ticks(pid: int) -> int:
    """Clock ticks that a process and the children that it has buried used."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return sum(int(word) for word in stat.rpartition(")")[2].split()[11:15])


def server_seconds(file: str) -> float:
    """Processor time of the PostgreSQL server so far; 0 without one."""
    if not file:
        return 0.0
    postmaster = int(Path(file).read_text().split()[0])
    return sum(ticks(pid) for pid in (postmaster, *descendants(postmaster))) / TICK


class Watcher:
    """Does something again and again beside the command."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    @contextlib.contextmanager
    def every(self, seconds: float, look: Any) -> Iterator[None]:
        """Call `look` every `seconds` while the block runs."""

        def watch() -> None:
            while not self._stop.wait(seconds):
                look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


class Memory:
    """The greatest sum so far."""

    def __init__(self) -> None:
        self.peak = 0

    def look(self) -> None:
        self.peak = max(self.peak, tree_memory(os.getpid()))


class Ping:
    """When a server was away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.gone: float | None = None
        self.back: float | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers(self) -> bool:
        try:
            with self._opener.open(self.url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def look(self) -> None:
        began = time.monotonic()
        if not self.answers():
            if self.gone is None:
                self.gone = began
            self.back = None
        elif self.gone is not None and self.back is None:
            self.back = time.monotonic()


def follow(stream: IO[str], began: float, lines: list[tuple[float, str]]) -> None:
    """Note each line with its time."""
    for line in stream:
        lines.append((round(time.monotonic() - began, 3), line.rstrip("\n")))


def bury_orphans() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def measure(argv: list[str], cwd: str, sample: bool, postmaster: str, ping: str) -> Reading:
    """Run a command to its end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    memory, site, lines = Memory(), Ping(ping), list[tuple[float, str]]()
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
        before = server_seconds(postmaster)
        if sample:
            stack.enter_context(Watcher().every(SAMPLE_SECONDS, memory.look))
        if ping:
            stack.enter_context(Watcher().every(PING_SECONDS, site.look))
        began = time.monotonic()
        command = subprocess.Popen(
            argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE,
            encoding="utf-8", errors="backslashreplace",
        )  # fmt: skip
        assert command.stderr is not None
        reader = threading.Thread(target=follow, args=(command.stderr, began, lines), daemon=True)
        reader.start()
        code = command.wait()
        wall = time.monotonic() - began
        bury_orphans()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        after = server_seconds(postmaster)
        reader.join(timeout=5)
        output.seek(0)
        said = output.read()
    gone, back = site.gone or 0.0, site.back or 0.0
    return Reading(
        code=code,
        wall=wall,
        cpu=used.ru_utime + used.ru_stime,
        server_cpu=after - before,
        peak=memory.peak,
        downtime=max(0.0, back - gone),
        lines=lines,
        stdout=said,
    )


def main() -> None:
    print(json.dumps(asdict(measure(**json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
