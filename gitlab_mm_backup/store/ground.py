"""The folder of sets: whose it is, what a link in its place leads to, and file systems without owners."""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from pathlib import Path

from ..errors import Failure
from .part import cannot_write

_NOBODY = 65534
_CONFIG = "/etc/gitlab-mm-backup/config.yml"


def refuse_untrusted(folder: Path) -> None:
    """Refuse a folder that somebody else put here: GitLab's backup path belongs to git.

    A link counts where only root can have made it.  Raises Failure; a folder that is not there is
    not refused.
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
            f"{real} is not a folder that belongs to root and that only root can write to",
            f"Look at it; if it is yours: chown root:root {real}; chmod 0700 {real}",
        )


def _followed(folder: Path) -> Path:
    """Return the folder that a link leads to, in one step; raises Failure where it may not."""
    target = Path(os.path.normpath(folder.parent / os.readlink(folder)))
    if os.lstat(folder).st_uid != 0 or not only_roots(folder.parent):
        raise Failure(
            f"{folder} cannot be trusted",
            f"it is a link to {target}, and others than root can change the link",
            _without_link(folder, target),
        )
    if not os.path.lexists(target):
        raise Failure(
            f"{folder} leads to nothing",
            f"{target} is not there; its disk is probably not mounted",
            f"Mount it, or make the folder: install -d -m 0700 {shlex.quote(str(target))}",
        )
    return target


def only_roots(folder: Path) -> bool:
    """Tell whether root alone can change what is in a folder, and the path that leads to it."""
    real = Path(os.path.realpath(folder))
    found = [os.stat(path) for path in (real, *real.parents)]
    return all(one.st_uid == 0 and not one.st_mode & 0o022 for one in found)


def _without_link(folder: Path, target: Path) -> str:
    """Return how to keep sets at ``target`` without the link."""
    if target.name == folder.name:
        return f"Remove the link, and write into {_CONFIG}: backup_path: {target.parent}"
    here, there = shlex.quote(str(folder)), shlex.quote(str(target))
    return (
        f"Mount it in place of the link: rm {here}; install -d -m 0700 {here}; mount --bind {there} "
        f"{here}; and for the next boot in /etc/fstab: {target} {folder} none bind 0 0"
    )


def refuse_open(made: Path) -> None:
    """Refuse a disk on which ``made``, a folder made for root alone (0700), is not root's alone."""
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
        f"its file system ({kind}) keeps no owners and modes: a folder of root's alone has mode {mode}",
        f"Mount it with the options {options}; or keep the sets on another disk, and copy them there "
        f"encrypted: offsite in {_CONFIG}.",
    )


def cannot_use(path: Path, error: OSError) -> Failure:
    """Return what to tell where a folder of sets, or one in it, cannot be made."""
    refused = error.errno in (errno.EACCES, errno.EPERM)
    return squashed(path) if refused and _is_nfs(path) else cannot_write(path, error)


def _squashed(path: Path, owner: int) -> bool:
    return owner == _NOBODY or _is_nfs(path)


def _is_nfs(path: Path) -> bool:
    return file_system(path).startswith("nfs")


def squashed(folder: Path) -> Failure:
    """Return what to tell of a folder where root is nobody."""
    chown = f"chown root:root {folder}; chmod 0700 {folder}"
    return Failure(
        f"{folder} cannot be trusted",
        "it does not belong to root: on NFS with root_squash what root makes belongs to nobody",
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
