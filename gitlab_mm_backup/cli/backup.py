"""gitlab-mm backup; and what a restore has left for later, which a backup goes on with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ExitCode, Failure
from ..restore.plan import RestoreOptions
from ..result import CommandResult
from ..system import humanize
from . import common, offsite
from .common import settings_and_store, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backup.job import BackupResult
    from ..backup.schedule import Plan
    from ..config.settings import Settings
    from ..mattermost.journal import Journal
    from ..mattermost.site import Site
    from ..restore.rollback import RolledBack
    from ..restore.search_index import IndexResult
    from ..restore.uploads_later import UploadsResult
    from ..store.inventory import Store
    from ..store.manifest import Manifest
    from ..store.sets import BackupSet
    from .output import Context

_LONGEST_NOTE = 200


def backup_result(made: BackupResult) -> CommandResult:
    manifest, base = made.set.manifest, made.set.base
    return CommandResult(
        {
            "set": made.set.name,
            "path": made.set.reference,
            "parts": {
                name: {"file": part.file, "bytes": part.bytes, "sha256": part.sha256}
                for name, part in manifest.parts.items()
            },
            "rows": manifest.rows,
            "files": manifest.files.files,
            "bytes": manifest.bytes,
            "base": base and base.name,
            "removed": made.removed,
            "notes": made.notes,
            "shrunken": list(manifest.shrunken),
            "salvaged": manifest.salvaged,
            "told": list(manifest.told),
        },
        [
            f"Made {made.set.reference}" + (f", which builds on {base.name}" if base else ""),
            f"  {humanize.amounts(manifest.rows, manifest.files.files)} in {manifest.seconds:.1f} s",
            f"  {humanize.size(manifest.bytes)}: {_sizes(manifest)}",
            *(f"Removed {name}" for name in made.removed),
            *made.notes,
        ],
        made.warnings,
    )


def with_next(made: CommandResult, now: datetime, ours: Settings) -> CommandResult:
    """Add the last line of a backup: when the next one starts, or the command that helps."""
    from ..health import scheduler

    night = scheduler.look(now, ours.schedule)
    text = ". ".join(filter(None, (f"Next run: {night.words}", night.fix and f"Run: {night.fix}")))
    return replace(made, lines=[*made.lines, text])


def _sizes(manifest: Manifest) -> str:
    """Return the sizes of the large parts: database 1.2 GiB, files 3.4 GiB."""
    sizes = {name: manifest.parts[name].bytes for name in ("database", "files")}
    return ", ".join(f"{name} {humanize.size(size)}" for name, size in sizes.items())


def _one_line(context: click.Context, option: click.Parameter, text: str) -> str:
    """Return a note as it is; raises BadParameter for one that no list could show."""
    if len(text) > _LONGEST_NOTE or not text.isprintable():
        raise click.BadParameter(f"give one line of at most {_LONGEST_NOTE} characters")
    return text


@dataclass(frozen=True)
class Asked:
    """The options of a backup."""

    if_present: bool
    due: str | None
    root: Path | None
    note: str
    scheduled: bool

    def plan(self, context: Context) -> Plan | None:
        """Return by what it is decided whether a run is due; None for a run by hand.

        ``schedule`` of config.yml decides also where cron names a time.
        """
        from ..backup.schedule import Nightly, Often
        from ..config.schedule import UNKNOWN

        if self.due is None and not self.scheduled:
            return None
        try:
            often = context.settings().schedule
        except Failure:
            # The run itself fails: at its time, and not at every question.
            often = UNKNOWN if self.scheduled else None
        if often is not None:
            return Often(often)
        return Nightly(self.due)


@click.command()
@click.option("--if-present", is_flag=True, help="Do nothing if Mattermost is not set up.")
@click.option(
    "--due",
    metavar="HH:MM",
    help="For cron: do nothing if the nightly run of that time is done, or a newer set exists.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Back up a stopped host: the mount point of its disk, or a directory with Docker's volumes "
    "named config and data.",
)
@click.option(
    "--note", metavar="TEXT", default="", callback=_one_line, help="A line about this set."
)
@click.option(
    "--scheduled",
    is_flag=True,
    help="For cron and the timer of schedule in config.yml: do nothing if no run is due, another run is "
    "at work or nothing has changed.",
)
@common.wait_option
@verb
@common.filled(Asked)
def backup(context: Context, asked: Asked) -> CommandResult:
    """Back up Mattermost while it runs, then prune old sets.

    If GitLab 19 has removed Mattermost, the remaining data is backed up, and the set is marked as
    salvaged.
    """
    now = datetime.now().astimezone()
    plan = asked.plan(context)
    if plan is not None and not plan.due(now):
        return CommandResult({"set": None}, [])
    context.load_everything()
    try:
        with context.only_run():
            outcome, made = _run(context, asked, plan, now)
    except Failure as failure:
        if failure.exit_code is not ExitCode.LOCKED or not asked.scheduled:
            raise
        return _stepped_aside(failure)
    return replace(outcome, warnings=[*outcome.warnings, *_without_lock(context, made)])


def _without_lock(context: Context, made: BackupResult | None) -> list[str]:
    """Do what may take long; return problems as text."""
    from ..backup import job

    return [*resume_before_hooks(context), *(job.follow(made) if made else [])]


def _run(
    context: Context, asked: Asked, plan: Plan | None, now: datetime
) -> tuple[CommandResult, BackupResult | None]:
    """Make a set where one is wanted, with the lock held; return None where none was made."""
    from ..backup import schedule
    from ..mattermost import detect
    from ..mattermost.journal import Journal
    from ..restore import rollback
    from ..system import process

    if plan is not None:
        schedule.record()
    absent = detect.never_set_up() if asked.if_present else ""
    if absent:
        return CommandResult({"set": None}, [absent]), None
    rollback.refuse_unfinished(Journal())
    ours, store = settings_and_store(context)
    if plan is not None and any(plan.covers(moment, now) for moment in _moments(store)):
        return CommandResult({"set": None}, [plan.words]), None
    process.lower_priority(ours.nice)
    context.begin(ours)
    outcome, made = _made(asked, ours, store, now)
    more = rollback.prune_previous(ours.keep_time)
    return replace(outcome, warnings=[*more, *outcome.warnings]), made


def _made(
    asked: Asked, ours: Settings, store: Store, now: datetime
) -> tuple[CommandResult, BackupResult | None]:
    """Make a set; return None where nothing has changed since the newest one."""
    from ..backup import from_disk, job, salvage
    from ..mattermost import guest
    from ..restore import search_index

    if asked.root is not None:
        made = from_disk.make(asked.root, ours, store, asked.note)
        return _after(made, ours, now), made
    with guest.admitted(salvage.site_here(store)) as site:
        more = search_index.build_pending(site)
        newest = _unchanged(site, ours, store) if asked.scheduled else None
        if newest is not None:
            return unchanged_result(newest, ours, more), None
        made = job.backup(site, ours, store, nightly=asked.if_present, note=asked.note)
    outcome = _after(made, ours, now)
    return replace(outcome, warnings=[*more, *outcome.warnings]), made


def _after(made: BackupResult, ours: Settings, now: datetime) -> CommandResult:
    """Copy a set to other machines; return the result, with the next run."""
    return with_next(offsite.with_copies(backup_result(made), ours, made.owner), now, ours)


def _unchanged(site: Site, ours: Settings, store: Store) -> BackupSet | None:
    """Return the newest set where nothing has changed since."""
    from ..backup import unchanged
    from ..config import identity
    from ..store import inventory

    if site.missing is not None:
        return None
    return unchanged.since(site, ours, store, inventory.own_sets(identity.own(), store.sets()))


def unchanged_result(newest: BackupSet, ours: Settings, warnings: list[str]) -> CommandResult:
    """Return the result of a run that made no set; copies that are missing elsewhere are made."""
    from ..config import identity
    from ..offsite import ledger
    from ..store.prune import Owner

    text = f"Unchanged since {newest.name}: no set was made"
    outcome = CommandResult({"set": newest.name, "unchanged": True}, [text], warnings)
    copied = ledger.by_set().get(newest.name, ())
    if all(remote in copied for remote in ours.remotes):
        return outcome
    owner = Owner(identity.known(), newest.manifest.installation)
    return offsite.with_copies(outcome, ours, owner)


def _stepped_aside(failure: Failure) -> CommandResult:
    """Return the result of a scheduled run that found another one: exit code 3, and no mail of cron."""
    text = f"{failure.message}: {failure.detail}. This run steps aside; the next one makes the set"
    return CommandResult({"set": None}, [text], code=ExitCode.LOCKED)


def _moments(store: Store) -> list[datetime]:
    """Return when each set of this host was started, without safety sets."""
    from ..config import identity
    from ..store import inventory

    sets = inventory.own_sets(identity.known(), store.sets())
    return [set_.manifest.made for set_ in sets if not set_.manifest.safety]


def search_fields(search: IndexResult | None) -> dict[str, object] | None:
    return {"indexes": search.indexes, "seconds": search.seconds} if search else None


def uploads_fields(uploads: UploadsResult | None) -> dict[str, object] | None:
    if uploads is None:
        return None
    return {
        "bytes": uploads.bytes,
        "there": uploads.there,
        "left": uploads.left,
        "seconds": uploads.seconds,
    }


def later_lines(search: IndexResult | None, uploads: UploadsResult | None) -> list[str]:
    """Return the lines about what was done after Mattermost's start."""
    found = []
    if search:
        count = humanize.number(len(search.indexes), "index", "indexes")
        found.append(f"  Search: {count} built afterwards, in {humanize.duration(search.seconds)}")
    if uploads:
        size, time = humanize.size(uploads.bytes), humanize.duration(uploads.seconds)
        there = f", {humanize.size(uploads.there)} were there already" if uploads.there else ""
        found.append(f"  Earlier uploads: {size} unpacked afterwards, in {time}{there}")
    return found


def later_result(search: IndexResult | None, uploads: UploadsResult | None) -> CommandResult:
    """Return the result of finishing what an earlier restore has left."""
    fields = {"search": search_fields(search), "uploads": uploads_fields(uploads)}
    return CommandResult(
        fields, later_lines(search, uploads), _problems(search, uploads), answer=True
    )


def _problems(search: IndexResult | None, uploads: UploadsResult | None) -> list[str]:
    return [problem for done in (search, uploads) if done for problem in done.problems]


def recovery_result(
    taken: RolledBack, search: IndexResult | None = None, uploads: UploadsResult | None = None
) -> CommandResult:
    """Return which state is live after --rollback or --continue."""
    words = {
        "old": "The restore is rolled back: Mattermost is in its state before it",
        "new": "The restore was complete; the rest of the previous state is removed",
    }
    rest = later_result(search, uploads)
    return CommandResult(
        {"state": taken.state, **rest.fields},
        [words[taken.state], *rest.lines],
        [*taken.warnings, *rest.warnings],
        answer=True,
    )


def no_way_back(journal: Journal) -> Failure:
    """Return the failure of --rollback after a restore that is complete but for its uploads."""
    entry = journal.pending()
    return Failure(
        "The restore is complete, and cannot be rolled back",
        entry.words if entry else "",
        "Unpack them: gitlab-mm restore --continue. Or restore the safety set (gitlab-mm list).",
        ExitCode.USAGE,
    )


def teller(context: Context) -> Callable[[], None]:
    """Return the function that publishes the state, for metrics and status, from time to time."""
    from ..health import publish

    return lambda: publish.after_job(context.settings(), context.store, live=False)


def resume_uploads(context: Context) -> UploadsResult | None:
    """Unpack what an earlier restore has left, with its lock held; None for nothing."""
    from ..mattermost import detect
    from ..mattermost.journal import Journal
    from ..restore import source, uploads_later

    journal = Journal()
    entry = journal.pending()
    if entry is None:
        return None
    ours, store = settings_and_store(context)
    plan = RestoreOptions.of_journal(entry.plan)
    try:
        wanted = offsite.wanted_again(ours, store, plan, entry.set)
        with source.rest(wanted) as near:
            return uploads_later.resume(near, detect.find(plan.to), journal, teller(context))
    except Failure as failure:
        why = uploads_later.unfinished(entry, str(failure))
        return uploads_later.UploadsResult(0, 0, entry.left, 0.0, [why])


def resume_before_hooks(context: Context) -> list[str]:
    """Do the same after a backup, unless another run is at it; return problems as text."""
    from ..system import lock

    try:
        with lock.only_uploads():
            uploads = resume_uploads(context)
    except Failure:  # of a run that unpacks them now
        return []
    return uploads.problems if uploads else []
