"""``schedule`` of config.yml: what it may be, when a run is due, and how old a set may become."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from gitlab_mm_backup.config import schedule
from gitlab_mm_backup.config.schedule import Schedule

QUARTER, HALF, HOUR = timedelta(minutes=15), timedelta(minutes=30), timedelta(hours=1)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


@pytest.mark.parametrize(
    ("value", "wanted", "words"),
    [
        ("hourly", Schedule(HOUR), "hourly"),
        ("every 15 min", Schedule(QUARTER), "every 15 min"),
        ("every 30 min", Schedule(HALF), "every 30 min"),
        ("02:30", Schedule(times=("02:30",)), "at 02:30"),
        (["12:45", "2:00", "12:45"], Schedule(times=("02:00", "12:45")), "at 02:00, 12:45"),
        # YAML 1.1 reads an unquoted 12:45 as a number of base 60.
        (765, Schedule(times=("12:45",)), "at 12:45"),
        ([1425, "00:00"], Schedule(times=("00:00", "23:45")), "at 00:00, 23:45"),
    ],
)
def test_what_a_schedule_may_be(value: object, wanted: Schedule, words: str) -> None:
    assert schedule.read(value) == wanted
    assert str(wanted) == words
    assert schedule.read(schedule.show(wanted)) == wanted


@pytest.mark.parametrize(
    "value",
    ["", "daily", "every 10 min", "24:00", "02:31", "02:3", [], ["hourly"], 599, 766, 1440, True, 2.5, None, {}],
)  # fmt: skip
def test_what_it_may_not_be(value: object) -> None:
    with pytest.raises(ValueError, match="must be hourly, every 15 min"):
        schedule.read(value)


@pytest.mark.parametrize(
    ("value", "wait", "oldest"),
    [
        ("every 15 min", QUARTER, timedelta(minutes=45)),
        ("every 30 min", HALF, HOUR),
        ("hourly", HOUR, 2 * HOUR),
        ("02:30", 24 * HOUR, 26 * HOUR),
        (["02:30", "14:30"], 12 * HOUR, 14 * HOUR),
        (["08:00", "12:00", "18:00"], 14 * HOUR, 16 * HOUR),
        (["08:00", "08:30"], 23.5 * HOUR, 25.5 * HOUR),
    ],
)
def test_the_longest_wait_and_the_age_that_is_too_old(
    value: object, wait: timedelta, oldest: timedelta
) -> None:
    plan = schedule.read(value)
    assert (plan.longest_wait, plan.oldest, schedule.oldest(plan)) == (wait, oldest, oldest)


def test_a_nightly_set_may_be_26_hours_old() -> None:
    assert schedule.oldest(None) == timedelta(hours=26)


@pytest.mark.parametrize(
    ("value", "made", "now", "covered"),
    [
        ("every 15 min", "2026-01-10T12:15:00", "2026-01-10T12:29:59", True),
        ("every 15 min", "2026-01-10T12:14:59", "2026-01-10T12:29:59", False),
        ("every 15 min", "2026-01-10T12:15:01", "2026-01-10T12:30:00", False),
        ("hourly", "2026-01-10T12:00:00", "2026-01-10T12:59:00", True),
        ("hourly", "2026-01-10T11:59:59", "2026-01-10T12:00:00", False),
        ("02:30", "2026-01-10T02:30:00", "2026-01-11T02:29:00", True),
        ("02:30", "2026-01-10T02:29:59", "2026-01-10T02:30:00", False),
        ("02:30", "2026-01-09T02:30:00", "2026-01-10T11:00:00", False),  # the host was off
        # A clock that was ahead stops nothing; a minute is one that was set back a little.
        ("hourly", "2026-01-10T12:01:00", "2026-01-10T12:00:00", True),
        ("hourly", "2026-01-10T12:01:01", "2026-01-10T12:00:00", False),
        ("02:30", "2031-01-01T00:00:00", "2026-01-10T12:00:00", False),
    ],
)
def test_what_counts_for_a_slot(value: object, made: str, now: str, covered: bool) -> None:
    assert schedule.read(value).covers(moment(made), moment(now)) is covered


def runs(plan: Schedule, begin: str, hours: int) -> list[str]:
    """Ask every quarter of an hour; return when a run was made, in UTC."""
    start, made = moment(begin).timestamp(), []
    last = datetime.fromtimestamp(start).astimezone()
    for tick in range(1, hours * 4 + 1):
        now = datetime.fromtimestamp(start + 900 * tick + 2).astimezone()
        if not plan.covers(last, now):
            last = now
            made.append(now.strftime("%d %H:%M"))
    return made


def test_summer_time_makes_no_run_more_and_none_less_at_times_of_day() -> None:
    plan = schedule.read(["02:30", "14:00"])
    spring = runs(plan, "2026-03-28T14:00:00", 36)
    assert spring == ["29 03:00", "29 14:00", "30 02:30"]  # 02:30 was left out that night
    autumn = runs(plan, "2026-10-24T14:00:00", 38)
    assert autumn == ["25 02:30", "25 14:00", "26 02:30"]  # 02:30 came twice


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_an_interval_goes_on_through_the_change_of_the_clock(day: str) -> None:
    assert len(runs(schedule.read("every 15 min"), f"{day}T00:00:00", 6)) == 24
    assert len(runs(schedule.read("hourly"), f"{day}T00:00:00", 6)) == 6


@pytest.mark.parametrize(
    ("value", "now", "wanted"),
    [
        ("every 15 min", "2026-01-10T12:15:00", "2026-01-10T12:30:00+01:00"),
        ("hourly", "2026-01-10T23:59:59", "2026-01-11T00:00:00+01:00"),
        (["02:30", "14:30"], "2026-01-10T02:30:00", "2026-01-10T14:30:00+01:00"),
        (["02:30", "14:30"], "2026-01-10T14:30:00", "2026-01-11T02:30:00+01:00"),
        ("04:00", "2026-10-24T20:00:00", "2026-10-25T04:00:00+01:00"),
    ],
)
def test_the_next_run(value: object, now: str, wanted: str) -> None:
    assert schedule.read(value).next_time(moment(now)).isoformat() == wanted
