"""When a rehearsal is due, and its time limits: of the whole, of each step and SQL statement."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ..config.schedule import Schedule
from ..errors import Failure
from ..postgresql import connection, scratch
from ..postgresql.endpoint import Endpoint
from ..postgresql.scratch import Outgrown
from ..store import check_records
from ..store.check_records import CheckRecord
from ..store.manifest import Database
from ..system import disk_space, humanize, parallel

KEY = "rehearse_timeout"  # of config.yml
# Defaults: a slow disk in use loads and unpacks 10 GiB in an hour. The limit of 20 hours ends a
# rehearsal before systemd's timer starts the next one; the timer skips a unit that still runs.
_LEAST, _A_SECOND, _MOST = 3600.0, (10 << 30) / 3600, 20 * 3600.0
_STEP, _STATEMENT = 3 / 4, 1 / 2  # shares of the whole


# Less than seven days, because tonight's backup may finish earlier than that of a week ago.
_WEEK = timedelta(days=6, hours=12)


def is_due(
    how_often: str, done: Iterable[CheckRecord], now: datetime, plan: Schedule | None = None
) -> bool:
    """Return whether cron's set is to be rehearsed, by the setting and the records ``done``.

    With a ``plan`` sets may be made more often than once a night: it is the first of each day.
    """
    if how_often == "off":
        return False
    newest = check_records.latest_rehearsal(done)
    if newest is None or (how_often == "nightly" and plan is None):
        return True
    if how_often == "nightly":
        return newest.made.astimezone(now.tzinfo).date() != now.date()
    return now - newest.made > _WEEK


class Missed(Failure):
    """A time limit is exceeded."""

    def __init__(self, step: str, seconds: float, of: str) -> None:
        super().__init__(
            f"{step} took too long and was ended, as {of} may take {humanize.duration(seconds)}",
            f"raise {KEY} in /etc/gitlab-mm-backup/config.yml where this host is only slow",
        )
        self.step = step


@dataclass(frozen=True)
class Limits:
    """The time limits of a rehearsal, in seconds."""

    whole: float

    @property
    def step(self) -> float:
        return self.whole * _STEP

    @property
    def statement(self) -> float:
        return self.whole * _STATEMENT


def limits(configured: timedelta | None, size: int) -> Limits:
    """Return the configured limits, or those for ``size`` bytes of database and files."""
    if configured is not None:
        return Limits(configured.total_seconds())
    return Limits(min(_LEAST + size / _A_SECOND, _MOST))


class Deadlines:
    """The time limits of one rehearsal while it runs; steps may run in parallel."""

    def __init__(self, given: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self.given = given
        self._now, self._began = now, now()
        self._lock = threading.Lock()
        self._steps: dict[str, float] = {}  # running step -> its start, in the order of starting
        self._over = False

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run the block as a step, called ``name`` in messages."""
        with self._lock:
            self._steps[name] = self._now()
        try:
            yield
        finally:
            with self._lock:
                del self._steps[name]

    def finish(self) -> None:
        """End the limit of the whole: what runs from now on is limited otherwise."""
        self._over = True

    def look(self) -> None:
        """Raise Missed if a step or the whole rehearsal exceeds its limit."""
        with self._lock:
            steps = dict(self._steps)
        now = self._now()
        for name, since in steps.items():
            if now - since > self.given.step:
                raise Missed(name, self.given.step, "each step")
        if not self._over and now - self._began > self.given.whole:
            last = next(reversed(steps), "Rehearsing")
            raise Missed(last, self.given.whole, "a whole rehearsal")


_GLANCE = 0.5  # seconds between two checks of the time
_LOOK = 3.0  # seconds between two checks of the server
# Run by a superuser's session, because statement_timeout is not reliable: pg_restore sets it to 0 in its
# sessions, and a function in a dump may change it or catch the error. The last row is the cause: what
# waits for a lock comes first.
_END_STATEMENTS = """
    SELECT pg_catalog.pg_terminate_backend(pid), query FROM pg_catalog.pg_stat_activity
    WHERE backend_type OPERATOR(pg_catalog.=) 'client backend'
        AND state OPERATOR(pg_catalog.<>) 'idle'
        AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
        AND query_start OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()
            OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => %s))
    ORDER BY coalesce(wait_event_type OPERATOR(pg_catalog.=) 'Lock', false) DESC"""
_SHOWN = 100  # characters of a statement


class Warden:
    """Enforces the limits of time and disk space of a rehearsal in the directory ``folder``."""

    def __init__(self, deadlines: Deadlines, folder: Path, was: Database) -> None:
        self.server: Endpoint | None = None  # set when it accepts connections
        self._deadlines, self._folder, self._was = deadlines, folder, was
        self._ended = ""  # the statement that was ended
        self._looking = threading.Lock()

    def guard(self, task: Callable[[], object], missed: Callable[[], object]) -> None:
        """Run ``task``; if it exceeds a limit, end all its programs.

        Raises Missed or Outgrown after calling ``missed`` while the programs still run, and Failure if
        the disk is nearly full.
        """
        over = threading.Event()
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

        def guarded() -> None:
            try:
                task()
            finally:
                over.set()

        def keep_time() -> None:
            try:
                self._keep_time(over)
            except (Missed, Outgrown):
                missed()
                raise

        try:
            parallel.run_all(
                guarded,
                keep_time,
                lambda: disk_space.watch(descriptor, self._folder, over, scratch.WAYS),
            )
        finally:
            over.set()
            os.close(descriptor)

    def explained(self, failure: Failure) -> str:
        """Return a failure in words; if a statement was ended for its time limit, that one."""
        with self._looking:  # wait until _ended is set
            ended = self._ended
        if not ended:
            return str(failure)
        most = humanize.duration(self._deadlines.given.statement)
        return (
            f"A statement took too long and was ended, as each may take {most} (raise {KEY} in "
            f"/etc/gitlab-mm-backup/config.yml where this host is only slow): {ended}"
        )

    def _keep_time(self, over: threading.Event) -> None:
        until_look = _LOOK
        while not over.wait(_GLANCE):
            self._deadlines.look()
            until_look -= _GLANCE
            if until_look <= 0 and self.server is not None:
                self._look_at(self.server)
                until_look = _LOOK

    def _look_at(self, server: Endpoint) -> None:
        most = self._deadlines.given.statement
        try:
            with self._looking, connection.administering(server) as session:
                for _, statement in session.execute(_END_STATEMENTS, (most,)).fetchall():
                    self._ended = " ".join(statement.split())[:_SHOWN]
                scratch.refuse_growth(session, server.name, scratch.growth_limit(self._was))
        except Outgrown:
            raise
        except Failure:
            pass  # it is shutting down, or answers at the next check
