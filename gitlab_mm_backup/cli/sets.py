"""gitlab-mm list, verify and prune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from ..config import identity
from ..health import remarks
from ..restore.choice import Found
from ..result import CommandResult
from ..store import soundness
from ..store.check_records import CheckRecord, damaged, latest_rehearsal, latest_verification
from ..system import humanize
from . import common, offsite
from .common import VERDICTS, check_fields, settings_and_store, verb

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.identity import Host
    from ..config.origin import Origin
    from ..config.settings import Remote
    from ..offsite.copies import RemoteEntry
    from ..store.inventory import Store
    from ..store.prune import Pruned, PrunePlan
    from ..store.retention import Decision
    from ..store.sets import BackupSet, SetEntry
    from ..store.soundness import Flaw
    from .output import Context


@dataclass(frozen=True)
class Listed:
    """A set, or an incomplete one, with its check records and flaws, for a list."""

    entry: SetEntry
    proven: Sequence[CheckRecord] = ()
    flaws: Sequence[Flaw] = ()
    origin: Origin | None = None  # None: not complete


def list_result(listed: Sequence[Listed], store: Store, here: Host) -> CommandResult:
    """Return the list of a store's sets, and how many sets of other hosts are not shown."""
    newest = {one.entry.name: latest_verification(one.proven) for one in listed}
    damaged = {name for name, record in newest.items() if record and not record.whole}
    lines = [_list_line(one, damaged, here) for one in listed]
    fields = [_list_fields(one, damaged, here) for one in listed]
    others = store.others()
    lines += [
        f"{humanize.number(one.sets, 'set')} of host {one.name} ({identity.shown(one.host)[:8]}), "
        f"the newest {one.newest}: not shown"
        for one in others
    ]
    hidden = [{"host": one.name, "sets": one.sets, "newest": one.newest} for one in others]
    told = lines or [f"No sets in {store.where}"]
    return CommandResult({"sets": fields, "others": hidden}, told, answer=True)


def builds_on(set_: BackupSet) -> str:
    return f"  (builds on {set_.base.name})" if set_.base else ""


def _damaged_base(set_: BackupSet, damaged: set[str]) -> str | None:
    """Return the first set of the chain of ``set_`` that is damaged, None if there is none.

    A set is unusable if a set that it builds on is damaged.
    """
    return next((one.name for one in set_.chain[:-1] if one.name in damaged), None)


def _list_line(one: Listed, damaged: set[str], here: Host) -> str:
    entry = one.entry
    if entry.set is None:
        return f"{entry.name}  NOT COMPLETE: {entry.problem}"
    manifest = entry.set.manifest
    size = humanize.size(manifest.bytes)
    safety = "  (safety set)" if manifest.safety else ""
    safety += "  (salvaged)" if manifest.salvaged is not None else ""
    moment = humanize.moment(manifest.made)
    head = f"{entry.name}  {moment}  {size:>10}  {humanize.amounts(manifest.rows, manifest.files.files)}{safety}"
    lines = [
        head + builds_on(entry.set),
        f"  {_proof(one.proven)}",
        *remarks.origin_lines(one.origin),
    ]
    lines += [f"  {remark}" for remark in remarks.of(manifest, one.flaws, here)]
    base = _damaged_base(entry.set, damaged)
    if base is not None:
        lines.append(f"  NOT SOUND: {base}, which it builds on, is DAMAGED")
    lines += [f"  {line}" for line in soundness.caveat_lines(manifest.told)]
    return "\n".join(lines)


def _proof(proven: Sequence[CheckRecord]) -> str:
    """Return the results of a set's newest verification and rehearsal, in words."""
    verified, rehearsed = latest_verification(proven), latest_rehearsal(proven)
    if verified is None:
        return "never verified, never rehearsed"
    words = f"{'intact' if verified.whole else 'DAMAGED'} on {humanize.moment(verified.made)}"
    if rehearsed is None:
        return f"{words}, never rehearsed"
    result = VERDICTS[rehearsed.verdict]
    return f"{words}, rehearsal {result} on {humanize.moment(rehearsed.made)}"


def _list_fields(one: Listed, damaged: set[str], here: Host) -> dict[str, object]:
    entry, proven = one.entry, one.proven
    if entry.set is None:
        return {"name": entry.name, "complete": False, "problem": entry.problem}
    manifest = entry.set.manifest
    verified, rehearsed = latest_verification(proven), latest_rehearsal(proven)
    return {
        "name": entry.name,
        "complete": True,
        "path": entry.set.reference,
        "made": manifest.started,
        "purpose": manifest.purpose,
        "base": entry.set.base and entry.set.base.name,
        "damaged_base": _damaged_base(entry.set, damaged),
        "salvaged": manifest.salvaged,
        "told": list(manifest.told),
        "host": manifest.host,
        **remarks.fields(manifest, one.flaws, here),
        **remarks.origin_fields(one.origin),
        "gitlab": manifest.gitlab,
        "mattermost": manifest.mattermost,
        "rows": manifest.rows,
        "files": manifest.files.files,
        "bytes": manifest.bytes,
        "verified": verified and {"at": verified.started, "whole": verified.whole},
        "rehearsed": rehearsed
        and {
            "at": rehearsed.started,
            "result": rehearsed.verdict.value,
            "depth": rehearsed.depth.value,
            "recovery_seconds": rehearsed.recovery_seconds,
        },
    }


def verify_result(
    set_: BackupSet, record: CheckRecord, origin: Origin, warnings: list[str]
) -> CommandResult:
    error = damaged(set_.name, record.checks)
    return CommandResult(
        {
            "set": set_.name,
            **remarks.origin_fields(origin),
            "checks": check_fields(record.checks),
        },
        [] if error else [f"{set_.name} is intact, and {origin.words}"],
        warnings,
        answer=True,
        error=error,
    )


def prune_result(
    done: Sequence[PrunePlan | Pruned], removed: list[str], problems: list[str], *, dry_run: bool
) -> CommandResult:
    """Return the decision for each set; a set that one of several owners removes is removed."""
    known: dict[str, Decision] = {}
    for one in (decision for each in done for decision in each.decisions):
        if one.name not in known or not one.keep:
            known[one.name] = one
    decisions = list(known.values())
    lines = [f"{'keep' if one.keep else 'remove':6}  {one.name}  {one.reason}" for one in decisions]
    fields = [{"name": one.name, "keep": one.keep, "reason": one.reason} for one in decisions]
    return CommandResult({"sets": fields, "removed": removed}, lines, problems, answer=dry_run)


@click.command("list")
@click.option(
    "--from", "place", metavar="REMOTE", help="List the copies at a remote, as in restore --from."
)
@verb
def list_sets(context: Context, place: str | None) -> CommandResult:
    """List the sets, newest first."""
    ours, store = settings_and_store(context)
    if place is not None:
        return list_copies(ours, place)
    return with_places(listed(store))


@click.command(epilog=common.SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@offsite.from_elsewhere
@verb
def verify(
    context: Context, wanted: str, place: str | None, identity: Path | None
) -> CommandResult:
    """Read a set completely and compare it with its manifest."""
    from ..rehearsal import job
    from ..store import check_records, inventory

    ours, store = settings_and_store(context)
    with offsite.looked_at(ours, store, place, wanted, identity) as set_:
        record = job.verify_only(set_)
        warnings = check_records.keep_record(set_, record) if place is None else []
        return verify_result(set_, record, inventory.origin_of(set_), warnings)


@click.command()
@click.option(
    "--previous", is_flag=True, help="Also remove everything that restore --keep-previous kept."
)
@click.option(
    "--accept", metavar="SET", help="Accept this set although it looks emptied, and prune by it."
)
@click.option(
    "--host", "of_host", metavar="ID", help="Prune the sets of another host instead of this host's."
)
@click.option(
    "--dry-run", is_flag=True, help="Show which sets would be removed and why; change nothing."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@verb
def prune(
    context: Context,
    previous: bool,
    accept: str | None,
    of_host: str | None,
    dry_run: bool,
    yes: bool,
) -> CommandResult:
    """Remove this host's sets that no retention rule in config.yml keeps; never the newest.

    Sets of other hosts and installations stay. Removing more sets than ever before needs a
    confirmation.
    """
    from ..config import identity
    from ..restore import rollback
    from ..store import prune as thinning
    from ..system.lock import only_run
    from . import output

    context.load_everything()
    with only_run():
        (ours, store), host = settings_and_store(context), identity.own()
        if accept is not None and not dry_run:
            thinning.accept(store.find(accept))
        owners = thinning.of_host(store, of_host, host) if of_host else [_owner(host)]
        planned = [thinning.plan(store, ours.rules, one, agreed=True) for one in owners]
        if dry_run:
            return prune_result(planned, [], [], dry_run=True)
        going = [one.name for each in planned for one in each.decisions if not one.keep]
        asked = [thinning.plan(store, ours.rules, one).asked for one in owners]
        agreed = yes
        if not yes and going and (of_host or (any(asked) and output.on_terminal())):
            what = [f"Sets to remove: {', '.join(going)}"]
            output.ask(what, [], "Remove them?")
            agreed = True
        done = [thinning.prune(store, ours.rules, one, agreed=agreed) for one in owners]
        problems = [problem for one in done for problem in one.problems]
        problems += rollback.prune_previous(None if previous else ours.keep_time, all_=previous)
    removed = [name for one in done for name in one.removed]
    return prune_result(done, removed, problems, dry_run=False)


def _owner(host: Any) -> Any:
    """Return the owner to prune for: this host, with its current or last installation."""
    from ..backup import live
    from ..mattermost import detect
    from ..store.prune import Owner

    return Owner(host, live.installation(detect.find_any(), host))


Known = Mapping[str, Found]  # by set


def told_with_places(listed: CommandResult, copies: Mapping[str, Sequence[str]]) -> CommandResult:
    """Return the list of sets with the remotes that have a checked copy; ``copies`` has them by set."""
    sets = list(listed.fields["sets"])
    lines = list(listed.lines)
    for number, one in enumerate(sets):
        if one["complete"]:
            places = list(copies.get(one["name"], ()))
            sets[number] = {**one, "copies": places}
            lines[number] += f"\n  copies: {', '.join(places)}" if places else ""
    return replace(listed, fields={**listed.fields, "sets": sets}, lines=lines)


def copies_result(
    remote: Remote, entries: Sequence[RemoteEntry], known: Known, here: Host
) -> CommandResult:
    """Return the list of the copies at one remote."""
    return CommandResult(
        {"sets": [_entry_fields(remote, one, known[one.name], here) for one in entries]},
        [_entry_line(one, known[one.name], here) for one in entries]
        or [f"No copy of a set at {remote.name}"],
        answer=True,
    )


def _entry_line(one: RemoteEntry, found: Found, here: Host) -> str:
    if one.manifest is None or one.copy is None:
        return f"{one.name}  NOT COMPLETE: {one.problem}"
    moment, size = humanize.moment(one.manifest.made), humanize.size(one.bytes)
    increment = one.manifest.increment
    builds = f"  (builds on {increment.base})" if increment else ""
    line = f"{one.name}  {moment}  {size:>10}  from {one.manifest.host}{builds}"
    told = remarks.of(one.manifest, found.flaws, here)
    lines = [line, *remarks.origin_lines(found.origin), *(f"  {words}" for words in told)]
    if one.copy.recipients:
        lines.append(f"  encrypted to {'; '.join(one.copy.recipients)}")
    return "\n".join(lines + [f"  {words}" for words in soundness.caveat_lines(one.manifest.told)])


def _entry_fields(remote: Remote, one: RemoteEntry, found: Found, here: Host) -> dict[str, object]:
    manifest = one.manifest
    if manifest is None or one.copy is None:
        return {"name": one.name, "complete": False, "problem": one.problem}
    return {
        "name": one.name,
        "complete": True,
        "path": remote.place(one.name),
        "made": manifest.started,
        "purpose": manifest.purpose,
        "base": manifest.increment.base if manifest.increment else None,
        "host": manifest.host,
        **remarks.fields(manifest, found.flaws, here),
        **remarks.origin_fields(found.origin),
        "gitlab": manifest.gitlab,
        "mattermost": manifest.mattermost,
        "rows": manifest.rows,
        "files": manifest.files.files,
        "bytes": one.bytes,
        "told": list(manifest.told),
        "recipients": list(one.copy.recipients),
    }


def listed(store: Any) -> CommandResult:
    """Return the list of a store's sets with their check records, flaws and origins."""
    from ..config import identity
    from ..restore import offered
    from ..store import check_records

    known = {one.name: one for one in offered.of_store(store)}
    lines = [
        Listed(
            one,
            check_records.of_set(one.set) if one.set else [],
            known[one.name].flaws if one.name in known else (),
            known[one.name].origin if one.name in known else None,
        )
        for one in store.entries()
    ]
    return list_result(lines, store, identity.known())


def list_copies(settings: Any, place: str) -> CommandResult:
    """Return the list of the sets or copies at a remote."""
    from ..config import identity
    from ..offsite import copies, download
    from ..restore import offered, source

    repository = source.store_elsewhere(settings, place)
    if repository is not None:
        return with_places(listed(repository))
    remote = download.place(settings, place)
    entries = copies.entries(remote)
    known = {one.name: one for one in offered.of_copies(entries)}
    return copies_result(remote, entries, known, identity.known())


def with_places(listed: CommandResult) -> CommandResult:
    """Return the list of sets with the remotes that have a checked copy of each."""
    from ..offsite import ledger

    return told_with_places(listed, ledger.by_set())
