"""Runs inside the fault harness's labs with nothing but the standard library: breaks our program, and looks around.

A .pth file beside the installed package imports this module into each Python that starts. With a
GITLAB_MM_FAULT in its environment (the JSON of faults.Fault) it makes our program fail at one
exact place; nothing of the product is written over.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import inspect
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "GITLAB_MM_FAULT"
REACHED, GO = Path("/run/fault-reached"), Path("/run/fault-go")
HALF = 0.6  # of a stream's compressed bytes that pass before its fault


class Trap:
    """One fault: what happens at the n-th time that a place is reached."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.fault = fault
        self._times = 0
        self._main = os.getpid()
        self._children: list[tuple[str, int]] = []
        self._printing: list[subprocess.Popen[bytes]] = []
        self._users: dict[int, tuple[str, int]] = {}  # pid -> who reads what it prints
        self._stream: dict[str, int] = {}  # the programs of the stream that the fault is in
        self._unpacking = False

    def reached(self) -> None:
        """Count, and do what is planned when it is time."""
        if os.getpid() != self._main:
            return
        self._times += 1
        if self._times == self.fault["nth"]:
            self.act()

    def act(self) -> None:
        """Do it."""
        what = str(self.fault["act"])
        if what == "EIO":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if what == "fail":
            raise importlib.import_module("gitlab_mm_backup.errors").Failure("On purpose")
        if what in ("run", "hold"):
            if what == "run":
                subprocess.run(self.fault["argv"], check=True, stdin=subprocess.DEVNULL)
            else:
                hold()
        elif what.startswith("SIG"):
            self._signal(what)

    def _signal(self, what: str) -> None:
        target = self.fault["target"]
        pids = [pid for name, pid in self._children if name == target] if target else [self._main]
        os.kill(self._stream.get(target, pids[-1]), getattr(signal, what))

    def arm(self) -> None:
        """Put the trap where the fault says."""
        module, _, name = self.fault["point"].partition(":")
        if module in ("stream", "child"):
            self._watch_children(module, name)
            return
        owner: Any = importlib.import_module(f"gitlab_mm_backup.{module}")
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, self._around(getattr(owner, last)))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        before = self.fault["when"] == "before"

        @functools.wraps(function)
        def trapped(*arguments: Any, **named: Any) -> Any:
            if before:
                self.reached()
            result = function(*arguments, **named)
            if not before:
                self.reached()
            return result

        return trapped

    def _watch_children(self, kind: str, wanted: str) -> None:
        """Have every child known by its name, and its start or its work watched."""
        process: Any = importlib.import_module("gitlab_mm_backup.system.process")
        archives: Any = importlib.import_module("gitlab_mm_backup.store.archive_reader")
        trap, real, unpack = self, process.subprocess.Popen, archives.unpack

        class Watched(real):  # type: ignore[misc, valid-type]
            def __init__(self, argv: list[str], **named: Any) -> None:
                program = _program(argv)
                feed: int | None = None
                stdin: Any = named.get("stdin")
                source = next(
                    (printer for printer in trap._printing if printer.stdout is stdin), None
                )
                if kind == "stream" and program == "zstd" and trap._unpacking:
                    reading, feed = os.pipe()
                    named["stdin"] = reading
                super().__init__(argv, **named)
                trap._children.append((program, self.pid))
                trap._printing += [self] if self.stdout is not None else []
                if source is not None:
                    trap._users[source.pid] = (program, self.pid)
                if feed is not None:
                    os.close(reading)
                    target = functools.partial(trap._feed, Path(stdin.name), feed, wanted, self.pid)
                    threading.Thread(target=target, daemon=True).start()
                if kind == "child" and program == wanted and _loads(argv):
                    trap._at_work(program, self.pid)

        def unpacking(*arguments: Any) -> Any:
            *_, portion, _ = arguments
            trap._unpacking = portion is None  # a portion comes through a pipe of ours
            return unpack(*arguments)

        process.subprocess = _Substitute(process.subprocess, Popen=Watched)
        archives.unpack = unpacking

    def _at_work(self, program: str, pid: int) -> None:
        """Act when a child has begun; a pg_restore when the server works for it."""
        while program == "pg_restore" and not _server_loads() and _lives(pid):
            time.sleep(0.001)
        if self.fault["act"].startswith("SIG") and self.fault["act"] != "SIGKILL":
            os.killpg(pid, signal.SIGSTOP)
            threading.Thread(target=self._when_waiting, args=(pid,), daemon=True).start()
        else:
            self.reached()

    def _when_waiting(self, pid: int) -> None:
        """Act when our program waits for the child, and let that go on."""
        _wait_until_idle([os.getpid()])
        self.reached()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGCONT)

    def _feed(self, path: Path, pipe: int, wanted: str, zstd: int) -> None:
        data = path.read_bytes()
        half = int(len(data) * HALF)
        try:
            _write(pipe, data[:half])
            user = self._user_of(zstd)
            if user is not None and user[0] == wanted:
                _wait_until_idle([zstd, user[1]])
                self._stream = {"zstd": zstd, wanted: user[1]}
                self.reached()
            _write(pipe, data[half:])
        except BrokenPipeError:
            pass
        finally:
            os.close(pipe)

    def _user_of(self, zstd: int) -> tuple[str, int] | None:
        """The program that reads what this zstd prints; it is started a moment later."""
        for _ in range(200):
            if zstd in self._users:
                return self._users[zstd]
            time.sleep(0.005)
        return None


_BECOMES = ("python3", "setpriv")  # another program, that they name after --


def _program(argv: list[str]) -> str:
    """The name of the program that a child becomes in the end."""
    after = list(argv)
    while "--" in after and Path(after[0]).name.startswith(_BECOMES):
        after = after[after.index("--") + 1 :]
    return Path(after[1] if after[0] == "nocache" else after[0]).name


def _loads(argv: list[str]) -> bool:
    """Whether a program is at the work itself: a pg_restore may only look into the dump."""
    return not {"--list", "--file=-"} & set(argv)


class _Substitute:
    """A module with some names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.__dict__.update(vars(module))
        self.__dict__.update(names)


def _write(pipe: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(pipe, left) :]


def _wait_until_idle(pids: list[int]) -> None:
    """Until each of them sleeps, three looks in a row: they have done all that they can."""
    quiet = 0
    while quiet < 3:
        time.sleep(0.02)
        states = {
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids
        }
        quiet = quiet + 1 if states == {"S"} else 0


def _lives(pid: int) -> bool:
    """Whether a child still runs: a short one may be over before anybody looks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def _server_loads() -> bool:
    """Whether PostgreSQL has a session in a database of ours that is being made."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b" gitlab_mm_new_" in (words := entry.read_bytes()) and b"mattermost" in words:
                return words.startswith(b"postgres:")
    return False


def hold() -> None:
    """Stand still until somebody outside says go."""
    REACHED.touch()
    while not GO.exists():
        time.sleep(0.01)


def arm() -> None:
    """Called by the .pth file in every Python."""
    text = os.environ.pop(VARIABLE, "")
    if text:
        fault = json.loads(text)
        if fault.get("patience"):
            service = importlib.import_module("gitlab_mm_backup.mattermost.service")
            waiting = inspect.unwrap(service.wait_until_it_answers)
            waiting.__defaults__ = (float(fault["patience"]),)
            boot = importlib.import_module("gitlab_mm_backup.rehearsal.boot")
            vars(boot)["_PATIENCE"] = float(fault["patience"])
        for module, name, value in (
            ("store.frames", "LARGEST", fault["frame"]),
            ("restore.earlier_uploads", "_BATCH", fault["batch"]),
        ):
            if value:
                vars(importlib.import_module(f"gitlab_mm_backup.{module}"))[name] = value
        if fault["point"]:
            Trap(fault).arm()
