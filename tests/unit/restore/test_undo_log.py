"""Steps that are taken back, and the journal that holds them."""

from __future__ import annotations

import functools
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable

import pytest

from gitlab_mm_backup.errors import ExitCode, Failure, Interrupted
from gitlab_mm_backup.mattermost.journal import Journal, Previous, Step, UnfinishedRestore
from gitlab_mm_backup.restore.undo_log import Undo, run
from gitlab_mm_backup.system import signals
from tests.unit.helpers.builders import ROOT


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Taking back has signals passed over from then on; the other tests' process must not."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Recorder:
    """Actions that note what they are asked, and fail where told."""

    def __init__(self, failing: dict[str, Exception] | None = None) -> None:
        self.done: list[str] = []
        self.noted: list[tuple[list[Step], list[Step]]] = []
        self.failing = failing or {}

    @property
    def actions(self) -> dict[str, Callable[..., None]]:
        def action(name: str) -> Callable[..., None]:
            def act(**values: str) -> None:
                self.done.append(" ".join([name, *values.values()]))
                if name in self.failing:
                    raise self.failing[name]

            return act

        return {name: action(name) for name in ("start", "drop", "remove", "exchange")}

    def note(self, undo: list[Step], finish: list[Step]) -> None:
        self.noted.append((list(undo), list(finish)))

    def undo(self) -> Undo:
        return Undo(self.actions, self.note)


def register_all(undo: Undo) -> None:
    undo.will_last("start")
    undo.will("drop", name="new")
    undo.will("remove", work="w")
    undo.will("exchange")


ALL = ["exchange", "remove w", "drop new", "start"]
LEFT = [Step("drop", {"name": "old"})]


@pytest.mark.parametrize("error", [Failure("broken"), OSError(5, "I/O"), Interrupted("SIGTERM")])
def test_steps_are_taken_back_in_reverse(error: BaseException) -> None:
    recorder = Recorder()
    with pytest.raises(type(error)) as caught, recorder.undo() as undo:
        register_all(undo)
        raise error
    assert caught.value is error
    assert recorder.done == ALL
    assert recorder.noted[-1] == ([], [])


def test_leaving_without_a_word_takes_back_too() -> None:
    recorder = Recorder()
    with recorder.undo() as undo:
        register_all(undo)
    assert recorder.done == ALL


def test_what_is_final_stays_and_what_is_left_to_do_is_noted() -> None:
    recorder = Recorder()
    with recorder.undo() as undo:
        register_all(undo)
        undo.commit(LEFT)
        assert recorder.noted[-1] == ([], LEFT)
    assert recorder.done == []
    assert recorder.noted[-1] == ([], LEFT)


def test_a_failure_after_the_final_point_takes_nothing_back() -> None:
    recorder = Recorder()
    with pytest.raises(Failure), recorder.undo() as undo:
        register_all(undo)
        undo.commit(LEFT)
        raise Failure("broken")
    assert recorder.done == []
    assert recorder.noted[-1] == ([], LEFT)


def test_taking_back_is_not_cut_short_by_a_signal() -> None:
    done = []
    steps = ("exchange", "drop")

    def interrupted(name: str) -> Callable[..., None]:
        def act() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(name)

        return act

    signals.heed()
    actions = {name: interrupted(name) for name in steps}
    with pytest.raises(Failure, match="broken"), Undo(actions, lambda *_: None) as undo:
        undo.will("exchange")
        undo.will("drop")
        raise Failure("broken")
    assert done == ["drop", "exchange"]


def test_a_signal_is_heeded_once() -> None:
    signals.heed()
    with pytest.raises(Interrupted, match="SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)


def test_what_is_final_is_not_told_as_interrupted() -> None:
    signals.heed()
    recorder = Recorder()
    with recorder.undo() as undo:
        register_all(undo)
        undo.commit(LEFT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert recorder.done == []


def test_what_cannot_be_made_final_is_taken_back() -> None:
    recorder = Recorder()

    def note(undo: list[Step], finish: list[Step]) -> None:
        if finish:
            raise Failure("the disk is full")
        recorder.note(undo, finish)

    with pytest.raises(Failure, match="disk is full"), Undo(recorder.actions, note) as undo:
        register_all(undo)
        undo.commit(LEFT)
    assert recorder.done == ALL


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Failure("in use"), "in use"),
        (OSError(16, "busy", "/srv/x"), "/srv/x: busy"),
        (RuntimeError("a bug"), "RuntimeError at "),
        (KeyError("a bug"), "KeyError at "),
    ],
)
def test_a_failing_undo_does_not_stop_the_others(error: Exception, told: str) -> None:
    recorder = Recorder({"remove": error})
    with pytest.raises(Failure) as caught, recorder.undo() as undo:
        register_all(undo)
        raise Failure("the cause")
    assert recorder.done == ["exchange", "remove w", "drop new"]  # the last step is not for this
    failure = caught.value
    assert failure.exit_code is ExitCode.ATTENTION
    assert failure.detail.startswith(f"the cause; remove: {told}")
    assert "a bug" not in failure.detail
    assert "start: not done" in failure.detail
    assert "--rollback" in failure.hint
    assert isinstance(failure.__cause__, Failure)
    assert recorder.noted[-1][0] != [], "the journal must stay for the rollback"


def test_only_last_steps_are_left_undone() -> None:
    recorder = Recorder({"exchange": Failure("one"), "drop": Failure("two")})
    steps = [Step("exchange", {}), Step("drop", {"name": "new"}), Step("start", {}, True)]
    problems = run([*steps, Step("remove", {"work": "w"})], recorder.actions)
    assert recorder.done == ["exchange", "drop new", "remove w"]
    assert [problem.partition(":")[0] for problem in problems] == ["exchange", "drop", "start"]


def test_last_steps_are_done_when_all_went_well_before() -> None:
    recorder = Recorder({"drop": Failure("later")})
    steps = [Step("remove", {"work": "w"}), Step("start", {}, True), Step("drop", {"name": "new"})]
    assert run(steps, recorder.actions) == ["drop: later"]
    assert recorder.done == ["remove w", "start", "drop new"]


REQUEST = {"set": "/sets/one", "plan": {"parts": ["database"]}}


def test_each_step_is_in_the_journal_before_its_act(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with Undo(Recorder().actions, functools.partial(journal.write, REQUEST)) as undo:
        undo.will("drop", name="new")
        assert journal.read() == UnfinishedRestore(REQUEST, [Step("drop", {"name": "new"})], [])
        undo.will_last("start")
        steps = [Step("drop", {"name": "new"}), Step("start", {}, True)]
        assert journal.read() == UnfinishedRestore(REQUEST, steps, [])
        undo.commit(LEFT)
        assert journal.read() == UnfinishedRestore(REQUEST, [], LEFT)


def test_the_journal_is_empty_once_all_is_taken_back(tmp_path: Path) -> None:
    journal, recorder = Journal(tmp_path), Recorder()
    with (
        pytest.raises(Failure),
        Undo(recorder.actions, functools.partial(journal.write, {})) as undo,
    ):
        register_all(undo)
        raise Failure("broken")
    assert journal.read() is None
    assert not journal.path.exists()


def test_a_step_that_cannot_be_noted_does_not_begin() -> None:
    def refuse(undo: list[Step], finish: list[Step]) -> None:
        if undo:
            raise Failure("the disk is full")

    recorder, acted = Recorder(), []
    with pytest.raises(Failure, match="disk is full"), Undo(recorder.actions, refuse) as undo:
        undo.will("drop", name="new")
        acted.append("created")
    assert acted == []


# the journal on disk


STEPS = [Step("drop", {"name": 'a "b" \n ü \udcff'}), Step("start", {}, True)]

KILLED = """
import functools, os, signal, sys
from pathlib import Path
from gitlab_mm_backup.mattermost.journal import Journal
from gitlab_mm_backup.restore.undo_log import Undo

with Undo({}, functools.partial(Journal(Path(sys.argv[1])).write, {"set": "x"})) as undo:
    undo.will_last("start")
    undo.will("drop", name="new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    assert journal.read() is None
    journal.write(REQUEST, STEPS, [])
    assert journal.read() == UnfinishedRestore(REQUEST, STEPS, [])
    journal.write({}, [], STEPS[:1])
    assert journal.read() == UnfinishedRestore({}, [], STEPS[:1])
    journal.write({}, [], [])
    assert journal.read() is None
    journal.write({}, [], [])
    assert list((tmp_path / "state").iterdir()) == []


def test_previous_states_are_kept_apart_from_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    assert journal.previous() == []
    states = [Previous("2026-11-22T01:13:20Z", STEPS), Previous("2026-11-23T01:13:20Z", LEFT)]
    journal.keep(states)
    assert journal.previous() == states
    assert states[0].moment == datetime(2026, 11, 22, 1, 13, 20, tzinfo=timezone.utc)
    assert journal.read() is None
    journal.keep([])
    assert journal.previous() == []
    assert list((tmp_path / "state").iterdir()) == []


def test_the_journal_is_private(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    journal.write({}, STEPS, [])
    journal.keep([Previous("2026-11-22T01:13:20Z", STEPS)])
    assert {stat.S_IMODE(path.stat().st_mode) for path in journal.path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_a_killed_run_leaves_its_steps(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    steps = [Step("start", {}, True), Step("drop", {"name": "new"})]
    assert Journal(tmp_path).read() == UnfinishedRestore({"set": "x"}, steps, [])
    assert os.listdir(tmp_path) == ["restore.json"]


STEP = {"action": "x", "values": {}, "last": False}


@pytest.mark.parametrize(
    "document",
    [
        None,
        7,
        "",
        [],
        {},
        [STEP],
        {"request": {}, "undo": []},
        {"undo": [], "finish": []},
        {"request": {}, "undo": ["drop"], "finish": []},
        {"request": {}, "undo": [{}], "finish": []},
        {"request": {}, "undo": [{**STEP, "more": 1}], "finish": []},
    ],
    ids=repr,
)
def test_a_journal_that_makes_no_sense_needs_attention(document: object, tmp_path: Path) -> None:
    (tmp_path / "restore.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(Failure) as caught:
        Journal(tmp_path).read()
    assert caught.value.exit_code is ExitCode.ATTENTION


@pytest.mark.parametrize("text", ["", "{", '{"undo": [', "\0"])
def test_a_journal_that_is_no_json_needs_attention(text: str, tmp_path: Path) -> None:
    for name in ("restore.json", "previous.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    for look in (Journal(tmp_path).read, Journal(tmp_path).previous):
        with pytest.raises(Failure) as caught:
            look()
        assert caught.value.exit_code is ExitCode.ATTENTION


def test_what_a_run_killed_while_writing_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".restore.json.0123456789abcdef").write_text("half", encoding="utf-8")
    Journal(tmp_path).write({}, STEPS, [])
    assert os.listdir(tmp_path) == ["restore.json"]


def test_a_journal_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way", encoding="utf-8")
    with pytest.raises(Failure, match="cannot be written"):
        Journal(tmp_path / "state").write({}, STEPS, [])
