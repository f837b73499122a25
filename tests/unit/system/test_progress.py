"""How far a job is: told in bytes, by whatever thread, and shown only where somebody looks."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitlab_mm_backup.system import progress
from gitlab_mm_backup.system.progress import Measure


@dataclass
class Bar:
    """A bar as a test sees it."""

    what: str
    total: int | None
    done: Measure | None
    amount: int = 0
    ended: bool = False

    def advance(self, amount: int) -> None:
        self.amount += amount

    def end(self) -> None:
        self.ended = True


@dataclass
class Edge:
    """Shows nothing, and remembers."""

    bars: list[Bar] = field(default_factory=list)

    def start(self, what: str, total: int | None, done: Measure | None) -> Bar:
        self.bars.append(Bar(what, total, done))
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
