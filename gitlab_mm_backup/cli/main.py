"""The command line: one function per verb."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..errors import ExitCode
from ..result import Outcome
from . import (
    account_verbs,
    common,
    config_verbs,
    health,
    hosts,
    look_verbs,
    notify_verb,
    offsite,
    place_verbs,
    restore,
    sso,
)
from .common import verb
from .manner import Manner

_SET_HELP = restore.SET_HELP
_EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."


@click.group(epilog=_EXIT_CODES)
@click.version_option(package_name="gitlab-mm-backup", prog_name="gitlab-mm")
def group() -> None:
    """Backup, restore and way out for the Mattermost bundled with Omnibus GitLab."""


group.add_command(config_verbs.config)
group.add_command(health.doctor)
group.add_command(health.gate)
group.add_command(notify_verb.notify)
group.add_command(look_verbs.report)
group.add_command(look_verbs.status)
group.add_command(account_verbs.accounts)
group.add_command(sso.sso)
group.add_command(offsite.offsite)
group.add_command(offsite.kit)
group.add_command(restore.restore)
group.add_command(hosts.host)
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
    from ..backup import from_disk, job, salvage, schedule
    from ..mattermost import detect, guest
    from ..mattermost.journal import Journal
    from ..restore import rollback, search_index
    from ..system import process
    from ..system.lock import only_run
    from . import outcomes

    now = datetime.now().astimezone()
    if due is not None and not schedule.is_due(due, now):
        return Outcome({"set": None}, [])
    manner.load_everything()
    with only_run():
        if due is not None:
            schedule.record()
        absent = detect.absent() if if_present else ""
        if absent:
            return Outcome({"set": None}, [absent])
        rollback.refuse_unfinished(Journal())
        ours, store = _store(manner)
        if due is not None and any(schedule.covers(one, due, now) for one in _moments(store)):
            return Outcome({"set": None}, ["There is a set of this night already"])
        process.step_back(ours.nice)
        manner.begin(ours)
        if root is not None:
            made = from_disk.make(root, ours, store)
            outcome, more = outcomes.of_backup(made), []
        else:
            with guest.admitted(salvage.site_here(store)) as site:
                more = search_index.build_pending(site)
                made = job.backup(site, ours, store, nightly=if_present)
            outcome = offsite.with_copies(outcomes.of_backup(made), ours, made.owner)
        more += rollback.prune_previous(ours.keep_time)
    return replace(outcome, warnings=[*more, *outcome.warnings, *job.follow(made)])


@group.command("list")
@click.option("--from", "place", metavar="REMOTE", help="List the copies there; as restore --from.")
@verb
def list_sets(manner: Manner, place: str | None) -> Outcome:
    """List the sets, newest first."""
    ours, store = _store(manner)
    if place is not None:
        return offsite.list_copies(ours, place)
    return offsite.with_places(offsite.listed(store))


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@offsite.from_elsewhere
@verb
def verify(manner: Manner, wanted: str, place: str | None, identity: Path | None) -> Outcome:
    """Read a whole set and hold it against its manifest."""
    from ..rehearsal import job as rehearsal_job
    from ..store import check_records, inventory
    from . import outcomes

    ours, store = _store(manner)
    with offsite.looked_at(ours, store, place, wanted, identity) as set_:
        record = rehearsal_job.verify_only(set_)
        warnings = check_records.keep_record(set_, record) if place is None else []
        return outcomes.of_verify(set_, record, inventory.origin_of(set_), warnings)


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option("--all", "every", is_flag=True, help="Every set, the newest first.")
@click.option("--quick", is_flag=True, help="Without unpacking files and starting Mattermost.")
@click.option("--full", is_flag=True, help="Build the indexes of the search as well.")
@click.option("--if-due", is_flag=True, help="Only when rehearse in config.yml says so.")
@offsite.from_elsewhere
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
    from ..backup import salvage
    from ..rehearsal import job as rehearsal_job
    from ..restore import offered
    from ..store import check_records
    from ..store.check_records import Depth
    from ..store.sets import Entry
    from ..system import lock, process
    from . import outcomes

    if quick and full:
        raise click.UsageError("--quick and --full exclude each other.")
    if every and wanted != "latest":
        raise click.UsageError("SET and --all exclude each other.")
    if place is not None and (every or if_due):
        raise click.UsageError("--from takes one copy: without --all and --if-due.")
    manner.load_everything()
    with lock.only_rehearsal():
        ours, store = _store(manner)
        if if_due and not rehearsal_job.is_due(
            ours.rehearse, check_records.history(), datetime.now().astimezone()
        ):
            return Outcome({"set": None}, [f"No rehearsal is due: rehearse is {ours.rehearse}"])
        depth = Depth.QUICK if quick else Depth.FULL if full else Depth.USUAL
        with offsite.looked_at(ours, store, place, wanted, identity) as chosen:
            site = salvage.site_here(store)
            entries = store.entries() if every else [Entry(wanted, chosen, "")]
            warnings = [
                f"{one.name} is not complete: {one.problem}" for one in entries if not one.set
            ]
            warnings += [] if every else offered.unproven(chosen)
            process.step_back(ours.nice)
            manner.begin(ours)
            made = []
            for set_ in [one.set for one in entries if one.set]:
                with store.fetched(set_, ours.rehearse_in) as near:
                    made.append(rehearsal_job.rehearse(near, site, depth, ours))
                if place is None:
                    warnings += check_records.keep_record(set_, made[-1])
    return outcomes.of_rehearse(made, warnings, expected=quick or if_due)


@group.command()
@click.option("--previous", is_flag=True, help="Remove all that --keep-previous kept, too.")
@click.option(
    "--accept", metavar="SET", help="This set looks emptied, and is right so: go on with it."
)
@click.option("--host", "of_host", metavar="ID", help="The sets of another host, instead of ours.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed, and why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@verb
def prune(
    manner: Manner,
    previous: bool,
    accept: str | None,
    of_host: str | None,
    dry_run: bool,
    yes: bool,
) -> Outcome:
    """Remove this host's sets that no rule of config.yml keeps; never the newest.

    Sets of other hosts and installations stay. Where so much would go as never before, somebody
    has to agree.
    """
    from ..config import identity
    from ..restore import rollback
    from ..store import prune as prune_prune
    from ..system.lock import only_run
    from . import outcomes, output

    manner.load_everything()
    with only_run():
        ours, store = _store(manner)
        host = identity.own()
        if accept is not None and not dry_run:
            prune_prune.accept(store.find(accept))
        owners = prune_prune.of_host(store, of_host, host) if of_host else [_owner(host)]
        planned = [prune_prune.plan(store, ours.rules, one, agreed=True) for one in owners]
        if dry_run:
            return outcomes.of_prune(planned, [], [], dry_run=True)
        going = [one.name for each in planned for one in each.decisions if not one.keep]
        asked = [prune_prune.plan(store, ours.rules, one).asked for one in owners]
        agreed = yes
        if not yes and going and (of_host or (any(asked) and output.on_terminal())):
            output.ask(
                [f"Sets to remove: {', '.join(going)}"], [], "Remove them?", "sets are removed"
            )
            agreed = True
        done = [prune_prune.prune(store, ours.rules, one, agreed=agreed) for one in owners]
        problems = [problem for one in done for problem in one.problems]
        problems += rollback.prune_previous(None if previous else ours.keep_time, all_=previous)
        removed = [name for one in done for name in one.removed]
    return outcomes.of_prune(done, removed, problems, dry_run=False)


def _owner(host: Any) -> Any:
    """Return for whom is pruned: this host, with the installation that is live, or was last."""
    from ..backup import live
    from ..mattermost import detect
    from ..store.prune import Owner

    return Owner(host, live.installation(detect.find_any(), host))


def _moments(store: Any) -> list[datetime]:
    """Return when this host's sets were begun; safety sets do not count."""
    from ..config import identity
    from ..store import inventory

    sets = inventory.own_sets(identity.known(), store.sets())
    return [one.manifest.made for one in sets if not one.manifest.safety]


def _store(manner: Manner) -> Any:
    return manner.settings(), manner.store()


def main() -> None:
    """Entry point of gitlab-mm."""
    common.enter(group, "gitlab-mm")


def main_backup() -> None:
    """Entry point of gitlab-mm-backup."""
    common.enter(backup, "gitlab-mm-backup")


def main_gate() -> None:
    """Entry point of apt's hook."""
    common.enter(health.gate, "gitlab-mm gate")


def main_restore() -> None:
    """Entry point of gitlab-mm-restore."""
    common.enter(restore.restore, "gitlab-mm-restore")
