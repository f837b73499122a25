"""What a site lacks: directories, mounts and uploads, compared with its last set."""

from __future__ import annotations

import enum
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..errors import Failure
from ..mattermost.site import Folders, Site
from ..postgresql.contents import Upload
from ..store import archive_writer
from ..store.manifest import Contents, Manifest
from ..system import disk_space, files, humanize, sandbox

_DATA = "data"
_EXAMPLES = 3  # named of the uploads that are missing
_LINKS = 40  # that are followed on the way to a file, as Linux does (path_resolution(7))
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

StillNamed = Callable[[Iterable[Upload]], "set[str]"]


class Place(enum.Enum):
    """The place of an upload."""

    THERE = "there"
    MISSING = "missing"
    OUTSIDE = "outside"  # behind a link that leads out of what is packed
    UNKNOWN = "unknown"  # not looked for, or the disk does not tell


def last_of(sets: Iterable[Manifest], installation: str) -> Manifest | None:
    """Return the first of ``sets`` that may be of ``installation``; None without one."""
    return next(
        (
            set_
            for set_ in sets
            if not set_.installation or not installation or set_.installation == installation
        ),
        None,
    )


def told(
    site: Site,
    last: Manifest | None,
    people: Contents | None,
    uploads: Sequence[Upload],
    still_named: StillNamed,
) -> list[str]:
    """Return, as text, what is missing on disk.

    ``last`` is the set before this one, ``people`` the counts of the database, and ``uploads`` a
    sample of its uploads.
    """
    if site.missing is not None:  # a salvage reports missing directories itself
        last = None
    problems = _directories(site, last)
    words = [_directory_words(site, last, people, role, what) for role, what in problems.items()]
    words += _mount_words(site.folders)
    if site.missing is None and not _readable(site.config_file, site.account.user):
        words.append(
            f"{str(site.config_file)!r} cannot be read by {site.account.user}, so Mattermost does not start "
            "again, here or after a restore of this set: chown it to that account"
        )
    if _local(site) and _DATA not in problems and site.folders.real[_DATA].is_dir():
        words += _upload_words(site.folders, uploads, still_named)
    return words


def _readable(path: Path, user: str) -> bool:
    """Tell whether the account may read ``path``, by owner and mode; True with an ACL."""
    try:
        facts, account = path.lstat(), sandbox.account_entry(user)
        if "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False):
            return True
    except (OSError, Failure):  # reported by the code that reads it
        return True
    if facts.st_uid == account.pw_uid:
        return bool(facts.st_mode & stat.S_IRUSR)
    if facts.st_gid in os.getgrouplist(user, account.pw_gid):
        return bool(facts.st_mode & stat.S_IRGRP)
    return bool(facts.st_mode & stat.S_IROTH)


def _local(site: Site) -> bool:
    """Tell whether Mattermost keeps uploads in its data directory."""
    return site.settings.text("FileSettings", "DriverName").lower() in ("", "local")


def _directories(site: Site, last: Manifest | None) -> dict[str, list[str]]:
    """Return the problems of directories by role: compared with the last set, or in any case."""
    found = {}
    for role, path in site.folders.real.items():
        problems = [_unusable(site, last, role) or _emptied(last, role, path)]
        if last and role in last.files.mounted and not disk_space.is_mount(path):
            problems.append("has nothing mounted at it")
        found[role] = [problem for problem in problems if problem]
    return {role: problems for role, problems in found.items() if problems}


def _unusable(site: Site, last: Manifest | None, role: str) -> str:
    """Return why ``role`` has no directory, where it had or needs one; else ""."""
    configured, real = site.folders.configured[role], site.folders.real[role]
    if real.is_dir():
        return ""
    if os.path.lexists(configured) and not os.path.exists(configured):
        return f"is a link to {str(real)!r}, which does not exist"
    if os.path.lexists(real):
        return "is not a directory"
    wanted = role == _DATA and _local(site) and site.missing is None
    return "is missing" if wanted or (last and role in last.files.folders) else ""


def _emptied(last: Manifest | None, role: str, path: Path) -> str:
    was_filled = last is not None and role in (last.files.filled or ())
    return "is empty" if was_filled and not files.filled(path) else ""


def _directory_words(
    site: Site, last: Manifest | None, people: Contents | None, role: str, problems: Sequence[str]
) -> str:
    path = str(site.folders.configured[role])
    words = f"The directory {path!r} ({role}) {' and '.join(problems)}"
    if last is not None and role in last.files.folders:
        words += f"; in set {last.name} this was not the case"
    if role == _DATA and _local(site) and people is not None and people.uploads:
        words += f"; the database names {humanize.number(people.uploads, 'upload')}"
    return words


def _mount_words(known: Folders) -> list[str]:
    """Report each unmounted mount point of fstab at, above or below one of the directories."""
    words = []
    for mount in disk_space.unmounted():
        roles = [
            role
            for role, path in known.real.items()
            if any(_related(mount, place) for place in (path, known.configured[role]))
        ]
        if roles:
            words.append(
                f"Nothing is mounted at {str(mount)!r}, which is in /etc/fstab: Mattermost's "
                f"{', '.join(roles)} would be there"
            )
    return words


def _related(mount: Path, path: Path) -> bool:
    return mount == path or mount in path.parents or path in mount.parents


def _upload_words(known: Folders, uploads: Sequence[Upload], still_named: StillNamed) -> list[str]:
    """Report uploads of the database that the set cannot contain."""
    roots = archive_writer.outermost(path for path in known.real.values() if path.is_dir())
    places = {upload: find(known.real[_DATA], roots, upload.path) for upload in uploads}
    looked = sum(place is not Place.UNKNOWN for place in places.values())
    suspects = [upload for upload in uploads if places[upload] in (Place.MISSING, Place.OUTSIDE)]
    if not suspects:
        return []
    try:  # they may have been deleted since the snapshot
        named = still_named(suspects)
    except Failure:
        named = {upload.id for upload in suspects}
    kinds = {
        Place.MISSING: "are missing on disk",
        Place.OUTSIDE: "lie behind a link that leads out of Mattermost's directories, and are not "
        "in the set",
    }
    words = []
    for kind, what in kinds.items():
        paths = [
            upload.path for upload in suspects if upload.id in named and places[upload] is kind
        ]
        if paths:
            examples = ", ".join(map(repr, sorted(paths)[:_EXAMPLES]))
            words.append(f"{len(paths)} of {looked} uploads looked at {what}, such as {examples}")
    return words


def find(data: Path, roots: Sequence[Path], path: str) -> Place:
    """Return the place of the upload ``path`` below the directory ``data``.

    The path comes from the database: one with .. is not looked at, and no link out of ``roots``,
    the real directories around ``data``, is followed.
    """
    if not path or path.startswith("/") or ".." in path.split("/"):
        return Place.UNKNOWN
    at, rest, links = str(data), _names(os.fsdecode(path.encode(errors="surrogateescape"))), 0
    while rest:
        at = f"{at.rstrip('/')}/{rest.pop(0)}"
        try:
            target = os.readlink(at) if stat.S_ISLNK(os.lstat(at).st_mode) else ""
        except OSError as error:
            return Place.MISSING if error.errno in _GONE else Place.UNKNOWN
        if not target:
            continue
        links += 1
        if links > _LINKS:
            return Place.MISSING
        if archive_writer.leads_out(at, target, roots):
            return Place.OUTSIDE
        led = posixpath.normpath(posixpath.join(posixpath.dirname(at), target))
        root = next(
            folder for folder in map(str, roots) if led == folder or led.startswith(f"{folder}/")
        )
        at, rest = root, _names(led[len(root) :]) + rest
    return Place.THERE


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]
