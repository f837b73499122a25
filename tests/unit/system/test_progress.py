"""How far a job is: told in bytes, by whatever thread, and shown only where somebody looks."""

from __future__ import annotations

import ast
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitlab_mm_backup.system import progress
from gitlab_mm_backup.system.progress import Measure, Unit
from tests.unit.helpers.builders import PACKAGE


@dataclass
class Bar:
    """A bar as a test sees it."""

    what: str
    total: int | None
    done: Measure | None
    amount: int = 0
    ended: bool = False
    unit: Unit = Unit.BYTES

    def advance(self, amount: int) -> None:
        self.amount += amount

    def end(self) -> None:
        self.ended = True


@dataclass
class Edge:
    """Shows nothing, and remembers."""

    bars: list[Bar] = field(default_factory=list)

    def start(self, what: str, total: int | None, done: Measure | None, unit: Unit) -> Bar:
        self.bars.append(Bar(what, total, done, unit=unit))
        return self.bars[-1]


def test_where_nobody_looks_nothing_is_shown(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with progress.of("database", 7) as advance, progress.measured("files", 1, lambda: 1):
        advance(3)
    with open(tmp_path / "file", "rb") as file, progress.of_file("set", file):
        pass


def test_a_job_advances_its_bar_from_any_thread() -> None:
    edge = Edge()
    with progress.shown_by(edge.start), progress.of("database", 7) as advance:
        thread = threading.Thread(target=advance, args=(3,))
        thread.start()
        thread.join()
        advance(2)
        assert edge.bars == [Bar("database", 7, None, 5)]
    assert edge.bars[0].ended
    with progress.of("database") as advance:
        advance(1)
    assert len(edge.bars) == 1


def test_a_bar_goes_also_when_the_job_fails() -> None:
    edge = Edge()
    with progress.shown_by(edge.start):
        with pytest.raises(ValueError), progress.of("database"):
            raise ValueError
        with pytest.raises(ValueError), progress.measured("files", 1, lambda: 1):
            raise ValueError
    assert [bar.ended for bar in edge.bars] == [True, True]


def test_a_file_tells_how_far_a_program_has_read_it(tmp_path: Path) -> None:
    edge = Edge()
    (tmp_path / "file").write_bytes(bytes(3000))
    with (
        open(tmp_path / "file", "rb", buffering=0) as file,
        progress.shown_by(edge.start),
        progress.of_file("files", file),
    ):
        (bar,) = edge.bars
        assert bar.done is not None
        assert (bar.total, bar.done()) == (3000, 0)
        subprocess.run(
            ["dd", "bs=1000", "count=2", "status=none"],
            stdin=file,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        assert bar.done() == 2000
    assert bar.ended


def test_a_wait_is_shown_with_its_seconds_once_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    edge, shown = Edge(), threading.Event()
    monkeypatch.setattr(progress, "PATIENCE", 0.05)

    def start(what: str, total: int | None, done: Measure | None, unit: Unit) -> Bar:
        shown.set()
        return edge.start(what, total, done, unit)

    with progress.shown_by(start), progress.waiting("Mattermost"):
        assert shown.wait(10)
    (bar,) = edge.bars
    assert (bar.what, bar.total, bar.unit, bar.ended) == ("Mattermost", None, Unit.SECONDS, True)
    assert bar.done is not None and bar.done() == 0


def test_a_short_wait_and_one_that_nobody_watches_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edge, threads = Edge(), threading.active_count()
    with progress.shown_by(edge.start):
        with progress.waiting("GitLab"):
            assert threading.active_count() == threads + 1
        with pytest.raises(ValueError), progress.waiting("GitLab"):
            raise ValueError
    with progress.waiting("GitLab"):
        assert threading.active_count() == threads
    assert (edge.bars, threading.active_count()) == ([], threads)


# Waits of threads beside the work, of programs that a bar shows, and of programs of their own.
BESIDE = {
    "postgresql.dump.refuse_to_block",
    "postgresql.load.middle",
    "postgresql.load.when_filled",
    "postgresql.scratch.watch_growth",
    "rehearsal.limits._keep_time",
    "rehearsal.opened._wait",
    "system.cleanup.main",
    "system.disk_space.watch",
    "system.parallel._give_up",
    "system.process._started",
    "system.process.output",
    "system.process.temporary_folders",
}
# Locks that are held to write one small file, or not waited for; and a second for such a file.
SHORT = {
    "config.identity.alone",
    "mattermost.json_file.read_config",
    "system.lock.noting",
    "system.lock.unused",
}


def waits() -> Iterator[tuple[str, bool]]:
    """Yield each function of the package that waits itself, and whether that is shown."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                text = [ast.unparse(part) for part in (*node.decorator_list, *node.body)]
                inner = "\n".join(text)
                calls = re.findall(
                    r"time\.sleep\(|\.wait\(|LOCK_EX\)|\.communicate\(|\.open\(request|getresponse\(",
                    inner,
                )
                if calls:
                    yield f"{module}.{node.name}", "progress.waiting(" in inner


def test_every_wait_is_shown() -> None:
    found = dict(waits())
    assert {name for name, shown in found.items() if not shown} == BESIDE | SHORT
    assert len(found) > 15, "they are seen at all"
