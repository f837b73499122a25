"""Unit tests run against a changed module, each time in a new process.

A process is forked from one that has pytest, and no module of the package, in memory: the changed code is
what it imports.  No file of the checkout changes.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType

import pytest

from tests.mutants.changes import Mutant

TOP = Path(__file__).resolve().parents[2]
PACKAGE = "gitlab_mm_backup"
_TESTS = TOP / "tests" / "unit"
_MOST_MEMORY = 4 << 30
_MARGIN = 30  # seconds of a processor, beside thrice those that the tests take without a change
_LONGEST = 300.0  # seconds for one that waits and does nothing
_PASSED, _NONE_RUN = 0, 5  # pytest's exit codes
# What the tests take most of their start for; forked processes have it.
_HEAVY = ("hypothesis", "hypothesis.strategies", "yaml", "click", "json", "jsonschema")


@dataclass(frozen=True)
class Module:
    """A module with the unit tests that import it."""

    name: str
    path: Path
    tests: tuple[str, ...]  # files

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Reach:
    """Which tests come to which functions of a module, as found by running them all."""

    functions: dict[str, set[int]]  # test -> first lines of the functions that it calls
    seconds: float

    def tests(self, mutant: Mutant) -> set[str]:
        """Return the tests that call the function of a change.

        All, where it is outside of functions, or in one that is called while tests are collected.
        """
        found = {test for test, lines in self.functions.items() if mutant.function in lines}
        return found or set(self.functions)


def module(name: str, own: bool = False) -> Module:
    """Return a module with all unit tests that import it; with ``own`` with those of its name."""
    folder, base = Path(*name.split(".")[:-1]), name.rpartition(".")[2]
    path = TOP / PACKAGE / folder / f"{base}.py"
    files = sorted((_TESTS / folder).glob(f"test_{base}*.py") if own else _TESTS.rglob("test_*.py"))
    return Module(name, path, tuple(str(file) for file in files if name in _imported(file)))


def _imported(file: Path) -> set[str]:
    """Return the modules of ours that a test file imports itself."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            inner = (node.module or "")[len(PACKAGE) + 1 :]
            found |= {inner, *(f"{inner}.{name.name}".lstrip(".") for name in node.names)}
    return found


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder:
    """Has Python import one module from given code."""

    def __init__(self, module: Module, code: CodeType) -> None:
        self._name, self._path, self._code = f"{PACKAGE}.{module.name}", str(module.path), code

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        loader = _Loader(name, self._path, self._code)
        return importlib.util.spec_from_file_location(name, self._path, loader=loader)


def _import_from(module: Module, code: CodeType) -> None:
    sys.meta_path.insert(0, _Finder(module, code))


class _Chosen:
    """Leaves out the tests that do not come to the change; such as are new with it stay."""

    def __init__(self, reach: Reach, wanted: set[str]) -> None:
        self._left_out = reach.functions.keys() - wanted

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self._left_out]


class _Watch:
    """Notes which functions of a module each test calls, and what it forks."""

    def __init__(self, module: Module) -> None:
        self._path = str(module.path)
        self._now: set[int] = set()
        self._process = os.getpid()
        self._forked = os.memfd_create("forked")  # lines that others than this process came to
        self.found: dict[str, set[int]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._now = self.found[item.nodeid] = set()
        os.ftruncate(self._forked, 0)
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        yield
        sys.setprofile(None)
        self._now.update(map(int, os.pread(self._forked, 1 << 20, 0).split()))

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename == self._path:
            line = frame.f_code.co_firstlineno
            if os.getpid() != self._process and line not in self._now:
                os.lseek(self._forked, 0, os.SEEK_END)
                os.write(self._forked, f"{line} ".encode())
            self._now.add(line)


def reach(module: Module, folder: Path) -> Reach:
    """Run a module's tests as it is, and note what they call; raises SystemExit unless all pass."""
    note, begun = folder / f"{module.name}.reach", time.monotonic()

    def watched() -> int:
        watch = _Watch(module)
        _import_from(module, compile(module.source, str(module.path), "exec"))
        code = _pytest(module, folder / module.name, [watch])
        note.write_text(repr(watch.found), encoding="utf-8")
        return code

    process = _fork(watched, loud=True)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) not in (_PASSED, _NONE_RUN):
        raise SystemExit(f"mutants: the tests of {module.name} do not pass as it is")
    found = ast.literal_eval(note.read_text(encoding="utf-8")) if module.tests else {}
    return Reach({name: set(lines) for name, lines in found.items()}, time.monotonic() - begun)


def survives(module: Module, mutant: Mutant, reach: Reach | None, folder: Path) -> int:
    """Begin to test a mutant; return the process, which ends with 0 where no test found it.

    A change that has it run in a circle is found too: its time is that of a processor, so that a
    busy machine finds no more.
    """
    seconds = _MARGIN + 3 * int(reach.seconds if reach else 0)

    def changed() -> int:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        _import_from(module, mutant.code(module.source, str(module.path)))
        chosen = [_Chosen(reach, reach.tests(mutant))] if reach else []
        return _pytest(module, folder, chosen, "--exitfirst")

    return _fork(changed)


def all_of(
    work: Iterable[tuple[Mutant, Callable[[Path], int]]], jobs: int, folder: Path
) -> Iterator[tuple[Mutant, bool]]:
    """Yield (mutant, whether it was killed) of all ``work``, which is each with how to begin it."""
    waiting, running = iter(work), dict[int, tuple[Mutant, float, Path]]()
    number = 0
    while True:
        for mutant, begin in waiting:
            number += 1
            place = folder / str(number)
            running[begin(place)] = (mutant, time.monotonic() + _LONGEST, place)
            if len(running) >= jobs:
                break
        if not running:
            return
        process, status = _one_ended({trial: end for trial, (_, end, _) in running.items()})
        mutant, _, place = running.pop(process)
        shutil.rmtree(place, ignore_errors=True)
        yield mutant, os.waitstatus_to_exitcode(status) not in (_PASSED, _NONE_RUN)


def _one_ended(ends: dict[int, float]) -> tuple[int, int]:
    """Wait for a process to end, and end one that takes too long."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process in ends:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)  # what its tests left running
            return process, status
        if not process:
            signal.sigtimedwait({signal.SIGCHLD}, max(0.0, min(ends.values()) - time.monotonic()))
        for late in (trial for trial, end in ends.items() if end < time.monotonic()):
            os.killpg(late, signal.SIGKILL)


def _fork(work: Callable[[], int], loud: bool = False) -> int:
    for name in _HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    process = os.fork()
    if process:
        with contextlib.suppress(OSError):
            os.setpgid(process, process)
        return process
    code = 3
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
        if not loud:
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _pytest(module: Module, folder: Path, plugins: Sequence[object], *words: str) -> int:
    if not module.tests:
        return _NONE_RUN
    settings = ["-c", str(TOP / "tests" / "pytest.ini"), "-q", "--no-header", "-p", "no:xdist"]
    settings += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is in memory
    place = f"--basetemp={folder}"
    return int(pytest.main([*settings, place, *words, *module.tests], plugins=plugins))
