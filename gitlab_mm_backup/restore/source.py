"""Find the set to restore, and make it available: in place, fetched whole, or streamed.

A set may be in the store, at an off-site remote, or in a restic repository given with --from.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import identity, keys
from ..config.schema import NO_PASSWORD
from ..config.settings import Remote, Restic, Settings
from ..errors import ExitCode, Failure
from ..mattermost.site import Site
from ..offsite import copies, download
from ..offsite.download import refuse_without_room
from ..postgresql import connection
from ..store import inventory
from ..store.file_list import LISTING
from ..store.frames import INDEX
from ..store.inventory import Store
from ..store.local import LocalStore
from ..store.restic_set import FILES, ResticSet, fetch
from ..store.restic_store import ResticStore
from ..store.sets import BackupSet, damage
from ..system import disk_space, environment
from ..system.redaction import Secret
from . import choice, preflight, unpack, uploads_later
from .choice import Chosen, Found, Want
from .earlier_uploads import Look
from .plan import LATEST, RestoreOptions

log = logging.getLogger(__name__)

_WORD = "restic"
NOBODYS = Chosen("")
Way = Callable[[], AbstractContextManager[BackupSet]]


def store_elsewhere(
    settings: Settings, place: str, key: Secret | None = None
) -> ResticStore | None:
    """Return the repository for ``place``: restic:REPOSITORY, or restic for config.yml's.

    None for any other place. The access comes from config.yml, and otherwise from restic's own
    environment variables.
    """
    word, _, there = place.partition(":")
    if word != _WORD:
        return None
    if key is not None:
        raise Failure(
            "--identity is for copies made with rclone",
            "a restic repository is opened with its password",
            exit_code=ExitCode.USAGE,
        )
    if there and not re.fullmatch(NO_PASSWORD, there):
        raise Failure(
            "The address of the repository holds a password",
            "other users could read it in the process list",
            "Set RESTIC_REPOSITORY to the address and use --from restic.",
            ExitCode.USAGE,
        )
    given = environment.restic()
    access = _repository_access(settings.restic, there, given)
    return ResticStore(access, identity.known(), environment=given)


def _repository_access(known: Restic, there: str, given: Mapping[str, Secret]) -> Restic:
    """Return the access to the repository ``there``, "" for the configured one."""
    access = replace(known, repository=there or known.repository)
    if known.password_file is None and not known.password_command:
        file, command = given.get("RESTIC_PASSWORD_FILE"), given.get("RESTIC_PASSWORD_COMMAND")
        if file is not None:
            return replace(access, password_file=Path(file.reveal()))
        if command is not None:
            return replace(access, password_command=tuple(shlex.split(command.reveal())))
    return access


def bring(there: ResticStore, set_: BackupSet, here: LocalStore) -> BackupSet:
    """Copy a set from a repository into the local store ``here``.

    Raises Failure when restic cannot read all of it; then ``here`` is unchanged.
    """
    assert isinstance(set_.source, ResticSet)
    refuse_without_room(here, set_.manifest.bytes)
    with here.create(set_.name) as staging:
        parts, problems = fetch(set_.source, staging)
        if problems:
            raise Failure(
                f"Set {set_.name} cannot be read from {there.where}",
                "; ".join(problems),
                "Choose another set; to check the repository: restic check.",
            )
        sign = keys.own(identity.own().id).sign  # the operator has accepted it for the restore
        return here.complete(staging, replace(set_.manifest, parts=parts), sign=sign)


@dataclass(frozen=True)
class RestoreSource:
    """A set to restore, and the ways to make it available."""

    set: BackupSet
    whole: Way  # has all of it on this host
    streamed: Way | None = None  # all but its files; None where it is here
    into: Path = Path("/")  # the folder that it would come to, whole
    chosen: Chosen = NOBODYS  # the choice, with its warnings and notes
    where: str = ""  # the place that it is fetched from; "" where it is here
    scratch: Way | None = None  # has it for a plan, after which nothing of it stays; None: as whole
    index: Way | None = (
        None  # has what finds its files, which come frame by frame; None: they do not
    )

    def planned(self) -> AbstractContextManager[BackupSet]:
        """Make the set available for a plan, except the files of a copy, if they are not needed."""
        way = self.scratch or self.whole
        return way()


def find(
    settings: Settings, store: Store, place: str, name: str, identity: Secret | None, want: Want
) -> RestoreSource:
    """Return the set ``name`` of the store, or with a ``place`` the copy there.

    ``latest`` is the one that ``want`` describes. A set that is already on this host is used from
    here, if it is intact. Raises Failure where there is none.
    """
    if not place:
        return _of_store(settings, store, name, want)
    here, scratch = inventory.local_store(settings), settings.scratch_dir
    repository = store_elsewhere(settings, place, identity)
    if repository is not None:
        return _of_repository(repository, here, scratch, name, want)
    remote = download.place(settings, place)
    chosen = _choose(name, want, remote.name, lambda: _copies(remote))
    entry = copies.find(remote, chosen.name)
    manifest = download.manifest_of(entry)
    known = download.held(here, manifest)
    fetched = functools.partial(download.fetched, remote, entry.name, scratch, identity)
    if known is not None:
        return _held(known, chosen, fetched)
    download.refuse_locked(remote, entry, identity)
    streamed = functools.partial(
        download.streamed, remote, entry, scratch, identity, by_frames=True
    )
    beside = [part for part in manifest.parts if part not in (LISTING, INDEX)]
    return RestoreSource(
        BackupSet(here.folder / entry.name, manifest, said=entry.said),
        lambda: nullcontext(download.fetch(remote, entry, here, identity)),
        streamed,
        here.folder,
        chosen,
        remote.name,
        streamed if manifest.increment is None else fetched,
        functools.partial(streamed, without=beside) if download.has_frames(entry) else None,
    )


def _of_repository(
    repository: ResticStore, here: LocalStore, scratch: Path, name: str, want: Want
) -> RestoreSource:
    chosen = _choose(name, want, repository.where, lambda: choice.of_store(repository))
    set_ = repository.named(chosen.name)
    known = download.held(here, set_.manifest, repacked=True)
    if known is not None:
        return _held(known, chosen, functools.partial(repository.fetched, set_, scratch))
    streamed = functools.partial(repository.fetched, set_, scratch, [FILES])
    return RestoreSource(
        set_,
        lambda: nullcontext(bring(repository, set_, here)),
        streamed,
        here.folder,
        chosen,
        repository.where,
        streamed,
    )


def _of_store(settings: Settings, store: Store, name: str, want: Want) -> RestoreSource:
    if name == LATEST:
        chosen = choice.choose(choice.of_store(store), want, store.where)
        set_ = store.named(chosen.name)
    else:
        set_ = store.find(name)
        flaws = choice.of_set(set_).flaws
        chosen = Chosen(set_.name, [f"{set_.name}: {flaw.words}" for flaw in flaws])
    if not isinstance(store, ResticStore) or set_.source is None:
        return _here(set_, chosen)
    scratch = settings.scratch_dir
    fetched = functools.partial(store.fetched, set_, scratch)
    streamed = functools.partial(fetched, but=[FILES])
    return RestoreSource(set_, fetched, streamed, scratch, chosen, store.where)


def _choose(name: str, want: Want, where: str, look: Callable[[], list[Found]]) -> Chosen:
    return choice.choose(look(), want, where) if name == LATEST else Chosen(name)


def _copies(remote: Remote) -> list[Found]:
    """Return the copies at a remote; raises Failure where there are none."""
    found = choice.of_remote(remote)
    if not found:
        raise copies.no_copy(remote)
    return found


def _here(set_: BackupSet, chosen: Chosen) -> RestoreSource:
    return RestoreSource(set_, lambda: nullcontext(set_), chosen=chosen)


def _held(known: BackupSet, chosen: Chosen, fetched: Way) -> RestoreSource:
    """Return a set that is on this host too; the copy is ``fetched`` only where this is damaged."""

    @contextmanager
    def way() -> Iterator[BackupSet]:
        problems = [told for link in known.chain for told in damage(link, lent=link is not known)]
        if not problems:
            yield known
            return
        log.warning("Set %s on this host is damaged: %s", known.name, "; ".join(problems))
        with fetched() as set_:
            yield set_

    return RestoreSource(known, way, chosen=chosen)


def near(
    wanted: RestoreSource, site: Site, plan: RestoreOptions
) -> AbstractContextManager[BackupSet]:
    """Make the set available on this host: what is wanted first, or as ``streams`` says."""
    if wanted.index is not None and uploads_later.may_wait(plan, wanted.set.manifest.files.bytes):
        return _first(wanted, site, plan)
    return _at_once(wanted, site, plan)


def _at_once(
    wanted: RestoreSource, site: Site, plan: RestoreOptions
) -> AbstractContextManager[BackupSet]:
    way = streams(wanted, site, plan) or wanted.whole
    return way()


@contextmanager
def _first(wanted: RestoreSource, site: Site, plan: RestoreOptions) -> Iterator[BackupSet]:
    """Fetch what a restore needs before Mattermost starts; its later uploads are fetched later.

    Where no upload may come later, the set comes as otherwise.
    """
    assert wanted.index is not None and wanted.streamed is not None
    with wanted.index() as few:
        later = uploads_later.choose(Look.at(few), site, plan, [])
    if later is None:
        with _at_once(wanted, site, plan) as set_:
            yield set_
        return
    with wanted.streamed() as set_:
        log.info("Fetching the files that come before Mattermost's start")
        uploads_later.fetch(set_, later.without[set_.name].portion)
        yield set_


@contextmanager
def rest(wanted: RestoreSource) -> Iterator[BackupSet]:
    """Make available what the uploads are unpacked from that a restore has left for later."""
    with contextlib.ExitStack() as opened:
        set_ = opened.enter_context(wanted.index()) if wanted.index is not None else None
        if set_ is None or set_.frames is None:
            set_ = opened.enter_context(wanted.whole())
        yield set_


def streams(wanted: RestoreSource, site: Site, plan: RestoreOptions) -> Way | None:
    """Return the way by which uploads are streamed into place; None where it is not taken.

    A set is fetched and verified before Mattermost stops, unless the site is empty or the disk
    cannot hold both: then uploads are streamed, if they come from one archive and go to one disk.
    """
    if wanted.streamed is None or not _comes_once(wanted.set, site, plan):
        return None
    return wanted.streamed if _is_empty(site) or not _has_room(wanted, site, plan) else None


def _comes_once(set_: BackupSet, site: Site, plan: RestoreOptions) -> bool:
    return set_.manifest.increment is None and unpack.comes_once(set_, site, plan)


def _is_empty(site: Site) -> bool:
    try:
        return connection.count_people(site.database) == (0, 0)
    except Failure:
        return True  # there is no such database yet


def _has_room(wanted: RestoreSource, site: Site, plan: RestoreOptions) -> bool:
    """Tell whether the local store has space for the set in addition to the restored data."""
    folder = disk_space.nearest(wanted.into)
    disk, needed = os.stat(folder).st_dev, wanted.set.manifest.bytes + preflight.SPARE
    for place, count in preflight.needs(wanted.set, site, plan).items():
        needed += count if os.stat(place).st_dev == disk else 0
    return disk_space.available(folder) >= needed
