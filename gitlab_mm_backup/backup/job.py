"""Backup: make a set of a site while Mattermost keeps running, thin out the store, run hooks."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from .. import clock
from ..config import hooks, identity, keys
from ..config.identity import Host
from ..config.retention import FOR_EVER
from ..config.schema import INCREMENTAL
from ..config.settings import Rules, Settings
from ..errors import Failure, Interrupted
from ..mattermost.journal import Journal, PendingUploads
from ..mattermost.site import Site
from ..postgresql import connection, dump, provisions, restorable
from ..postgresql.dump import Counted, DatabaseSnapshot, DumpBlockedOthers
from ..store import archive_writer, inventory, manifest, prune, soundness
from ..store.archive_writer import Survey, survey
from ..store.inventory import Store
from ..store.manifest import Credentials, Manifest
from ..store.prune import Owner
from ..store.restic_store import ResticStore
from ..store.sets import BackupSet, Sign
from ..system import disk_space, humanize, progress, signals
from ..system.parallel import run_all
from . import (
    absence,
    baseline,
    configuration,
    database,
    description,
    incremental,
    parts,
    room,
    unchanged,
)
from .attributes import look
from .configuration import NONE, Configuration
from .description import Written
from .incremental import Packed
from .unchanged import Sources

log = logging.getLogger(__name__)

Make = Callable[[Site, Settings, Store, "Before"], BackupSet]
BACKUP, SAFETY = "backup", "safety"  # what a set was made for
_ATTEMPTS = 3  # at a dump that gave way to a migration


@dataclass(frozen=True)
class Before:
    """The state before a set is made."""

    host: Host  # that makes it
    sign: Sign  # makes the signature of the set
    own: Sequence[BackupSet] = ()  # sets of this host at the place, newest first
    fuller: Manifest | None = None  # the sound set that it must not fall short of
    note: str = ""  # of the administrator, for the set
    configuration: Configuration = NONE  # this program's own, for the set
    sources: Sources | None = None  # where a later run may ask what was changed since
    pending: PendingUploads | None = None  # uploads of a restore that are not unpacked yet

    @property
    def described(self) -> Mapping[str, Any]:
        """The fields of the manifest that are known before."""
        files, left_out = self.configuration.files, self.configuration.left_out
        return {
            "host_id": self.host.id,
            "note": self.note,
            "configuration": tuple(map(str, files)),
            "left_out": left_out,
        }

    @property
    def work(self) -> list[str]:
        """The directory in which uploads are unpacked, which may be among Mattermost's."""
        return [self.pending.work] if self.pending is not None else []

    @property
    def earlier(self) -> list[Manifest]:
        """The manifests of this host's sets, newest first, without safety sets and future dates."""
        now = clock.now()
        sets = [set_.manifest for set_ in self.own]
        return [
            earlier for earlier in sets if not earlier.safety and not clock.ahead(earlier.made, now)
        ]


@dataclass(frozen=True)
class BackupResult:
    """A finished backup, with warnings for the operator."""

    set: BackupSet
    removed: list[str]
    warnings: list[str]
    notes: list[str]  # what is good to know
    owner: Owner  # for whom copies are thinned out too
    variables: Mapping[str, str]  # that the hooks after it get


def backup(
    site: Site,
    settings: Settings,
    store: Store,
    *,
    nightly: bool = False,
    make: Make | None = None,
    note: str = "",
) -> BackupResult:
    """Make one set of ``site`` in ``store``, then prune; ``follow`` comes after that.

    ``nightly`` tells the hooks that no operator is waiting; ``make`` replaces ``make_set`` for a
    salvage; ``note`` is one line for the manifest. Raises Failure when anything is missing from
    the set: then there is no set.
    """
    variables = {"sets": store.where}
    with hooks.on_failure(variables):
        hooks.run_phase("pre-backup", variables)
        before = dataclasses.replace(look_before(store, settings), note=note)
        if settings.schedule and make is None and site.missing is None:
            before = dataclasses.replace(before, sources=unchanged.look(site, settings, store))
        made = (make or make_set)(site, settings, store, before)
    host, notes = baseline.settle(identity.own(), store, made.manifest)
    store.serve(host)
    told = soundness.unaccepted(made.manifest.told, settings.accept_warnings)
    notes += _accepted(len(made.manifest.told) - len(told))
    notes += configuration.notes(made.manifest.left_out)
    warnings = [*told, *baseline.copied_disk(host), *shrunken(made.manifest)]
    owner = Owner(host, made.manifest.installation)
    pruned = prune.prune(store, settings.rules, owner, made.name)
    warnings += pruned.problems
    variables = {**variables, "set": made.name, "set_path": made.reference}
    if nightly:
        variables["nightly"] = "yes"
    notes += _kept_for_ever(settings, before)
    return BackupResult(made, pruned.removed, warnings, notes, owner, variables)


def _accepted(count: int) -> list[str]:
    """Return the note about warnings that config.yml accepts."""
    what = humanize.number(count, "warning")
    return [f"Note: {what} accepted by config.yml; gitlab-mm list shows them"] if count else []


def _kept_for_ever(settings: Settings, before: Before) -> list[str]:
    """Return the note about retention for the first set."""
    for_ever = settings.rules == Rules() and not before.own
    return [f"Note: {FOR_EVER}"] if for_ever else []


def follow(made: BackupResult) -> list[str]:
    """Run the hooks after a set; return warnings.

    They may take long, such as a rehearsal: the lock is not held, and a signal ends only them.
    """
    if signals.met():
        return [f"Interrupted by {signals.met()}: the set is made, its hooks were not run"]
    try:
        with signals.heeded():
            hooks.run_phase(hooks.POST_BACKUP, made.variables)
    except Failure as failure:
        return [str(failure)]
    except Interrupted as interrupted:
        return [f"Interrupted by {interrupted.signal_name}: the set is made, its hooks were ended"]
    return []


def shrunken(made: Manifest) -> list[str]:
    """Return the warning about a set that looks emptied."""
    if not made.shrunken:
        return []
    return [
        f"Set {made.name} looks emptied ({soundness.emptied(made)}). Restore a fuller set "
        f"(gitlab-mm restore), or confirm that it is correct: gitlab-mm prune --accept {made.name}"
    ]


def look_before(store: Store, settings: Settings) -> Before:
    """Return what a set is made with and compared with; raises Failure."""
    host = identity.own()
    store.serve(host)
    own = inventory.own_sets(host, store.sets())
    fuller, found = baseline.fuller(host, store, own), configuration.find(settings)
    pending = Journal().pending()  # before packing: the set may lack what is unpacked meanwhile
    sign = keys.own(host.id).sign
    return Before(host, sign, own, fuller, configuration=found, pending=pending)


def make_set(
    site: Site, settings: Settings, store: Store, before: Before, purpose: str = BACKUP
) -> BackupSet:
    """Make one set and nothing else; its manifest lists what is unusual about it.

    Raises Failure when there is no set then.
    """
    clock = time.monotonic()
    started, name = _free_name(store, site.version, before.host)
    log.info("Making set %s", name)
    alone = purpose == SAFETY or site.missing is not None
    whole = alone or settings.files != INCREMENTAL
    if not isinstance(store, ResticStore):  # restic never makes a repository by itself
        disk_space.refuse_unmounted(store.folder)
    roles = _roles(site)  # once: the owner of the directories may replace them later
    room.refuse_without(site, store, before.own, _folders(roles), whole=whole)
    pack = _packer(roles, settings, store, before, alone, started)
    write = functools.partial(_write_parts, site, roles, settings, store, pack, before)
    with store.create(name) as staging:
        contents = _undisturbed(lambda: room.watched(store, lambda: write(staging)), staging)
        ours = configuration.pack(before.configuration, settings, staging)
        contents = dataclasses.replace(contents, parts={**contents.parts, **ours})
        described = description.describe(site, name, started, time.monotonic() - clock, contents)
        described = dataclasses.replace(
            described,
            purpose=purpose,
            told=_told(site, described, contents, before),
            **before.described,
        )
        if purpose == BACKUP:
            described = baseline.held_against(
                described, before.fuller, before.pending, settings.shrunken_below
            )
            signals.ignore()  # there is a set now, which must not be told as a failure
        made = store.complete(staging, described, contents.packed.base, before.sign)
    unchanged.keep(made, before.sources, contents.state)
    return made


def make_safety_set(site: Site, settings: Settings, store: Store) -> str:
    """Back up the state before a restore, so that a mistaken one can be undone; return the name."""
    log.info("Making a safety set of the current state")
    try:
        before = look_before(store, settings)
        return make_set(site, settings, store, before, SAFETY).name
    except Failure as failure:
        raise Failure(
            "The safety set of the current state could not be made",
            str(failure),
            f"{failure.hint} To restore without one: --no-safety-backup.".strip(),
            failure.exit_code,
        ) from failure


def _told(site: Site, described: Manifest, written: Written, before: Before) -> list[str]:
    """Return, as text, what the set lacks or cannot hold: for the run and its manifest."""
    words = written.oddities + site.uncovered + _sign_in_warnings(described.credentials)
    if before.pending is not None:
        words.append(before.pending.words)
    words += [f"Not found, so not in the set: {missing}" for missing in described.salvaged or ()]
    words += absence.told(
        site,
        absence.last_of(before.earlier, written.installation),
        written.people,
        written.uploads,
        functools.partial(connection.still_named, site.database),
    )
    return [humanize.plain(text) for text in words]


_PackFiles = Callable[[Path, Survey], Packed]


def _packer(
    roles: Mapping[str, str],
    settings: Settings,
    store: Store,
    before: Before,
    alone: bool,
    started: datetime,
) -> _PackFiles:
    """Return the function that packs Mattermost's folders.

    A safety set stands ``alone``, and so does a salvage: files that look like another set's may be
    another host's.
    """
    if isinstance(store, ResticStore):
        return functools.partial(parts.keep, store)
    if alone or settings.files != INCREMENTAL:
        return functools.partial(parts.whole, settings, _expected(roles, before))
    base = incremental.choose_base(before.own, settings.full_every, roles, started)
    return functools.partial(parts.changes, settings, base)


def _expected(roles: Mapping[str, str], before: Before) -> int | None:
    """Return the expected bytes of files: as in the newest set, or by a walk."""
    if before.own:
        return before.own[0].manifest.files.bytes
    return archive_writer.walk(_folders(roles)) if progress.watched() else None


def _undisturbed(write: Callable[[], Written], staging: Path) -> Written:
    """Write all parts; a few times from the start where the dump blocked other sessions."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return write()
        except DumpBlockedOthers as failure:
            log.info("%s; starting again", failure)
            for half in staging.iterdir():
                half.unlink()
    return write()


def _write_parts(
    site: Site,
    roles: Mapping[str, str],
    settings: Settings,
    store: Store,
    pack_files: _PackFiles,
    before: Before,
    staging: Path,
) -> Written:
    """Write all parts; the snapshot comes first, so that every upload in it is in the archive."""
    folders, etc, excluded = _folders(roles), *parts.gitlab_settings(site)

    def pack_all() -> tuple[Packed, Survey]:
        found = survey(folders, owners=site.missing is None, ours=before.work)
        return pack_files(staging, found), found

    with dump.snapshot(site.database, watched=before.sources is not None) as snapshot:
        (rows, counted), (packed, found), (of_etc, there), kept, attributes = run_all(
            lambda: database.write(site, settings, store, staging, snapshot),
            pack_all,
            lambda: parts.pack_gitlab_settings(site, settings, staging),
            lambda: parts.pack_settings(site, staging / "settings.json"),
            lambda: look([*folders, *etc], excluded),
            cancel=snapshot.cancel,
        )
    return Written(
        {**rows, **packed.parts, "settings": kept, **of_etc},
        dataclasses.replace(snapshot.database, rows=counted.rows),
        roles,
        snapshot.installation,
        counted.contents,
        counted.uploads,
        packed,
        [found, *there],
        snapshot.unread,
        attributes,
        snapshot.properties,
        _beyond_a_restore(snapshot, counted),
        counted.state,
    )


def _beyond_a_restore(snapshot: DatabaseSnapshot, counted: Counted) -> list[str]:
    """Return, as text, what of the database no restore brings back."""
    return [
        *snapshot.told,
        *counted.at_odds,
        *provisions.beyond(snapshot.properties),
        *restorable.beyond_owner(counted.lines, snapshot.server, snapshot.properties),
    ]


def _roles(site: Site) -> dict[str, str]:
    """Return Mattermost's existing folders by role; raises Failure without a home."""
    if not site.folders.home.is_dir():
        raise Failure(
            "Mattermost's home folder is missing",
            f"{site.folders.home} is not a directory",
            "gitlab-ctl reconfigure creates it. If it held data, restore a set.",
        )
    return {role: str(path) for role, path in site.folders.real.items() if path.is_dir()}


def _folders(roles: Mapping[str, str]) -> list[Path]:
    return [Path(path) for path in roles.values()]


def _free_name(store: Store, mattermost: str, host: Host) -> tuple[datetime, str]:
    """Return a free name: names have seconds, so a second run in the same second takes the next."""
    started = datetime.now(timezone.utc)
    while (store.folder / (name := manifest.name_for(started, mattermost, host.id))).exists():
        started += timedelta(seconds=1)
    return started, name


def _sign_in_warnings(credentials: Credentials) -> list[str]:
    if credentials.verified is not False:
        return []
    return [
        "GitLab does not accept Mattermost's credentials, so sign-in is broken; "
        "to see why: gitlab-mm sso check"
    ]
