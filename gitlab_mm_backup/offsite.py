"""Off-site copies: finished sets go to every remote, and old copies go by the rules of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from . import copied, evidence, fog, hostname, interrupts, rclone, records, remote_store
from .copied import Notes, There
from .errors import Failure, Interrupted
from .manifest import Manifest
from .rclone import RemoteFailure
from .remote import GITLAB, Remote
from .retention import Kept, Rules, decide
from .sending import persist, send
from .settings import Settings
from .store.local import BackupSet, LocalStore

log = logging.getLogger(__name__)


@dataclass
class Served:
    """What became of the copies at one remote."""

    remote: Remote
    copied: dict[str, There] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def remotes(settings: Settings) -> list[Remote]:
    """Return all remotes; raises Failure where that of GitLab cannot be told."""
    own = [one for one in settings.offsite if one.name != GITLAB]
    if settings.upload is None or not settings.follow_gitlab:
        return own
    place = fog.remote(settings.upload, rclone.version())
    for one in settings.offsite:
        if one.name == GITLAB:
            place = replace(
                place,
                bandwidth=one.bandwidth,
                retries=one.retries,
                recipients=one.recipients,
                rules=one.rules,
            )
    return [place, *own]


def copy(
    settings: Settings, store: LocalStore, *, heed: bool = False
) -> tuple[list[Served], list[str]]:
    """Bring every remote up to date; return what became of each, and warnings.

    A remote that fails leaves the others, and the sets here, as they are.  ``heed``: a signal ends
    the copying, and is a warning; what was made before is not taken back for it.
    """
    if not heed:
        return _copy(settings, store)
    try:
        interrupts.heed()
        return _copy(settings, store)
    except Interrupted as interrupted:
        told = f"Copying was ended by {interrupted.signal_name}; the next run finishes it"
        return [], [told]
    finally:
        interrupts.ignore()


def _copy(settings: Settings, store: LocalStore) -> tuple[list[Served], list[str]]:
    if not settings.offsite and settings.upload is None:
        return [], []
    warnings = []
    try:
        wanted = remotes(settings)
    except Failure as failure:
        warnings.append(_told(failure))
        wanted = [one for one in settings.offsite if one.name != GITLAB]
    served = [serve(one, store, settings.rules) for one in wanted]
    return served, warnings + [problem for one in served for problem in one.problems]


def serve(remote: Remote, store: LocalStore, rules: Rules) -> Served:
    """Bring one remote up to date: what is to be there and is not, newest first."""
    served = Served(remote)
    try:
        there = persist(remote, lambda: remote_store.complete(remote))
        notes = copied.of(remote)
        _adopt(remote, notes, there)
        for one in _missing(store, remote, notes, rules):
            _send(one, notes, served)
        _prune(remote, notes, rules, store, served)
    except Failure as failure:
        served.problems.append(_told(failure))
    return served


def _send(set_: BackupSet, notes: Notes, served: Served) -> None:
    """Send one set; what is wrong with it alone does not keep the others from being sent."""
    try:
        served.copied[set_.name] = send(set_, served.remote, notes)
    except RemoteFailure:
        raise
    except Failure as failure:
        served.problems.append(_told(failure))


def _told(failure: Failure) -> str:
    return ". ".join(text for text in (str(failure), failure.hint) if text)


def _adopt(remote: Remote, notes: Notes, there: Mapping[str, int]) -> None:
    """Have the notes say what is there: sets that lost their files are no copies any more."""
    for name, known in list(notes.sets.items()):
        if there.get(name) != known.bytes:
            log.info("The copy of %s is gone from %s, or not whole", name, remote.name)
            del notes.sets[name]
    unknown = {name for name in there if name not in notes.sets}
    for one in remote_store.entries(remote) if unknown else []:
        if one.name in unknown and one.copy and one.manifest and _ours(one.manifest):
            checks = {part.checked for part in one.copy.parts.values()}
            base = one.manifest.increment.base if one.manifest.increment else ""
            notes.sets[one.name] = There(
                one.manifest.started, there[one.name], tuple(sorted(checks)), base
            )
    copied.keep(remote, notes)


def _ours(manifest: Manifest) -> bool:
    """Hosts may share a remote: each keeps and removes its own sets."""
    return manifest.host == hostname.full()


def _missing(store: LocalStore, remote: Remote, notes: Notes, rules: Rules) -> list[BackupSet]:
    """Return the sets that have no copy and whose copy the rules would keep.

    The newest comes first, but for what it builds on: a copy is nothing without that.
    """
    here = {one.name: one for one in store.sets() if not one.manifest.safety}
    bases = {name: there.base for name, there in notes.sets.items()}
    bases.update((one.name, one.base.name if one.base else "") for one in here.values())
    decisions = decide(_kept(bases), remote.rules or rules, _now())
    wanted: dict[str, BackupSet] = {}
    for one in decisions:
        if one.keep and one.name in here:
            wanted.update((link.name, link) for link in here[one.name].chain)
    return [one for name, one in wanted.items() if name not in notes.sets]


def _kept(bases: Mapping[str, str]) -> list[Kept]:
    """Return what retention needs to know of sets, given each with what it builds on."""
    history = records.history()
    found = {name: [one for one in history if one.set == name] for name in bases}
    return [
        Kept(
            name,
            datetime.fromtimestamp(int(name.partition("_")[0]), timezone.utc),
            proven=evidence.proven(found[name]),
            failed=evidence.refuted(found[name]),
            base=base,
        )
        for name, base in bases.items()
    ]


def _prune(remote: Remote, notes: Notes, rules: Rules, store: LocalStore, served: Served) -> None:
    """Remove copies that no rule keeps, of those that this host has sent; each is tried once."""
    bases = {name: there.base for name, there in notes.sets.items()}
    decisions = decide(_kept(bases), remote.rules or rules, _now())
    for one in decisions:
        if one.keep:
            continue
        try:
            remote_store.delete(remote, one.name)
            del notes.sets[one.name]
            served.removed.append(one.name)
        except Failure as failure:
            served.problems.append(_told(failure))
    here = {one.name for one in store.sets()}
    for name in [one for one in notes.begun if one not in here]:
        try:
            remote_store.delete(remote, name)
            del notes.begun[name]
        except Failure as failure:
            served.problems.append(_told(failure))
    copied.keep(remote, notes)


def _now() -> datetime:
    return datetime.now(timezone.utc)
