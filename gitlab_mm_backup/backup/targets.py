"""Targets of links in /etc/gitlab: files of others, such as a configuration management."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import Failure
from ..mattermost import trust
from ..store.archive_writer import Survey, member_name
from ..system import process
from ..system.process import Command

_DIRECTORIES = ("ssl", "trusted-certs")  # of which GitLab reads whatever lies there
_LARGEST = 1 << 20  # bytes of a file of settings, or of a key


def find(etc: Path, survey: Survey) -> dict[Path, Path]:
    """Return the files to pack in place of links that lead out of ``etc``: place -> file.

    Small files that root alone can change, and all of ssl and trusted-certs where these are links
    to directories of such files.
    """
    found: dict[Path, Path] = {}
    for link in map(Path, survey.links_out):
        inside = [link]
        if link.parent == etc and link.name in _DIRECTORIES and link.is_dir():
            inside = [link / name for name in os.listdir(link)]
        files = [file_of(place) for place in inside]
        if all(files):
            found.update((place, file) for place, file in zip(inside, files) if file is not None)
    return found


def file_of(place: Path) -> Path | None:
    """Return the file at ``place``, links followed; None where root alone cannot have made it.

    Also None for anything but a small regular file.
    """
    file = trust.roots_alone(place)
    if file is None or not file.is_file() or file.stat().st_size > _LARGEST:
        return None
    return file


def copy(found: Mapping[Path, Path], into: Path) -> Iterator[str]:
    """Copy the files below ``into`` by their names from the root; yield these names."""
    for place, file in found.items():
        there = into / member_name(place)
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"{there.parent} cannot be made", str(error.strerror)) from error
        process.run(Command(["cp", "--archive", "--", str(file), str(there)]))
        yield member_name(place)


def without(survey: Survey, found: Mapping[Path, Path]) -> Survey:
    """Return the survey without the links that are replaced by files."""
    taken = {str(above) for place in found for above in (place, *place.parents)}
    links = {link: to for link, to in survey.links_out.items() if link not in taken}
    return replace(survey, links_out=links)


def replaced(live: Path, staged: Path, excluded: Path) -> list[str]:
    """Return, as text, which links in ``live`` are files or directories in ``staged``."""
    words = []
    for folder, names, others in os.walk(live):
        names[:] = [name for name in names if Path(folder, name) != excluded]
        for path in (Path(folder, name) for name in (*names, *others)):
            new = staged / path.relative_to(live)
            if path.is_symlink() and new.exists() and not new.is_symlink():
                words.append(
                    f"{path} was a link to {os.readlink(path)!r}, and is a copy of what it led to when "
                    "the set was made: create the link again if it is managed elsewhere"
                )
    return words
