"""Prune: thin a store out by the keep time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from . import evidence, omnibus, records, recovery
from .errors import Failure
from .journal import Journal
from .retention import Decision, Kept, decide
from .store.local import LocalStore


def plan(store: LocalStore, keep_time: timedelta | None) -> list[Decision]:
    """Return what would happen to each complete set, newest first.

    Folders that are no complete set are not ours to judge, and stay.
    """
    sets = [
        Kept(
            one.path.name,
            one.manifest.made,
            one.manifest.safety,
            evidence.proven(records.of_set(one)),
        )
        for one in store.sets()
    ]
    return decide(sets, keep_time, datetime.now(timezone.utc))


def prune(store: LocalStore, keep_time: timedelta | None) -> tuple[list[str], list[str]]:
    """Remove what ``plan`` says; return the removed names, and what went wrong in words."""
    removed, problems = [], []
    for decision in plan(store, keep_time):
        if decision.keep:
            continue
        try:
            store.delete(store.find(decision.name))
            removed.append(decision.name)
        except Failure as failure:
            problems.append(str(failure))
    return removed, problems


def prune_previous(keep_time: timedelta | None, *, all_: bool = False) -> list[str]:
    """Remove the states that --keep-previous kept, by the keep time or all; return problems."""
    journal = Journal()
    if not journal.previous() or (keep_time is None and not all_):
        return []
    site = omnibus.find(config_required=False)
    return recovery.drop_previous(site, journal, timedelta() if all_ else keep_time or timedelta())
