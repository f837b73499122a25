"""When cron's hourly question is answered with a backup."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gitlab_mm_backup.backup import schedule
from gitlab_mm_backup.backup.schedule import Nightly, Often
from gitlab_mm_backup.config.schedule import Schedule
from gitlab_mm_backup.errors import ExitCode, Failure

AT = "04:17"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


class Host:
    """A host that is up at some hours, and what its schedule did."""

    def __init__(self, folder: Path) -> None:
        self.stamp = folder / "nightly"
        self.runs: list[str] = []

    def last(self, text: str) -> Host:
        self.stamp.touch()
        os.utime(self.stamp, (moment(text).timestamp(),) * 2)
        return self

    def up(self, begin: str, hours: int) -> list[str]:
        """Be asked at minute 17 of some hours on end; return when a run was made."""
        now = moment(begin).replace(minute=17)
        for _ in range(hours):
            if schedule.is_due(AT, now, self.stamp):
                self.runs.append(now.strftime("%d %H:%M"))
                self.last(now.isoformat())
            elif self.stamp.exists() and self.stamp.stat().st_mtime > now.timestamp() + 60:
                # is_due notes the real time; the host's is another
                self.last(now.isoformat())
            now += timedelta(hours=1)
        return self.runs


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_one_run_a_night_at_its_time(host: Host) -> None:
    host.last("2026-01-10T04:17:00")
    assert host.up("2026-01-10T05:00", 72) == ["11 04:17", "12 04:17", "13 04:17"]


def test_a_run_that_was_missed_is_made_in_the_next_hour_that_the_host_is_up(host: Host) -> None:
    host.last("2026-01-10T04:17:00")
    assert host.up("2026-01-12T11:00", 24) == ["12 11:17", "13 04:17"]


def test_a_late_one_shortly_before_the_time_is_the_night_s_own(host: Host) -> None:
    host.last("2026-01-10T04:17:00")
    assert host.up("2026-01-12T02:00", 24) == ["12 02:17"]


def test_a_new_host_waits_for_the_night(host: Host) -> None:
    assert host.up("2026-01-10T11:00", 24) == ["11 04:17"]


def test_a_new_host_does_not_wait_when_the_night_is_now(host: Host) -> None:
    assert host.up("2026-01-10T04:00", 3) == ["10 04:17"]


@pytest.mark.parametrize(("asked", "due"), [("05:16:59", True), ("05:17:00", False)])
def test_on_a_new_host_the_night_is_now_for_an_hour(asked: str, due: bool, host: Host) -> None:
    assert schedule.is_due(AT, moment(f"2026-01-10T{asked}"), host.stamp) is due
    assert host.stamp.exists() is not due


def test_a_stamp_of_a_clock_that_was_wrong_stops_nothing(host: Host) -> None:
    host.last("2031-01-01T00:00:00")
    assert schedule.is_due(AT, moment("2026-01-10T11:17:00"), host.stamp)


@pytest.mark.parametrize(
    ("made", "now", "covered"),
    [
        ("2026-01-10T05:30:00", "2026-01-10T11:17:00", True),  # by hand, after the night
        ("2026-01-10T02:00:00", "2026-01-10T04:17:00", True),  # in the same night
        ("2026-01-10T00:30:00", "2026-01-10T04:17:00", False),
        ("2026-01-09T22:00:00", "2026-01-10T03:17:00", True),  # for the night before
        ("2026-01-10T12:00:00", "2026-01-10T11:17:00", False),
        # Three hours before the time, to the second.
        ("2026-01-10T01:17:00", "2026-01-10T11:17:00", True),
        ("2026-01-10T01:16:59", "2026-01-10T11:17:00", False),
        # A minute ahead: the clock has been set back a little since.
        ("2026-01-10T11:17:00", "2026-01-10T11:17:00", True),
        ("2026-01-10T11:18:00", "2026-01-10T11:17:00", True),
        ("2026-01-10T11:18:01", "2026-01-10T11:17:00", False),
    ],
)
def test_what_stands_for_a_night(made: str, now: str, covered: bool) -> None:
    assert schedule.covers(moment(made), AT, moment(now)) is covered


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31"])
def test_summer_time_makes_no_run_more_and_none_less(
    zone: str, day: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        start = moment(f"{day}T04:17:00")
        host.last(start.isoformat())
        for hour in range(1, 73):
            now = datetime.fromtimestamp(start.timestamp() + 3600 * hour).astimezone()
            if schedule.is_due(AT, now, host.stamp):
                host.runs.append(now.strftime("%H:%M"))
                host.last(now.isoformat())
        assert host.runs[:2] == ["04:17", "04:17"]
        assert len(host.runs) in (2, 3)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ("2026-10-24T20:00:00+02:00", "2026-10-25T04:17:00+01:00"),
        ("2027-03-27T20:00:00+01:00", "2027-03-28T04:17:00+02:00"),
        ("2027-03-28T04:17:00+02:00", "2027-03-29T04:17:00+02:00"),
        ("2027-03-29T04:16:00+02:00", "2027-03-29T04:17:00+02:00"),
    ],
)
def test_the_next_time_is_the_clock_s(
    now: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        found = schedule.next_time(AT, datetime.fromisoformat(now).astimezone())
        assert found.isoformat() == wanted
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "4", "24:00", "04:60", "04:17:00", "x"])
def test_what_is_no_time_is_bad_usage(text: str) -> None:
    with pytest.raises(Failure) as caught:
        schedule.due_time(text, moment("2026-01-10T04:17:00"))
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_run_is_noted_with_its_time(tmp_path: Path) -> None:
    stamp = tmp_path / "nightly"
    assert schedule.last_run(stamp) is None
    umask = os.umask(0)
    try:
        schedule.record(stamp)
    finally:
        os.umask(umask)
    assert stamp.stat().st_mode & 0o777 == 0o600
    Host(tmp_path).last("2026-01-10T04:17:00")
    schedule.record(stamp)
    last = schedule.last_run(stamp)
    assert last is not None
    assert abs(last - datetime.now().astimezone()) < timedelta(minutes=1)


QUARTERLY = Often(Schedule(timedelta(minutes=15)))


def test_a_missed_run_of_a_schedule_is_made_once_at_the_next_question(host: Host) -> None:
    host.last("2026-01-10T04:15:01")
    assert not QUARTERLY.due(moment("2026-01-10T04:29:59"), host.stamp)
    assert QUARTERLY.due(moment("2026-01-10T04:30:00"), host.stamp)
    assert QUARTERLY.due(moment("2026-01-12T11:05:00"), host.stamp)  # it slept
    host.last("2026-01-12T11:05:00")
    assert not QUARTERLY.due(moment("2026-01-12T11:14:00"), host.stamp)


@pytest.mark.parametrize(("asked", "due"), [("02:44:59", True), ("02:45:00", False)])
def test_a_new_host_waits_for_the_next_slot(asked: str, due: bool, host: Host) -> None:
    plan = Often(Schedule(times=("02:30", "14:30")))
    assert plan.due(moment(f"2026-01-10T{asked}"), host.stamp) is due
    assert host.stamp.exists() is not due


def test_without_a_schedule_the_question_is_answered_with_no(host: Host) -> None:
    assert not Nightly(None).due(moment("2026-01-10T04:17:00"), host.stamp)
    assert not host.stamp.exists()
    assert Nightly(AT).due(moment("2026-01-10T04:17:00"), host.stamp)
