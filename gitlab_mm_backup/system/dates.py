"""Days and times as an administrator types them."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

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
