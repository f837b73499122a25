"""The command line: one function per verb."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from . import (
    account_verbs,
    config_verbs,
    console,
    host_verbs,
    look_verbs,
    notify_verb,
    offsite_verbs,
    place_verbs,
    sso_verbs,
)
from .console import verb
from .errors import ExitCode, Failure
from .manner import Manner
from .outcome import Outcome
from .plan import PARTS, Plan

_SEARCH = {None: "auto", True: "later", False: "now"}
_SET_HELP = "SET is a set's name, latest, or a path to a set."
_EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."


@click.group(epilog=_EXIT_CODES)
@click.version_option(package_name="gitlab-mm-backup", prog_name="gitlab-mm")
def group() -> None:
    """Backup, restore and way out for the Mattermost bundled with Omnibus GitLab."""


group.add_command(config_verbs.config)
group.add_command(host_verbs.doctor)
group.add_command(host_verbs.gate)
group.add_command(notify_verb.notify)
group.add_command(look_verbs.report)
group.add_command(look_verbs.status)
group.add_command(account_verbs.accounts)
group.add_command(sso_verbs.sso)
group.add_command(offsite_verbs.offsite)
group.add_command(offsite_verbs.kit)
group.add_command(place_verbs.place)


@group.command()
@click.option("--if-present", is_flag=True, help="Do nothing where no Mattermost is set up.")
@click.option(
    "--due",
    metavar="HH:MM",
    help="Do nothing if the nightly run of that time, or a set since, has been made; for cron.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Of a stopped host instead: where its disk is mounted, or a folder that holds Docker's "
    "volumes as config and data.",
)
@verb
def backup(manner: Manner, if_present: bool, due: str | None, root: Path | None) -> Outcome:
    """Make a set of Mattermost while it keeps running, then thin out old sets.

    Where GitLab 19 has removed Mattermost the set is made of what it left, and marked as salvaged.
    """
    from . import backup as job
    from . import host, outcomes, process, recovery, schedule, sites, trees
    from .journal import Journal
    from .lock import only_run

    now = datetime.now().astimezone()
    if due is not None and not schedule.is_due(due, now):
        return Outcome({"set": None}, [])
    manner.load_everything()
    with only_run():
        if due is not None:
            schedule.record()
        absent = host.absent() if if_present else ""
        if absent:
            return Outcome({"set": None}, [absent])
        recovery.refuse_unfinished(Journal())
        ours, store = _store(manner)
        if due is not None and any(schedule.covers(one, due, now) for one in store.moments()):
            return Outcome({"set": None}, ["There is a set of this night already"])
        process.step_back(ours.nice)
        manner.begin(ours)
        if root is not None:
            return outcomes.of_backup(trees.make(root, ours, store))
        made = job.backup(sites.here(store), ours, store, nightly=if_present)
        return offsite_verbs.with_copies(outcomes.of_backup(made), ours)


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option("--at", metavar="DATE", help="The newest set of that day or before (2026-11-20).")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PARTS),
    help="Put back only this; may be repeated.",
)
@click.option(
    "--to",
    type=click.Choice(["omnibus", "standalone"]),
    help="The kind of Mattermost to restore onto, where this host has both.",
)
@click.option("--replace", is_flag=True, help="Replace what a standalone Mattermost holds.")
@click.option(
    "--nginx",
    type=click.Path(path_type=Path),
    help="Write an nginx site for the standalone Mattermost to this new file.",
)
@click.option("--with-etc", is_flag=True, help="Put /etc/gitlab back too.")
@click.option("--no-safety-backup", is_flag=True, help="Make no set of the present state first.")
@click.option("--keep-previous", is_flag=True, help="Keep the present state until prune.")
@click.option("--in-place", is_flag=True, help="Remove the present state first, for want of room.")
@click.option(
    "--search-later/--search-now",
    default=None,
    help="Build the search's indexes when Mattermost is back, or before; by size unless given.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@offsite_verbs.from_elsewhere
@click.option("--rollback", is_flag=True, help="Take back a restore that was cut short.")
@click.option("--continue", "go_on", is_flag=True, help="Do a restore again that was cut short.")
@verb
def restore(manner: Manner, **options: Any) -> Outcome:
    """Put a set back: messages, uploads, settings and GitLab sign-in."""
    from . import (
        arrival,
        ending,
        gitlab_side,
        host,
        preview,
        recovery,
        restore_outcomes,
        search_later,
        search_outcomes,
    )
    from . import restore as job
    from .journal import Journal
    from .lock import only_run

    manner.load_everything()
    with only_run():
        ours, store = _store(manner)
        journal, to = Journal(), options["to"] or ""
        if options["go_on"] and journal.read() is None and journal.later():
            return search_outcomes.of_search(search_later.build(host.find(to), journal))
        if options["rollback"] or options["go_on"]:
            record = recovery.unfinished(journal)
            plan = Plan(**record.request["plan"])
            site = host.find(plan.to, config_required=False)
            taken = recovery.roll_back(site, record, journal)
            if taken.state == "new":
                return restore_outcomes.of_recovery(taken, search_later.build(site, journal))
            if options["rollback"]:
                return restore_outcomes.of_recovery(taken)
            wanted = offsite_verbs.wanted_again(ours, store, plan, record.request["set"])
            site = host.find(plan.to, config_required=False)
        else:
            site = host.find(to, config_required=False)
            plan = _plan(options, site.kind.value)
            wanted = _wanted(ours, store, plan, options)
            if not options["dry_run"] and not options["yes"]:
                ending.ask(*preview.question(wanted.set, site, plan))
        if options["dry_run"]:
            with wanted.whole() as near:
                return restore_outcomes.of_preview(preview.preview(near, site, plan))
        with arrival.near(wanted, site, plan) as near:
            manner.begin(ours)
            restored = job.restore(near, site, plan, store, ours)
        if options["nginx"]:
            gitlab_side.write_nginx_site(options["nginx"], host.again(site))
        return restore_outcomes.of_restore(wanted.set, restored)


@group.command("list")
@click.option("--from", "place", metavar="REMOTE", help="List the copies there; as restore --from.")
@verb
def list_sets(manner: Manner, place: str | None) -> Outcome:
    """List the sets, newest first."""
    from . import outcomes, records

    ours, store = _store(manner)
    if place is not None:
        return offsite_verbs.list_copies(ours, place)
    lines = [(one, records.of_set(one.set) if one.set else []) for one in store.entries()]
    return offsite_verbs.with_places(outcomes.of_list(lines, store.where))


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@offsite_verbs.from_elsewhere
@verb
def verify(manner: Manner, wanted: str, place: str | None, identity: Path | None) -> Outcome:
    """Read a whole set and hold it against its manifest."""
    from . import outcomes, records
    from . import rehearsal as job

    ours, store = _store(manner)
    with offsite_verbs.looked_at(ours, store, place, wanted, identity) as set_:
        record = job.verify_only(set_)
        warnings = records.keep(set_, record) if place is None else []
        return outcomes.of_verify(set_, record, warnings)


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option("--all", "every", is_flag=True, help="Every set, the newest first.")
@click.option("--quick", is_flag=True, help="Without unpacking files and starting Mattermost.")
@click.option("--full", is_flag=True, help="Build the indexes of the search as well.")
@click.option("--if-due", is_flag=True, help="Only when rehearse in config.yml says so.")
@offsite_verbs.from_elsewhere
@verb
def rehearse(
    manner: Manner,
    wanted: str,
    every: bool,
    quick: bool,
    full: bool,
    if_due: bool,
    place: str | None,
    identity: Path | None,
) -> Outcome:
    """Prove a set: restore it into scratch and start Mattermost from it, cut off from the network."""
    from . import hooks, outcomes, process, records, sites
    from . import rehearsal as job
    from .evidence import Depth
    from .store.local import Entry

    if quick and full:
        raise click.UsageError("--quick and --full exclude each other.")
    if every and wanted != "latest":
        raise click.UsageError("SET and --all exclude each other.")
    if place is not None and (every or if_due):
        raise click.UsageError("--from takes one copy: without --all and --if-due.")
    manner.load_everything()
    with hooks.our_turn():
        ours, store = _store(manner)
        if if_due and not job.is_due(ours.rehearse, records.history(), datetime.now().astimezone()):
            return Outcome({"set": None}, [f"No rehearsal is due: rehearse is {ours.rehearse}"])
        depth = Depth.QUICK if quick else Depth.FULL if full else Depth.USUAL
        with offsite_verbs.looked_at(ours, store, place, wanted, identity) as chosen:
            site = sites.here(store)
            entries = store.entries() if every else [Entry(wanted, chosen, "")]
            warnings = [
                f"{one.name} is not complete: {one.problem}" for one in entries if not one.set
            ]
            process.step_back(ours.nice)
            manner.begin(ours)
            made = []
            for set_ in [one.set for one in entries if one.set]:
                with store.fetched(set_, ours.rehearse_in) as near:
                    made.append(job.rehearse(near, site, depth, ours.rehearse_in, ours.sessions))
                if place is None:
                    warnings += records.keep(set_, made[-1])
    return outcomes.of_rehearse(made, warnings, expected=quick or if_due)


@group.command()
@click.option("--previous", is_flag=True, help="Remove all that --keep-previous kept, too.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed, and why.")
@verb
def prune(manner: Manner, previous: bool, dry_run: bool) -> Outcome:
    """Remove sets that no rule of config.yml keeps; never the newest."""
    from . import outcomes
    from . import prune as job
    from .lock import only_run

    manner.load_everything()
    with only_run():
        ours, store = _store(manner)
        decisions = job.plan(store, ours.rules)
        removed, problems = ([], []) if dry_run else job.prune(store, ours.rules)
        if not dry_run:
            problems += job.prune_previous(None if previous else ours.keep_time, all_=previous)
    return outcomes.of_prune(decisions, removed, problems, dry_run)


def _store(manner: Manner) -> Any:
    return manner.settings(), manner.store()


def _plan(options: dict[str, Any], kind: str) -> Plan:
    return Plan(
        parts=tuple(part for part in PARTS if part in (options["only"] or PARTS)),
        with_etc=options["with_etc"],
        safety=not options["no_safety_backup"],
        keep_previous=options["keep_previous"],
        in_place=options["in_place"],
        search=_SEARCH[options["search_later"]],
        to=kind,
        replace=options["replace"],
        place=options["place"] or "",
        identity=str(options["identity"].absolute()) if options["identity"] else "",
    )


def _wanted(ours: Any, store: Any, plan: Plan, options: dict[str, Any]) -> Any:
    """Return the set that is meant, of the store or from elsewhere."""
    if options["dry_run"] and plan.place:
        raise click.UsageError("--dry-run looks at a set that is here: without --from.")
    before = _before(options["at"])
    name = options["wanted"] if before is None else "latest"
    return offsite_verbs.wanted(ours, store, plan, name, before)


def _before(day: str | None) -> datetime | None:
    """Return the end of a day, or the very moment; None is the latest of all."""
    if day is None or day == "latest":
        return None
    try:
        moment = datetime.fromisoformat(day).astimezone()
    except ValueError:
        raise Failure(
            f"{day!r} is no date",
            "give it as 2026-11-20 or 2026-11-20T06:00",
            exit_code=ExitCode.USAGE,
        ) from None
    return moment + timedelta(days=1) if len(day) == len("2026-11-20") else moment


def main() -> None:
    """Entry point of gitlab-mm."""
    console.enter(group, "gitlab-mm")


def main_backup() -> None:
    """Entry point of gitlab-mm-backup."""
    console.enter(backup, "gitlab-mm-backup")


def main_gate() -> None:
    """Entry point of apt's hook."""
    console.enter(host_verbs.gate, "gitlab-mm gate")


def main_restore() -> None:
    """Entry point of gitlab-mm-restore."""
    console.enter(restore, "gitlab-mm-restore")
