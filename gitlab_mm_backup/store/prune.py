"""Prune: remove a host's own sets by the retention rules, and ask before an unusual removal."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import clock
from ..config import identity, keys, retention
from ..config.identity import Host
from ..config.keys import Ring
from ..config.origin import Kind
from ..config.retention import Decision, SetFacts
from ..config.settings import Rules
from ..errors import ExitCode, Failure
from ..system import files, validation
from ..system.files import STATE
from . import check_records, inventory, soundness
from . import manifest as store_manifest
from .check_records import Records
from .inventory import Lineage, Store
from .manifest import Manifest
from .sets import BackupSet
from .soundness import marks

PAST_FILE = STATE / "prune.json"
PINNED = "pinned.json"  # next to the manifest, outside of the checksums
_FEW = 2  # removed at once on request: as many need not be asked for again
STORE = "the store"  # as a place; a remote is called by its name
_ASK = "gitlab-mm prune --dry-run shows them, gitlab-mm prune --yes removes them"


@dataclass(frozen=True)
class Past:
    """The record of earlier removals at one place, the store or a remote."""

    most: int = 0  # sets that one run removed at most, without being told to
    asked: tuple[str, ...] = ()  # sets that stay until an administrator says that they may go


def past_of(place: str, path: Path | None = None) -> Past:
    """Return the record of ``place``."""
    return _read_past(path or PAST_FILE).get(place, Past())


def note_question(place: str, names: Iterable[str], path: Path | None = None) -> None:
    """Record that these sets stay until the administrator agrees; raises Failure."""
    past = past_of(place, path)
    _keep_past(place, Past(past.most, tuple(sorted({*past.asked, *names}))), path or PAST_FILE)


def note_removed(
    place: str, removed: int, path: Path | None = None, *, agreed: bool = False
) -> None:
    """Record removed sets; ``agreed``: the administrator has seen the list before."""
    past = past_of(place, path)
    most = max(past.most, min(removed, _FEW) if agreed else removed)
    now = Past(most, () if agreed else past.asked)
    if now != past:
        _keep_past(place, now, path or PAST_FILE)


def _read_past(path: Path) -> dict[str, Past]:
    try:
        return dict(files.read_state(path, validation.each(validation.text, _past)))
    except files.unreadable_state:
        return {}


def _keep_past(place: str, past: Past, path: Path) -> None:
    files.write_state(
        path, {name: asdict(noted) for name, noted in {**_read_past(path), place: past}.items()}
    )


def _past(value: Any) -> Past:
    return Past(**validation.members(value, {"most": validation.count, "asked": validation.texts}))


@dataclass(frozen=True)
class Owner:
    """Whose sets are removed: a host and its current installation."""

    host: Host
    installation: str

    def may_remove(self, found: Lineage) -> bool:
        return inventory.belongs(self.host, self.installation, found)


@dataclass(frozen=True)
class Member:
    """A set at a place, with its owner, as input for retention."""

    kept: SetFacts
    lineage: Lineage
    host_name: str = ""  # of the host that made it, for people


@dataclass(frozen=True)
class PrunePlan:
    """The decision for each set of a place, newest first, and what must be confirmed."""

    decisions: list[Decision]
    asked: list[str]  # sets that the rules would remove, kept until the administrator agrees
    holding: str = ""  # the set that looks emptied, for which nothing goes


@dataclass(frozen=True)
class Pruned:
    """The result of a run."""

    decisions: Sequence[Decision]
    removed: list[str]
    problems: list[str]


def of_set(
    set_: BackupSet, accepted_: Collection[str], ring: Ring, records: Records | None = None
) -> Member:
    """Return a set as input for retention; ``records`` are those of its listing."""
    records = records or Records()
    forged = inventory.origin_of(set_, ring).kind is Kind.FORGED
    kept = SetFacts(
        set_.name,
        set_.manifest.made,
        set_.manifest.safety,
        proven=check_records.proven(records.of(set_)),
        failed=forged or records.refuted(set_),
        base=set_.base.name if set_.base else "",
        empty=set_.manifest.empty,
        shrunken=bool(marks(set_.manifest, accepted_)),
        pinned=pinned(set_),
    )
    return Member(kept, inventory.lineage_of(set_.manifest), set_.manifest.host)


def decide(
    place: str,
    members: Sequence[Member],
    rules: Rules,
    owner: Owner,
    made: str = "",
    *,
    agreed: bool = False,
) -> PrunePlan:
    """Return the decisions about the owner's sets at a place; all other sets stay."""
    own = [member.kept for member in members if owner.may_remove(member.lineage)]
    now = clock.now()
    decisions = retention.decide(own, rules, now, made)
    past = past_of(place)
    going = [decision.name for decision in decisions if not decision.keep]
    asked = [name for name in going if name in past.asked]
    if retention.unusual(own, decisions, rules, past.most):
        asked = going
    if agreed:
        asked = []
    decisions = [
        replace(
            decision,
            keep=True,
            reason=f"{decision.reason}, but so many are removed only on request",
        )
        if decision.name in asked
        else decision
        for decision in decisions
    ]
    foreign = [
        _foreign(member, owner) for member in members if not owner.may_remove(member.lineage)
    ]
    bases = {member.kept.name: member.kept.base for member in members if member.kept.base}
    moments = {member.kept.name: (member.kept.made, member.kept.name) for member in members}
    every = sorted(
        [*decisions, *foreign], key=lambda decision: moments[decision.name], reverse=True
    )
    holding = retention.holding(own, now) if rules != Rules() else ""
    return PrunePlan(retention.with_bases(every, bases), asked, holding)


def _foreign(member: Member, owner: Owner) -> Decision:
    """Return the reason for keeping a set that the owner may not remove."""
    host = member.lineage.host
    if owner.host.owns(host):
        reason = f"of another installation, {member.lineage.installation}"
    else:
        name = f" ({member.host_name})" if identity.has_id(host) else ", which had no id yet"
        reason = f"made by host {identity.shown(host)}{name}"
    return Decision(member.kept.name, True, f"{reason}: its own host removes it")


def plan(
    store: Store, rules: Rules, owner: Owner, made: str = "", *, agreed: bool = False
) -> PrunePlan:
    """Return the decision for each complete set of the store, newest first.

    Incomplete sets are not judged, and stay.
    """
    known, ring = soundness.accepted_names(), keys.ring()
    records = Records()
    members = [of_set(set_, known, ring, records) for set_ in store.sets()]
    return decide(STORE, members, rules, owner, made, agreed=agreed)


def prune(
    store: Store, rules: Rules, owner: Owner, made: str = "", *, agreed: bool = False
) -> Pruned:
    """Carry out ``plan``; ``agreed``: also where it removes more than any run before.

    The newest goes first: if the run is interrupted, no set is left without its base. A set that
    cannot be removed (disk error, object lock) is reported and left to the next prune; there is no
    second try.
    """
    store.serve(owner.host)
    problems = store.sweep()
    planned = plan(store, rules, owner, made, agreed=agreed)
    removed, failed = carry_out(planned.decisions, lambda name: store.delete(store.named(name)))
    problems += failed + store.reclaim()
    problems += settle(STORE, planned, len(removed), agreed=agreed)
    return Pruned(planned.decisions, removed, problems)


def carry_out(
    decisions: Iterable[Decision], delete: Callable[[str], object]
) -> tuple[list[str], list[str]]:
    """Remove the sets that are not kept; return the removed names, and problems as text."""
    removed, problems = [], []
    for decision in decisions:
        if decision.keep:
            continue
        try:
            delete(decision.name)
            removed.append(decision.name)
        except Failure as failure:
            problems.append(str(failure))
    return removed, problems


def settle(place: str, planned: PrunePlan, removed: int, *, agreed: bool = False) -> list[str]:
    """Record what was done at a place; return what the administrator must confirm."""
    lines = []
    if planned.asked:
        note_question(place, planned.asked)
        lines.append(
            f"{len(planned.asked)} sets in {place} would be removed at once, more than any run has "
            f"removed; the clock may have jumped. Nothing was removed: {_ASK}"
        )
    if planned.holding:
        lines.append(
            f"Nothing is removed in {place} while {planned.holding} looks emptied: restore a fuller "
            f"set, or confirm it: gitlab-mm prune --accept {planned.holding}"
        )
    if not planned.asked:
        note_removed(place, removed, agreed=agreed)
    return lines


def accept(set_: BackupSet) -> None:
    """Record that a set which looks emptied is correct."""
    if not set_.manifest.shrunken:
        raise Failure(
            f"Set {set_.name} does not look emptied",
            "there is nothing to accept",
            "gitlab-mm list shows the sets that do.",
            ExitCode.USAGE,
        )
    soundness.accept(set_.name)


def pin(set_: BackupSet) -> None:
    """Keep a set, and its copies, whatever the rules say; raises Failure."""
    files.write_state(set_.path / PINNED, {"at": clock.utc(clock.now())})


def unpin(set_: BackupSet) -> None:
    """Leave a set to the rules again; raises Failure where it is not pinned."""
    try:
        os.unlink(set_.path / PINNED)
    except FileNotFoundError:
        raise Failure(f"Set {set_.name} is not pinned", exit_code=ExitCode.USAGE) from None
    except OSError as error:
        raise Failure(f"Set {set_.name} stays pinned", str(error.strerror)) from error


def pinned(set_: BackupSet) -> bool:
    return os.path.lexists(f"{set_.path}/{PINNED}")


def pinned_names(store: Store) -> set[str]:
    """Return the names of the pinned sets in a store."""
    return {set_.name for set_ in store.sets() if pinned(set_)}


def of_host(store: Store, wanted: str, here: Host) -> list[Owner]:
    """Return the owners for the sets of host ``wanted``: one for each installation.

    ``wanted`` is an id, its first digits, or a name. Raises Failure where no set here is of such a
    host, or where several hosts match.
    """
    sets = [set_.manifest for set_ in store.sets()]
    found = {inventory.lineage_of(set_) for set_ in sets if matches(set_, wanted)}
    hosts = {lineage.host for lineage in found}
    if len(hosts) != 1:
        known = ", ".join(sorted({identity.shown(store_manifest.host_of(set_)) for set_ in sets}))
        raise Failure(
            f"{'More than one' if hosts else 'No'} host {wanted} has sets here",
            f"there are sets of: {known or 'none'}",
            "Give the id of one; to see them: gitlab-mm host.",
            ExitCode.USAGE,
        )
    host = replace(here, id=hosts.pop(), took_over=())
    return [
        Owner(host, lineage.installation)
        for lineage in sorted(found, key=lambda lineage: lineage.installation)
    ]


def matches(manifest: Manifest, wanted: str) -> bool:
    """Tell whether ``wanted`` is the host's id, its first digits, or its name."""
    host = store_manifest.host_of(manifest)
    by_id = identity.has_id(host) and len(wanted) >= 6 and host.startswith(wanted)
    return by_id or wanted in (manifest.host, identity.shown(host))
