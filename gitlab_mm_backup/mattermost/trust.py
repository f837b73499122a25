"""Trust: the directories in which root works, and links that their owner could change.

Through a link that the service's account can change, it would choose what root packs, replaces or
gives away. So a link is followed only where it is root's and root alone can change it, or where
config.yml names its target.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from ..config import settings
from ..container import view
from ..errors import Failure
from .journal import Journal

_LINKS = 40  # that are followed on the way to a directory, as Linux does (path_resolution(7))
# Never a directory of Mattermost, whoever owns it.
_SYSTEM = frozenset(
    Path(f"/{name}")
    for name in (
        *("", "bin", "boot", "etc", "home", "lib", "lib64", "opt", "root", "run", "sbin", "tmp"),
        *("usr", "usr/local", "var", "var/lib", "var/log", "var/opt", "var/tmp"),
        *("etc/gitlab", "opt/gitlab", "var/opt/gitlab"),
    )
)
_KERNEL = frozenset(map(Path, ("/dev", "/proc", "/sys")))  # nothing below them either


def real(
    configured: Mapping[str, Path], account: str, by_account: Collection[str] = ()
) -> dict[str, Path]:
    """Return the directory of each role, links resolved; raises Failure for an untrusted one.

    Untrusted: a link of another account, a system or GitLab directory, and one that is not the
    ``account``'s. Root's is allowed, as for a mount point without its disk, unless its role is in
    ``by_account``: then the account's own config.json names it. A path that does not exist is
    returned unchanged.
    """
    owner, found = _number(account), {}
    for role, path in configured.items():
        there = followed(role, path, account)
        found[role] = there
        if there in _SYSTEM or any(
            system == there or system in there.parents for system in _KERNEL
        ):
            raise Failure(
                f"{path} cannot be Mattermost's directory ({role})",
                f"it is {there}, a system directory" if there != path else "",
                "Set another directory in Mattermost's settings, or restore the directory.",
            )
        if view.outside(there):
            raise Failure(
                f"{path} cannot be Mattermost's directory ({role})",
                f"it is {there}, which is in no volume of the container that is seen here",
                "Give the container a volume for it, at a path that this host does not have.",
            )
        if owner is not None:
            owners = {owner} if role in by_account and not _shut(there) else {owner, 0}
            _refuse_others(role, there, owners, account)
    return found


def _number(account: str) -> int | None:
    """Return the uid of an account; None for an unknown one."""
    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        return int(account) if account.isdecimal() else None


def _shut(path: Path) -> bool:
    """Tell whether an interrupted restore has taken ``path`` from the account."""
    record = Journal().read()
    return record is not None and any(step.values.get("path") == str(path) for step in record.undo)


def _refuse_others(role: str, path: Path, owners: Collection[int], account: str) -> None:
    try:
        found = os.stat(path).st_uid
    except OSError:
        return
    if found in owners or _is_allowed(path):
        return
    raise Failure(
        f"{path} cannot be Mattermost's directory ({role})",
        f"it belongs to user {_name(found)}, not to {account}",
        f"chown {account} {path}, or, to allow it, {_permission(path)}.",
    )


def followed(role: str, path: Path, account: str) -> Path:
    """Return the target of ``path``; raises Failure at a link that another account can change.

    A name may change after each look, so nothing is resolved twice.
    """
    at, rest, links = Path("/"), list(path.parts[1:]), 0
    while rest:
        place = _next(at, rest)
        try:
            status, target = _looked_at(place)
        except OSError:  # nothing is there, or no longer what was
            return Path(os.path.normpath(place.joinpath(*rest)))
        if not target:
            at = place
            continue
        links += 1
        if links > _LINKS:
            raise Failure(
                f"{path} cannot be Mattermost's directory ({role})",
                f"its path goes through more than {_LINKS} links",
                "Set the directory itself in Mattermost's settings.",
            )
        led = Path(os.path.realpath(at / target))
        if not led.exists():
            return led
        if _is_roots(status) and (_is_roots(os.lstat(at)) or _is_read_only(at)):
            at = Path("/") if target.startswith("/") else at
            rest = target.split("/") + rest
        elif _is_allowed(led):
            at, rest = Path("/"), [*led.parts[1:], *rest]
        else:
            raise Failure(
                f"Mattermost's directory {path} ({role}) is behind a link that is not followed",
                f"{place} leads to {led}, and {account} can change that link",
                f"To allow it: {_permission(led)}. Or replace the link by the directory.",
            )
    return at


def roots_alone(path: Path) -> Path | None:
    """Return the target of ``path``; None where an account other than root can change it."""
    at, rest, links = Path("/"), list(path.parts[1:]), 0
    while rest:
        place = _next(at, rest)
        try:
            status, target = _looked_at(place)
        except OSError:
            return None
        links += bool(target)
        if links > _LINKS or not _is_of_root(status):
            return None
        at = place if not target else Path("/") if target.startswith("/") else at
        rest = [*(target.split("/") if target else ()), *rest]
    return at


def _next(at: Path, rest: list[str]) -> Path:
    """Take the first name off ``rest``, and resolve it in the directory ``at``."""
    name = rest.pop(0)
    return at.parent if name == ".." else at / name


def _looked_at(place: Path) -> tuple[os.stat_result, str]:
    """Return a file's status and the target of a link; raises OSError for a missing one."""
    status = os.lstat(place)
    return status, os.readlink(place) if stat.S_ISLNK(status.st_mode) else ""


def _is_of_root(status: os.stat_result) -> bool:
    """Tell whether root alone can change it, or root's entries in it.

    Root's own group may, as Omnibus sets up /etc/gitlab; in a sticky directory like /tmp others
    cannot.
    """
    group_writes = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    others_write = group_writes or status.st_mode & stat.S_IWOTH
    shielded = stat.S_ISLNK(status.st_mode) or (
        stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    )
    return status.st_uid == 0 and bool(shielded or not others_write)


def _is_roots(status: os.stat_result) -> bool:
    """Tell whether root alone can change it; a link's own mode says nothing."""
    open_ = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == 0 and (stat.S_ISLNK(status.st_mode) or not status.st_mode & open_)


def _is_read_only(folder: Path) -> bool:
    """Tell whether the file system is read-only, so that no link can be replaced."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _is_allowed(path: Path) -> bool:
    return any(
        path == allowed or allowed in path.parents for allowed in settings.load().allow_links
    )


def _permission(path: Path) -> str:
    return f"allow_links: [{path}] in {settings.file()}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
