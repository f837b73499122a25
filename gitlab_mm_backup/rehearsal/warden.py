"""Warden: ends a rehearsal that takes too long, or more of the disk than there is to spare."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import Failure
from ..postgresql import connection, scratch
from ..postgresql.endpoint import Endpoint
from ..postgresql.scratch import Outgrown
from ..store.manifest import Database
from ..system import disk_space, humanize, parallel
from .limits import KEY, Deadlines, Missed

_GLANCE = 0.5  # seconds between two looks at the clock
_LOOK = 3.0  # and two looks at its server
# By a session of the superuser's in postgres, for what a dump says of time-outs counts in its own
# sessions: pg_restore sets them to 0, and a function may set, and catch, what it likes.
_END_STATEMENTS = """
    SELECT pg_catalog.pg_terminate_backend(pid), query FROM pg_catalog.pg_stat_activity
    WHERE backend_type OPERATOR(pg_catalog.=) 'client backend'
        AND state OPERATOR(pg_catalog.<>) 'idle'
        AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
        AND query_start OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()
            OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => %s))"""
_SHOWN = 100  # characters of a statement


class Warden:
    """Watches over one rehearsal, whose scratch is ``folder``."""

    def __init__(self, deadlines: Deadlines, folder: Path, was: Database) -> None:
        self.server: Endpoint | None = None  # as soon as it takes connections
        self._deadlines, self._folder, self._was = deadlines, folder, was
        self._ended = ""  # the statement that was
        self._looking = threading.Lock()

    def guard(self, task: Callable[[], object], missed: Callable[[], object]) -> None:
        """Run ``task``; where it goes too far all its programs are ended.

        Raises Missed or Outgrown, before which ``missed`` is called while they still run, and Failure
        where the disk is nearly full.
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
            parallel.together(
                guarded,
                keep_time,
                lambda: disk_space.watch(descriptor, self._folder, over, scratch.WAYS),
            )
        finally:
            over.set()
            os.close(descriptor)

    def explained(self, failure: Failure) -> str:
        """Return a failure in words; where a statement was ended for its time, with that first."""
        with self._looking:  # or its end is felt before it is noted
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
            pass  # it is on its way down, or will answer at the next look
