"""What a date proves: one that lies ahead of now was written by a clock that was wrong."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_APART = timedelta(
    minutes=5
)  # that the clocks of two hosts, or of one before and after NTP, may be


def now() -> datetime:
    return datetime.now(timezone.utc)


def moment(text: str) -> datetime:
    """Return the moment that RFC 3339 writes so; raises ValueError where it is none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def ahead(one: datetime, when: datetime) -> bool:
    """Tell whether a moment is in the future at ``when``."""
    return one > when + _APART


def utc(moment: datetime) -> str:
    """Return ``moment`` as RFC 3339 in UTC, to the second."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
