"""The directory that extracted files go to: opened so that no other account leads root astray."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..errors import ExitCode, Failure, reason
from ..system import files

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 200  # bytes of a name, of the 255 that a file system has: a number may follow
_LONGEST_END = 20  # bytes of an extension that is kept where a name is cut
_NAMELESS = "file"
_PRIVATE = 0o700
_ANY = 0xFFFFFFFF  # to setfsuid(2): no change, only the answer


@dataclass(frozen=True)
class Asker:
    """The account for which files are written; root without sudo."""

    uid: int = 0
    gid: int = 0


@dataclass
class OutputFolder:
    """An open directory, and the names that were given to files in it."""

    path: Path
    descriptor: int
    asker: Asker
    lent: bool  # it is in a place of the asker's, who alone has rights there
    _numbers: dict[str, int] = field(default_factory=dict)  # path -> the last number added to it

    def available(self) -> int:
        """Return the bytes that are free on its disk."""
        disk = os.fstatvfs(self.descriptor)
        return disk.f_bavail * disk.f_frsize

    @contextlib.contextmanager
    def create(
        self, name: str, milliseconds: int, below: Sequence[str] = ()
    ) -> Iterator[tuple[BinaryIO, str]]:
        """Yield a new file and its path here, of a safe form of ``name``; nothing is overwritten.

        ``below`` are the directories for it, which are created. The file is the asker's, with mode
        0600 and the time ``milliseconds`` after 1970. It is removed where the block fails. Raises
        OSError.
        """
        with (
            self._inside([safe_name(directory) for directory in below]) as (place, path),
            self._created(safe_name(name), milliseconds, place, path) as (file, given),
        ):
            yield file, f"{path}{given}"

    @contextlib.contextmanager
    def _inside(self, names: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield the directory ``names`` below this one, open, and its path with a slash, or "".

        Each is opened in the one before it, and no link is followed: the asker can change them.
        """
        with contextlib.ExitStack() as opened:
            place = self.descriptor
            for name in names:
                with self._rights():
                    made = _make_directory(name, place)
                    place = os.open(name, _DIRECTORY, dir_fd=place)
                opened.callback(os.close, place)
                if made and not self.lent:
                    os.fchown(place, self.asker.uid, self.asker.gid)
                _judge(self.path / name, os.fstat(place), self.asker, lent=self.lent)
            yield place, "".join(f"{name}/" for name in names)

    @contextlib.contextmanager
    def _created(
        self, name: str, milliseconds: int, place: int, path: str
    ) -> Iterator[tuple[BinaryIO, str]]:
        descriptor, given = self._new(name, place, path)
        try:
            with open(descriptor, "wb") as file:
                if not self.lent:
                    os.fchown(descriptor, self.asker.uid, self.asker.gid)
                yield file, given
                file.flush()
                with contextlib.suppress(OSError, OverflowError):  # a date that no disk can have
                    os.utime(descriptor, ns=(milliseconds * 1_000_000,) * 2)
        except BaseException:
            with self._rights(), contextlib.suppress(OSError):
                os.unlink(given, dir_fd=place)
            raise

    def write(self, name: str, content: Iterable[bytes], below: Sequence[str] = ()) -> str:
        """Write a new file of pieces; return its path here, as ``create`` gives it. Raises Failure."""
        try:
            with self.create(name, int(time.time() * 1000), below) as (file, given):
                file.writelines(content)
                return given
        except OSError as error:
            raise Failure(f"{self.path} cannot be written", reason(error)) from error

    def _new(self, name: str, place: int, path: str) -> tuple[int, str]:
        """Return a descriptor of a new file, and its name; a number is added to one that is taken."""
        while True:
            number = self._numbers.get(f"{path}{name}", 0) + 1
            self._numbers[f"{path}{name}"] = number
            given = name if number == 1 else _numbered(name, number)
            try:
                with self._rights():
                    return os.open(given, _NEW, 0o600, dir_fd=place), given
            except FileExistsError:
                continue

    def _rights(self) -> contextlib.AbstractContextManager[None]:
        return as_account(self.asker) if self.lent else contextlib.nullcontext()


@contextlib.contextmanager
def opened(path: Path, asker: Asker) -> Iterator[OutputFolder]:
    """Yield the directory ``path``, created with mode 0700 where it is missing.

    In a place that only root can change, root opens it. In any other place that is done with the
    rights of the asker, so that no link there leads further than its own rights do. Raises Failure
    for a place of any other account.
    """
    path = Path(os.path.abspath(path))
    with contextlib.ExitStack() as stack:
        try:
            real = Path(os.path.realpath(path))
            lent = not files.led_by_root(path)
            if lent and asker == Asker():
                raise _refused(path, "another account than root can change the path to it")
            place = _lent(path, asker) if lent else _roots(real, asker)
            descriptor = stack.enter_context(place)
            _judge(path, os.fstat(descriptor), asker, lent=lent)
        except OSError as error:
            raise Failure(
                f"{path} cannot be written", reason(error), "Give another directory: --to DIR."
            ) from error
        yield OutputFolder(path, descriptor, asker, lent)


def _make_directory(name: str, place: int) -> bool:
    """Create a directory in an open one, unless it is there; tell whether it was created."""
    try:
        os.mkdir(name, _PRIVATE, dir_fd=place)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def _roots(real: Path, asker: Asker) -> Iterator[int]:
    """Open a directory in a place of root's."""
    try:
        os.mkdir(real, _PRIVATE)
        made = True
    except FileExistsError:
        made = False
    with files.open_directory(real) as descriptor:
        if made:
            os.fchown(descriptor, asker.uid, asker.gid)
        yield descriptor


@contextlib.contextmanager
def _lent(path: Path, asker: Asker) -> Iterator[int]:
    """Open a directory with the rights of the asker."""
    with as_account(asker):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, _PRIVATE)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _judge(path: Path, status: os.stat_result, asker: Asker, *, lent: bool) -> None:
    """Raise Failure for a directory of another account, or in which others can write."""
    owners = (asker.uid,) if lent else (0, asker.uid)
    if status.st_uid not in owners:
        raise _refused(path, f"it belongs to the account with the id {status.st_uid}")
    if status.st_mode & files.OTHERS_WRITE:
        raise _refused(path, f"its mode {stat.S_IMODE(status.st_mode):04o} lets others write there")


def _refused(path: Path, why: str) -> Failure:
    return Failure(
        f"Files are not extracted to {path}",
        why,
        "Give a new directory, such as --to /root/found; or call sudo from the account that the "
        "directory belongs to.",
        ExitCode.USAGE,
    )


@contextlib.contextmanager
def as_account(asker: Asker) -> Iterator[None]:
    """Use the file system with the rights of an account for the block, in this thread.

    Other than seteuid(2), setfsuid(2) does not let the account send signals to this process.
    Raises Failure where the kernel does not do it.
    """
    libc, groups = ctypes.CDLL(None), os.getgroups()
    os.setgroups(_groups(asker))  # root's own may open what the account may not
    try:
        libc.setfsgid(asker.gid)
        libc.setfsuid(asker.uid)
        if (libc.setfsuid(_ANY), libc.setfsgid(_ANY)) != (asker.uid, asker.gid):
            raise Failure(f"The rights of account {asker.uid} cannot be taken", "setfsuid")
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(0)
        os.setgroups(groups)


def _groups(asker: Asker) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(asker.uid).pw_name, asker.gid)
    except KeyError:
        return [asker.gid]


def safe_name(name: str) -> str:
    """Return ``name`` as a file name for any directory: no path, nothing unprintable, no option.

    It begins with neither a dot nor a dash, and has at most 200 bytes.
    """
    last = re.split(r"[/\\]", name)[-1]
    plain = "".join(letter if letter.isprintable() else "_" for letter in last).strip()
    if plain.startswith((".", "-")):
        plain = f"_{plain}"
    return _cut(plain) or _NAMELESS


def _cut(name: str) -> str:
    """Return a name that is short enough, with its extension."""
    if len(name.encode()) <= _LONGEST:
        return name
    stem, end = os.path.splitext(name)
    if len(end.encode()) > _LONGEST_END:
        stem, end = name, ""
    return stem.encode()[: _LONGEST - len(end.encode())].decode(errors="ignore") + end


def _numbered(name: str, number: int) -> str:
    stem, end = os.path.splitext(name)
    return f"{stem} ({number}){end}"
