"""A rehearsal: restore a set into scratch, check it, and start Mattermost from it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from .. import checks, version
from ..checks import Check, Result
from ..clock import utc
from ..config import identity
from ..config.settings import Settings as Ours
from ..errors import Failure, reason
from ..mattermost.effective_config import EffectiveConfig
from ..mattermost.site import Account, Folders, GitLab, Kind, Site
from ..postgresql import connection, load, scratch
from ..postgresql.endpoint import Endpoint
from ..postgresql.scratch import Outgrown
from ..restore import folder_swap, unpack
from ..restore.plan import RestoreOptions
from ..store import verify
from ..store.check_records import CheckRecord, Depth
from ..store.frames import NameLine
from ..store.sets import BackupSet
from ..system import namespaces, parallel
from . import boot, limits
from . import checks as rehearsal_checks
from .checks import SetSettings
from .limits import Deadlines, Missed, Warden

log = logging.getLogger(__name__)

_PARTS = RestoreOptions(parts=("database", "files", "config"))
# The order of the checks in the output.
_ORDER = (
    *("checksums", "structure", "database"),
    *rehearsal_checks.DATABASE,
    *("settings", "files", "credentials", "boot", "answers"),
)
# The steps, as named in messages, and the check that fails if a step takes too long.
_READING, _LOADING, _UNPACKING = "Reading the set", "Loading its database", "Unpacking its files"
_LOOKING, STARTING = "Looking at its database", "Starting Mattermost"
_STEPS = {_READING: "structure", _LOADING: "database", _UNPACKING: "files"}
_STEPS |= {_LOOKING: "rows", STARTING: "boot"}


@dataclass
class RehearsalRun:
    """A running rehearsal, and its checks so far."""

    set: BackupSet
    site: Site  # this host's, whose programs are used; it is not changed
    depth: Depth
    place: scratch.Place
    sessions: int  # PostgreSQL sessions in parallel
    deadlines: Deadlines
    warden: Warden
    uploads: IO[bytes]  # of the archive: bytes, a space, the path below the data folder, a NUL
    programs: Path  # folder of the server's programs
    kept: SetSettings | None = None  # None if the settings part cannot be read
    config: bytes | None = None  # config.json in the archive
    without: list[str] = field(default_factory=list)  # indexes that are not built
    extensions: list[str] = field(default_factory=list)  # of the dump
    checks: list[Check] = field(default_factory=list)
    postgresql: str = ""
    seconds: float = 0.0  # load, unpack and start, so far
    recovered: bool = False  # to the end
    over: bool = False  # ignore later checks: they fail because the rehearsal was ended

    def note(self, *made: Check) -> None:
        if not self.over:
            self.checks.extend(made)

    def end(self) -> None:
        self.over = True

    def leave_out(self, why: str, *names: str) -> None:
        self.note(*(checks.not_run(name, why) for name in names))

    def passed(self, name: str) -> bool:
        return any(check.name == name and check.result is Result.PASSED for check in self.checks)


@dataclass(frozen=True)
class Unpacked:
    """The unpacked files of a set."""

    home: Path
    data: Path


def rehearse(set_: BackupSet, site: Site, depth: Depth, ours: Ours) -> CheckRecord:
    """Restore ``set_`` into scratch, check it, and return the checks.

    The site is not changed, and no data leaves this host.  Raises Failure if the rehearsal could not
    start, for example without disk space.  A bad set, or one that takes too long, is no Failure: the
    record has the failed checks.
    """
    began = datetime.now(timezone.utc)
    with begun(set_, site, depth, ours) as run:
        run.note(*_judge_settings(run))
        namespaces.without_network(functools.partial(_prove_in_time, run))
    record = _record(
        set_, depth, began, sorted(run.checks, key=lambda check: _ORDER.index(check.name))
    )
    return replace(
        record,
        recovery_seconds=round(run.seconds, 3) if run.recovered else None,
        mattermost=site.version,
        postgresql=run.postgresql,
        left_out=run.without,
    )


@contextlib.contextmanager
def begun(
    set_: BackupSet, site: Site, depth: Depth, ours: Ours, what: str = "a rehearsal"
) -> Iterator[RehearsalRun]:
    """Yield a run with its scratch directories, which are removed after the block.

    Raises Failure without disk space, memory or programs for ``what``.
    """
    needed = _bytes_needed(set_, depth)
    scratch.refuse_without_room(ours.scratch_dir, needed, what)
    programs = scratch.server_programs(site.client_programs, set_.manifest.database.server)
    clock = Deadlines(limits.limits(ours.rehearse_timeout, needed))
    with scratch.place(ours.scratch_dir) as place, tempfile.TemporaryFile(dir=place.folder) as file:
        warden = Warden(clock, place.folder, set_.manifest.database)
        yield RehearsalRun(set_, site, depth, place, ours.sessions, clock, warden, file, programs)


def verify_only(set_: BackupSet) -> CheckRecord:
    """Read ``set_`` completely, and return the checks."""
    began = datetime.now(timezone.utc)
    return _record(set_, Depth.VERIFY, began, verify.run_checks(set_))


def verified(set_: BackupSet, found: Sequence[Check]) -> CheckRecord:
    """Return a record of the checks ``found`` by another job that read ``set_`` completely."""
    return _record(set_, Depth.VERIFY, datetime.now(timezone.utc), found)


def _record(set_: BackupSet, depth: Depth, began: datetime, found: Sequence[Check]) -> CheckRecord:
    return CheckRecord(
        set=set_.name,
        depth=depth,
        started=utc(began),
        seconds=round((datetime.now(timezone.utc) - began).total_seconds(), 3),
        recovery_seconds=None,
        tool=version.tool(),
        host=identity.full_hostname(),
        mattermost="",
        postgresql="",
        checks=[*rehearsal_checks.origin(set_), *found],
    )


def _bytes_needed(set_: BackupSet, depth: Depth) -> int:
    files = 0 if depth is Depth.QUICK else set_.manifest.files.bytes
    return set_.manifest.database.bytes_to_load + files


def _judge_settings(run: RehearsalRun) -> list[Check]:
    """Check the credentials; only this needs the network of the host."""
    log.info("Asking GitLab about the credentials")
    try:
        run.kept = rehearsal_checks.kept(run.set)
    except Failure as failure:
        unread = checks.not_run("credentials", "the settings part cannot be read")
        return [checks.failed("settings", str(failure)), unread]
    return [rehearsal_checks.credentials(run.site, run.kept)]


def _prove_in_time(run: RehearsalRun) -> None:
    """Run everything that needs no network; exceeding a limit is a failed check."""
    try:
        run.warden.guard(functools.partial(_prove, run), run.end)
    except (Missed, Outgrown) as failure:
        run.recovered = False
        found = {check.name for check in run.checks}
        left = [name for name in _ORDER if name not in found]
        step = failure.step if isinstance(failure, Missed) else _LOADING
        failed = _STEPS[step] if _STEPS.get(step) in left else left[0]
        run.checks.append(checks.failed(failed, str(failure)))
        why = "the rehearsal was ended before"
        run.checks += [checks.not_run(name, why) for name in left if name != failed]


def _prove(run: RehearsalRun) -> None:
    with restored(run) as (endpoint, unpacked):
        log.info("Looking at what was loaded")
        _look_at_database(run, endpoint)
        _look_at_config(run)
        _prove_files(run, endpoint, unpacked)


@contextlib.contextmanager
def restored(run: RehearsalRun) -> Iterator[tuple[Endpoint, Unpacked | Failure | None]]:
    """Yield a scratch server with the database of the set, and its files.

    The files are a Failure where they cannot be unpacked, None where that is not tried. The checks
    are noted in ``run``.
    """
    owner, name = run.site.database.owner.role, run.site.database.name
    examine = functools.partial(_examine, run)
    log.info("Reading the whole set, and starting a scratch PostgreSQL")
    session = run.kept.session if run.kept else {}
    was = run.set.manifest.database
    started = scratch.cluster(run.place, run.programs, name, owner, session, was)
    with parallel.in_background(examine) as examined, started as endpoint:
        run.warden.server = endpoint
        log.info("Loading its database")
        began = time.monotonic()
        unpack = functools.partial(_read_and_unpack, run, endpoint, examined)
        load = functools.partial(_load, run, endpoint)
        (found, unpacked), loaded = parallel.run_all(unpack, load)
        run.seconds = time.monotonic() - began
        run.note(*found, loaded)
        yield endpoint, unpacked


def _examine(run: RehearsalRun) -> list[Check]:
    with run.deadlines.step(_READING):
        return verify.run_checks(run.set, functools.partial(_note_member, run))


def _note_member(run: RehearsalRun, member: NameLine, config: bytes | None) -> None:
    """Store data of the archive for the checks: names and sizes of uploads, and config.json."""
    roles, path = run.set.manifest.files.folders, member.path
    data = os.fsencode(roles.get("data", "")) + b"/"
    if config is not None:
        run.config = config
    elif member.kind == b"l" and path == os.fsencode(f"{roles['home']}/config.json") and run.kept:
        run.config = run.kept.config  # the target of the link
    if member.kind == b"-" and data != b"/" and path.startswith(data):
        run.uploads.write(b"%d %s\0" % (member.size, path[len(data) :]))


def _load(run: RehearsalRun, endpoint: Endpoint) -> Check:
    """Load the dump as a restore does; search indexes only with --full."""
    archive = run.set.file("database")
    try:
        with run.deadlines.step(_LOADING):
            _fill(run, endpoint)
    except Failure as failure:
        text = run.warden.explained(failure)
        return checks.failed("database", ". ".join(filter(None, (text, failure.hint))))
    return checks.passed("database", f"{archive.name} loaded into PostgreSQL {run.postgresql}")


def _fill(run: RehearsalRun, endpoint: Endpoint) -> None:
    name, full = endpoint.name, run.depth is Depth.FULL
    provision = load.plan(run.set, endpoint, run.programs)
    load.create(run.set, endpoint, name, provision)
    filled = load.fill(run.set, endpoint, run.programs, name, run.sessions, provision, search=full)
    run.without = [index.full_name for index in filled.left_out]
    run.extensions = filled.extensions
    with connection.within(endpoint, name) as session:
        run.postgresql = connection.server_version(session)
        if full:  # as a restore does, so that the time is comparable
            connection.analyze(session)


def _look_at_database(run: RehearsalRun, endpoint: Endpoint) -> None:
    """Compare the loaded database with the manifest, the archive and Mattermost's rules."""
    if not run.passed("database"):
        run.leave_out("the database could not be loaded", *rehearsal_checks.DATABASE)
        return
    uploads = rehearsal_checks.uploads(run.kept, run.passed("structure"), run.uploads)
    try:
        with run.deadlines.step(_LOOKING), contextlib.ExitStack() as opened:
            sessions = [
                opened.enter_context(connection.within(endpoint)) for _ in range(run.sessions)
            ]
            found = rehearsal_checks.database_checks(
                sessions, run.set.manifest, uploads, run.extensions, run.without
            )
    except Failure as failure:  # for example, a view in place of a table
        found = [checks.failed("rows", run.warden.explained(failure))]
        why = "the database could not be looked at"
        found += [checks.not_run(name, why) for name in rehearsal_checks.DATABASE[1:]]
    run.note(*found)


def _look_at_config(run: RehearsalRun) -> None:
    if run.kept is None:
        return  # already reported
    if not run.passed("structure"):
        run.leave_out("the archive of the files is not intact", "settings")
    elif run.config is None:
        run.note(checks.failed("settings", "the archive holds no config.json"))
    else:
        run.note(rehearsal_checks.settings(run.config, run.kept))


def _read_and_unpack(
    run: RehearsalRun, endpoint: Endpoint, examined: Callable[[], list[Check]]
) -> tuple[list[Check], Unpacked | Failure | None]:
    """Wait until the set is read; then unpack its files, if they are intact and needed."""
    found = examined()
    if run.depth is Depth.QUICK or not all(check.result is Result.PASSED for check in found):
        return found, None
    log.info("Unpacking the files")
    try:
        with run.deadlines.step(_UNPACKING):
            return found, _unpack(run, endpoint)
    except Failure as failure:
        return found, failure


def _prove_files(
    run: RehearsalRun, endpoint: Endpoint, unpacked: Unpacked | Failure | None
) -> None:
    """Add the check of the files, and start Mattermost."""
    if run.depth is Depth.QUICK:
        run.leave_out("skipped in a quick rehearsal", "files", "boot", "answers")
        return
    if unpacked is None:
        run.leave_out("the archive of the files is not intact", "files", "boot", "answers")
        return
    if isinstance(unpacked, Failure):
        run.note(checks.failed("files", str(unpacked)))
        run.leave_out("the files could not be unpacked", "boot", "answers")
        return
    told = run.set.manifest.files
    run.note(checks.passed("files", f"{told.files} unpacked, {told.bytes} bytes"))
    _boot(run, endpoint, unpacked)


def _unpack(run: RehearsalRun, endpoint: Endpoint) -> Unpacked:
    """Unpack into scratch with the code of a restore."""
    home = run.place.folder / "home"
    real = {"home": home, **{role: home / role for role in ("data", "plugins", "client-plugins")}}
    there = Site(
        kind=Kind(run.set.manifest.kind),
        version=run.site.version,
        account=Account(scratch.ACCOUNT, scratch.ACCOUNT),
        folders=Folders(real, real),
        config_file=home / "config.json",
        environment_folder=None,
        environment={},
        settings=EffectiveConfig({}),
        database=endpoint,
        client_programs=run.site.client_programs,
        gitlab=GitLab(run.set.manifest.gitlab, "", None),
    )
    works = unpack.works(run.set, there, _PARTS, run.place.token)
    for work in works.values():
        folder_swap.make_work_folder(work.folder, work.live)
    unpack.unpack(run.set, there, _PARTS, works)
    staged = works["home"].staged
    return Unpacked(staged, staged / "data")


def _boot(run: RehearsalRun, endpoint: Endpoint, there: Unpacked) -> None:
    """Start this host's Mattermost from scratch, if it has the version of the set."""
    why = boot.refusal(run.site, run.set.manifest.mattermost)
    if not run.passed("database"):
        why = "the database could not be loaded"
    if why or run.kept is None:
        run.leave_out(why or "the settings part cannot be read", "boot", "answers")
        return
    log.info("Starting Mattermost, without network")
    try:
        with run.deadlines.step(STARTING):
            start = functools.partial(
                boot.started, run.site, run.kept.environment, below=run.kept.below
            )
            with start(there.home, there.data, run.place.socket, endpoint) as (booted, _):
                pass  # it has answered
    except (Failure, OSError) as failure:
        run.note(checks.failed("boot", reason(failure)))
        run.leave_out("Mattermost did not start", "answers")
        return
    run.seconds += booted.seconds
    run.recovered = True
    run.note(checks.passed("boot", f"Mattermost {run.site.version} answered its ping"))
    run.note(rehearsal_checks.answers(booted, run.set.manifest.mattermost, run.kept))
