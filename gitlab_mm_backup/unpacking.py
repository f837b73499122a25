"""Where each folder of a set goes on a site whose folders may lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .folders import is_mount
from .site import Folders


@dataclass(frozen=True)
class Move:
    """One folder of the archive, unpacked into the new folder of one exchange."""

    source: str  # absolute path in the set
    role: str  # the exchanged folder of the site: home, or a role that lies elsewhere
    below: PurePosixPath  # place within that folder; "." for the folder itself
    excluded: tuple[str, ...]  # absolute paths in the set that other moves, or nobody, take


def exchanged(folders: Folders) -> dict[str, Path]:
    """Return the site's folders that are exchanged on their own: the home, and each that does
    not simply lie below it on the same file system."""
    home = folders.home
    return {
        role: path
        for role, path in folders.real.items()
        if role == "home" or home not in path.parents or is_mount(path)
    }


def moves(source: Mapping[str, str], target: Folders, never: tuple[str, ...] = ()) -> list[Move]:
    """Return what to unpack where, the home first.

    ``source`` are the set's folders by role; ``never`` are paths in the set that stay out.  A
    role that lies in the home, at the same place, on both sides comes with the home.
    """
    own = exchanged(target)
    apart = [
        role
        for role in source
        if role != "home" and (role in own or not _same_place(role, source, target))
    ]
    planned = []
    for role in ["home", *(role for role in apart if role in target.real)]:
        inside = [source[other] for other in apart if other != role]
        into = role if role in own else "home"
        below = "." if role in own else str(target.real[role].relative_to(target.home))
        excluded = tuple(path for path in (*inside, *never) if _below(path, source[role]))
        planned.append(Move(source[role], into, PurePosixPath(below), excluded))
    return planned


def _same_place(role: str, source: Mapping[str, str], target: Folders) -> bool:
    """Tell whether ``role`` lies below the home at the same relative place on both sides."""
    if role not in target.real or target.home not in target.real[role].parents:
        return False
    there = str(target.real[role].relative_to(target.home))
    return source[role] == f"{source['home'].rstrip('/')}/{there}"


def _below(path: str, folder: str) -> bool:
    return PurePosixPath(folder) in PurePosixPath(path).parents
