"""Loading in parallel: who waits for the rows, an end for each, and the rows compared."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.postgresql import load
from gitlab_mm_backup.postgresql.dump_contents import Key
from gitlab_mm_backup.postgresql.load import Passes
from gitlab_mm_backup.system import parallel

KEY = Key("public", "posts_pkey", "posts", "PRIMARY KEY", "id")
PASSES = Passes(["tables"], ["a", "b"], ["rows"], [["c"], ["d"], ["e"]], [KEY], [])


class Work:
    """Notes when each piece began and was done; `long` ones are done when the rows are in."""

    def __init__(self, broken: str = "") -> None:
        self.noted: list[str] = []
        self._broken = broken
        self._filled = threading.Event()

    def load(self, lines: Sequence[str], rows: bool = False) -> None:
        self.noted.append(f"{lines[0]} begins")
        if lines[0] == self._broken:
            raise Failure(f"{lines[0]} cannot be loaded")
        if lines[0] == "b" and not self._broken:
            assert self._filled.wait(10), "the rows wait for no index"
        if rows:
            self.noted.append("rows are in")
            self._filled.set()

    def execute(self, statements: Sequence[str]) -> None:
        self.noted.append(f"{len(statements)} keys begin")

    def do(self, sessions: int) -> None:
        parallel.run_all(*load.middle(PASSES, self.load, self.execute), at_a_time=sessions)


@pytest.mark.parametrize("sessions", [2, 3, 4, 8])
def test_only_the_long_ones_begin_before_the_rows_are_in(sessions: int) -> None:
    work = Work()
    work.do(sessions)
    filled = work.noted.index("rows are in")
    assert set(work.noted[:filled]) == {"a begins", "b begins", "rows begins"}
    assert sorted(work.noted[filled + 1 :]) == ["1 keys begin", "c begins", "d begins", "e begins"]


def test_one_session_does_one_after_the_other() -> None:
    work = Work(broken="nothing")
    work.do(1)
    assert [note.split()[0] for note in work.noted] == [
        "a",
        "b",
        "rows",
        "rows",
        "1",
        "c",
        "d",
        "e",
    ]


@pytest.mark.parametrize("broken", ["a", "rows", "c"])
@pytest.mark.parametrize("sessions", [1, 2, 4, 8])
@pytest.mark.parametrize("_", range(5))
def test_a_failure_leaves_nobody_waiting(broken: str, sessions: int, _: int) -> None:
    with pytest.raises(Failure, match=f"{broken} cannot be loaded"):
        Work(broken).do(sessions)


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"a": 1, "b": 2}, ""),
        ({"a": 1, "b": 3}, "b: 3, not 2"),
        ({"a": 1}, "b: None, not 2"),
        ({"a": 1, "b": 2, "c": 0}, "c: 0, not None"),
        ({}, "a: None, not 1; b: None, not 2"),
    ],
)
def test_each_table_with_another_number_of_rows_is_named(found: dict[str, int], named: str) -> None:
    if not named:
        load.compare_rows(found, {"a": 1, "b": 2})
        return
    with pytest.raises(Failure) as caught:
        load.compare_rows(found, {"a": 1, "b": 2})
    assert caught.value.detail == named
