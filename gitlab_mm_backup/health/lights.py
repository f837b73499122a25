"""The facts of gitlab-mm status, collected once, and the form of its lines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..config import identity, keys, places
from ..config.identity import Host
from ..config.retention import SetFacts
from ..config.settings import Settings
from ..errors import Failure
from ..mattermost import detect
from ..mattermost.journal import Journal
from ..mattermost.site import Site
from ..offsite import ledger
from ..restore import undo_log
from ..store import inventory, prune, soundness
from ..store.check_records import Records
from ..store.inventory import SeenHost, Store
from ..store.sets import BackupSet
from ..system import disk_space
from . import metrics, report, scheduler
from .metrics import JobRun
from .rating import Found
from .scheduler import Scheduler


@dataclass(frozen=True)
class StatusInput:
    """The collected data; the only input of the lines."""

    found: Found
    settings: Settings
    kept: Sequence[SetFacts]  # the sets as input of retention
    site: Site | None
    journal: Journal
    free: int  # bytes, where the sets are
    night: Scheduler  # what starts the nightly run
    offsite: Mapping[str, float | None]  # place -> start of the newest set there
    host: Host  # this one
    seen: Sequence[SeenHost] = ()  # the hosts whose sets are in the store
    reserve: int = 0  # bytes that must stay free
    away: Mapping[str, str] = field(default_factory=dict)  # remote -> path of its unmounted disk
    runs: Mapping[str, JobRun] = field(default_factory=dict)  # the newest run of each job
    recoveries: Sequence[Path] = ()  # undo files of recoveries that were interrupted
    no_site: str = ""  # why there is no ``site``
    absent: bool = False  # whether no Mattermost is set up, so that no nightly run is made

    @property
    def now(self) -> datetime:
        return self.found.now

    @property
    def good(self) -> BackupSet | None:
        """The newest sound set of this host; no safety set."""
        return self.found.sound


class _Kept(Sequence[SetFacts]):
    """Sets as input of retention, made when they are asked for: that is seldom."""

    def __init__(self, make: Callable[[], list[SetFacts]]) -> None:
        self._make = functools.cache(make)

    def __len__(self) -> int:
        return len(self._make())

    def __getitem__(self, place: Any) -> Any:
        return self._make()[place]


def collect(store: Store, settings: Settings) -> StatusInput:
    """Collect the data; change nothing.  Raises Failure if the directory of sets cannot be read."""
    found = report.collect(store, settings.schedule)
    site, no_site = None, detect.absent()
    absent = bool(no_site)
    try:
        site = detect.find()
    except Failure as failure:
        no_site = no_site or str(failure)
    here, known, ring = identity.known(), soundness.accepted_names(), keys.ring()
    sets = [entry.set for entry in found.entries if entry.set]
    own, records = [set_ for set_ in sets if set_.name not in found.foreign], Records()
    return StatusInput(
        found=found,
        settings=settings,
        kept=_Kept(lambda: [prune.of_set(set_, known, ring, records).kept for set_ in own]),
        site=site,
        journal=Journal(),
        free=disk_space.free(store.folder),
        reserve=disk_space.reserve(store.folder),
        away={
            remote.name: remote.path
            for remote in settings.offsite
            if remote.path.startswith("/") and places.away(remote.path)
        },
        night=scheduler.look(found.now.astimezone(), settings.schedule),
        offsite=_offsite(store, settings, found),
        host=here,
        seen=inventory.seen(sets, store.others()),
        runs=metrics.read_runs(),
        recoveries=[path for path, _ in undo_log.interrupted(here.installation)],
        no_site=no_site,
        absent=absent,
    )


def _offsite(store: Store, settings: Settings, found: Found) -> dict[str, float | None]:
    """Return the start of the newest set at each place; a copy of a set is as current as that."""
    current = {
        entry.set.manifest.made.timestamp(): found.current(entry.set).timestamp()
        for entry in found.entries
        if entry.set and entry.name in found.confirmed
    }
    there = ledger.newest_elsewhere(store, settings.remotes)
    return {
        place: moment if moment is None else current.get(moment, moment)
        for place, moment in there.items()
    }
