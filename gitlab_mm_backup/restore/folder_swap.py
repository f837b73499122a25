"""Swap directories: make a new one next to the live one, exchange the two, plan what goes where.

A restore maps the folders of a set to those of the site by role.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import Failure, reason
from ..mattermost.site import Folders
from ..system.disk_space import mounts
from ..system.files import OTHERS_WRITE, WORK, Ground, open_directory, sync_folder

# A directory with one of these names in a work directory records the method; the first contains
# the names of the entries that were mount points when the work began.
_BY_ENTRIES, _AS_A_WHOLE = "by-entries", "as-a-whole"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOREPLACE = 1  # RENAME_NOREPLACE, rename(2)


def _itself(live: Path) -> Path:
    """Return the path with the links of its parents followed.

    ``live`` was resolved before: a link in its own place is a swap of Mattermost's account.
    """
    return Path(os.path.realpath(live.parent)) / live.name


def is_mount(live: Path) -> bool:
    return _itself(live) in mounts()


def by_entries(live: Path) -> bool:
    """Tell whether ``live`` cannot be renamed as a whole: it is, or holds, a mount point.

    Of such a folder the entries are exchanged, but those where something is mounted.
    """
    real = _itself(live)
    return any(real == mount or real in mount.parents for mount in mounts())


def works_by_entries(live: Path, work: Path) -> bool:
    """Return the same for when ``work`` began: a disk may have been mounted or unmounted since."""
    if (work / _BY_ENTRIES).is_dir():
        return True
    # Not begun, or by a version that did not record it.
    return not (work / _AS_A_WHOLE).is_dir() and by_entries(live)


def deeper_mounts(live: Path) -> list[Path]:
    """Return the mount points below ``live`` that are not its direct entries: they block a swap."""
    return [mount for mount in _mounted_below(live) if mount.parent != _itself(live)]


def _mounted_below(folder: Path) -> list[Path]:
    real = _itself(folder)
    return sorted(mount for mount in mounts() if real in mount.parents)


def work_folder(live: Path, token: str) -> Path:
    """Return the work directory for ``live``: on the same file system, so that renames work."""
    return (live if is_mount(live) else live.parent) / f"{WORK}{token}"


def shut(ground: Ground) -> None:
    """Let only root change ``ground``; raises Failure where it has been replaced by another one."""
    try:
        with open_directory(Path(ground.path)) as folder:
            os.fchown(folder, 0, -1)
            os.fchmod(folder, ground.mode & ~OTHERS_WRITE)
    except OSError as error:
        raise Failure(
            f"{ground.path} cannot be restricted to root for the restore", str(error.strerror)
        ) from error


def refuse_swapped(live: Path) -> None:
    """Raise Failure where ``live`` has become a link; call this when only root can change it."""
    if live.is_symlink():
        raise Failure(
            f"{live} has become a link",
            "it was a directory when this run began",
            "Put the directory back in its place, and find out what replaced it.",
        )


def open_again(ground: Ground) -> None:
    """Undo ``shut``, whether it happened or not (on a read-only disk it did not)."""
    with open_directory(Path(ground.path)) as folder:
        status = os.fstat(folder)
        if (status.st_uid, stat.S_IMODE(status.st_mode)) == (ground.uid, ground.mode):
            return
        os.fchown(folder, ground.uid, ground.gid)
        os.fchmod(folder, ground.mode)


def make_work_folder(work: Path, live: Path) -> None:
    """Create ``work`` for ``live``, private; raises Failure when the disk refuses."""
    try:
        work.mkdir(mode=0o700)
        (work / "new").mkdir(mode=0o700)
        how = work / (_BY_ENTRIES if by_entries(live) else _AS_A_WHOLE)
        how.mkdir()
        for disk in _mounted_below(live):
            if disk.parent == _itself(live):
                (how / disk.name).mkdir()
    except OSError as error:
        raise Failure(f"{work} cannot be made", str(error.strerror)) from error


def refuse_unmounted(live: Path, mounted: bool) -> None:
    """Raise Failure where the disk of ``live`` is no longer mounted: its work is on that disk."""
    if mounted and not is_mount(live):
        raise Failure(
            f"Nothing is mounted at {live}", "a disk was mounted there when the restore began"
        )


def remove_work_folder(work: str) -> None:
    """Remove a work directory with its content, if it exists.

    Refuses any other directory, and one that holds previous live data (see ``exchange_back``).
    """
    path = Path(work)
    if not path.name.startswith(WORK):
        raise Failure(f"{work} is not removed", "it is not marked as made by gitlab-mm")
    with _ours(path) as held:
        if held and any(os.path.lexists(held / name) for name in ("old", "leaving")):
            raise Failure(f"{work} is not removed", "it holds the previous live data")
        if held:
            _refuse_mounted(path)
            shutil.rmtree(path)


def remove_previous(work: str) -> None:
    """Remove the previous live data and the work directory: the new state is final."""
    with _ours(Path(work)) as held:
        if held and os.path.lexists(held / "old"):
            _refuse_mounted(Path(work))
            try:
                shutil.rmtree(held / "old")
            except OSError as error:  # as of a file with chattr +i
                raise Failure(f"{work} is not removed", reason(error)) from error
    remove_work_folder(work)


def _refuse_mounted(work: Path) -> None:
    """Raise Failure where a disk is mounted in ``work`` now: its content would be deleted."""
    if disks := _mounted_below(work):
        raise Failure(
            f"{work} is not removed", f"a disk is mounted in it: {disks[0]}", "Unmount it."
        )


@contextlib.contextmanager
def _ours(work: Path) -> Iterator[Path | None]:
    """Yield a path of an open work directory that cannot be redirected; None where it is gone.

    Raises Failure where something else is in its place: Mattermost runs again, and its account may
    be able to replace it.
    """
    try:
        with open_directory(work) as folder:
            if os.fstat(folder).st_uid != 0:
                raise Failure(f"{work} is not removed", "it does not belong to root any more")
            yield Path(f"/proc/self/fd/{folder}")
    except FileNotFoundError:
        yield None
    except NotADirectoryError:
        raise Failure(f"{work} is not removed", "it is not a directory any more") from None


def empty(live: Path) -> None:
    """Remove what an exchange of ``live`` would set aside; a file or link is removed itself."""
    if live.is_symlink() or live.is_file():
        live.unlink()
        return
    for entry in (live / name for name in _entries(live)):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def exchange(live: Path, work: Path) -> None:
    """Move the content of ``work``/new to ``live``, and the old content to ``work``/old.

    Mattermost is stopped; ``exchange_back`` undoes an incomplete exchange.
    """
    place = live if works_by_entries(live, work) else live.parent
    leaving = work / "leaving"
    leaving.mkdir(mode=0o700)
    _move_all(_names(live, work), place, leaving)
    os.rename(leaving, work / "old")  # from here on all in place is new
    _move_all(os.listdir(work / "new"), work / "new", place)
    sync_folder(place)


def exchange_back(live: Path, work: Path) -> None:
    """Undo ``exchange``, whether it was complete, incomplete or not begun."""
    place = live if works_by_entries(live, work) else live.parent
    leaving, old = work / "leaving", work / "old"
    if old.is_dir():
        _move_all(_names(live, work), place, work / "new")
        os.rename(old, leaving)
    if leaving.is_dir():
        _move_all(os.listdir(leaving), leaving, place)
        leaving.rmdir()
        sync_folder(place)


def _names(live: Path, work: Path) -> list[str]:
    """Return the names to exchange: the entries of ``live``, or ``live`` itself."""
    if not works_by_entries(live, work):
        return [live.name] if os.path.lexists(live) else []
    disks = work / _BY_ENTRIES
    return [name for name in _entries(live) if not (disks / name).is_dir()]


def _entries(live: Path) -> list[str]:
    """Return the entries of ``live`` except work directories, lost+found and mount points."""
    here = mounts()
    real = _itself(live)
    return [
        name
        for name in os.listdir(live)
        if not name.startswith(WORK) and name != "lost+found" and real / name not in here
    ]


def _move_all(names: list[str], source: Path, target: Path) -> None:
    for name in names:
        os.rename(source / name, target / name)


def merge(source: int, target: int, below: str = "") -> list[str]:
    """Move the entries of the open directory ``source`` into ``target``, on the same disk.

    What exists there stays as it is; of a directory that exists the entries are moved. No link is
    followed: Mattermost's account can create one in ``target`` at any time. Returns the paths where
    something of another kind stands in the way. Raises OSError.
    """
    blocked = []
    for name in os.listdir(source):
        while not move_new(name, source, target):
            try:
                kinds = [_kind(name, folder) for folder in (source, target)]
                if kinds[0] != kinds[1]:
                    blocked.append(below + name)
                elif kinds[0] == stat.S_IFDIR:
                    with _opened(name, source) as inner, _opened(name, target) as there:
                        blocked += merge(inner, there, f"{below}{name}/")
                break
            except FileNotFoundError:  # it was removed just now
                continue
    return blocked


def _kind(name: str, folder: int) -> int:
    return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


@contextlib.contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def move_new(name: str, source: int, target: int) -> bool:
    """Move an entry to another directory; False where that has one of this name (rename(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not libc.renameat2(source, os.fsencode(name), target, os.fsencode(name), _NOREPLACE):
        return True
    error = ctypes.get_errno()
    if error == errno.EEXIST:
        return False
    if error not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(error, os.strerror(error), name)
    return _move_without_flag(name, source, target)


def _move_without_flag(name: str, source: int, target: int) -> bool:
    """Do the same where the file system knows no RENAME_NOREPLACE, as NFS."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        else:
            names = {"src_dir_fd": source, "dst_dir_fd": target}
            os.link(name, name, **names, follow_symlinks=False)
            os.unlink(name, dir_fd=source)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # somebody was quicker: its entries are moved then
            return False
        raise
    return True


@dataclass(frozen=True)
class FolderMapping:
    """A folder of the archive, and where it is unpacked in a new folder."""

    source: str  # absolute path in the set
    role: str  # the exchanged folder of the site: home, or a role that lies elsewhere
    below: PurePosixPath  # place within that folder; "." for the folder itself
    excluded: tuple[str, ...]  # absolute paths in the set that other moves take, or none


def exchanged(folders: Folders) -> dict[str, Path]:
    """Return the site's folders that are exchanged separately.

    The home, and each folder that is not simply below another one on the same file system.
    """
    chosen = {"home": folders.home}
    for role, path in sorted(
        folders.real.items(), key=lambda role_and_path: len(role_and_path[1].parts)
    ):
        inside = any(outer == path or outer in path.parents for outer in chosen.values())
        if not inside or (role != "home" and is_mount(path)):
            chosen[role] = path
    return chosen


def moves(
    source: Mapping[str, str], target: Folders, never: tuple[str, ...] = ()
) -> list[FolderMapping]:
    """Return where to unpack each folder, outer folders first.

    ``source`` are the set's folders by role; ``never`` are paths in the set that are left out. A
    role at the same place in its outer folder on both sides is unpacked with that.
    """
    own = exchanged(target)
    known = [role for role in source if role in target.real]
    apart = [role for role in known if role in own or not _comes_along(role, source, target, own)]
    # A folder inside a separately moved one, on either side, is moved separately too.
    for role in sorted(known, key=lambda role: len(target.real[role].parts)):
        if role not in apart and any(
            target.real[other] in target.real[role].parents
            or _is_below(source[role], source[other])
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
        excluded = tuple(path for path in out if _is_below(path, source[role]))
        planned.append(FolderMapping(source[role], outer, below, excluded))
    return planned


def _outer(role: str, target: Folders, own: Mapping[str, Path]) -> str:
    """Return the exchanged folder that contains ``role``: itself, or the nearest one around it."""
    if role in own:
        return role
    around = [name for name, path in own.items() if path in target.real[role].parents]
    return max(around, key=lambda name: len(own[name].parts))


def _comes_along(
    role: str, source: Mapping[str, str], target: Folders, own: Mapping[str, Path]
) -> bool:
    """Tell whether ``role`` is at the same place in its outer folder on both sides."""
    outer = _outer(role, target, own)
    there = target.real[role].relative_to(own[outer])
    return outer in source and source[role] == f"{source[outer].rstrip('/')}/{there}"


def _filled(role: str, other: str, source: Mapping[str, str], target: Folders) -> str:
    """Return the path in the set's ``role`` that would end up at the place of ``other`` here."""
    if target.real[role] not in target.real[other].parents:
        return ""
    return f"{source[role].rstrip('/')}/{target.real[other].relative_to(target.real[role])}"


def _is_below(path: str, folder: str) -> bool:
    return PurePosixPath(folder) in PurePosixPath(path).parents
