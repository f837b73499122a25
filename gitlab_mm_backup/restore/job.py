"""Restore: put a set onto a site; the new state is made next to the live one, then swapped."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..backup import job
from ..config import hooks
from ..config.settings import Settings
from ..mattermost import detect, service, standalone
from ..mattermost.journal import Journal, Step
from ..mattermost.site import Kind, Site
from ..postgresql import connection, load, provisions, scratch, swap
from ..postgresql.dump_contents import Index
from ..postgresql.provisions import Provision
from ..sso import check
from ..sso.oauth import Probe
from ..store.inventory import Store
from ..store.sets import BackupSet
from ..system import disk_space, files, parallel, process
from ..system.files import STATE
from ..system.process import Command
from . import (
    configuration,
    folder_swap,
    preflight,
    replacing,
    rollback,
    search_index,
    unpack,
    uploads_later,
)
from .earlier_uploads import Later
from .plan import RestoreOptions
from .undo_log import Undo

log = logging.getLogger(__name__)

# Share of the disk's reserve to keep: the rest is for the unforeseen, such as PostgreSQL's WAL.
_RESERVE = 0.5
_WAYS = "Free some space, keep less free (min_free), or choose another set."


@dataclass
class Times:
    """How long Mattermost was down, by phase, in seconds; 0 for a phase that was not reached."""

    stopped: float = 0.0  # on the monotonic clock
    down: float = 0.0  # from its stop to its first answered ping
    fill: float = 0.0  # of these, until the new database and folders were complete
    exchange: float = 0.0  # of these, to give them the place of what was live


@dataclass(frozen=True)
class Restored:
    """The result of a restore."""

    parts: tuple[str, ...]
    rows: int
    files: int
    bytes: int
    settings_changed: list[str]  # Section.Key
    sign_in: Probe
    safety_set: str  # name of the set of the state before, "" where none was made
    times: Times
    search: search_index.IndexResult | None  # None where its indexes came with the database
    gitlab_side: list[str]  # what is left to do on GitLab's host, for a move out of the bundle
    notes: list[str]  # about this program's own configuration
    later: Later | None  # the uploads that are still to unpack
    warnings: list[str]


@dataclass(frozen=True)
class RestoreRun:
    """A running restore, and the names of its new databases and directories."""

    set: BackupSet
    site: Site
    plan: RestoreOptions
    undo: Undo
    token: str
    sessions: int  # of PostgreSQL at a time
    later: Later | None = None
    works: dict[str, unpack.StagedFolder] = field(default_factory=dict)
    shut: list[files.Ground] = field(default_factory=list)  # for the time of the work
    search_left_out: list[Index] = field(default_factory=list)
    times: Times = field(default_factory=Times)
    warnings: list[str] = field(default_factory=list)
    provision: list[Provision] = field(default_factory=list)  # of the new database, once it is made

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
    set_: BackupSet, site: Site, plan: RestoreOptions, store: Store, settings: Settings
) -> Restored:
    """Restore ``set_`` to ``site``; after a failure the site is as before.

    Uploads that are to be unpacked later remain to the caller, who need not keep others out.
    """
    journal = Journal()
    lost = rollback.take_over(site, journal)
    if not lost:
        rollback.refuse_unfinished(journal)
    warnings, later = preflight.check(set_, site, plan)
    safety_set = job.make_safety_set(site, settings, store) if plan.safety and not lost else ""
    variables = {"set": set_.name, "set_path": str(set_.path), "parts": " ".join(plan.parts)}
    variables["site"] = site.kind.value
    note = functools.partial(journal.write, {"set": set_.reference, "plan": asdict(plan)})
    with hooks.on_failure(variables):
        hooks.run_phase("pre-restore", variables)
        with Undo(rollback.actions(site), note) as undo:
            token, sessions = secrets.token_hex(4), settings.sessions
            run = RestoreRun(set_, site, plan, undo, token, sessions, later, warnings=warnings)
            for step in lost:
                undo.will(step.action, **step.values)
            keep_findable(run)
            stop_service(run)
            prepare_folders(run)
            give_up_live_state(run, safety_set)
            prepare_database(run)
            fill(run)
            exchange_both(run)
            run_hooks(run, variables)
            start_service(run)
            leave_for_later(run, journal)
            undo.commit(leftovers(run))
            run.credentials_undo.unlink(missing_ok=True)
            standalone.forget_config()
    settle(run, journal)
    run.warnings.extend(rollback.finish(site, journal, keep=plan.keep_previous))
    return report(run, safety_set, search_index.build_at_last(site, journal))


def keep_findable(run: RestoreRun) -> None:
    """Save what a rollback needs to find the site, where that is among the exchanged files."""
    if run.site.kind is Kind.STANDALONE:
        run.undo.will_last(rollback.FORGET)
        standalone.keep_config(run.site)


def stop_service(run: RestoreRun) -> None:
    """Stop Mattermost and prevent its start: a reboot must not start it in an incomplete state."""
    log.info("Stopping Mattermost")
    run.times.stopped = time.monotonic()
    mattermost = service.of(run.site)
    if mattermost.runs():
        answered = "yes" if service.answers(run.site) else "no"
        run.undo.will_last("start Mattermost", answered=answered)
    else:
        run.undo.will_last("let Mattermost start again")
    mattermost.keep_down()
    mattermost.stop()


def prepare_folders(run: RestoreRun) -> None:
    """Make the private work directory next to each folder to exchange.

    Where Mattermost's account could replace it, its parent is restricted to root meanwhile.
    """
    run.works.update(unpack.works(run.set, run.site, run.plan, run.token))
    for role, work in run.works.items():
        for ground in files.grounds(work.folder):
            run.undo.will(rollback.OPEN, **ground.named)
            folder_swap.shut(ground)
            run.shut.append(ground)
        if role in run.site.folders.real:
            folder_swap.refuse_swapped(work.live)
        run.undo.will("remove the new folder", **_names(work))
        folder_swap.make_work_folder(work.folder, work.live)


def give_up_live_state(run: RestoreRun, safety_set: str) -> None:
    """In place: remove the live data first, because the disk cannot hold both. There is no undo."""
    if not run.plan.in_place:
        return
    log.info("Removing the live state")
    run.undo.will(rollback.LIVE_STATE_REMOVED, safety_set=safety_set)
    if "database" in run.plan.parts:
        swap.empty_live(run.site.database)
    for work in run.works.values():
        folder_swap.empty(work.live)


def prepare_database(run: RestoreRun) -> None:
    """Make the new database, still empty."""
    if "database" not in run.plan.parts:
        return
    endpoint = run.site.database
    swap.ensure_live(endpoint)
    run.undo.will("give the live database back", owner=swap.live_owner(endpoint))
    swap.take_ownership(endpoint)
    run.undo.will("drop the new database", name=run.new_database)
    provision = load.plan(run.set, endpoint, run.site.client_programs)
    run.provision.append(provision)
    run.warnings.extend(load.create(run.set, endpoint, run.new_database, provision))


def fill(run: RestoreRun) -> None:
    """Fill the new database and make the new folders complete, at the same time."""
    began, ways = time.monotonic(), list[Callable[[], object]]()
    if "database" in run.plan.parts:
        log.info("Loading the database next to the live one")
        ways.append(lambda: run.search_left_out.extend(load_database(run)))
    if run.works:
        log.info("Unpacking files next to the live ones")
        ways.append(lambda: unpack_folders(run))
    _watched(run, ways)
    if "database" in run.plan.parts:
        load.prove(run.site.database, run.new_database, run.set.manifest)
    run.times.fill = time.monotonic() - began


def _watched(run: RestoreRun, ways: Sequence[Callable[[], object]]) -> None:
    """Run all in parallel; a load that grows beyond the set's size is ended."""
    if "database" not in run.plan.parts:
        if ways:
            parallel.run_all(*ways)
        return
    over, was = threading.Event(), run.set.manifest.database

    def fill_all() -> None:
        try:
            parallel.run_all(*ways)
        finally:
            over.set()

    with contextlib.ExitStack() as opened:
        # Opened before any thread starts: it needs another effective user id for a moment.
        session = opened.enter_context(connection.administering(run.site.database))
        watches = [functools.partial(scratch.watch_growth, session, run.new_database, was, over)]
        watches += [
            functools.partial(disk_space.watch, descriptor, folder, over, _WAYS, _RESERVE)
            for folder, descriptor in _disks(run, opened)
        ]
        parallel.run_all(fill_all, *watches, cancel=over.set)


def _disks(run: RestoreRun, opened: contextlib.ExitStack) -> list[tuple[Path, int]]:
    """Return a folder and its descriptor on each disk that gets new data.

    None where the operator has agreed to fill them.  A work directory stands for its live one.
    """
    if run.plan.in_place:
        return []
    places = [(work.live, work.folder) for work in run.works.values()]
    if "database" in run.plan.parts:
        folder = preflight.data_folder(run.site)
        places.append((folder, folder))
    found: dict[int, tuple[Path, int]] = {}
    for folder, at in places:
        descriptor = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        found.setdefault(os.fstat(descriptor).st_dev, (folder, descriptor))
    return list(found.values())


def load_database(run: RestoreRun) -> list[Index]:
    """Load the dump into the new database; return the indexes to build later."""
    endpoint, programs = run.site.database, run.site.client_programs
    now = not search_index.waits(run.plan.search, run.set.manifest)
    name, provision = run.new_database, run.provision[0]
    filled = load.fill(run.set, endpoint, programs, name, run.sessions, provision, search=now)
    run.warnings.extend(filled.told)
    return filled.left_out


def unpack_folders(run: RestoreRun) -> None:
    """Unpack the new folders and sync their disks (syncfs(2) by sync(1))."""
    without = run.later.without if run.later is not None else {}
    run.warnings.extend(unpack.unpack(run.set, run.site, run.plan, run.works, without))
    for work in run.works.values():
        process.run(Command(["sync", "--file-system", str(work.folder)]))


def exchange_both(run: RestoreRun) -> None:
    """Swap the new data with the live data by renames, whatever the size."""
    began = time.monotonic()
    if "database" in run.plan.parts:
        log.info("Exchanging the databases")
        new, old = run.new_database, run.old_database
        run.undo.will("exchange the databases back", new=new, old=old)
        provision = run.provision[0]
        run.warnings.extend(provisions.apply_rights(run.site.database, new, provision))
        swap.exchange(run.site.database, new, old, provision.comment)
    for work in run.works.values():
        log.info("Exchanging %s", work.live)
        run.undo.will("exchange the folders back", **_names(work))
        folder_swap.exchange(work.live, work.folder)
    for ground in run.shut:
        folder_swap.open_again(ground)
    run.times.exchange = time.monotonic() - began


def _names(work: unpack.StagedFolder) -> dict[str, str]:
    # The work directory lies on the disk that is mounted at the live one, if there is one.
    mounted = "yes" if work.folder.parent == work.live else "no"
    return {"live": str(work.live), "work": str(work.folder), "mounted": mounted}


def run_hooks(run: RestoreRun, variables: Mapping[str, str]) -> None:
    """Run the post-restore hooks; changes of our hook outside the new state can be undone."""
    run.undo.will("take back the credentials", kept=str(run.credentials_undo))
    fields = {"previous_home": _previous_home(run), "sign_in_undo": str(run.credentials_undo)}
    hooks.run_phase("post-restore", {**variables, **fields})


def _previous_home(run: RestoreRun) -> str:
    """Return the folder with the previous config.json, for the credentials hook."""
    work = run.works.get("home")
    if work is not None:
        return str(unpack.previous(work))
    config = run.works.get("config")
    return str(config.folder / "old" if config else run.site.folders.home)


def start_service(run: RestoreRun) -> None:
    log.info("Starting Mattermost")
    mattermost = service.of(run.site)
    # Undone first: nothing may be exchanged under a running server.
    run.undo.will("stop Mattermost")
    mattermost.allow_start()
    mattermost.start()
    service.wait_until_it_answers(detect.again(run.site))
    run.times.down = time.monotonic() - run.times.stopped


def leave_for_later(run: RestoreRun, journal: Journal) -> None:
    """Record in the journal which indexes and uploads the new state lacks."""
    if "database" in run.plan.parts:
        search_index.note(run.search_left_out, journal)
    if run.plan.with_folders and (run.later is not None or journal.uploads()):
        run.undo.will(rollback.FORGET_UPLOADS, token=run.token)
        uploads_later.note(run.set, run.site, run.plan, run.token, run.later)


def settle(run: RestoreRun, journal: Journal) -> None:
    """Forget what the previous state lacked."""
    if "database" in run.plan.parts:
        search_index.settle(run.search_left_out, journal)
    if run.plan.with_folders:
        uploads_later.settle(run.token)
    if run.later is not None and not (run.plan.keep_previous or run.plan.in_place):
        told = uploads_later.take_over(run.set, run.site, run.later, run.works)
        run.warnings.extend(told)


def leftovers(run: RestoreRun) -> list[Step]:
    """Return the steps that remove the previous live data."""
    steps = []
    if "database" in run.plan.parts:
        steps.append(Step(rollback.DROP, {"name": run.old_database}))
    steps += [
        Step("remove the previous folder", {"work": str(work.folder)})
        for work in run.works.values()
    ]
    return steps


def report(run: RestoreRun, safety_set: str, search: search_index.IndexResult | None) -> Restored:
    after, manifest = detect.again(run.site), run.set.manifest
    if run.plan.with_etc:
        run.warnings.append("/etc/gitlab was restored: run gitlab-ctl reconfigure to apply it")
    run.warnings.extend(after.uncovered)
    run.warnings.extend(search.problems if search else [])
    whole = "files" in run.plan.parts
    return Restored(
        parts=run.plan.parts,
        rows=manifest.rows if "database" in run.plan.parts else 0,
        files=manifest.files.files if whole else 0,
        bytes=manifest.files.bytes if whole else 0,
        settings_changed=after.settings.differences(run.site.settings),
        sign_in=check.probe(after),
        safety_set=safety_set,
        times=run.times,
        search=search,
        gitlab_side=replacing.todo(run.set, after),
        notes=configuration.put_back(run.set, run.plan),
        later=run.later,
        warnings=run.warnings,
    )
