"""Which store the settings name."""

from __future__ import annotations

from typing import Union

from ..config import identity
from ..config.settings import Settings
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
