"""Places that hold sets and copies: each bears a mark, so that an unmounted disk is no empty one.

The mark is a file whose name holds a random id.  Whoever lists the place sees it; nothing more has to
be asked for it.  This host notes which id it found or made where.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import Failure
from ..system import files, validation
from ..system.files import STATE, replace_file

NOTES = STATE / "places.json"
CONTENT = (
    b"gitlab-mm-backup knows this place, where it keeps backup sets, by the name of this file.\n"
    b"Leave it here, and move it with the sets.\n"
)
_START = ".place-of-gitlab-mm-"
_MARK = re.compile(rf"{re.escape(_START)}([0-9a-f]{{32}})")


@dataclass(frozen=True)
class Place:
    """A place that this host has used."""

    id: str  # in the name of its mark
    name: str  # of the remote, "" for a folder of sets


def noted(path: Path = NOTES) -> Mapping[str, Place]:
    """Return every place that this host has used, by its path; raises Failure."""
    try:
        found: dict[str, Place] = files.read_state(path, _PLACES)
        return found
    except FileNotFoundError:
        return {}
    except files.unreadable_state as error:
        raise Failure(
            f"{path} cannot be read",
            str(getattr(error, "strerror", None) or "it is no file of this program"),
            "It says by which marks this host knows the places of its sets. See that their disks are "
            "mounted, then remove it: the marks are noted again.",
        ) from None


def insist(place: str, names: Iterable[str], path: Path = NOTES) -> None:
    """Raise Failure where ``place``, in which files with these ``names`` are, is not that of before.

    A place that this host has not used yet is none of before.
    """
    known = noted(path).get(place)
    if known is not None and known.id not in _ids(names):
        raise not_the_one(place, f"the mark {_START}{known.id[:8]}… is not in it")


def not_the_one(place: str, detail: str) -> Failure:
    """Return what to tell where a place has not what it had before."""
    why = "its disk is probably not mounted"
    way = "Mount it, then try again; nothing was written."
    if not place.startswith("/"):
        why = "it was replaced or emptied, or a disk there is not mounted"
        way = "Look at it there, then try again; nothing was written."
    return Failure(
        f"{place} is not the place that was used before",
        f"{detail}; {why}",
        f"{way} Where the place was replaced, or emptied, on purpose: gitlab-mm place forget "
        f"{shlex.quote(place)}",
    )


def mark_for(names: Iterable[str]) -> tuple[str, bool]:
    """Return the name of the mark for a place with these files, and whether it has to be made.

    A place that another host, or this one before a reinstallation, has marked keeps that mark.
    """
    there = sorted(_ids(names))
    return _START + (there[0] if there else secrets.token_hex(16)), not there


def note(place: str, name: str, mark: str, path: Path = NOTES) -> None:
    """Note that ``place`` bears ``mark``; raises Failure."""
    _keep({**noted(path), place: Place(mark[len(_START) :], name)}, path)


def use(folder: Path, path: Path = NOTES) -> None:
    """Mark the folder of sets ``folder``, which is there, when it is used for the first time."""
    if str(folder) in noted(path):
        return
    mark, new = mark_for(names_in(folder))
    if new:
        try:
            replace_file(folder / mark, CONTENT)
        except OSError as error:
            raise Failure(f"{folder / mark} cannot be written", str(error.strerror)) from error
    note(str(folder), "", mark, path)


def away(place: str, path: Path = NOTES) -> bool:
    """Tell whether a place at an absolute path lacks its mark: its disk is not mounted; raises Failure."""
    known = noted(path).get(place)
    return known is not None and known.id not in _ids(names_in(Path(place)))


def names_in(folder: Path) -> list[str]:
    """Return what is in a folder of this host, nothing where it is not there; raises Failure."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Failure(f"{folder} cannot be read", str(error.strerror)) from error


def forget(wanted: str, path: Path = NOTES) -> list[str]:
    """Forget a place, by its path or the name of the remote; return the paths that were known so.

    What is there stays.  The next use takes the mark that it finds, or makes one.  Raises Failure.
    """
    known = noted(path)
    found = [one for one, place in known.items() if wanted in (one, place.name)]
    if found:
        _keep({one: place for one, place in known.items() if one not in found}, path)
    return found


def _keep(known: Mapping[str, Place], path: Path) -> None:
    files.write_state(path, {place: asdict(one) for place, one in known.items()})


def _ids(names: Iterable[str]) -> set[str]:
    return {found[1] for name in names if (found := _MARK.fullmatch(name))}


def _id(value: object) -> str:
    if not _MARK.fullmatch(f"{_START}{validation.text(value)}"):
        raise ValueError("not the id of a place")
    return str(value)


_PLACES = validation.each(
    validation.bytes_as_text,
    lambda value: Place(**validation.members(value, {"id": _id, "name": validation.text})),
)
