"""``schedule`` of config.yml: when scheduled backups are due, and how old a set may become."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

TICK = timedelta(minutes=15)  # how often cron and systemd's timer ask
_INTERVALS = {
    "hourly": timedelta(hours=1),
    "every 15 min": timedelta(minutes=15),
    "every 30 min": timedelta(minutes=30),
}
_TIME = r"(?:[01]?[0-9]|2[0-3]):(?:00|15|30|45)"
_DAY = timedelta(days=1)
# How much later than the longest wait between two runs a set may be: a run may take longer than the
# one before, or step aside for another.
_LEAST_SLACK, _MOST_SLACK = timedelta(minutes=30), timedelta(hours=2)
_AHEAD = timedelta(minutes=1)  # a clock that was set back a little
NIGHT = _DAY + _MOST_SLACK  # the age above which a nightly set is too old
_WRONG = (
    "must be hourly, every 15 min, every 30 min, a time of day in quarters of an hour such as 02:30, or "
    "a list of these times"
)
EXPENSIVE = "an interval needs files: incremental or store: restic; now each set has all files"


@dataclass(frozen=True)
class Schedule:
    """Runs at an interval, or at times of day by the clock of the host."""

    interval: timedelta | None = None
    times: tuple[str, ...] = ()  # 02:30, in order

    def __str__(self) -> str:
        words = {interval: text for text, interval in _INTERVALS.items()}
        return words[self.interval] if self.interval else f"at {', '.join(self.times)}"

    @property
    def often(self) -> bool:
        """Tell whether it is an interval, for stores where a run costs what changed."""
        return self.interval is not None

    @property
    def per_day(self) -> int:
        """The number of runs of a day."""
        return _DAY // self.interval if self.interval is not None else len(self.times)

    @property
    def longest_wait(self) -> timedelta:
        """The longest time between two runs."""
        if self.interval is not None:
            return self.interval
        minutes = [int(hour) * 60 + int(minute) for hour, minute in map(_parted, self.times)]
        following = [*minutes[1:], minutes[0] + 24 * 60]
        return timedelta(minutes=max(after - at for at, after in zip(minutes, following)))

    @property
    def oldest(self) -> timedelta:
        """The age above which the newest set is too old."""
        wait = self.longest_wait
        return wait + min(max(wait, _LEAST_SLACK), _MOST_SLACK)

    def covers(self, made: datetime, now: datetime) -> bool:
        """Tell whether a run that began then is that of the newest slot before ``now``.

        An interval begins anew at each full hour; both moments have the time zone of the host. Times
        of day are compared as the clock shows them, so that summer time makes no run more and none
        less. A future moment never counts.
        """
        if made > now + _AHEAD:
            return False
        if self.interval is not None:
            return made >= self._slot(now, self.interval)
        return made.replace(tzinfo=None) >= self._time_before(now.replace(tzinfo=None))

    def began(self, now: datetime) -> datetime:
        """Return the newest slot before ``now``."""
        if self.interval is not None:
            return self._slot(now, self.interval)
        return self._time_before(now.replace(tzinfo=None)).astimezone()

    def next_time(self, now: datetime) -> datetime:
        """Return the next slot after ``now``."""
        if self.interval is not None:
            return self._slot(now, self.interval) + self.interval
        wall = now.replace(tzinfo=None)
        return min(moment for moment in self._around(wall) if moment > wall).astimezone()

    @staticmethod
    def _slot(now: datetime, interval: timedelta) -> datetime:
        hour = now.replace(minute=0, second=0, microsecond=0)
        return hour + (now - hour) // interval * interval

    def _time_before(self, wall: datetime) -> datetime:
        return max(moment for moment in self._around(wall) if moment <= wall)

    def _around(self, wall: datetime) -> list[datetime]:
        """Return the times of yesterday, today and tomorrow, as the clock shows them."""
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
        return [
            midnight + timedelta(days=day, hours=int(hour), minutes=int(minute))
            for day in (-1, 0, 1)
            for hour, minute in map(_parted, self.times)
        ]


UNKNOWN = Schedule(_INTERVALS["hourly"])  # while config.yml cannot be read: told once an hour


def _parted(time: str) -> list[str]:
    return time.split(":")


def oldest(schedule: Schedule | None) -> timedelta:
    """Return the age above which the newest set is too old; None is the nightly run."""
    return schedule.oldest if schedule else NIGHT


def read(value: Any) -> Schedule:
    """Return the schedule of a value from YAML; raises ValueError."""
    if isinstance(value, str) and value in _INTERVALS:
        return Schedule(_INTERVALS[value])
    given = value if isinstance(value, list) else [value]
    if not given:
        raise ValueError(_WRONG)
    return Schedule(times=tuple(sorted(set(map(_time, given)))))


def _time(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 600 <= value < 24 * 60:
        value = f"{value // 60}:{value % 60:02}"  # YAML 1.1 reads an unquoted 12:45 as 765
    if not isinstance(value, str) or not re.fullmatch(_TIME, value):
        raise ValueError(_WRONG)
    return value.zfill(5)


def show(value: Schedule | None) -> Any:
    """Return the value as it is written in YAML."""
    if value is None:
        return None
    return str(value) if value.interval else list(value.times)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the values that ``read`` accepts."""
    time = _forms([{"type": "string", "pattern": f"^{_TIME}$"}])
    times = {"type": "array", "items": time, "minItems": 1}
    return {"anyOf": [{"enum": list(_INTERVALS)}, *time["anyOf"], times]}


def _forms(text: Iterable[dict[str, Any]]) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 600, "maximum": 24 * 60 - 1, "multipleOf": 15}
    return {"anyOf": [*text, number]}
