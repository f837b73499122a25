"""The command line: one function per verb."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from . import console
from .console import Manner, verb
from .errors import ExitCode, Failure
from .outcome import Outcome
from .plan import PARTS, Plan

_SET_HELP = "SET is a set's name, latest, or a path to a set."


_EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."


@click.group(epilog=_EXIT_CODES)
@click.version_option(package_name="gitlab-mm-backup", prog_name="gitlab-mm")
def group() -> None:
    """Backup, restore and way out for the Mattermost bundled with Omnibus GitLab."""


@group.command()
@click.option("--if-present", is_flag=True, help="Do nothing where no Mattermost is set up.")
@verb
def backup(manner: Manner, if_present: bool) -> Outcome:
    """Make a set of Mattermost while it keeps running, then thin out old sets."""
    from . import backup as job
    from . import omnibus, outcomes, recovery
    from .journal import Journal
    from .lock import only_run

    if if_present and omnibus.presence() is not omnibus.Presence.ENABLED:
        return Outcome({"set": None}, [omnibus.presence().value])
    with only_run():
        recovery.refuse_unfinished(Journal())
        ours, store = _store(manner)
        return outcomes.of_backup(job.backup(omnibus.find(), ours, store))


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option("--at", metavar="DATE", help="The newest set of that day or before (2026-11-20).")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PARTS),
    help="Put back only this; may be repeated.",
)
@click.option("--with-etc", is_flag=True, help="Put /etc/gitlab back too.")
@click.option("--no-safety-backup", is_flag=True, help="Make no set of the present state first.")
@click.option("--keep-previous", is_flag=True, help="Keep the present state until prune.")
@click.option("--in-place", is_flag=True, help="Remove the present state first, for want of room.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--rollback", is_flag=True, help="Take back a restore that was cut short.")
@click.option("--continue", "go_on", is_flag=True, help="Do a restore again that was cut short.")
@verb
def restore(manner: Manner, **options: Any) -> Outcome:
    """Put a set back: messages, uploads, settings and GitLab sign-in."""
    from . import omnibus, outcomes, preview, recovery
    from . import restore as job
    from .journal import Journal
    from .lock import only_run

    with only_run():
        ours, store = _store(manner)
        site = omnibus.find(config_required=False)
        if options["rollback"] or options["go_on"]:
            record = recovery.unfinished(Journal())
            taken = recovery.roll_back(site, record, Journal())
            if options["rollback"] or taken.state == "new":
                return outcomes.of_recovery(taken)
            set_, plan = store.find(record.request["set"]), Plan(**record.request["plan"])
            site = omnibus.find(config_required=False)
        else:
            set_ = _choose(store, options["wanted"], options["at"])
            plan = _plan(options)
            if options["dry_run"]:
                return outcomes.of_preview(preview.preview(set_, site, plan))
            if not options["yes"]:
                _confirm(set_, site, plan)
        return outcomes.of_restore(set_, job.restore(set_, site, plan, store, ours))


@group.command("list")
@verb
def list_sets(manner: Manner) -> Outcome:
    """List the sets, newest first."""
    from . import outcomes

    _, store = _store(manner)
    return outcomes.of_list(store.entries(), str(store.folder))


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@verb
def verify(manner: Manner, wanted: str) -> Outcome:
    """Read a whole set and hold it against its manifest."""
    from . import outcomes
    from . import verify as job

    _, store = _store(manner)
    set_ = store.find(wanted)
    job.verify(set_)
    return outcomes.of_verify(set_)


@group.command()
@click.option("--previous", is_flag=True, help="Remove all that --keep-previous kept, too.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed, and why.")
@verb
def prune(manner: Manner, previous: bool, dry_run: bool) -> Outcome:
    """Remove sets that are older than the keep time; never the newest."""
    from . import outcomes
    from . import prune as job
    from .lock import only_run

    with only_run():
        ours, store = _store(manner)
        decisions = job.plan(store, ours.keep_time)
        removed, problems = ([], []) if dry_run else job.prune(store, ours.keep_time)
        if not dry_run:
            problems += job.prune_previous(None if previous else ours.keep_time, all_=previous)
    return outcomes.of_prune(decisions, removed, problems, dry_run)


@group.command()
@verb
def doctor(manner: Manner) -> Outcome:
    """Say whether this host is ready to back up and to restore."""
    from . import doctor as job
    from . import outcomes

    return outcomes.of_doctor(job.examine(manner.settings))


@group.group()
def sso() -> None:
    """Sign-in through GitLab: check it, mend it."""


_FROM = click.option(
    "--from",
    "named",
    multiple=True,
    metavar="SET|FOLDER",
    help="Look for credentials there too; may be repeated.",
)


@sso.command("check")
@_FROM
@verb
def sso_check(manner: Manner, named: tuple[str, ...]) -> Outcome:
    """Say whether GitLab accepts Mattermost's credentials, and if not, why."""
    from . import candidates, omnibus, outcomes

    _, store = _store(manner)
    return outcomes.of_check(candidates.examine(omnibus.find(), store, named))


@sso.command("repair")
@_FROM
@click.option("--rotate", is_flag=True, help="Where nothing fits: a new secret in GitLab's row.")
@click.option("--register", is_flag=True, help="Where nothing fits: a new application in GitLab.")
@click.option("--if-possible", is_flag=True, help="Where nothing fits: warn instead of failing.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be written.")
@click.option("--undo", is_flag=True, help="Put the files back as the last repair found them.")
@verb
def sso_repair(manner: Manner, undo: bool, **how: Any) -> Outcome:
    """Give Mattermost the credentials that GitLab accepts, with the least change."""
    from . import hooks, omnibus, outcomes
    from . import repair as job
    from .lock import only_run

    with only_run() if hooks.PHASE_VARIABLE not in os.environ else nullcontext():
        site = omnibus.find()
        if undo:
            layers = job.undo(site)
            return Outcome({"written": layers}, [f"Put back: {', '.join(layers)}"])
        _, store = _store(manner)
        kept = Path(os.environ.get(job.UNDO_VARIABLE, job.UNDO_FILE))
        return outcomes.of_repair(job.repair(site, store, job.Wish(**how), kept))


def _store(manner: Manner) -> Any:
    from .store.local import LocalStore

    ours = manner.settings()
    return ours, LocalStore(ours.sets)


def _plan(options: dict[str, Any]) -> Plan:
    return Plan(
        parts=tuple(part for part in PARTS if part in (options["only"] or PARTS)),
        with_etc=options["with_etc"],
        safety=not options["no_safety_backup"],
        keep_previous=options["keep_previous"],
        in_place=options["in_place"],
    )


def _choose(store: Any, wanted: str, day: str | None) -> Any:
    """Return the set that is meant: by name or path, or the newest up to the end of a day."""
    from datetime import datetime, timedelta

    if day is None:
        return store.find(wanted)
    if day == "latest":
        return store.latest()
    try:
        moment = datetime.fromisoformat(day).astimezone()
    except ValueError:
        raise Failure(
            f"{day!r} is no date",
            "give it as 2026-11-20 or 2026-11-20T06:00",
            exit_code=ExitCode.USAGE,
        ) from None
    return store.latest(moment + timedelta(days=1) if len(day) == len("2026-11-20") else moment)


def _confirm(set_: Any, site: Any, plan: Plan) -> None:
    from . import text

    manifest, question, loud = set_.manifest, "Go on?", ""
    if plan.in_place:
        question = "Remove the present state and go on?"
        loud = (
            "IN PLACE: the present state is removed FIRST. If anything fails after that,\n"
            "Mattermost stays down until you restore a set."
        )
    told = (
        f"This replaces {', '.join(plan.parts)} of Mattermost {site.version} on this host with\n"
        f"set {set_.name}, made {text.moment(manifest.made)} on {manifest.host}:\n"
        f"{text.number(manifest.rows, 'row')}, {text.number(manifest.files.files, 'file')}."
    )
    console.ask(told, loud, question)


def main() -> None:
    """Entry point of gitlab-mm."""
    console.enter(group, "gitlab-mm")


def main_backup() -> None:
    """Entry point of gitlab-mm-backup."""
    console.enter(backup, "gitlab-mm-backup")


def main_restore() -> None:
    """Entry point of gitlab-mm-restore."""
    console.enter(restore, "gitlab-mm-restore")
