"""Where each folder of a set goes on a site whose folders may lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..mattermost.site import Folders
from ..system.disk_space import is_mount


@dataclass(frozen=True)
class Move:
    """One folder of the archive, unpacked into the new folder of one exchange."""

    source: str  # absolute path in the set
    role: str  # the exchanged folder of the site: home, or a role that lies elsewhere
    below: PurePosixPath  # place within that folder; "." for the folder itself
    excluded: tuple[str, ...]  # absolute paths in the set that other moves, or nobody, take


def exchanged(folders: Folders) -> dict[str, Path]:
    """Return the site's folders that are exchanged on their own.

    The home, and each that does not simply lie below another of them on the same file system.
    """
    chosen = {"home": folders.home}
    for role, path in sorted(folders.real.items(), key=lambda one: len(one[1].parts)):
        inside = any(outer == path or outer in path.parents for outer in chosen.values())
        if not inside or (role != "home" and is_mount(path)):
            chosen[role] = path
    return chosen


def moves(source: Mapping[str, str], target: Folders, never: tuple[str, ...] = ()) -> list[Move]:
    """Return what to unpack where, an outer folder before what comes into it.

    ``source`` are the set's folders by role; ``never`` are paths in the set that stay out.  A
    role that lies at the same place in its outer folder on both sides comes with that.
    """
    own = exchanged(target)
    known = [role for role in source if role in target.real]
    apart = [role for role in known if role in own or not _comes_along(role, source, target, own)]
    # What lies within a folder that is moved on its own, on either side, is moved on its own too.
    for role in sorted(known, key=lambda role: len(target.real[role].parts)):
        if role not in apart and any(
            target.real[other] in target.real[role].parents or _below(source[role], source[other])
            for other in apart
            if other != _outer(role, target, own)
        ):
            apart.append(role)
    apart.sort(key=lambda role: (role != "home", len(target.real[role].parts)))
    planned = []
    for role in apart:
        outer = _outer(role, target, own)
        below = PurePosixPath(target.real[role].relative_to(own[outer]))
        taken = [source[other] for other in apart if other != role]
        filled = [_filled(role, other, source, target) for other in apart if other != role]
        out = dict.fromkeys((*taken, *filled, *never))
        excluded = tuple(path for path in out if _below(path, source[role]))
        planned.append(Move(source[role], outer, below, excluded))
    return planned


def _outer(role: str, target: Folders, own: Mapping[str, Path]) -> str:
    """Return the exchanged folder that ``role`` comes into: itself, or the nearest around it."""
    if role in own:
        return role
    around = [name for name, path in own.items() if path in target.real[role].parents]
    return max(around, key=lambda name: len(own[name].parts))


def _comes_along(
    role: str, source: Mapping[str, str], target: Folders, own: Mapping[str, Path]
) -> bool:
    """Tell whether ``role`` lies at the same place in its outer folder on both sides."""
    outer = _outer(role, target, own)
    there = target.real[role].relative_to(own[outer])
    return outer in source and source[role] == f"{source[outer].rstrip('/')}/{there}"


def _filled(role: str, other: str, source: Mapping[str, str], target: Folders) -> str:
    """Return what of ``role`` in the set would lie where ``other`` comes to lie here."""
    if target.real[role] not in target.real[other].parents:
        return ""
    return f"{source[role].rstrip('/')}/{target.real[other].relative_to(target.real[role])}"


def _below(path: str, folder: str) -> bool:
    return PurePosixPath(folder) in PurePosixPath(path).parents
