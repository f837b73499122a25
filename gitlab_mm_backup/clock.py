"""What a date proves: one that lies ahead of now was written by a clock that was wrong."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

_FORMS = "2026-11-20, 20261120, yesterday, 06:00 or 2026-11-20T06:00"
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:[T ]?(\d\d):?(\d\d)(?::?(\d\d))?)?")


def end_of(text: str, now: datetime) -> datetime:
    """Return the end of the day that is meant, or the very moment; local time unless it says so.

    A time alone is the last that the clock showed.  Raises ValueError with the forms that there are.
    """
    days = {"today": now.date(), "yesterday": now.date() - timedelta(days=1)}
    if text in days:
        return _midnight(days[text] + timedelta(days=1))
    match = _TIME.fullmatch(text)
    if match:
        moment = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
        return moment if moment <= now else moment - timedelta(days=1)
    compact = _COMPACT.fullmatch(text)
    try:
        if compact:
            year, month, day, hour, minute, second = (int(one or 0) for one in compact.groups())
            if compact[4] is None:
                return _midnight(date(year, month, day) + timedelta(days=1))
            return datetime(year, month, day, hour, minute, second).astimezone()
        moment = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
        whole = re.fullmatch(r"\d{4}-\d\d-\d\d", text)
        return _midnight(moment.date() + timedelta(days=1)) if whole else moment.astimezone()
    except (ValueError, OverflowError):
        raise ValueError(f"give it as {_FORMS}") from None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day).astimezone()


_APART = timedelta(
    minutes=5
)  # that the clocks of two hosts, or of one before and after NTP, may be


def now() -> datetime:
    return datetime.now(timezone.utc)


def parse_moment(text: str) -> datetime:
    """Return the moment that RFC 3339 writes so; raises ValueError where it is none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def ahead(one: datetime, when: datetime) -> bool:
    """Tell whether a moment is in the future at ``when``."""
    return one > when + _APART


def utc(moment: datetime) -> str:
    """Return ``moment`` as RFC 3339 in UTC, to the second."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
