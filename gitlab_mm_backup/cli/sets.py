"""gitlab-mm verify, prune, info, delete, pin and unpin: what concerns sets that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from .. import clock
from ..config import identity as own_identity
from ..errors import ExitCode, Failure
from ..health import remarks
from ..result import CommandResult
from ..store import prune as thinning
from ..store.check_records import CheckRecord, damaged
from ..system import humanize
from . import common, listing, offsite
from .common import check_fields, settings_and_store, verb

if TYPE_CHECKING:
    from pathlib import Path

    from ..config.identity import Host
    from ..config.origin import Origin
    from ..config.retention import Decision
    from ..store.inventory import Store
    from ..store.manifest import Manifest
    from ..store.prune import Owner, Pruned, PrunePlan
    from ..store.sets import BackupSet
    from .listing import Listed
    from .output import Context


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
    for decision in (decision for pruned in done for decision in pruned.decisions):
        if decision.name not in known or not decision.keep:
            known[decision.name] = decision
    decisions = list(known.values())
    lines = [
        f"{'keep' if decision.keep else 'remove':6}  {decision.name}  {decision.reason}"
        for decision in decisions
    ]
    fields = [
        {"name": decision.name, "keep": decision.keep, "reason": decision.reason}
        for decision in decisions
    ]
    return CommandResult({"sets": fields, "removed": removed}, lines, problems, answer=dry_run)


@click.command(epilog=common.SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@offsite.from_elsewhere
@verb
def verify(
    context: Context, wanted: str, place: str | None, identity: Path | None
) -> CommandResult:
    """Read a set completely and compare it with its manifest."""
    from ..rehearsal import job
    from ..restore import choice
    from ..store import check_records, inventory

    ours, store = settings_and_store(context)
    with offsite.looked_at(ours, store, place, wanted, identity) as set_:
        record = job.verify_only(set_)
        warnings = check_records.keep_record(set_, record) if place is None else []
        told = verify_result(set_, record, inventory.origin_of(set_), warnings)
        if told.error is not None:
            told.error.hint = choice.instead_of(set_, store)
        return told


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
    "-n",
    "--dry-run",
    is_flag=True,
    help="Show which sets would be removed and why; change nothing.",
)
@common.yes_option
@common.wait_option
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
    from . import terminal

    context.load_everything()
    with context.only_run():
        (ours, store), host = settings_and_store(context), identity.own()
        if accept is not None and not dry_run:
            thinning.accept(store.find(accept))
        owners = thinning.of_host(store, of_host, host) if of_host else [_owner(host)]
        planned = [thinning.plan(store, ours.rules, owner, agreed=True) for owner in owners]
        if dry_run:
            return prune_result(planned, [], [], dry_run=True)
        going = [name for plan in planned for name in _going(plan)]
        asked = [thinning.plan(store, ours.rules, owner).asked for owner in owners]
        agreed = yes
        if not yes and going and (of_host or (any(asked) and terminal.interactive())):
            lines = [f"Sets to remove: {', '.join(going)}"]
            stays = f"no set is removed; {accept} stays accepted" if accept else ""
            terminal.ask(lines, [], "Remove them?", done=stays)
            agreed = True
        done = [thinning.prune(store, ours.rules, owner, agreed=agreed) for owner in owners]
        problems = [problem for pruned in done for problem in pruned.problems]
        problems += rollback.prune_previous(None if previous else ours.keep_time, all_=previous)
    removed = [name for pruned in done for name in pruned.removed]
    return prune_result(done, removed, problems, dry_run=False)


def _going(plan: PrunePlan) -> list[str]:
    return [decision.name for decision in plan.decisions if not decision.keep]


def _owner(host: Host) -> Owner:
    """Return the owner to prune for: this host, with its current or last installation."""
    from ..backup import live
    from ..mattermost import detect
    from ..store.prune import Owner

    return Owner(host, live.installation(detect.find_any(), host))


@click.command(epilog=common.SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@offsite.from_elsewhere
@verb
def info(context: Context, wanted: str, place: str | None, identity: Path | None) -> CommandResult:
    """Show what one set holds, and what is known of it."""
    ours, store = settings_and_store(context)
    with offsite.looked_at(ours, store, place, wanted, identity, files=False) as set_:
        return info_result(set_, listing.of_set(set_), inside(set_))


@dataclass
class Inside:
    """What was read in the parts of a set; None where that was not possible, with a warning."""

    people: Mapping[str, object] | None = None
    plugins: Mapping[str, bool] | None = None
    differing: Sequence[str] | None = None  # names of settings; None without a live Mattermost too
    warnings: list[str] = field(default_factory=list)


def inside(set_: BackupSet) -> Inside:
    """Read the dump and the settings of a set."""
    from ..mattermost import detect, effective_config
    from ..rehearsal import counts

    found = Inside()
    try:
        found.people = counts.count(set_).people()
    except Failure as failure:
        found.warnings.append(f"The dump was not read: {failure}")
    try:
        settings = effective_config.of_set(set_)
        found.plugins = settings.plugins
        site = detect.find_any()
        found.differing = settings.effective.differences(site.settings) if site else None
    except Failure as failure:
        found.warnings.append(f"The settings were not read: {failure}")
    return found


def info_result(set_: BackupSet, item: Listed, found: Inside) -> CommandResult:
    """Return everything that the set and this host know of a set."""
    fields = listing.fields_of(item, listing.damaged_names([item]), own_identity.known())
    parts = {
        name: {"file": part.file, "bytes": part.bytes, "sha256": part.sha256}
        for name, part in set_.manifest.parts.items()
    }
    facts = [*_held(set_.manifest), *_inside(found, set_.manifest), *_known(set_, item)]
    widest = max(len(name) for name, _ in facts) + 1
    lines = [f"{name + ':':{widest}} {humanize.plain(text)}" for name, text in facts]
    manifest = set_.manifest
    own = {
        "configuration": list(manifest.configuration),
        "left_out": dict(manifest.left_out),
        "people": found.people,
        "plugins": found.plugins,
        "settings_differ": found.differing,
    }
    shown = {"set": set_.name, **fields, "parts": parts, **own}
    return CommandResult(shown, lines, found.warnings, answer=True, lenient=True)


def _held(manifest: Manifest) -> list[tuple[str, str]]:
    """Return what a set holds, as names and texts."""
    people = manifest.contents
    facts = [
        ("Set", manifest.name),
        ("Made", f"{humanize.moment(manifest.made)} on {manifest.host}"),
        ("Mattermost", manifest.mattermost),
        ("GitLab", manifest.gitlab or "none"),
        ("PostgreSQL", manifest.database.server),
        ("Size", humanize.size(manifest.bytes)),
        *((f"  {part.file}", humanize.size(part.bytes)) for part in manifest.parts.values()),
        ("Rows", humanize.grouped(manifest.rows)),
        ("Files", _counted(manifest.files.files, manifest.files.bytes)),
        *(("Configuration", path) for path in manifest.configuration),
        *(("Not in it", f"{path}: {why}") for path, why in manifest.left_out.items()),
    ]
    if people is not None:  # in the words of the manifest, without reading the dump
        facts += [
            ("Teams", humanize.grouped(people.teams)),
            ("Users", humanize.grouped(people.users)),
            ("Posts", humanize.grouped(people.posts)),
            ("Last post", people.last_post or "none"),
            ("Uploads", _counted(people.uploads, people.upload_bytes)),
        ]
    return facts


def _counted(files: int, size: int) -> str:
    return f"{humanize.grouped(files)}, {humanize.size(size)}"


def _inside(found: Inside, manifest: Manifest) -> list[tuple[str, str]]:
    """Return what the parts of a set hold, as names and texts."""
    facts = []
    if found.people is not None:
        people = found.people
        open_, private = people["open_channels"], people["private_channels"]
        facts = [
            (
                "Channels",
                f"{open_} open, {private} private; {people['conversations']} conversations",
            ),
            ("Bots", str(people["bots"])),
            ("First post", str(people["first_post"] or "none")),
        ]
        if manifest.contents is None:  # of a set from before manifests had them
            counts = {"Teams": "teams", "Users": "users", "Posts": "posts", "Uploads": "uploads"}
            facts += [(title, str(people[name])) for title, name in counts.items()]
            facts.append(("Last post", str(people["last_post"] or "none")))
    if found.plugins is not None:
        names = [name if on else f"{name} (disabled)" for name, on in found.plugins.items()]
        facts.append(("Plugins", ", ".join(names) or "none"))
    if found.differing is not None:
        facts.append(("Settings that differ", ", ".join(found.differing) or "none"))
    return facts


def _known(set_: BackupSet, item: Listed) -> list[tuple[str, str]]:
    """Return what this host knows of a set, as names and texts."""
    verified, rehearsed = listing.proof_cells(item.proven, clock.now())
    return [
        ("Path", set_.reference),
        ("Origin", item.origin.words if item.origin else "not known"),
        ("Verified", verified),
        ("Rehearsed", rehearsed),
        ("Copies", ", ".join(item.copies) or "none"),
        ("Pinned", "yes" if thinning.pinned(set_) else "no"),
        ("Note", set_.manifest.note or "none"),
        *(("Warning", text) for text in set_.manifest.told),
        *(("NOT SOUND", flaw.words) for flaw in item.flaws),
    ]


@click.command()
@click.argument("wanted", metavar="SET")
@common.yes_option
@common.wait_option
@verb
def delete(context: Context, wanted: str, yes: bool) -> CommandResult:
    """Remove one set, after a question. Its copies elsewhere stay."""
    from . import terminal

    store = context.store()
    with context.only_run():
        set_ = _named(store, wanted)
        if thinning.pinned(set_):
            raise Failure(
                f"Set {set_.name} is pinned",
                "a pinned set is not removed",
                f"First: gitlab-mm unpin {set_.name}",
                ExitCode.USAGE,
            )
        if not yes:
            copies = f"Copies elsewhere: {', '.join(listing.of_set(set_).copies) or 'none'}"
            loud = [] if len(store.sets()) > 1 else ["It is the only set here."]
            terminal.ask([f"Set to remove: {set_.reference}", copies], loud, "Remove it?")
        store.delete(set_)
        problems = store.reclaim()
    return CommandResult(
        {"set": set_.name, "removed": [set_.name]}, [f"Removed {set_.name}"], problems
    )


@click.command()
@click.argument("wanted", metavar="SET")
@verb
def pin(context: Context, wanted: str) -> CommandResult:
    """Keep a set and its copies, whatever the retention rules say."""
    return _pinned(context, wanted, pinned=True)


@click.command()
@click.argument("wanted", metavar="SET")
@verb
def unpin(context: Context, wanted: str) -> CommandResult:
    """Leave a pinned set to the retention rules again."""
    return _pinned(context, wanted, pinned=False)


def _pinned(context: Context, wanted: str, *, pinned: bool) -> CommandResult:
    set_ = _named(context.store(), wanted)
    change, word = (thinning.pin, "Pinned") if pinned else (thinning.unpin, "Unpinned")
    change(set_)
    return CommandResult({"set": set_.name, "pinned": pinned}, [f"{word} {set_.name}"])


def _named(store: Store, wanted: str) -> BackupSet:
    """Return the set of the store with that name; what removes or pins one does not guess which."""
    if wanted == "latest" or "/" in wanted:
        text = "latest may be another one tomorrow, and a path may lead out of the store"
        raise Failure("Give the name of a set", text, "gitlab-mm list", ExitCode.USAGE)
    return store.find(wanted)
