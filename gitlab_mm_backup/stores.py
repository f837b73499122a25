"""Which store the settings name."""

from __future__ import annotations

from typing import Union

from .settings import Settings
from .store.local import LocalStore
from .store.restic import ResticStore

Store = Union[LocalStore, ResticStore]


def of(settings: Settings) -> Store:
    """Return the store that ``settings`` name."""
    if settings.store == "restic":
        return ResticStore(settings.restic, settings.bandwidth)
    return LocalStore(settings.sets)
