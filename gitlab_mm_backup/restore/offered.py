"""The sets to choose from, in a store or at a remote, with their flaws."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from .. import clock
from ..config import keys
from ..config.keys import Ring
from ..config.settings import Remote
from ..offsite import copies, ledger
from ..offsite.copies import RemoteEntry as Copied
from ..store import check_records, inventory, soundness
from ..store.check_records import CheckRecord
from ..store.inventory import Store
from ..store.sets import BackupSet, SetEntry, cut_short
from ..store.soundness import Flaw, Kind
from ..translation import phrase
from .choice import Found


def of_store(store: Store) -> list[Found]:
    """Return all sets of a store, complete or not; raises Failure where it cannot be read."""
    known, now, ring = soundness.accepted_names(), clock.now(), keys.ring()
    return [_of_entry(entry, known, now, ring) for entry in store.every()]


def of_set(set_: BackupSet) -> Found:
    """Return a set that was named, with its flaws."""
    return _of_entry(
        SetEntry(set_.name, set_, ""), soundness.accepted_names(), clock.now(), keys.ring()
    )


def _of_entry(entry: SetEntry, known: Collection[str], now: datetime, ring: Ring) -> Found:
    if entry.set is None:
        return Found(entry.name, None, [_incomplete(entry.problem)])
    found = soundness.flaws(entry.set.manifest, check_records.of_set(entry.set), known, now)
    for base in entry.set.chain[:-1]:
        found += [
            Flaw(
                flaw.kind,
                phrase("set {name}, which it builds on: {flaw}", name=base.name, flaw=flaw.words),
            )
            for flaw in soundness.flaws(base.manifest, check_records.of_set(base), known, now)
            if flaw.kind is Kind.FAILED
        ]
    origin = inventory.origin_of(entry.set, ring)
    found += soundness.of_origin(origin, elsewhere=entry.set.said is not None)
    if entry.set.source is None:
        short = cut_short(entry.set.path, entry.set.manifest.parts.values())
        found += [_incomplete(short)] if short else []
    return Found(entry.name, entry.set.manifest, found, origin)


def of_remote(remote: Remote) -> list[Found]:
    """Return all copies at a remote; records of checks here are found by the sets' names."""
    return of_copies(copies.entries(remote))


def of_copies(entries: Sequence[Copied]) -> list[Found]:
    """Return copies that were looked for already, in their order."""
    known, now, history, ring = (
        soundness.accepted_names(),
        clock.now(),
        check_records.history(),
        keys.ring(),
    )
    return [_of_copy(entry, history, known, now, ring) for entry in entries]


def _of_copy(
    entry: Copied, history: Sequence[CheckRecord], known: Collection[str], now: datetime, ring: Ring
) -> Found:
    if entry.manifest is None or entry.said is None:
        return Found(entry.name, None, [_incomplete(entry.problem)])
    proven = [record for record in history if record.set == entry.name]
    origin = ring.origin(entry.manifest.host_id, entry.manifest.made, entry.said, elsewhere=True)
    found = soundness.flaws(entry.manifest, proven, known, now)
    found += soundness.of_origin(origin, elsewhere=True)
    return Found(entry.name, entry.manifest, found, origin)


def unproven(set_: BackupSet) -> list[str]:
    """Return a warning where nothing proves who made a set from elsewhere."""
    found = soundness.of_origin(inventory.origin_of(set_), elsewhere=set_.said is not None)
    return [
        phrase("{name}: {flaw}", name=set_.name, flaw=flaw.words)
        for flaw in found
        if flaw.kind is Kind.UNPROVEN
    ]


def instead_of(set_: BackupSet, store: Store) -> str:
    """Return the commands that restore what is next best where ``set_`` is damaged."""
    places = ledger.by_set().get(set_.name, [])
    lines = [f"A copy of it: gitlab-mm restore --from {place} {set_.name}" for place in places[:1]]
    sound = [found for found in of_store(store) if not found.flaws and found.name != set_.name]
    newest = max(
        (found for found in sound if found.manifest and not found.manifest.safety),
        key=lambda found: found.name,
        default=None,
    )
    if newest is not None:
        lines.append(f"The newest sound set: gitlab-mm restore {newest.name}")
    return "\n".join(lines or ["Other places: gitlab-mm restore --from PLACE"])


def _incomplete(problem: str) -> Flaw:
    return Flaw(Kind.INCOMPLETE, phrase("it is not complete: {problem}", problem=problem))
