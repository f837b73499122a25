"""gitlab-mm backup; and what a restore has left for later, which a backup goes on with."""

from __future__ import annotations

from dataclasses import replace
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
    from ..mattermost.journal import Journal
    from ..restore.rollback import RolledBack
    from ..restore.search_index import IndexResult
    from ..restore.uploads_later import UploadsResult
    from ..store.inventory import Store
    from ..store.manifest import Manifest
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


def with_next(made: CommandResult, now: datetime) -> CommandResult:
    """Add the last line of a backup: when the next one starts, or the command that helps."""
    from ..health import scheduler

    night = scheduler.look(now)
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
@common.wait_option
@verb
def backup(
    context: Context, if_present: bool, due: str | None, root: Path | None, note: str
) -> CommandResult:
    """Back up Mattermost while it runs, then prune old sets.

    If GitLab 19 has removed Mattermost, the remaining data is backed up, and the set is marked as
    salvaged.
    """
    from ..backup import from_disk, job, salvage, schedule
    from ..mattermost import detect, guest
    from ..mattermost.journal import Journal
    from ..restore import rollback, search_index
    from ..system import process

    now = datetime.now().astimezone()
    if due is not None and not schedule.is_due(due, now):
        return CommandResult({"set": None}, [])
    context.load_everything()
    with context.only_run():
        if due is not None:
            schedule.record()
        absent = detect.absent() if if_present else ""
        if absent:
            return CommandResult({"set": None}, [absent])
        rollback.refuse_unfinished(Journal())
        ours, store = settings_and_store(context)
        if due is not None and any(schedule.covers(moment, due, now) for moment in _moments(store)):
            return CommandResult({"set": None}, ["Tonight's set already exists"])
        process.lower_priority(ours.nice)
        context.begin(ours)
        if root is not None:
            made = from_disk.make(root, ours, store, note)
            outcome, more = backup_result(made), []
        else:
            with guest.admitted(salvage.site_here(store)) as site:
                more = search_index.build_pending(site)
                made = job.backup(site, ours, store, nightly=if_present, note=note)
            outcome = with_next(offsite.with_copies(backup_result(made), ours, made.owner), now)
        more += rollback.prune_previous(ours.keep_time)
    return replace(outcome, warnings=[*more, *outcome.warnings, *_without_lock(context, made)])


def _without_lock(context: Context, made: BackupResult) -> list[str]:
    """Do what may take long; return problems as text."""
    from ..backup import job

    return [*resume_before_hooks(context), *job.follow(made)]


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
    from ..restore import uploads_later

    journal = Journal()
    entry = journal.pending()
    if entry is None:
        return None
    ours, store = settings_and_store(context)
    plan = RestoreOptions.of_journal(entry.plan)
    try:
        wanted = offsite.wanted_again(ours, store, plan, entry.set)
        with wanted.whole() as near:
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
