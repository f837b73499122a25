"""Days and times as administrators type them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from gitlab_mm_backup.clock import end_of, start_of
from gitlab_mm_backup.errors import Failure


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2026-11-20", "2026-11-21T00:00:00+01:00"),
        ("20261120", "2026-11-21T00:00:00+01:00"),
        ("today", "2026-11-29T00:00:00+01:00"),
        ("yesterday", "2026-11-28T00:00:00+01:00"),
        ("2026-10-25", "2026-10-26T00:00:00+01:00"),  # that day has 25 hours
        ("2026-03-28", "2026-03-29T00:00:00+01:00"),
        ("2026-03-29", "2026-03-30T00:00:00+02:00"),  # that day has 23
        ("06:00", "2026-11-28T06:00:00+01:00"),
        ("6:30", "2026-11-28T06:30:00+01:00"),
        ("23:00", "2026-11-27T23:00:00+01:00"),  # the last that the clock showed
        ("2026-11-20T06:00", "2026-11-20T06:00:00+01:00"),
        ("2026-11-20 06:00:30", "2026-11-20T06:00:30+01:00"),
        ("20261120T0600", "2026-11-20T06:00:00+01:00"),
        ("2026-11-20T06:00:00Z", "2026-11-20T07:00:00+01:00"),
        ("2026-11-20T06:00+05:00", "2026-11-20T02:00:00+01:00"),
    ],
)
def test_what_is_meant(text: str, end: str) -> None:
    now = datetime.fromisoformat("2026-11-28T12:00:00+01:00").astimezone()
    assert end_of(text, now) == datetime.fromisoformat(end)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("2026-11-20", "2026-11-20T00:00:00+01:00"),
        ("20261120", "2026-11-20T00:00:00+01:00"),
        ("today", "2026-11-28T00:00:00+01:00"),
        ("2026-10-25", "2026-10-25T00:00:00+02:00"),
        ("06:00", "2026-11-28T06:00:00+01:00"),
        ("2026-11-20T00:00", "2026-11-20T00:00:00+01:00"),
    ],
)
def test_a_day_begins_at_midnight(text: str, start: str) -> None:
    now = datetime.fromisoformat("2026-11-28T12:00:00+01:00").astimezone()
    assert start_of(text, now) == datetime.fromisoformat(start)


@pytest.mark.parametrize(
    "text", ["", "now", "20261320", "2026-11-31", "25:00", "06:60", "11/20/2026", "1795310000"]
)
def test_what_is_no_date(text: str) -> None:
    now = datetime.fromisoformat("2026-11-28T12:00:00+01:00").astimezone()
    with pytest.raises(Failure, match="yesterday"):
        end_of(text, now)


def test_midnight_itself() -> None:
    now = datetime.fromisoformat("2026-11-28T00:00:00+01:00").astimezone()
    assert end_of("00:00", now) == now
    assert end_of("today", now) == now + timedelta(days=1)
