"""The options of a restore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LATEST = "latest"  # stands for the newest set
PARTS = ("database", "files", "config", "sso")


@dataclass(frozen=True)
class RestoreOptions:
    """The parts to put back, and how."""

    parts: tuple[str, ...] = PARTS
    with_etc: bool = False
    safety: bool = True  # back up the current state first
    keep_previous: bool = False
    in_place: bool = False  # delete current data first (disk too small); cannot be rolled back
    search: str = "auto"  # when its indexes are built: now, later, or by the database's size
    uploads: str = "auto"  # when those of earlier days are unpacked: now, later, or by their size
    to: str = ""  # the kind of the site, "" for the default
    replace: bool = False  # what a standalone site holds already
    place: str = ""  # where a copy comes from, "" for a set of the store
    identity: str = ""  # the file with the key that opens it
    named: tuple[str, ...] = ()  # the parts that were asked for by name
    replace_with_empty: bool = False  # live data for which the set has nothing
    accepted: str = ""  # SHA-256 of the manifest.json that the operator agreed to
    proven: bool = False  # its origin; a set in a directory of root's needs no proof

    @classmethod
    def of_journal(cls, request: Mapping[str, Any]) -> RestoreOptions:
        """Return the plan of a restore that was begun; before 0.2 none had to allow a loss."""
        return cls(**{"replace_with_empty": "named" not in request, **request})

    @property
    def with_folders(self) -> bool:
        return "files" in self.parts
