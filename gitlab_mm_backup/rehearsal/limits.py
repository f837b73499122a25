"""Deadlines: how long a rehearsal may take, each of its steps, and a statement in its PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from ..errors import Failure
from ..system import humanize

KEY = "rehearse_timeout"  # of config.yml
# Where config.yml is silent: a slow disk that others use meanwhile loads and unpacks 10 GiB in an
# hour; and it ends before systemd's timer, which starts no unit that still runs, wants the next.
_LEAST, _A_SECOND, _MOST = 3600.0, (10 << 30) / 3600, 20 * 3600.0
_STEP, _STATEMENT = 3 / 4, 1 / 2  # shares of the whole


class Missed(Failure):
    """A deadline was missed."""

    def __init__(self, step: str, seconds: float, of: str) -> None:
        super().__init__(
            f"{step} took too long and was ended, as {of} may take {humanize.duration(seconds)}",
            f"raise {KEY} in /etc/gitlab-mm-backup/config.yml where this host is only slow",
        )
        self.step = step


@dataclass(frozen=True)
class Limits:
    """How many seconds a rehearsal may take at most."""

    whole: float

    @property
    def step(self) -> float:
        return self.whole * _STEP

    @property
    def statement(self) -> float:
        return self.whole * _STATEMENT


def limits(configured: timedelta | None, size: int) -> Limits:
    """Return what config.yml says, or what ``size`` bytes of database and files call for."""
    if configured is not None:
        return Limits(configured.total_seconds())
    return Limits(min(_LEAST + size / _A_SECOND, _MOST))


class Deadlines:
    """The clock of one rehearsal; steps may be at work beside each other."""

    def __init__(self, given: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self.given = given
        self._now, self._began = now, now()
        self._lock = threading.Lock()
        self._steps: dict[str, float] = {}  # at work -> since when, in the order of their beginning

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Have the block be a step; ``name`` says what it is in a message."""
        with self._lock:
            self._steps[name] = self._now()
        try:
            yield
        finally:
            with self._lock:
                del self._steps[name]

    def look(self) -> None:
        """Raise Missed where a step, or the whole, has taken too long."""
        with self._lock:
            steps = dict(self._steps)
        now = self._now()
        for name, since in steps.items():
            if now - since > self.given.step:
                raise Missed(name, self.given.step, "each step")
        if now - self._began > self.given.whole:
            last = next(reversed(steps), "Rehearsing")
            raise Missed(last, self.given.whole, "a whole rehearsal")
