"""gitlab-mm backup."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..result import CommandResult
from ..system import humanize
from . import common, offsite
from .common import settings_and_store, verb

if TYPE_CHECKING:
    from ..backup.job import BackupResult
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
        absent = detect.never_set_up() if if_present else ""
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
    return replace(outcome, warnings=[*more, *outcome.warnings, *job.follow(made)])


def _moments(store: Store) -> list[datetime]:
    """Return when each set of this host was started, without safety sets."""
    from ..config import identity
    from ..store import inventory

    sets = inventory.own_sets(identity.known(), store.sets())
    return [set_.manifest.made for set_ in sets if not set_.manifest.safety]
