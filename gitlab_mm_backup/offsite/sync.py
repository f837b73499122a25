"""Off-site copies: send finished sets to every remote, and prune copies by its rules."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from ..config import keys
from ..config.retention import SetFacts
from ..config.settings import GITLAB, Remote, Rules, Settings
from ..errors import Failure, Interrupted
from ..mattermost.journal import Journal
from ..store import check_records, inventory, prune, soundness
from ..store.check_records import Records
from ..store.inventory import Lineage
from ..store.local import LocalStore
from ..store.prune import Member, Owner
from ..store.sets import BackupSet
from ..system import disk_space, signals
from . import copies, gitlab_upload, ledger, rclone
from .ledger import CopyRecord, Notes
from .rclone import RemoteFailure
from .upload import persist, send

log = logging.getLogger(__name__)


@dataclass
class SyncResult:
    """The result for one remote."""

    remote: Remote
    copied: dict[str, CopyRecord] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    staying: int = 0  # copies beyond the rules, at a remote where nothing may be removed


def remotes(settings: Settings) -> list[Remote]:
    """Return all remotes; raises Failure where GitLab's cannot be determined."""
    own = [remote for remote in settings.offsite if remote.name != GITLAB]
    if settings.upload is None or not settings.follow_gitlab:
        return own
    place = gitlab_upload.remote(settings.upload, rclone.version())
    for remote in settings.offsite:
        if remote.name == GITLAB:
            place = replace(
                place,
                bandwidth=remote.bandwidth,
                retries=remote.retries,
                recipients=remote.recipients,
                rules=remote.rules,
                add_only=remote.add_only,
            )
    return [place, *own]


def copy(
    settings: Settings, store: LocalStore, owner: Owner, *, heed: bool = False
) -> tuple[list[SyncResult], list[str]]:
    """Bring every remote up to date; return the results, and warnings.

    A failing remote does not affect the others. With ``heed`` a signal ends the copying with a
    warning; finished copies stay.
    """
    if not heed:
        return _copy(settings, store, owner)
    try:
        signals.heed()
        return _copy(settings, store, owner)
    except Interrupted as interrupted:
        text = f"Copying was interrupted by {interrupted.signal_name}; the next run completes it"
        return [], [text]
    finally:
        signals.ignore()


def _copy(
    settings: Settings, store: LocalStore, owner: Owner
) -> tuple[list[SyncResult], list[str]]:
    if not settings.offsite and settings.upload is None:
        return [], []
    warnings = []
    try:
        wanted = remotes(settings)
    except Failure as failure:
        warnings.append(_told(failure))
        wanted = [remote for remote in settings.offsite if remote.name != GITLAB]
    holding = prune.plan(store, settings.rules, owner).holding
    served = [serve(remote, store, settings.rules, owner, holding) for remote in wanted]
    return served, warnings + [problem for remote in served for problem in remote.problems]


def serve(
    remote: Remote, store: LocalStore, rules: Rules, owner: Owner, holding: str = ""
) -> SyncResult:
    """Bring one remote up to date, newest first.

    While a set here is ``holding`` because it looks emptied, nothing is removed there.
    """
    served = SyncResult(remote)
    try:
        if remote.path.startswith("/"):
            disk_space.refuse_unmounted(Path(remote.path))
        there = persist(remote, lambda: copies.complete(remote))
        notes = ledger.of(remote)
        _look(remote, notes, there, store)
        for set_ in _missing(store, remote, notes, rules, owner):
            _send(set_, notes, served)
        if not holding:
            _prune(remote, notes, rules, store, served, owner)
    except Failure as failure:
        served.problems.append(_told(failure))
    return served


def _send(set_: BackupSet, notes: Notes, served: SyncResult) -> None:
    """Send one set; a problem of this set does not stop the others."""
    try:
        served.copied[set_.name] = send(set_, served.remote, notes)
    except RemoteFailure:
        raise
    except Failure as failure:
        served.problems.append(_told(failure))


def _told(failure: Failure) -> str:
    return ". ".join(text for text in (str(failure), failure.hint) if text)


def _look(remote: Remote, notes: Notes, there: Mapping[str, int], store: LocalStore) -> None:
    """Update the record from the remote: sets that lost files there are no longer copies.

    Others who can write there may add copies that claim any host. So of unrecorded copies only
    those of sets that exist here count as ours: no other one has any effect.
    """
    for name, known in list(notes.sets.items()):
        if there.get(name) != known.bytes:
            log.info("The copy of %s is gone from %s or incomplete", name, remote.name)
            del notes.sets[name]
    here = {set_.name: set_.manifest for set_ in store.sets() if set_.name not in notes.sets}
    for entry in copies.entries(remote) if here.keys() & there.keys() else []:
        if entry.copy is None or entry.manifest is None:
            continue
        if entry.manifest == here.get(entry.name) and entry.copy.recipients == remote.recipients:
            checks = tuple(sorted({part.checked for part in entry.copy.parts.values()}))
            base = entry.manifest.increment.base if entry.manifest.increment else ""
            notes.sets[entry.name] = CopyRecord(
                entry.manifest.started,
                there[entry.name],
                checks,
                base,
                **ledger.whose(entry.manifest),
            )
    ledger.keep(remote, notes)


def _missing(
    store: LocalStore, remote: Remote, notes: Notes, rules: Rules, owner: Owner
) -> list[BackupSet]:
    """Return this host's sets without a copy that the rules would keep.

    The newest comes first, after its bases: a copy is useless without them.
    """
    own = inventory.own_sets(owner.host, store.sets())
    here = {set_.name: set_ for set_ in own if not set_.manifest.safety}
    known, ring = soundness.accepted_names(), keys.ring()
    records = Records()
    members = [prune.of_set(set_, known, ring, records) for set_ in here.values()]
    members += [member for member in _members(notes, ()) if member.kept.name not in here]
    planned = prune.decide(remote.name, members, remote.rules or rules, owner)
    wanted: dict[str, BackupSet] = {}
    for decision in planned.decisions:
        if decision.keep and decision.name in here:
            wanted.update((link.name, link) for link in here[decision.name].chain)
    return [set_ for name, set_ in wanted.items() if name not in notes.sets]


def _members(notes: Notes, pinned: Collection[str]) -> list[Member]:
    """Return the recorded copies as input for retention, with what is known of their sets.

    ``pinned`` are the names of sets that stay, here and there.
    """
    history, known = check_records.history(), soundness.accepted_names()
    found = []
    for name, there in notes.sets.items():
        proofs = [record for record in history if record.set == name]
        kept = SetFacts(
            name,
            datetime.fromtimestamp(int(name.partition("_")[0]), timezone.utc),
            proven=check_records.proven(proofs),
            failed=check_records.refuted(proofs),
            base=there.base,
            empty=there.empty,
            shrunken=there.shrunken and name not in known,
            pinned=name in pinned,
        )
        found.append(Member(kept, Lineage(there.installation, there.host)))
    return found


def _prune(
    remote: Remote,
    notes: Notes,
    rules: Rules,
    store: LocalStore,
    served: SyncResult,
    owner: Owner,
) -> None:
    """Remove this host's copies that no rule keeps; each removal is tried once."""
    pending = Journal().pending()  # its uploads may still come from a copy
    pinned = {*prune.pinned_names(store), *([pending.name] if pending else [])}
    members = _members(notes, pinned)
    planned = prune.decide(remote.name, members, remote.rules or rules, owner)
    if remote.add_only:
        served.staying = sum(not decision.keep for decision in planned.decisions)
        return

    def delete(name: str) -> None:
        copies.delete(remote, name)
        del notes.sets[name]

    served.removed, problems = prune.carry_out(planned.decisions, delete)
    if problems:
        problems.append(
            f"If the credential of {remote.name} is meant not to remove anything: add_only: true "
            "in /etc/gitlab-mm-backup/config.yml"
        )
    served.problems += problems + prune.settle(remote.name, planned, len(served.removed))
    here = {set_.name for set_ in store.sets()}
    for name, begun in list(notes.begun.items()):
        if name in here or not owner.host.owns(begun.host):
            continue
        try:
            copies.delete(remote, name)
            del notes.begun[name]
        except Failure as failure:
            served.problems.append(_told(failure))
    ledger.keep(remote, notes)
