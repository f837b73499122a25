"""Directories of sets and copies: markers that detect an unmounted disk, and trust.

The marker is a file whose name holds a random id; a listing of the directory shows it. This host
records the id of each directory that it has used. A directory is trusted where root owns it and
root alone can change it, or a link to it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shlex
import stat
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
_NOBODY = 65534
_CONFIG = "/etc/gitlab-mm-backup/config.yml"


@dataclass(frozen=True)
class Place:
    """A directory or remote that this host has used."""

    id: str  # in the name of its mark
    name: str  # of the remote, "" for a folder of sets


def noted(path: Path = NOTES) -> Mapping[str, Place]:
    """Return the recorded directories by their path; raises Failure."""
    try:
        found: dict[str, Place] = files.read_state(path, _PLACES)
        return found
    except FileNotFoundError:
        return {}
    except files.unreadable_state as error:
        raise Failure(
            f"{path} cannot be read",
            str(getattr(error, "strerror", None) or "it is not a file of gitlab-mm"),
            "It lists the marker files by which this host recognizes its backup directories. Check that "
            "their disks are mounted, then remove it; it is written again.",
        ) from None


def insist(place: str, names: Iterable[str], path: Path = NOTES) -> None:
    """Raise Failure where ``place``, which holds files ``names``, is not the one used before.

    A directory that was never used passes.
    """
    known = noted(path).get(place)
    if known is not None and known.id not in _ids(names):
        raise not_the_one(place, f"the mark {_START}{known.id[:8]}… is not in it")


def not_the_one(place: str, detail: str) -> Failure:
    """Return the failure for a directory without its former marker."""
    why = "its disk is probably not mounted"
    way = "Mount it, then try again; nothing was written."
    if not place.startswith("/"):
        why = "it was replaced or emptied, or a disk there is not mounted"
        way = "Check it, then try again; nothing was written."
    return Failure(
        f"{place} is not the place that was used before",
        f"{detail}; {why}",
        f"{way} If it was replaced or emptied on purpose: gitlab-mm place forget "
        f"{shlex.quote(place)}",
    )


def mark_for(names: Iterable[str]) -> tuple[str, bool]:
    """Return the name of the marker for a directory, and whether it must be created.

    A marker of another host, or of this one before a reinstallation, is kept.
    """
    there = sorted(_ids(names))
    return _START + (there[0] if there else secrets.token_hex(16)), not there


def note(place: str, name: str, mark: str, path: Path = NOTES) -> None:
    """Record that ``place`` has ``mark``; raises Failure."""
    _keep({**noted(path), place: Place(mark[len(_START) :], name)}, path)


def use(folder: Path, path: Path = NOTES) -> None:
    """Mark the existing directory of sets ``folder`` at its first use."""
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
    """Tell whether the marker is missing at an absolute path (disk not mounted); raises Failure."""
    known = noted(path).get(place)
    return known is not None and known.id not in _ids(names_in(Path(place)))


def names_in(folder: Path) -> list[str]:
    """Return the names in a directory, none where it does not exist; raises Failure."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Failure(f"{folder} cannot be read", str(error.strerror)) from error


def forget(wanted: str, path: Path = NOTES) -> list[str]:
    """Forget a directory by its path or the remote's name; return its recorded paths.

    Its content stays. The next use takes the marker that it finds, or creates one. Raises Failure.
    """
    known = noted(path)
    found = [mark for mark, place in known.items() if wanted in (mark, place.name)]
    if found:
        _keep({mark: place for mark, place in known.items() if mark not in found}, path)
    return found


def _keep(known: Mapping[str, Place], path: Path) -> None:
    files.write_state(path, {place: asdict(mark) for place, mark in known.items()})


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


def cannot_write(path: Path, error: OSError) -> Failure:
    """Return the failure for a part that cannot be written."""
    return Failure(
        f"{path} cannot be written",
        str(error.strerror),
        "Free space, or set another directory (backup_path in /etc/gitlab-mm-backup/config.yml).",
    )


def refuse_untrusted(folder: Path) -> None:
    """Refuse a directory that another account created: GitLab's backup path belongs to git.

    A link is accepted only where root alone can have made it. Raises Failure; a missing directory
    is not refused.
    """
    try:
        status = os.lstat(folder)
        real = _followed(folder) if stat.S_ISLNK(status.st_mode) else folder
        status = os.lstat(real)
    except (FileNotFoundError, NotADirectoryError):
        return
    if status.st_uid != 0 and _squashed(real, status.st_uid):
        raise squashed(folder)
    if status.st_uid != 0 or status.st_mode & 0o022 or not stat.S_ISDIR(status.st_mode):
        raise Failure(
            f"{folder} cannot be trusted",
            f"{real} must belong to root, and only root may write to it",
            f"Check it. If it is yours: chown root:root {real}; chmod 0700 {real}",
        )


def _followed(folder: Path) -> Path:
    """Return the target of a link to a directory, one step; raises Failure if it is not trusted."""
    target = Path(os.path.normpath(folder.parent / os.readlink(folder)))
    if os.lstat(folder).st_uid != 0 or not only_roots(folder.parent):
        raise Failure(
            f"{folder} cannot be trusted",
            f"it is a link to {target}, and others than root can change the link",
            _without_link(folder, target),
        )
    if not os.path.lexists(target):
        raise Failure(
            f"{folder} is a broken link",
            f"{target} does not exist; its disk is probably not mounted",
            f"Mount it, or create the directory: install -d -m 0700 {shlex.quote(str(target))}",
        )
    return target


def only_roots(folder: Path) -> bool:
    """Tell whether root alone can change a directory's content and the path to it."""
    real = Path(os.path.realpath(folder))
    found = [os.stat(path) for path in (real, *real.parents)]
    return files.led_by_root(folder) and all(
        status.st_uid == 0 and not status.st_mode & 0o022 for status in found
    )


def _without_link(folder: Path, target: Path) -> str:
    """Return the advice for keeping sets at ``target`` without the link."""
    if target.name == folder.name:
        return f"Remove the link, and write into {_CONFIG}: backup_path: {target.parent}"
    here, there = shlex.quote(str(folder)), shlex.quote(str(target))
    return (
        f"Mount it in place of the link: rm {here}; install -d -m 0700 {here}; mount --bind {there} "
        f"{here}; and for the next boot in /etc/fstab: {target} {folder} none bind 0 0"
    )


def refuse_open(made: Path) -> None:
    """Refuse a file system on which ``made``, created with mode 0700 for root, has another mode."""
    status = os.lstat(made)
    if status.st_uid != 0 and _squashed(made, status.st_uid):
        raise squashed(made.parent)
    if status.st_uid == 0 and not status.st_mode & 0o077:
        return
    kind = file_system(made)
    mode = f"{stat.S_IMODE(status.st_mode):04o}, user {status.st_uid}"
    options = "uid=0,gid=0,umask=0077"
    if kind in ("cifs", "smb3"):
        options = "uid=0,gid=0,file_mode=0600,dir_mode=0700"
    raise Failure(
        f"Others could read the sets in {made.parent}",
        f"its file system ({kind}) has no owners and modes: a directory for root alone has mode {mode}",
        f"Mount it with the options {options}; or keep the sets on another disk, and copy them there "
        f"encrypted: offsite in {_CONFIG}.",
    )


def cannot_use(path: Path, error: OSError) -> Failure:
    """Return the failure for a directory of sets that cannot be created."""
    refused = error.errno in (errno.EACCES, errno.EPERM)
    return squashed(path) if refused and _is_nfs(path) else cannot_write(path, error)


def _squashed(path: Path, owner: int) -> bool:
    return owner == _NOBODY or _is_nfs(path)


def _is_nfs(path: Path) -> bool:
    return file_system(path).startswith("nfs")


def squashed(folder: Path) -> Failure:
    """Return the failure for a directory where root's files belong to nobody (NFS root_squash)."""
    chown = f"chown root:root {folder}; chmod 0700 {folder}"
    return Failure(
        f"{folder} cannot be trusted",
        "it does not belong to root; on NFS with root_squash, root's files belong to nobody",
        "On NFS: export it with no_root_squash (exports(5)); or keep the sets on a disk of this host "
        f"(backup_path) and copy them there, by this line in {_CONFIG}: offsite: [{{remote: {folder}}}]. "
        f"On a disk of this host, if the folder is yours: {chown}",
    )


def file_system(path: Path) -> str:
    """Return the type of the file system that ``path`` is on (proc(5), mountinfo), "" if not known."""
    real, best, kind = os.path.realpath(path), "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            found = re.sub(
                r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]
            )
            inside = real == found or real.startswith(found.rstrip("/") + "/")
            if inside and len(found) >= len(best):
                best, kind = found, after.split(" ")[0]
    return kind
