"""What a run every quarter of an hour costs: one with little to back up, and one with nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.contests import (
    RESTIC,
    RESTIC_PASSWORD,
    RESTIC_SETTINGS,
    Contender,
    Run,
    Say,
    compete,
    taken,
)
from tests.bench.figures import Measured, Sample
from tests.bench.host import Host

CHAIN = "/var/opt/gitlab/backups-often"
PLANS = {
    "chain": ("/root/often.yml", f"backup_path: {CHAIN}\nfiles: incremental\n", CHAIN),
    "restic": ("/root/often-restic.yml", RESTIC_SETTINGS, RESTIC),
}
# What people write in a quarter of an hour: fifty messages, and one upload of 1 MB.
POSTS = "UPDATE posts SET message = message || '.' WHERE id IN (SELECT id FROM posts ORDER BY md5(id || '{}') LIMIT 50)"
UPLOAD = "head -c 1000000 /dev/urandom >{0}/data/often-{1}; chown mattermost: {0}/data/often-{1}"
# The oldest transaction of ours, and the strongest lock on a table: AccessShareLock alone only reads.
HELD = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0),
        count(*) FILTER (WHERE l.mode NOT IN ('AccessShareLock', 'ExclusiveLock') OR l.mode = 'ExclusiveLock'
            AND l.locktype = 'relation')
    FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid
    WHERE a.application_name IN ('gitlab-mm-backup', 'pg_dump') AND a.state <> 'idle'"""


def often(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """Scheduled runs into a chain of incremental sets and into restic, by a clock that goes on."""
    quarters = Quarters(host)
    quarters.prepare()
    contenders = [
        contender
        for name in PLANS
        for contender in (
            Contender(f"{name}, changed", quarters.back_up(name), quarters.change),
            # The run before has been that of a change, and nothing has come since.
            Contender(f"{name}, unchanged", quarters.back_up(name), quarters.rest(name)),
        )
    ]
    group = compete(contenders, rounds, say)
    for name in PLANS:
        watched = Contender(f"{name}, locks", quarters.watched(name), quarters.change, warm=False)
        group |= compete([watched], 1, say)
    return group


@dataclass
class Quarters:
    """Quarters of an hour, in each of which something may change."""

    host: Host
    passed: int = 0

    def prepare(self) -> None:
        lab = self.host.lab
        for path, settings, _ in PLANS.values():
            lab.write(path, f"{settings}schedule: every 15 min\nkeep: {{last: 99}}\n", mode=0o600)
        lab.write(RESTIC_PASSWORD, "bench\n", mode=0o600)
        lab.run("rm", "-rf", RESTIC)
        lab.run("restic", "init", "-r", RESTIC, "-p", RESTIC_PASSWORD, timeout=60)
        lab.run("install", "-d", "-m", "0700", CHAIN)
        for name in PLANS:  # the first set has everything
            self.back_up(name)(False)

    def change(self) -> None:
        self.host.gitlab.sql(POSTS.format(self.passed))
        upload = UPLOAD.format(self.host.gitlab.home, self.passed)
        self.host.lab.run("sh", "-ec", upload)
        self.host.lab.run(
            "sleep", "3"
        )  # what is being changed just now is never taken for unchanged
        self.host.settle()

    def rest(self, name: str) -> Callable[[], object]:
        def before() -> None:
            self.back_up(name)(False)
            self.host.settle()

        return before

    def back_up(self, name: str) -> Run:
        path, _, place = PLANS[name]

        def run(sample: bool) -> tuple[Sample, int]:
            self.passed += 1
            before = self.host.bytes_of(place)
            words = ("gitlab-mm", "backup", "--scheduled", "--config", path, "--json")
            clock = ("faketime", "-f", f"+{15 * self.passed}m")
            reading = self.host.measure(*clock, *words, sample=sample)
            return taken(reading, self.host.bytes_of(place) - before)

        return run

    def watched(self, name: str) -> Run:
        """A run whose transactions are looked at, which slows it down."""

        def run(sample: bool) -> tuple[Sample, int]:
            with self._looking() as held:
                found, _ = self.back_up(name)(sample)
            longest = max((seconds for seconds, _ in held), default=0.0)
            strong = sum(count for _, count in held)
            extra = {"lock": longest, "strong": float(strong)}
            return Sample(found.wall, bytes=found.bytes, extra=extra), 0

        return run

    @contextlib.contextmanager
    def _looking(self) -> Iterator[list[tuple[float, int]]]:
        held: list[tuple[float, int]] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.02):
                seconds, strong = self.host.gitlab.sql(HELD, "postgres")[0].split("|")
                held.append((float(seconds), int(strong)))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield held
        finally:
            over.set()
            thread.join()
