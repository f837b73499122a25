"""Restore: one set onto a site, made beside the live state and then exchanged with it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import beside, database, exchange, folders, hooks, omnibus, process, service, sign_in
from .errors import ExitCode, Failure
from .gitlab import Probe
from .journal import Journal
from .site import Site
from .store.local import BackupSet
from .undo import Action, Undo, take_back
from .verify import verify
from .version import numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a restore is to do."""

    with_etc: bool
    journal: Journal


@dataclass(frozen=True)
class Restored:
    """What came back."""

    rows: int
    files: int
    settings_changed: list[str]  # Section.Key
    sign_in: Probe
    warnings: list[str]


def restore(set_: BackupSet, site: Site, plan: Plan) -> Restored:
    """Put ``set_`` onto ``site``; on any failure the site is as it was."""
    check(set_, site, plan)
    token = secrets.token_hex(4)
    variables = {"set": set_.name, "set_path": str(set_.path)}
    hooks.run_phase("pre-restore", variables)
    with Undo(actions(site), plan.journal.write) as undo:
        stop_service(site, undo)
        warnings = load_database(set_, site, token, undo)
        works = unpack_folders(set_, site, plan, token, undo)
        exchange_database(site, token, undo)
        exchange_folders(works, undo)
        variables["previous_home"] = str(beside.previous(works["home"]))
        hooks.run_phase("post-restore", variables)
        start_service(site)
        undo.forget()
    warnings += drop_previous(site, token, works)
    if plan.with_etc:
        warnings.append("/etc/gitlab was put back: run gitlab-ctl reconfigure to have it used")
    return report(set_, site, warnings)


def check(set_: BackupSet, site: Site, plan: Plan) -> None:
    """Raise Failure for every reason against this restore that can be known before it begins."""
    if plan.journal.read():
        raise Failure(
            "An earlier restore was cut short",
            f"its journal is {plan.journal.path}",
            "Run gitlab-mm restore --rollback first.",
            ExitCode.ATTENTION,
        )
    log.info("Verifying set %s", set_.name)
    verify(set_)
    process.account_entry(site.account.user)
    if numbers(site.version) < numbers(set_.manifest.mattermost):
        raise Failure(
            "The set comes from a newer Mattermost than this host has",
            f"set {set_.manifest.mattermost}, host {site.version}; Mattermost cannot go back",
            f"Install GitLab {set_.manifest.gitlab} or newer first.",
        )
    with database.connect(site.database, site.database.admin, "postgres") as session:
        server = session.info.server_version // 10000
    if numbers(set_.manifest.database.server)[:1] > (server,):
        raise Failure(
            "The set comes from a newer PostgreSQL than this host runs",
            f"set {set_.manifest.database.server}, host {server}",
            "Upgrade the host's PostgreSQL first: gitlab-ctl pg-upgrade",
        )


def stop_service(site: Site, undo: Undo) -> None:
    log.info("Stopping Mattermost")
    mattermost = service.of(site)
    if mattermost.runs():
        undo.will("start Mattermost", last=True)
    mattermost.stop()


def load_database(set_: BackupSet, site: Site, token: str, undo: Undo) -> list[str]:
    """Load the dump into a new database and hold its rows against the manifest's."""
    log.info("Loading the database beside the live one")
    new, wanted = _new(token), set_.manifest.database
    exchange.ensure_live(site.database)
    undo.will("drop the new database", name=new)
    warnings = exchange.create_beside(site.database, new, wanted)
    database.load(site.database, site.client_programs, new, set_.file("database"))
    with database.connect(site.database, site.database.admin, new) as session:
        found = database.count_rows(session)
    if found != wanted.rows:
        tables = sorted(
            table for table in {*found, *wanted.rows} if found.get(table) != wanted.rows.get(table)
        )
        raise Failure(
            "The restored database does not have the rows that were backed up",
            "; ".join(f"{one}: {found.get(one)}, not {wanted.rows.get(one)}" for one in tables),
            "The set's dump is not whole; choose another set.",
        )
    return warnings


def unpack_folders(
    set_: BackupSet, site: Site, plan: Plan, token: str, undo: Undo
) -> dict[str, beside.Work]:
    """Unpack every folder next to its live one; return the work by role."""
    log.info("Unpacking files beside the live ones")
    works = beside.works(set_, site, token)
    if plan.with_etc:
        works["etc"] = beside.etc_work(site, token)
    for work in works.values():
        undo.will("remove the new folder", work=str(work.folder))
        folders.make_work_folder(work.folder)
    beside.unpack(set_, site, works)
    if plan.with_etc:
        beside.unpack_etc(set_, works["etc"])
    return works


def exchange_database(site: Site, token: str, undo: Undo) -> None:
    log.info("Exchanging databases and folders")
    undo.will("exchange the databases back", new=_new(token), old=_old(token))
    exchange.exchange(site.database, _new(token), _old(token))


def exchange_folders(works: Mapping[str, beside.Work], undo: Undo) -> None:
    for work in works.values():
        undo.will("exchange the folders back", live=str(work.live), work=str(work.folder))
        folders.exchange(work.live, work.folder)


def start_service(site: Site) -> None:
    log.info("Starting Mattermost")
    service.of(site).start()
    service.wait_until_it_answers(site)


def drop_previous(site: Site, token: str, works: Mapping[str, beside.Work]) -> list[str]:
    """Remove what was live before; what cannot be removed is told, for the restore is done."""
    steps: list[Callable[[], None]] = [
        lambda: exchange.drop_marked(site.database, _old(token)),
        *(lambda work=work: folders.remove_previous(str(work.folder)) for work in works.values()),
    ]
    problems = []
    for step in steps:
        try:
            step()
        except (Failure, OSError) as error:
            problems.append(f"The previous state could not be removed: {error}")
    return problems


def report(set_: BackupSet, site: Site, warnings: list[str]) -> Restored:
    after = omnibus.find(site.root)
    answer = sign_in.probe(after)
    return Restored(
        rows=set_.manifest.rows,
        files=set_.manifest.files.files,
        settings_changed=after.settings.differences(site.settings),
        sign_in=answer,
        warnings=warnings,
    )


def actions(site: Site) -> dict[str, Action]:
    """Return how to take each step back; every one bears being run twice."""
    return {
        "start Mattermost": lambda: service.of(site).start(),
        "drop the new database": lambda name: exchange.drop_marked(site.database, name),
        "exchange the databases back": lambda new, old: exchange.exchange_back(
            site.database, new, old
        ),
        "remove the new folder": folders.remove_work_folder,
        "exchange the folders back": lambda live, work: folders.exchange_back(
            Path(live), Path(work)
        ),
    }


def roll_back(site: Site, journal: Journal) -> int:
    """Take back a restore that was cut short; return how many steps that were.

    Raises Failure with ExitCode.ATTENTION when some could not be taken back.
    """
    steps = journal.read()
    problems = take_back(steps, actions(site))
    if problems:
        raise Failure(
            "The restore could not be taken back completely",
            "; ".join(problems),
            "Put right what is named, then run gitlab-mm restore --rollback again.",
            ExitCode.ATTENTION,
        )
    journal.write([])
    return len(steps)


def _new(token: str) -> str:
    return f"gitlab_mm_new_{token}"


def _old(token: str) -> str:
    return f"gitlab_mm_old_{token}"
