"""How a command was asked to speak, and where its settings are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.settings import Settings, Value
from ..store.inventory import Store

if TYPE_CHECKING:
    from ..config.settings import Settings, Value
    from ..store.inventory import Store

JOBS = ("backup", "restore", "rehearse", "prune", "sso repair")


@dataclass(frozen=True)
class Manner:
    """How a command was asked to speak, and the settings file."""

    command: str
    as_json: bool
    quiet: bool
    verbose: bool
    config: Path | None  # None: the usual one, which need not be there

    def __post_init__(self) -> None:
        """Have whoever reads settings by itself, far below, read the same file."""
        if self.config:
            from ..config import settings

            settings.use(self.config)

    @property
    def job(self) -> bool:
        """Tell whether the command does what metrics and notices tell of."""
        return self.command in JOBS

    def load_everything(self) -> None:
        """Have all that a job may need in memory: an upgrade of the package cannot break it then."""
        from . import preload

        preload.everything()

    def begin(self, ours: Settings) -> None:
        """Tell those who want to know that the job itself begins now."""
        from ..health import notify

        notify.begin(self.command, ours)

    def settings(self) -> Settings:
        """Return the settings, read once; a file that was named must be there."""
        return self._settings

    def store(self) -> Store:
        """Return the store that the settings name, one for the whole run: what it knows it keeps."""
        return self._store

    @functools.cached_property
    def _settings(self) -> Settings:
        from ..config.settings import load
        from ..system import disk_space

        ours = load(required=self.config is not None)
        disk_space.leave(ours.min_free)
        return ours

    @functools.cached_property
    def _store(self) -> Store:
        from ..config import identity
        from ..store import inventory

        if self.job:
            identity.own()  # whoever makes, restores or removes sets has an id
        return inventory.open_store(self.settings())

    def values(self) -> list[Value]:
        """Read the settings, each value with where it comes from; as ``settings`` does."""
        from ..config.settings import look

        return look(required=self.config is not None)
