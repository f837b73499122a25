"""Records of rehearsals: what they come to, and what of a file is believed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.checks import Check, Result, failed, guarded, not_run, passed
from gitlab_mm_backup.config.schedule import Schedule
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.rehearsal.limits import is_due
from gitlab_mm_backup.store import check_records
from gitlab_mm_backup.store.check_records import EVIDENCE, CheckRecord, CheckVerdict, Depth
from gitlab_mm_backup.store.sets import BackupSet
from tests.unit.helpers.builders import make_manifest

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=timezone.utc)
WHOLE = [passed("checksums"), passed("structure")]


def record(days: float = 0, *found: Check, depth: Depth = Depth.USUAL) -> CheckRecord:
    """Return a record from that many days ago."""
    return CheckRecord(
        set="1795310000_2026_11_22_10.11.4",
        depth=depth,
        started=(NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=12.5,
        recovery_seconds=9.25,
        tool="0.1.0",
        host="git.example.org",
        mattermost="10.11.4",
        postgresql="16.11",
        checks=list(found) or [*WHOLE, passed("boot", "it answered")],
        left_out=["public.idx_posts_message_txt"],
    )


def made_set(tmp_path: Path) -> BackupSet:
    path = tmp_path / "set"
    path.mkdir()
    return BackupSet(path, make_manifest())


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([passed("a"), passed("b")], CheckVerdict.PASSED),
        ([passed("a"), not_run("b", "no program")], CheckVerdict.INCOMPLETE),
        ([failed("a", "bad"), not_run("b", "a failed")], CheckVerdict.FAILED),
    ],
)
def test_the_verdict_is_that_of_the_worst_check(found: list[Check], verdict: CheckVerdict) -> None:
    assert record(0, *found).verdict is verdict


def test_whole_needs_both_checks_of_the_bytes() -> None:
    assert record(0, *WHOLE, failed("boot", "no")).whole
    assert not record(0, passed("checksums"), failed("structure", "odd")).whole
    assert not record(0, passed("structure")).whole


def test_the_newest_rehearsal_is_no_verification() -> None:
    verified = record(1, *WHOLE, depth=Depth.VERIFY)
    assert check_records.latest_rehearsal([record(3), verified, record(2)]) == record(2)
    assert check_records.latest_verification([record(3), verified]) == verified
    assert check_records.latest_rehearsal([verified]) is None


@pytest.mark.parametrize(
    ("history", "proven", "refuted"),
    [
        ([], False, False),
        ([record(2)], True, False),
        ([record(2), record(1, not_run("boot", "quick"))], True, False),
        ([record(2), record(1, failed("rows", "one less"))], False, True),
        ([record(2), record(1, failed("checksums", "flipped"), depth=Depth.VERIFY)], False, True),
        ([record(2, failed("rows", "one less")), record(1)], True, False),
        ([record(1, *WHOLE, depth=Depth.VERIFY)], False, False),
    ],
)
def test_a_set_is_proven_by_a_pass_until_something_fails_and_refuted_until_a_pass(
    history: list[CheckRecord], proven: bool, refuted: bool
) -> None:
    for order in (history, history[::-1]):
        assert (check_records.proven(order), check_records.refuted(order)) == (proven, refuted)


def test_of_two_checks_in_one_second_the_later_one_counts() -> None:
    bad = record(0, failed("checksums", "x"), depth=Depth.VERIFY)
    good = record(0, passed("checksums"), depth=Depth.USUAL)
    assert check_records.proven([bad, good]) and check_records.refuted([good, bad])
    assert check_records.latest_verification([bad, good]) is good
    assert check_records.latest_rehearsal([good, record(0, passed("boot"))]) is not good


def test_what_is_written_is_read() -> None:
    wanted = [
        record(2, failed("rows", "Grüße \x07")),
        dataclasses.replace(record(1), recovery_seconds=None),
    ]
    assert check_records.parse(check_records.to_bytes(wanted), "here") == wanted
    assert check_records.parse_line(check_records.to_line(wanted[0]), "here") == wanted[0]


SPOILED: list[dict[str, Any]] = [
    {"depth": "deep"},
    {"started": "2026-11-24T04:00:00"},
    {"started": "yesterday"},
    {"seconds": -1},
    {"seconds": "12"},
    {"checks": [{"name": "a", "result": "fine", "detail": ""}]},
    {"checks": {}},
    {"checks": []},
    {"left_out": "all"},
    {"extra": 1},
    {"tool": None},
]


@pytest.mark.parametrize("spoiled", SPOILED, ids=str)
def test_a_record_that_is_none_of_ours_is_refused(spoiled: dict[str, Any]) -> None:
    line = json.dumps({**check_records.as_fields(record()), **spoiled}).encode()
    with pytest.raises(Failure) as caught:
        check_records.parse_line(line, "here")
    assert "here" in caught.value.detail
    document = json.dumps({"format": 1, "records": [json.loads(line)]}).encode()
    with pytest.raises(Failure):
        check_records.parse(document, "here")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"format": 2, "records": []}', b"[" * 9999]
)
def test_a_file_that_is_none_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(Failure):
        check_records.parse(data, "here")


def test_records_pile_up_in_set_and_history(tmp_path: Path) -> None:
    set_, history = made_set(tmp_path), tmp_path / "state/rehearsals.jsonl"
    assert check_records.of_set(set_) == check_records.history(history) == []
    for days in (3, 2, 1):
        assert check_records.keep_record(set_, record(days), history) == []
    assert (
        check_records.of_set(set_)
        == check_records.history(history)
        == [record(3), record(2), record(1)]
    )
    for path in (set_.path / EVIDENCE, history):
        assert path.stat().st_mode & 0o777 == 0o600


def test_two_that_note_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """A rehearsal holds up no other command, so both may."""
    set_, history = made_set(tmp_path), tmp_path / "rehearsals.jsonl"

    def note() -> None:
        for days in range(1, 6):
            assert check_records.keep_record(set_, record(days), history) == []

    apart = multiprocessing.get_context("fork")
    children = [apart.Process(target=note) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(check_records.of_set(set_)) == len(check_records.history(history)) == 20


def test_neither_grows_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_records, "_MOST_IN_HISTORY", 40)
    set_, history = made_set(tmp_path), tmp_path / "rehearsals.jsonl"
    for days in range(50, 0, -1):
        check_records.keep_record(set_, record(days), history)
    assert check_records.of_set(set_) == [record(days) for days in range(30, 0, -1)]
    assert check_records.history(history) == [record(days) for days in range(40, 0, -1)]


def test_a_torn_line_and_a_foreign_file_hide_nothing_else(tmp_path: Path) -> None:
    set_, history = made_set(tmp_path), tmp_path / "rehearsals.jsonl"
    check_records.keep_record(set_, record(2), history)
    history.write_bytes(history.read_bytes() + check_records.to_line(record(1))[:40])
    (set_.path / EVIDENCE).write_text("not ours")
    assert check_records.history(history) == [record(2)]
    assert check_records.of_set(set_) == []
    check_records.keep_record(set_, record(0), history)
    assert check_records.history(history) == [record(2), record(0)]
    assert check_records.of_set(set_) == [record(0)]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    set_ = made_set(tmp_path)
    check_records.keep_record(set_, record(), tmp_path / "rehearsals.jsonl")
    (set_.path / EVIDENCE).rename(tmp_path / "elsewhere")
    (set_.path / EVIDENCE).symlink_to(tmp_path / "elsewhere")
    assert check_records.of_set(set_) == []


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    gone = BackupSet(tmp_path / "gone", make_manifest())
    (tmp_path / "file").write_text("")
    warnings = check_records.keep_record(gone, record(), tmp_path / "file/rehearsals.jsonl")
    assert ["in the set" in warnings[0], "in the history" in warnings[1]] == [True, True]


@pytest.mark.parametrize(
    ("how_often", "done", "wanted"),
    [
        ("off", [], False),
        ("off", [record(100)], False),
        ("nightly", [record(0.1)], True),
        ("weekly", [], True),
        ("weekly", [record(6.4)], False),
        ("weekly", [record(6.6)], True),
        ("weekly", [record(9), record(1, *WHOLE, depth=Depth.VERIFY)], True),
    ],
)
def test_when_a_rehearsal_is_due(how_often: str, done: list[CheckRecord], wanted: bool) -> None:
    assert is_due(how_often, done, NOW) is wanted


@pytest.mark.parametrize(
    ("how_often", "done", "wanted"),
    [
        ("off", [record(100)], False),
        ("nightly", [], True),
        ("nightly", [record(0)], False),  # of the same day
        ("nightly", [record(1.5)], True),
        ("nightly", [record(1.5), record(0, *WHOLE, depth=Depth.VERIFY)], True),
        ("weekly", [record(6.4)], False),
        ("weekly", [record(6.6)], True),
    ],
)
def test_of_many_sets_of_a_day_the_first_is_rehearsed(
    how_often: str, done: list[CheckRecord], wanted: bool
) -> None:
    plan = Schedule(timedelta(minutes=15))
    assert is_due(how_often, done, NOW, plan) is wanted


def test_a_check_that_cannot_look_has_failed() -> None:
    def look() -> Check:
        raise Failure("The disk is gone", "input/output error")

    assert guarded("rows", look) == Check(
        "rows", Result.FAILED, str(Failure("The disk is gone", "input/output error"))
    )
