"""Scheduled runs: once a night or by ``schedule``, later if the host was off at that time."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Union

from ..config.schedule import TICK, Schedule
from ..errors import ExitCode, Failure
from ..system.files import STATE

STAMP = STATE / "nightly"  # its time is that of the last run by the schedule, however it ended
# A set made shortly before the time counts for the same night.
_NIGHT = timedelta(hours=3)
_TICK = timedelta(hours=1)  # how often cron asks


def is_due(at: str, now: datetime, stamp: Path = STAMP) -> bool:
    """Tell whether the run of ``at`` (as 04:17) is due now; asked every hour.

    On a new host the first one is in the next night, not at once.
    """
    last = last_run(stamp)
    if last is None and now - due_time(at, now) >= _TICK:
        record(stamp)
        return False
    return last is None or not covers(last, at, now)


@dataclass(frozen=True)
class Nightly:
    """One run a night at a time of day, as cron names it; None: never, for nothing is scheduled."""

    at: str | None
    words = "Tonight's set already exists"

    def due(self, now: datetime, stamp: Path = STAMP) -> bool:
        return self.at is not None and is_due(self.at, now, stamp)

    def covers(self, made: datetime, now: datetime) -> bool:
        return self.at is not None and covers(made, self.at, now)


@dataclass(frozen=True)
class Often:
    """Runs by ``schedule`` of config.yml."""

    schedule: Schedule
    words = "The set of this time already exists"

    def due(self, now: datetime, stamp: Path = STAMP) -> bool:
        """Tell whether a run is due now; asked every quarter of an hour.

        A run that was missed is made once, at the next question. On a new host the first one is at
        the next slot, not at once.
        """
        last = last_run(stamp)
        if last is None and now - self.schedule.began(now) >= TICK:
            record(stamp)
            return False
        return last is None or not self.schedule.covers(last, now)

    def covers(self, made: datetime, now: datetime) -> bool:
        return self.schedule.covers(made.astimezone(), now)


Plan = Union[Nightly, Often]


def covers(made: datetime, at: str, now: datetime) -> bool:
    """Tell whether something made then counts for the last night; a future time never does."""
    return due_time(at, now) - _NIGHT <= made <= now + timedelta(minutes=1)


def due_time(at: str, now: datetime) -> datetime:
    """Return the last time at which the clock showed ``at``; raises Failure if it is invalid."""
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at)
    if match is None:
        raise Failure(f"{at!r} is not a time of day", "write it as 04:17", exit_code=ExitCode.USAGE)
    today = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def next_time(at: str, now: datetime) -> datetime:
    """Return the next time that the clock of this host shows ``at``, in summer or winter time."""
    wall = due_time(at, now).replace(tzinfo=None) + timedelta(days=1)
    return wall.astimezone()


def last_run(stamp: Path = STAMP) -> datetime | None:
    try:
        return datetime.fromtimestamp(stamp.stat().st_mtime).astimezone()
    except FileNotFoundError:
        return None


def record(stamp: Path = STAMP) -> None:
    """Record that the scheduled run begins now: a failed one is not repeated every hour."""
    stamp.touch(mode=0o600)
    os.utime(stamp)
