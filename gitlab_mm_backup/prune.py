"""Prune: thin a store out by the rules for what is kept."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from . import evidence, records, recovery
from .errors import Failure
from .journal import Journal
from .retention import Decision, Kept, Rules, decide
from .store.local import BackupSet
from .stores import Store


def plan(store: Store, rules: Rules) -> list[Decision]:
    """Return what would happen to each complete set, newest first.

    Folders that are no complete set are not ours to judge, and stay.
    """
    sets = [kept(one) for one in store.sets()]
    return decide(sets, rules, datetime.now(timezone.utc))


def kept(one: BackupSet) -> Kept:
    """Return a set as retention sees it."""
    found = records.of_set(one)
    below = [records.of_set(base) for base in one.chain[:-1]]
    return Kept(
        one.name,
        one.manifest.made,
        one.manifest.safety,
        proven=evidence.proven(found),
        failed=any(evidence.refuted(each) for each in [found, *below]),
        base=one.base.name if one.base else "",
    )


def prune(store: Store, rules: Rules) -> tuple[list[str], list[str]]:
    """Remove what ``plan`` says; return the removed names, and what went wrong in words.

    The newest goes first: whatever ends this run, no set is left without what it builds on.  What
    may not be removed, for a disk or an object lock forbids it, is told and left to the next prune:
    nothing is tried twice.
    """
    problems = store.sweep()
    removed = []
    for decision in plan(store, rules):
        if decision.keep:
            continue
        try:
            store.delete(store.find(decision.name))
            removed.append(decision.name)
        except Failure as failure:
            problems.append(str(failure))
    return removed, problems + store.reclaim()


def prune_previous(keep_time: timedelta | None, *, all_: bool = False) -> list[str]:
    """Remove the states that --keep-previous kept, by the keep time or all; return problems."""
    journal = Journal()
    if not journal.previous() or (keep_time is None and not all_):
        return []
    return recovery.drop_previous(journal, timedelta() if all_ else keep_time or timedelta())
