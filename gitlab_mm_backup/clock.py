"""Dates: parse and format them, and recognise one in the future (a clock was wrong)."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

from .errors import ExitCode, Failure

_FORMS = "2026-11-20, 20261120, yesterday, 06:00 or 2026-11-20T06:00"
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_DAY = re.compile(r"today|yesterday|\d{4}-?\d\d-?\d\d")
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:[T ]?(\d\d):?(\d\d)(?::?(\d\d))?)?")


def end_of(text: str, now: datetime) -> datetime:
    """Return the end of the day in ``text``, or its exact time; local time without a time zone.

    A time without a date is today's, or yesterday's if today's is still to come.  Raises Failure
    with the accepted forms.
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
            year, month, day, hour, minute, second = (int(group or 0) for group in compact.groups())
            if compact[4] is None:
                return _midnight(date(year, month, day) + timedelta(days=1))
            return datetime(year, month, day, hour, minute, second).astimezone()
        moment = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
        whole = re.fullmatch(r"\d{4}-\d\d-\d\d", text)
        return _midnight(moment.date() + timedelta(days=1)) if whole else moment.astimezone()
    except (ValueError, OverflowError):
        raise Failure(
            f"{text!r} is not a date", f"give it as {_FORMS}", exit_code=ExitCode.USAGE
        ) from None


def start_of(text: str, now: datetime) -> datetime:
    """Return the start of the day in ``text``, or its exact time; as ``end_of`` in all else."""
    end = end_of(text, now)
    return _midnight(end.date() - timedelta(days=1)) if _DAY.fullmatch(text) else end


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day).astimezone()


_APART = timedelta(minutes=5)  # tolerated between two clocks, or before and after NTP sets one


def now() -> datetime:
    return datetime.now(timezone.utc)


def moment_of(seconds: float) -> datetime:
    """Return the moment ``seconds`` after 1970, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def parse_moment(text: str) -> datetime:
    """Return the moment of an RFC 3339 text; raise ValueError if it is not one."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def ahead(moment: datetime, when: datetime) -> bool:
    """Return whether ``moment`` is in the future at ``when``."""
    return moment > when + _APART


def utc(moment: datetime) -> str:
    """Return ``moment`` as RFC 3339 in UTC, to the second."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
