"""Which store the settings name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

from ..config import identity
from ..config.settings import Settings
from ..offsite import ledger
from . import lineage
from .local import LocalStore
from .restic_store import ResticStore

Store = Union[LocalStore, ResticStore]


def of(settings: Settings) -> Store:
    """Return the store that ``settings`` name, as this host sees it."""
    if settings.store == "restic":
        return ResticStore(settings.restic, identity.known(), settings.bandwidth)
    return local(settings)


def local(settings: Settings) -> LocalStore:
    """Return the folder of sets that ``settings`` name, whatever the store."""
    return LocalStore(settings.sets, marked=True)


def newest_elsewhere(store: Store, remotes: Iterable[str]) -> dict[str, float | None]:
    """Return when the newest set was begun that is at each place outside of this host.

    In seconds since 1970, None where there is no set, by ``remotes``; a store that is itself such a
    place is called restic.
    """
    here = identity.known()
    found = ledger.newest(remotes, here)
    if isinstance(store, ResticStore) and store.repository.elsewhere:
        sets = lineage.own(here, store.sets())
        moments = [one.manifest.made for one in sets if not one.manifest.safety]
        found["restic"] = max((one.timestamp() for one in moments), default=None)
    return found
