"""What a restore is to do."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("database", "files", "config", "sso")


@dataclass(frozen=True)
class Plan:
    """The parts to put back, and how."""

    parts: tuple[str, ...] = PARTS
    with_etc: bool = False
    safety: bool = True  # a set of the present state first
    keep_previous: bool = False
    in_place: bool = False  # remove what is live first, for want of room; without undo
    search: str = "auto"  # when its indexes are built: now, later, or by the database's size
    to: str = ""  # the kind of the site, "" for the one that is meant where nobody says it
    replace: bool = False  # what a standalone site holds already
    place: str = ""  # where a copy comes from, "" for a set of the store
    identity: str = ""  # the file with the key that opens it

    @property
    def with_folders(self) -> bool:
        return "files" in self.parts
