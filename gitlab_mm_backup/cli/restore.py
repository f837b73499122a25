"""gitlab-mm restore."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import clock
from ..config import identity
from ..errors import ExitCode
from ..restore.plan import PARTS, RestoreOptions
from ..result import CommandResult
from ..sso.oauth import ProbeResult
from ..store import manifest, soundness
from ..system import humanize, lock
from . import backup, common, hosts, offsite
from .common import SET_HELP, filled, settings_and_store, verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..config.identity import Host
    from ..config.settings import Settings
    from ..mattermost.journal import Journal
    from ..mattermost.site import Site
    from ..restore.choice import Chosen, Want
    from ..restore.job import Restored
    from ..restore.preview import Preview
    from ..restore.source import RestoreSource
    from ..restore.uploads_later import UploadsResult
    from ..store.inventory import Store
    from ..store.sets import BackupSet
    from .output import Context


_UNDO = "undo: gitlab-mm restore"


def restore_result(
    set_: BackupSet,
    restored: Restored,
    uploads: UploadsResult | None,
    chosen: Chosen,
    here: Host,
) -> CommandResult:
    """Return the result of a restore onto the host ``here``, and the notes on choosing the set."""
    warnings, notes = [*chosen.warnings, *restored.warnings], [*chosen.notes, *restored.notes]
    warnings += uploads.problems if uploads else []
    notes += hosts.former_host(set_, here)
    if restored.sign_in.verdict is not ProbeResult.ACCEPTED:
        warnings.append(f"Sign-in through GitLab: {restored.sign_in.reason}")
    times = restored.times
    return CommandResult(
        {
            "set": set_.name,
            "parts": list(restored.parts),
            "rows": restored.rows,
            "files": restored.files,
            "bytes": restored.bytes,
            "settings_changed": restored.settings_changed,
            "sign_in": restored.sign_in.verdict.value,
            "safety_set": restored.safety_set or None,
            "downtime_seconds": round(times.down, 3),
            "fill_seconds": round(times.fill, 3),
            "exchange_seconds": round(times.exchange, 3),
            "search": backup.search_fields(restored.search),
            "uploads": backup.uploads_fields(uploads),
            "gitlab_side": restored.gitlab_side,
            "notes": notes,
        },
        _restored_lines(set_, restored, uploads, notes),
        warnings,
    )


def _restored_lines(
    set_: BackupSet, restored: Restored, uploads: UploadsResult | None, notes: Sequence[str]
) -> list[str]:
    changed, times, before = restored.settings_changed, restored.times, restored.safety_set
    settings = f"{humanize.number(len(changed), 'setting')} changed" if changed else "Same settings"
    return [
        f"Restored {set_.name}",
        f"  {humanize.amounts(restored.rows, restored.files)}, {humanize.size(restored.bytes)}",
        f"  {settings}",
        *([f"  State before this restore: {before}", f"    {_UNDO} {before}"] if before else []),
        f"  Mattermost was down for {humanize.duration(times.down)}, {humanize.duration(times.fill)} "
        "of it to load and unpack",
        *backup.later_lines(restored.search, uploads),
        f"  Sign-in: {restored.sign_in.reason}",
        *restored.gitlab_side,
        *(f"  {note}" for note in notes),
    ]


def preview_result(preview: Preview, chosen: Chosen) -> CommandResult:
    manifest = preview.set.manifest
    code = ExitCode.FAILED if preview.obstacle else ExitCode.DONE
    fetched = ", and the time to fetch the set" if preview.where else ""
    lines = [
        *([f"The restore would be REFUSED now: {preview.obstacle}"] if preview.obstacle else []),
        f"Set {preview.set.name}: {humanize.amounts(manifest.rows, manifest.files.files)}",
        *(f"  {note}" for note in chosen.notes),
        *(f"  {number}. {step}" for number, step in enumerate(preview.steps, 1)),
        *soundness.caveat_lines(preview.told),
        *(f"Disk space: {space}" for space in preview.space),
        f"Changed settings: {', '.join(preview.settings_changed) or 'none'}",
        *(["Changes to the set's config.json:"] if preview.patch else []),
        *(f"  {line}" for line in preview.patch),
        f"Time: about {humanize.duration(preview.seconds)}{fetched}",
    ]
    fields = {
        "set": preview.set.name,
        "steps": preview.steps,
        "room": preview.space,
        "settings_changed": preview.settings_changed,
        "patch": preview.patch,
        "expected_seconds": round(preview.seconds),
        "obstacle": preview.obstacle or None,
        "notes": list(chosen.notes),
        "told": preview.told,
    }
    warnings = [*chosen.warnings, *preview.warnings]
    tones = [("REFUSED", "red")]  # of the first line
    return CommandResult(fields, lines, warnings, code, answer=True, tones=tones)


_WHEN = {None: "auto", True: "later", False: "now"}


@dataclass(frozen=True)
class Options:
    """The options of gitlab-mm restore, by the names that click gives them."""

    wanted: str | None
    at: str | None
    installation: str
    of_host: str
    only: tuple[str, ...]
    to: str | None
    replace: bool
    with_etc: bool
    no_safety_backup: bool
    keep_previous: bool
    in_place: bool
    search_later: bool | None
    uploads_later: bool | None
    replace_with_empty: bool
    trust_unsigned: str
    dry_run: bool
    yes: bool
    place: str | None
    identity: Path | None
    rollback: bool
    go_on: bool

    def plan(self, kind: str) -> RestoreOptions:
        """Return what to restore onto a site of this kind, and how."""
        return RestoreOptions(
            parts=tuple(part for part in PARTS if part in (self.only or PARTS)),
            with_etc=self.with_etc,
            safety=not self.no_safety_backup,
            keep_previous=self.keep_previous,
            in_place=self.in_place,
            search=_WHEN[self.search_later],
            uploads=_WHEN[self.uploads_later],
            to=kind,
            replace=self.replace,
            place=self.place or "",
            identity=str(self.identity.absolute()) if self.identity else "",
            named=self.only,
            replace_with_empty=self.replace_with_empty,
        )


@click.command(epilog=SET_HELP)
@click.argument("wanted", metavar="[SET]", required=False)
@click.option(
    "--at",
    metavar="DATE",
    help="The newest set at or before this date: 2026-11-20, 20261120, yesterday, 06:00.",
)
@click.option(
    "--installation",
    metavar="ID",
    default="",
    help="The Mattermost installation, if there are sets of several: its id, or its first digits.",
)
@click.option(
    "--host",
    "of_host",
    metavar="ID",
    default="",
    help="The host that made the set, if several did: its id, its first digits, or its name.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PARTS),
    help="Restore only this part; may be repeated.",
)
@click.option(
    "--to",
    type=click.Choice(["omnibus", "standalone"]),
    help="The kind of Mattermost to restore onto, if this host has both.",
)
@click.option("--replace", is_flag=True, help="Replace the data of a standalone Mattermost.")
@click.option("--with-etc", is_flag=True, help="Restore /etc/gitlab too.")
@click.option("--no-safety-backup", is_flag=True, help="Do not back up the current state first.")
@click.option(
    "--keep-previous",
    is_flag=True,
    help="Keep the old database and directories until the next prune.",
)
@click.option(
    "--in-place",
    is_flag=True,
    help="Delete current data first (disk too small). Cannot be rolled back.",
)
@click.option(
    "--search-later/--search-now",
    default=None,
    help="Build the search indexes after Mattermost has started, or before. Default: by size.",
)
@click.option(
    "--uploads-later/--uploads-now",
    default=None,
    help="Unpack uploads of earlier days after Mattermost has started, or before. Default: by size.",
)
@click.option(
    "--replace-with-empty",
    is_flag=True,
    help="Replace live data even if the set has no such data; --yes alone does not.",
)
@click.option(
    "--trust-unsigned",
    metavar="SET",
    default="",
    help="Restore this set although its origin is not proven.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan; change nothing.")
@common.yes_option
@common.wait_option
@offsite.from_elsewhere
@click.option("--rollback", is_flag=True, help="Roll back an interrupted restore.")
@click.option("--continue", "go_on", is_flag=True, help="Run an interrupted restore again.")
@verb
@filled(Options)
def restore(context: Context, options: Options) -> CommandResult:
    """Restore a set: messages, uploads, settings and GitLab sign-in.

    Without SET, the newest sound set of this Mattermost is restored; after a reinstall, the newest
    of the former one.
    """
    from ..mattermost import detect
    from ..mattermost.journal import Journal

    if options.wanted is not None and options.at is not None:
        raise click.UsageError("SET and --at exclude each other.")
    context.load_everything()
    with contextlib.ExitStack() as held:
        alone = held.enter_context(contextlib.ExitStack())
        alone.enter_context(context.only_run())
        if not options.dry_run:
            held.enter_context(lock.only_uploads())
        if options.rollback or options.go_on:
            return _recover(context, Journal(), options, alone.close)
        site = detect.find(options.to or "", config_required=False)
        return _restore(context, site, options, alone.close)


def _recover(
    context: Context, journal: Journal, options: Options, let_others: Callable[[], None]
) -> CommandResult:
    """Roll back an interrupted restore or run it again; or do what a complete one has left."""
    from ..mattermost import detect
    from ..restore import rollback, search_index

    if journal.read() is None and (journal.pending() or (journal.later() and not options.rollback)):
        if options.rollback:
            raise backup.no_way_back(journal)
        search = search_index.build(detect.find(options.to or ""), journal)
        let_others()
        return backup.later_result(search, backup.resume_uploads(context))
    record = rollback.unfinished(journal)
    plan = RestoreOptions.of_journal(record.request["plan"])
    site = detect.find(plan.to, config_required=False)
    taken = rollback.roll_back(site, record, journal)
    if taken.state == "new":
        search = search_index.build(site, journal)
        let_others()
        return backup.recovery_result(taken, search, backup.resume_uploads(context))
    if options.rollback:
        return backup.recovery_result(taken)
    ours, store = settings_and_store(context)
    wanted = offsite.wanted_again(ours, store, plan, record.request["set"])
    hosts.refuse_another(wanted.set, plan)
    site = detect.find(plan.to, config_required=False)
    context.begin(ours)
    return _put_back(context, wanted, site, plan, let_others)


def _restore(
    context: Context, site: Site, options: Options, let_others: Callable[[], None]
) -> CommandResult:
    """Restore the chosen set; if it turns out to be damaged, the next sound one."""
    from ..rehearsal import job
    from ..restore import preview
    from ..store import check_records

    ours, store = settings_and_store(context)
    plan, want = options.plan(site.kind.value), _want(site, options)
    damaged: list[str] = []
    while True:
        wanted = _wanted(ours, store, plan, options, want)
        if options.dry_run:
            hosts.refuse_unproven(wanted.set, options.trust_unsigned)
            with wanted.planned() as near:
                found = preview.preview(near, wanted, site, plan)
                return preview_result(found, wanted.chosen)
        plan = hosts.agreed(
            wanted, site, plan, want.live, yes=options.yes, trusted=options.trust_unsigned
        )
        if not damaged:
            context.begin(ours)
        try:
            return _put_back(context, wanted, site, plan, let_others)
        except check_records.Damaged as failure:
            if options.wanted or plan.place or wanted.set.name in damaged:
                raise
            damaged.append(wanted.set.name)
            check_records.keep_record(wanted.set, job.verified(wanted.set, failure.checks))


def _put_back(
    context: Context,
    wanted: RestoreSource,
    site: Site,
    plan: RestoreOptions,
    let_others: Callable[[], None],
) -> CommandResult:
    """Restore a set; while its earlier uploads are unpacked, ``let_others`` lets backups run."""
    from ..backup import live
    from ..mattermost import detect
    from ..restore import job as restore_job
    from ..restore import source, uploads_later

    ours, store = settings_and_store(context)
    with source.near(wanted, site, plan) as near:
        restored, uploads = restore_job.restore(near, site, plan, store, ours), None
        site = detect.again(site)
        here = live.note(identity.own(), live.look(site).installation)
        if restored.later is not None:
            let_others()
            tell = backup.teller(context)
            uploads = uploads_later.unpack_at_last(near, site, restored.later, tell)
    return restore_result(wanted.set, restored, uploads, wanted.chosen, here)


def _want(site: Site, options: Options) -> Want:
    """Return the criteria for choosing a set."""
    from ..backup import live
    from ..restore.choice import Want

    at = options.at if options.at != "latest" else None
    return Want(
        identity.own(),
        identity.full_hostname(),
        live.look(site),
        clock.end_of(at, datetime.now().astimezone()) if at is not None else None,
        options.installation,
        options.of_host,
    )


def _wanted(
    ours: Settings, store: Store, plan: RestoreOptions, options: Options, want: Want
) -> RestoreSource:
    """Return the set to restore, from the store or --from; ask if several are possible."""
    from ..restore import choice
    from . import terminal

    name = options.wanted or "latest"
    try:
        return offsite.wanted(ours, store, plan, name, want)
    except choice.Several as several:
        if options.yes or options.dry_run or not terminal.interactive():
            raise
        picked = terminal.pick(several.message, [choice.describe(set_) for set_ in several.choices])
        chosen = several.choices[picked]
        named = replace(want, installation=chosen.installation, of_host=manifest.host_of(chosen))
        return offsite.wanted(ours, store, plan, name, named)
