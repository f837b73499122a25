"""Comparison with earlier sets: the fuller one to compare with, shrinkage, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .. import clock
from ..config import identity
from ..config.identity import Host
from ..config.origin import Kind
from ..mattermost.journal import PendingUploads
from ..postgresql import contents
from ..store import check_records, inventory, manifest, soundness
from ..store.inventory import SeenHost, Store
from ..store.manifest import Manifest
from ..store.sets import BackupSet
from ..system import humanize
from . import live

_FIRST_WITH_IDS = "0.2"  # version of this program
_SHOWN = 8  # digits of an id that tell a host from others
_FEW = 4  # of a thing; half of fewer is no news, none of them is


def fuller(host: Host, store: Store, own: Sequence[BackupSet]) -> Manifest | None:
    """Return the newest sound set to compare a new one with; None without one.

    It is this host's own. A host without any, as after a reinstall, uses that of the host that
    kept sets here before, unless the administrator has declared that to be another one.
    """
    for set_ in own:
        if _sound(set_):
            return set_.manifest
    for entry in store.every():
        there = entry.set
        if there and manifest.host_of(there.manifest) not in host.others and _sound(there):
            return there.manifest
    return None


def _sound(set_: BackupSet) -> bool:
    if set_.manifest.safety or set_.manifest.empty:
        return False
    now, known = clock.now(), soundness.accepted_names()
    if inventory.origin_of(set_).kind is Kind.FORGED:
        return False
    return not soundness.flaws(set_.manifest, check_records.of_set(set_), known, now)


def settle(host: Host, store: Store, made: Manifest) -> tuple[Host, list[str]]:
    """Record what a finished backup shows about this host; return it, and notes.

    Sets from before hosts had ids count as this host's if they have its name, unless the new set
    looks emptied: then the administrator must decide.
    """
    if not made.shrunken and not made.empty:
        host = live.note(host, made.installation)
    if not host.upgraded or made.shrunken:
        return host, _undecided(host, store)
    names = {identity.hostname_of(), identity.full_hostname(), identity.short_hostname()}
    old = [set_.manifest for set_ in store.sets() if not set_.manifest.host_id]
    mine = [kept for kept in old if kept.host in names]
    for name in sorted({manifest.host_of(kept) for kept in mine}):
        host = identity.with_taken_over(host, name)
    host = identity.settled(host)
    notes = []
    if mine:
        notes.append(
            f"{humanize.number(len(mine), 'set')} from before {_FIRST_WITH_IDS}, when sets had no id of "
            f"their host, count as this host's because they have its name, {mine[0].host}"
        )
    return host, notes + _undecided(host, store)


def copied_disk(host: Host) -> list[str]:
    """Return the warning while it is undecided whether this host is a copy of another."""
    if not host.original:
        return []
    return [
        f"This machine is not the one that host {host.original[:8]} was made on: it is a copy of that "
        f"host, or the same on other hardware. It makes sets as host {host.id[:8]}, and prunes none "
        f"of the other's. Tell gitlab-mm which: gitlab-mm host take-over (the same), gitlab-mm host new "
        f"(a copy)"
    ]


def _undecided(host: Host, store: Store) -> list[str]:
    """Return the warnings while it is undecided whose the other sets are."""
    return [
        _kept(seen_host)
        for seen_host in inventory.kin(host, inventory.seen(store.sets(), store.others()))
    ]


def _kept(host: SeenHost) -> str:
    """Return the warning about the sets of another host."""
    shown = identity.shown(host.host)
    name = shown[:_SHOWN] if identity.has_id(host.host) else shown
    return (
        f"Not pruned here: {humanize.number(host.sets, 'set')} of host {host.name} ({name}). "
        f"If that was this host: gitlab-mm host take-over {name}; if not: gitlab-mm host new"
    )


def held_against(
    new: Manifest, fuller: Manifest | None, pending: PendingUploads | None, percent: int
) -> Manifest:
    """Return ``new`` with what collapsed, or is not there yet: such a set replaces no other."""
    lost = shrinkage(new, fuller, percent) if fuller is not None else []
    if pending is not None:
        lost.append(f"uploads: {humanize.size(pending.left)} not unpacked yet")
    names = [set_.name for set_ in (fuller, pending) if set_ is not None]
    return replace(new, shrunken=lost, fuller=names[0] if lost else "")


def shrinkage(new: Manifest, fuller: Manifest, percent: int) -> list[str]:
    """Return what collapsed in ``new``, to 0 or below ``percent`` of ``fuller``.

    As "posts: 0 of 8". Sets from before these counts are compared by the rows of their tables.
    """
    now, then = new.contents, fuller.contents
    if then is None:
        now, then = contents.from_rows(new.database.rows), contents.from_rows(fuller.database.rows)
    if now is None:
        return []
    return [
        f"{name}: {_shown(name, now.counts[name])} of {_shown(name, before)}"
        for name, before in then.counts.items()
        if _collapsed(now.counts[name], before, percent)
    ]


def _collapsed(now: int, before: int, percent: int) -> bool:
    if now == 0:
        return before > 0
    return before >= _FEW and now * 100 <= before * percent


def _shown(name: str, count: int) -> str:
    return humanize.size(count) if name.startswith("bytes") else f"{count}"
