"""Files: atomic writes, state files, safe reads, directories that others can change.

A write leaves the old content or the new one after a power loss, never a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from ..errors import Failure
from . import process, validation
from .process import Command

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_LIST, _EXTENDED = "system.posix_acl_access", "user."  # acl(5), xattr(7)
log = logging.getLogger(__name__)

STATE = Path("/var/lib/gitlab-mm-backup")
# Names of our work directories: for root only; no other directory is ever removed.
WORK = ".gitlab-mm-"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # as path_resolution(7) has it
LARGEST_READ = 32 << 20  # bytes of a file of settings; Mattermost's own have some 50 kB
_PIECE = 1 << 18
_LARGEST = 16 << 20  # bytes; more is no file of ours
T = TypeVar("T")
unreadable_state = (OSError, ValueError, RecursionError)
TRACES = STATE / "files-elsewhere"  # a path a line, for a shell to read


def replace_file(
    path: Path, data: bytes, uid: int = 0, gid: int = 0, mode: int = 0o600, *, alike: bool = False
) -> None:
    """Write ``data`` to a temporary file, sync it and rename it to ``path``; raises OSError.

    The temporary file is created private (mode 0600, root) and gets owner and mode before the
    rename. With ``alike`` it gets the access control list and extended attributes of the old file.
    """
    with open_directory(path.parent, links=True) as folder:
        replace_in(folder, path.name, data, uid, gid, mode, alike=alike)


@contextlib.contextmanager
def open_directory(folder: Path, *, links: bool = False) -> Iterator[int]:
    """Yield a descriptor of ``folder`` that stays valid if its path changes.

    Raises OSError for a link anywhere in the path, unless ``links`` allows them.
    """
    descriptor = os.open(folder, _FOLDER) if links else _through_no_link(folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _through_no_link(folder: Path) -> int:
    """Open ``folder`` name by name from the root, without following links.

    As openat2(2) with RESOLVE_NO_SYMLINKS, also on kernels before 5.6.
    """
    descriptor = os.open("/", _FOLDER)
    for name in folder.absolute().parts[1:]:
        around = descriptor
        try:
            descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=around)
        finally:
            os.close(around)
    return descriptor


def replace_in(
    folder: int, name: str, data: bytes, uid: int, gid: int, mode: int, *, alike: bool = False
) -> None:
    """Do the same as ``replace_file`` in an open directory; raises OSError."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            if alike:
                _liken(file.fileno(), folder, name)
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)


def _liken(file: int, folder: int, name: str) -> None:
    """Copy the attributes of the file with that name, if there is one and it has any."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        before = os.open(name, flags, dir_fd=folder)
    except OSError:
        return
    with open(before, "rb"), contextlib.suppress(OSError):  # its file system may have none
        for attribute in os.listxattr(before):
            if attribute == _LIST or attribute.startswith(_EXTENDED):
                os.setxattr(file, attribute, os.getxattr(before, attribute))


def sync_folder(folder: Path) -> None:
    """Sync the names in ``folder`` to disk (fsync(2)); raises OSError."""
    with open_directory(folder, links=True) as descriptor:
        os.fsync(descriptor)


def first_line(path: Path) -> str:
    return text_of(path).split("\n", 1)[0].strip()


def text_of(path: Path) -> str:
    """Return the file's text, "" when it is absent; raises Failure when it cannot be read."""
    try:
        return path.read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise Failure(f"{path} cannot be read", str(error.strerror)) from error


@dataclass(frozen=True)
class Ground:
    """A directory above a work directory that others can change, with owner and mode."""

    path: str
    uid: int
    gid: int
    mode: int

    @property
    def named(self) -> dict[str, str]:
        """The values for a step of the journal."""
        return {name: str(value) for name, value in vars(self).items()}


def grounds(work: Path) -> list[Ground]:
    """Return the directories in which another account could replace part of the path ``work``.

    The outermost comes first, so that they can be locked in this order.
    """
    found = []
    for folder in reversed(work.parents):
        status = os.lstat(folder)
        sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX  # as /tmp: ours stays ours
        if not sticky and (status.st_uid != 0 or status.st_mode & OTHERS_WRITE):
            mode = stat.S_IMODE(status.st_mode)
            found.append(Ground(str(folder), status.st_uid, status.st_gid, mode))
    return found


def led_by_root(path: Path, links: int = 0) -> bool:
    """Tell whether root alone can change where ``path`` leads, by links on the way too."""
    for place in (*reversed(path.parents), path):
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            if place == path:  # it will be created
                return True
            raise
        if stat.S_ISLNK(status.st_mode):
            if status.st_uid != 0 or links > _MOST_LINKS:
                return False
            leads_to = place.parent / os.readlink(place) / path.relative_to(place)
            return led_by_root(Path(os.path.abspath(leads_to)), links + 1)
        sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX  # as /tmp: root's stays
        if place != path and not sticky and (status.st_uid or status.st_mode & OTHERS_WRITE):
            return False
    return True


def filled(folder: Path) -> bool:
    """Tell whether ``folder`` contains anything but directories, at any depth.

    Our work directories and lost+found do not count. find(1) follows no link and opens no pipe,
    whatever another account puts there.
    """
    ours = ["-type", "d", "(", "-name", f"{WORK}*", "-o", "-name", "lost+found", ")", "-prune"]
    looking = ["find", str(folder), "-mindepth", "1", *ours, "-o", "!", "-type", "d"]
    # 1: a file has vanished.
    return process.printed(Command([*looking, "-printf", ".", "-quit"], may_exit=(0, 1))) != b""


def read_regular(path: Path | str, largest: int = LARGEST_READ, *, links: bool = False) -> bytes:
    """Return the content of the regular file ``path``; links are followed only with ``links``.

    Raises OSError where it cannot be read, and Failure where it is not a regular file or larger
    than ``largest`` bytes.
    """
    found = bytearray()  # grows with the file, for the limit is far more than most have
    descriptor = _opened(path, links=links)
    try:
        while len(found) <= largest and (piece := os.read(descriptor, _PIECE)):
            found += piece
    finally:
        os.close(descriptor)
    if len(found) > largest:
        raise Failure(f"{path} cannot be read", f"it is larger than {largest >> 20} MiB")
    return bytes(found)


@contextlib.contextmanager
def open_regular(path: Path, *, links: bool = False) -> Iterator[IO[bytes]]:
    """Yield the open regular file ``path``, unbuffered; raises as ``read_regular`` does."""
    with open(_opened(path, links=links), "rb", buffering=0) as file:
        yield file


def _opened(path: Path | str, *, links: bool) -> int:
    """Return a descriptor of the regular file ``path``; raises as ``read_regular`` does."""
    # Without O_NONBLOCK, opening a pipe would block until there is a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not links and os.path.islink(path):
            text = "it is a link; replace it by the file"
            raise Failure(f"{path} cannot be read", text) from None
        raise
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise Failure(f"{path} cannot be read", "it is not a regular file")
    return descriptor


def read_or_none(path: Path | str) -> bytes | None:
    """Return the content of a regular file; b"" where it cannot be read, None without one."""
    try:
        return read_regular(path)
    except FileNotFoundError:
        return None
    except (OSError, Failure):
        return b""


def last_lines(path: Path, most: int = 16 << 10) -> list[str]:
    """Return the last lines of a regular file of any size; none where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return []
        file.seek(max(0, status.st_size - most))
        return file.read(most).decode(errors="replace").splitlines()


def read_state(path: Path, check: Callable[[Any], T]) -> T:
    """Return the result of ``check`` for the JSON document in ``path``; links are not followed.

    Raises FileNotFoundError where it is missing, and one of ``unreadable_state`` where it is not a
    file of ours.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return check(validation.from_json(file.read(_LARGEST)))


def write_state(path: Path, document: Any) -> None:
    """Write ``document`` to ``path`` as JSON; raises Failure where that fails."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise Failure(f"{path} cannot be written", str(error.strerror)) from error


def note_trace(path: Path, notes: Path = TRACES) -> None:
    """Record a file written outside the usual directories; a failure is only logged."""
    try:
        known = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
        if str(path) not in known:
            notes.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(notes, "".join(f"{noted}\n" for noted in [*known, path]).encode())
    except (OSError, UnicodeError) as error:
        log.info("%s is not noted in %s: %s", path, notes, error)
