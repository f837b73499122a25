"""Which sets to keep: a pure function of names, times and rehearsal results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Kept:
    """What retention needs to know of one complete set."""

    name: str
    made: datetime
    safety: bool = False  # made before a restore: never the newest that counts
    proven: bool = False  # a rehearsal passed, and nothing has failed since


@dataclass(frozen=True)
class Decision:
    """What happens to one set, and the reason an administrator is told."""

    name: str
    keep: bool
    reason: str


def decide(sets: Iterable[Kept], keep_time: timedelta | None, now: datetime) -> list[Decision]:
    """Return a decision for each set, newest first.

    ``keep_time`` None means for ever (GitLab's backup_keep_time of 0).  Only complete sets may
    be given.  Two are never removed, however old: the newest that is no safety set, and the newest
    whose rehearsal passed.
    """
    newest_first = sorted(sets, key=lambda one: (one.made, one.name), reverse=True)
    newest = next((one for one in newest_first if not one.safety), None)
    proven = next((one for one in newest_first if one.proven), None)
    protected = {}
    if proven is not None:
        protected[proven.name] = "the newest set whose rehearsal passed is never removed"
    if newest is not None:
        protected[newest.name] = "the newest set is never removed"
    return [_decide(one, protected.get(one.name), keep_time, now) for one in newest_first]


def _decide(
    one: Kept, protection: str | None, keep_time: timedelta | None, now: datetime
) -> Decision:
    if protection is not None:
        return Decision(one.name, True, protection)
    if keep_time is None:
        return Decision(one.name, True, "no keep time is set")
    if now - one.made <= keep_time:
        return Decision(one.name, True, "younger than the keep time")
    return Decision(one.name, False, "older than the keep time")
