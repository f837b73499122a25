"""How a set comes to this host for a restore: as it is, whole first, or its files as they are unpacked."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from . import beside, database, elsewhere, fetching, readiness, remote_store, space, stores
from .errors import Failure
from .plan import Plan
from .secret import Secret
from .settings import Settings
from .site import Site
from .store.local import BackupSet
from .store.restic import ResticStore
from .stores import Store

Way = Callable[[], AbstractContextManager[BackupSet]]


@dataclass(frozen=True)
class Wanted:
    """A set to restore, wherever its parts are."""

    set: BackupSet
    whole: Way  # has all of it on this host
    streamed: Way | None = None  # all but its files; None where it is here
    into: Path = Path("/")  # the folder that it would come to, whole


def find(
    settings: Settings,
    store: Store,
    place: str,
    name: str,
    identity: Secret | None,
    before: datetime | None = None,
) -> Wanted:
    """Return the set ``name`` of the store, or where there is a ``place`` the copy there.

    ``latest`` is the newest made ``before`` a moment.  What has come to this host already is taken
    from here.  Raises Failure where there is none.
    """
    if not place:
        return _of_store(settings, store, name, before)
    here, scratch = stores.local(settings), settings.rehearse_in
    repository = elsewhere.store(settings, place, identity)
    if repository is not None:
        one = repository.latest(before) if name == "latest" else repository.named(name)
        known = fetching.held(here, one.manifest, repacked=True)
        if known is not None:
            return _here(known)
        return Wanted(
            one,
            lambda: nullcontext(elsewhere.bring(repository, one, here)),
            functools.partial(repository.fetched, one, scratch, streamed=True),
            here.folder,
        )
    remote = fetching.place(settings, place)
    entry = remote_store.find(remote, name, before)
    manifest = fetching.manifest_of(entry)
    known = fetching.held(here, manifest)
    if known is not None:
        return _here(known)
    fetching.refuse_locked(remote, entry, identity)
    return Wanted(
        BackupSet(here.folder / entry.name, manifest),
        lambda: nullcontext(fetching.fetch(remote, entry.name, here, identity)),
        functools.partial(fetching.streamed, remote, entry, scratch, identity),
        here.folder,
    )


def _of_store(settings: Settings, store: Store, name: str, before: datetime | None) -> Wanted:
    one = store.latest(before) if name == "latest" else store.find(name)
    if not isinstance(store, ResticStore) or one.source is None:
        return _here(one)
    scratch = settings.rehearse_in
    fetched = functools.partial(store.fetched, one, scratch)
    return Wanted(one, fetched, functools.partial(fetched, streamed=True), scratch)


def _here(one: BackupSet) -> Wanted:
    return Wanted(one, lambda: nullcontext(one))


def near(wanted: Wanted, site: Site, plan: Plan) -> AbstractContextManager[BackupSet]:
    """Have the set near: whole and looked at before Mattermost stops, where that serves anybody.

    Its files come as they are unpacked where nobody uses the Mattermost that is here, and where
    there is no room for both; if they can: in one piece, and not several folders for several disks.
    """
    if wanted.streamed is None or not _comes_once(wanted.set, site, plan):
        return wanted.whole()
    if _is_empty(site) or not _has_room(wanted, site, plan):
        return wanted.streamed()
    return wanted.whole()


def _comes_once(one: BackupSet, site: Site, plan: Plan) -> bool:
    return one.manifest.increment is None and beside.comes_once(one, site, plan)


def _is_empty(site: Site) -> bool:
    try:
        return database.count_people(site.database) == (0, 0)
    except Failure:
        return True  # there is no such database yet


def _has_room(wanted: Wanted, site: Site, plan: Plan) -> bool:
    """Tell whether the folder takes the set beside what becomes of it on the same disk."""
    folder = space.nearest(wanted.into)
    disk, needed = os.stat(folder).st_dev, wanted.set.manifest.bytes + readiness.SPARE
    for place, count in readiness.needs(wanted.set, site, plan).items():
        needed += count if os.stat(place).st_dev == disk else 0
    return space.available(folder) >= needed
