"""Offered: the sets of a store, or at a remote, with what speaks against each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from .. import clock
from ..config import keys
from ..config.keys import Ring
from ..config.settings import Remote
from ..offsite import copies
from ..offsite.copies import RemoteEntry as Copied
from ..store import check_records, inventory, soundness
from ..store.check_records import CheckRecord
from ..store.inventory import Store
from ..store.sets import BackupSet, SetEntry, cut_short
from ..store.soundness import Flaw, Kind
from .choice import Found


def of_store(store: Store) -> list[Found]:
    """Return all sets of a store, complete or not; raises Failure where it cannot be read."""
    known, now, ring = soundness.accepted_names(), clock.now(), keys.ring()
    return [_of_entry(one, known, now, ring) for one in store.every()]


def of_set(one: BackupSet) -> Found:
    """Return a set that was named, with what speaks against it."""
    return _of_entry(
        SetEntry(one.name, one, ""), soundness.accepted_names(), clock.now(), keys.ring()
    )


def _of_entry(one: SetEntry, known: Collection[str], now: datetime, ring: Ring) -> Found:
    if one.set is None:
        return Found(one.name, None, [_incomplete(one.problem)])
    found = soundness.flaws(one.set.manifest, check_records.of_set(one.set), known, now)
    for base in one.set.chain[:-1]:
        found += [
            Flaw(flaw.kind, f"set {base.name}, which it builds on: {flaw.words}")
            for flaw in soundness.flaws(base.manifest, check_records.of_set(base), known, now)
            if flaw.kind is Kind.FAILED
        ]
    origin = inventory.origin_of(one.set, ring)
    found += soundness.of_origin(origin, elsewhere=one.set.said is not None)
    if one.set.source is None:
        short = cut_short(one.set.path, one.set.manifest.parts.values())
        found += [_incomplete(short)] if short else []
    return Found(one.name, one.set.manifest, found, origin)


def of_remote(remote: Remote) -> list[Found]:
    """Return all copies at a remote; of what was proven here, by the names of sets."""
    return of_copies(copies.entries(remote))


def of_copies(entries: Sequence[Copied]) -> list[Found]:
    """Return copies that were looked for already, in their order."""
    known, now, history, ring = (
        soundness.accepted_names(),
        clock.now(),
        check_records.history(),
        keys.ring(),
    )
    return [_of_copy(one, history, known, now, ring) for one in entries]


def _of_copy(
    one: Copied, history: Sequence[CheckRecord], known: Collection[str], now: datetime, ring: Ring
) -> Found:
    if one.manifest is None or one.said is None:
        return Found(one.name, None, [_incomplete(one.problem)])
    proven = [record for record in history if record.set == one.name]
    origin = ring.origin(one.manifest.host_id, one.manifest.made, one.said, elsewhere=True)
    found = soundness.flaws(one.manifest, proven, known, now)
    found += soundness.of_origin(origin, elsewhere=True)
    return Found(one.name, one.manifest, found, origin)


def unproven(one: BackupSet) -> list[str]:
    """Return, in words, that nothing proves who made a set that is from elsewhere."""
    found = soundness.of_origin(inventory.origin_of(one), elsewhere=one.said is not None)
    return [f"{one.name}: {flaw.words}" for flaw in found if flaw.kind is Kind.UNPROVEN]


def _incomplete(problem: str) -> Flaw:
    return Flaw(Kind.INCOMPLETE, f"it is not complete: {problem}")
