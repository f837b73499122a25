"""Restore: one set onto a site, made beside the live state and then exchanged with it."""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import (
    backup,
    beside,
    database,
    exchange,
    folders,
    hooks,
    loading,
    omnibus,
    process,
    readiness,
    recovery,
    service,
    sign_in,
)
from .errors import Failure
from .gitlab import Probe
from .journal import STATE, Journal
from .plan import Plan
from .process import Command
from .settings import Settings
from .site import Site
from .store.local import BackupSet, LocalStore
from .undo import Step, Undo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What came back."""

    parts: tuple[str, ...]
    rows: int
    files: int
    bytes: int
    settings_changed: list[str]  # Section.Key
    sign_in: Probe
    safety_set: str  # name of the set of the state before, "" where none was made
    warnings: list[str]


@dataclass(frozen=True)
class Run:
    """A restore under way, and the names of what it makes."""

    set: BackupSet
    site: Site
    plan: Plan
    undo: Undo
    token: str
    works: dict[str, beside.Work] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def credentials_undo(self) -> Path:
        return STATE / f"sign-in-undo-{self.token}.json"

    @property
    def new_database(self) -> str:
        return f"gitlab_mm_new_{self.token}"

    @property
    def old_database(self) -> str:
        return f"gitlab_mm_old_{self.token}"


def restore(
    set_: BackupSet, site: Site, plan: Plan, store: LocalStore, settings: Settings
) -> Restored:
    """Put ``set_`` onto ``site``; on any failure the site is as it was."""
    journal = Journal()
    lost = recovery.take_over(site, journal)
    if not lost:
        recovery.refuse_unfinished(journal)
    warnings = readiness.check(set_, site, plan)
    safety_set = "" if lost else make_safety_set(site, plan, store, settings)
    variables = {"set": set_.name, "set_path": str(set_.path), "parts": " ".join(plan.parts)}
    note = functools.partial(journal.write, {"set": str(set_.path), "plan": asdict(plan)})
    with hooks.on_failure(variables):
        hooks.run_phase("pre-restore", variables)
        with Undo(recovery.actions(site), note) as undo:
            run = Run(set_, site, plan, undo, secrets.token_hex(4), warnings=warnings)
            for step in lost:
                undo.will(step.action, **step.values)
            stop_service(run)
            prepare_folders(run)
            give_up_live_state(run, safety_set)
            load_database(run)
            unpack_folders(run)
            exchange_database(run)
            exchange_folders(run)
            run_hooks(run, variables)
            start_service(run)
            make_lasting(run)
            undo.commit(leftovers(run))
            run.credentials_undo.unlink(missing_ok=True)
    run.warnings.extend(recovery.finish(site, journal, keep=plan.keep_previous))
    return report(run, safety_set)


def make_safety_set(site: Site, plan: Plan, store: LocalStore, settings: Settings) -> str:
    """Make a set of the present state, so that even a restore that was a mistake can be undone."""
    if not plan.safety:
        return ""
    log.info("Making a safety set of the present state")
    try:
        made, _ = backup.make_set(site, settings, store, backup.SAFETY)
    except Failure as failure:
        raise Failure(
            "No safety set of the present state could be made",
            str(failure),
            "If the present state is of no worth, give --no-safety-backup.",
            failure.exit_code,
        ) from failure
    return made.name


def stop_service(run: Run) -> None:
    """Stop Mattermost, and keep it down: a reboot in the middle must not start it on half."""
    log.info("Stopping Mattermost")
    mattermost = service.of(run.site)
    if mattermost.runs():
        answered = "yes" if service.answers(run.site) else "no"
        run.undo.will_last("start Mattermost", answered=answered)
    else:
        run.undo.will_last("let Mattermost start again")
    mattermost.keep_down()
    mattermost.stop()


def prepare_folders(run: Run) -> None:
    """Make the private work folder beside each folder that is to be exchanged."""
    run.works.update(beside.works(run.set, run.site, run.plan, run.token))
    for work in run.works.values():
        run.undo.will("remove the new folder", **_names(work))
        folders.make_work_folder(work.folder)


def give_up_live_state(run: Run, safety_set: str) -> None:
    """In place: remove what is live first, for want of room to have both.  There is no undo."""
    if not run.plan.in_place:
        return
    log.info("Removing the live state")
    run.undo.will(recovery.MOURN, safety_set=safety_set)
    if "database" in run.plan.parts:
        exchange.empty_live(run.site.database)
    for work in run.works.values():
        folders.empty(work.live)


def load_database(run: Run) -> None:
    """Load the dump into a new database and hold its rows against the manifest's."""
    if "database" not in run.plan.parts:
        return
    log.info("Loading the database beside the live one")
    site = run.site
    exchange.ensure_live(site.database)
    run.undo.will("give the live database back")
    exchange.withhold_live(site.database)
    run.undo.will("drop the new database", name=run.new_database)
    endpoint, name, scratch = site.database, run.new_database, site.folders.home.parent
    run.warnings.extend(loading.load(run.set, endpoint, site.client_programs, name, scratch))
    with database.connect(endpoint, endpoint.admin, name) as session:
        loading.compare_rows(database.count_rows(session), run.set.manifest.database.rows)


def unpack_folders(run: Run) -> None:
    """Make the new folders complete, each in its work folder."""
    if run.works:
        log.info("Unpacking files beside the live ones")
        beside.unpack(run.set, run.site, run.plan, run.works)


def exchange_database(run: Run) -> None:
    if "database" in run.plan.parts:
        log.info("Exchanging the databases")
        new, old = run.new_database, run.old_database
        run.undo.will("exchange the databases back", new=new, old=old)
        exchange.exchange(run.site.database, new, old)


def exchange_folders(run: Run) -> None:
    for work in run.works.values():
        log.info("Exchanging %s", work.live)
        run.undo.will("exchange the folders back", **_names(work))
        folders.exchange(work.live, work.folder)


def _names(work: beside.Work) -> dict[str, str]:
    mounted = "yes" if folders.is_mount(work.live) else "no"
    return {"live": str(work.live), "work": str(work.folder), "mounted": mounted}


def run_hooks(run: Run, variables: Mapping[str, str]) -> None:
    """Run the post-restore hooks; what ours writes outside the new state can be taken back."""
    run.undo.will("take back the credentials", kept=str(run.credentials_undo))
    told = {"previous_home": _previous_home(run), "sign_in_undo": str(run.credentials_undo)}
    hooks.run_phase("post-restore", {**variables, **told})


def _previous_home(run: Run) -> str:
    """Return the folder with the config.json that was live before, for the credentials hook."""
    work = run.works.get("home")
    if work is not None:
        return str(beside.previous(work))
    config = run.works.get("config")
    return str(config.folder / "old" if config else run.site.folders.home)


def start_service(run: Run) -> None:
    log.info("Starting Mattermost")
    mattermost = service.of(run.site)
    # The first to be taken back: nothing may be exchanged under a server that runs.
    run.undo.will("stop Mattermost")
    mattermost.allow_start()
    mattermost.start()
    service.wait_until_it_answers(omnibus.find(run.site.root))


def make_lasting(run: Run) -> None:
    """Have the disks hold the new files before the old ones go (syncfs(2) by sync(1))."""
    for work in run.works.values():
        process.run(Command(["sync", "--file-system", str(work.folder)]))


def leftovers(run: Run) -> list[Step]:
    """Return the steps that remove what was live before."""
    steps = []
    if "database" in run.plan.parts:
        steps.append(Step("drop the previous database", {"name": run.old_database}))
    steps += [
        Step("remove the previous folder", {"work": str(work.folder)})
        for work in run.works.values()
    ]
    return steps


def report(run: Run, safety_set: str) -> Restored:
    after, manifest = omnibus.find(run.site.root), run.set.manifest
    if run.plan.with_etc:
        run.warnings.append("/etc/gitlab was put back: run gitlab-ctl reconfigure to have it used")
    run.warnings.extend(backup.uncovered(after))
    whole = "files" in run.plan.parts
    return Restored(
        parts=run.plan.parts,
        rows=manifest.rows if "database" in run.plan.parts else 0,
        files=manifest.files.files if whole else 0,
        bytes=manifest.files.bytes if whole else 0,
        settings_changed=after.settings.differences(run.site.settings),
        sign_in=sign_in.probe(after),
        safety_set=safety_set,
        warnings=run.warnings,
    )
