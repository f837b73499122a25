"""Uploads of a set, written to a directory under their original names, or back to where they were."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath
from tarfile import TarInfo
from typing import BinaryIO

from ..checks import Result
from ..errors import Failure, reason
from ..store import verify
from ..store.archive_reader import Each, MemberContent
from ..store.sets import BackupSet
from ..system import files, humanize
from .output_folder import Asker, OutputFolder, as_account
from .search import Upload

Wanted = dict[str, list[Upload]]  # by the absolute paths that their files had
Place = Callable[[Upload], Sequence[str]]  # the directories of an upload, below the one given
_SMALL = 200 << 10  # bytes of a file that is kept in memory
_FOLDER_MODE = 0o750
_TEMPORARY = ".gitlab-mm-recover-"  # begins the name of a file until it is complete
# Of link(2), on a disk that has no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_PASSES = 2  # a hard link comes after the file that it is another name of


class _CannotWrite(Failure):
    """The directory takes no more, unlike a set that cannot be read."""


@dataclass(frozen=True)
class Extracted:
    """An upload that was written."""

    upload: Upload
    file: str  # its name in the directory
    bytes: int


@dataclass
class Extraction:
    """What was written, and what was not."""

    folder: OutputFolder
    place: Place
    written: list[Extracted] = field(default_factory=list)
    missing: list[Upload] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    small: dict[str, bytes] = field(default_factory=dict)  # kept in memory, by their paths

    @property
    def bytes(self) -> int:
        return sum(extracted.bytes for extracted in self.written)


def together(_: Upload) -> Sequence[str]:
    """Return no directories: all uploads are written side by side."""
    return ()


def extract(
    set_: BackupSet,
    uploads: Sequence[Upload],
    folder: OutputFolder,
    small: Iterable[str] = (),
    place: Place = together,
) -> Extraction:
    """Write each of ``uploads`` to its ``place`` in ``folder``, reading no more than is needed.

    ``small`` are paths below the data directory of files to keep in memory, where they are small.
    An upload that the set lacks is ``missing``, and the rest is written. So it is where the files
    part is damaged, up to the damage. Raises Failure where the directory cannot be written.
    """
    made = Extraction(folder, place)
    _refuse_without_room(uploads, folder)
    wanted, data = _by_path(set_, uploads), _data(set_)
    kept = {f"{data}/{path}": path for path in small}
    try:
        for _ in range(_PASSES):
            wanted = _read(set_, wanted, kept, made) if wanted or kept else wanted
            kept = {}
    except _CannotWrite:
        raise
    except Failure as failure:
        made.problems.append(f"The files of {set_.name} could not be read to their end: {failure}")
    done = {extracted.upload.id for extracted in made.written}
    made.missing = [upload for upload in uploads if upload.id not in done]
    return made


def _refuse_without_room(uploads: Sequence[Upload], folder: OutputFolder) -> None:
    needed, free = sum(max(upload.size, 0) for upload in uploads), folder.available()
    if needed > free:
        raise Failure(
            "Not enough disk space for the uploads",
            f"{humanize.size(needed)} are needed; {folder.path} has {humanize.size(free)} free",
            "Free some space, or give a directory on another disk: --to DIR.",
        )


def _data(set_: BackupSet) -> str:
    folders = set_.manifest.files.folders
    return folders.get("data", f"{folders['home']}/data")


def _by_path(set_: BackupSet, uploads: Sequence[Upload]) -> Wanted:
    data, wanted = _data(set_), Wanted()
    for upload in uploads:
        wanted.setdefault(f"{data}/{upload.path}", []).append(upload)
    return wanted


def _read(set_: BackupSet, wanted: Wanted, kept: Mapping[str, str], made: Extraction) -> Wanted:
    """Write the ``wanted`` ones that are regular files in the set, and keep the small ones.

    Returns those that are further names of another file (hard links), by its path.
    """
    linked = Wanted()

    def take(member: TarInfo, content: MemberContent) -> None:
        path = f"/{member.name}"
        uploads = wanted.pop(path, None)
        if path in kept and member.isreg() and member.size <= _SMALL:
            made.small[kept[path]] = content()
        elif uploads and member.isreg():
            _write(uploads, content, made)
        elif uploads and member.islnk():
            linked.setdefault(f"/{member.linkname}", []).extend(uploads)

    _read_members(set_, {*wanted, *kept}, take, made.problems)
    return linked


def _read_members(set_: BackupSet, paths: Collection[str], take: Each, problems: list[str]) -> None:
    """Read the files ``paths`` of a set; by its index, or all where that cannot be used."""
    try:
        check = verify.read_members(set_, paths, take)
    except _CannotWrite:
        raise
    except Failure as failure:
        problems.append(
            f"The index of the files of {set_.name} cannot be used, so all of them are read: {failure}"
        )
        check = verify.read_files(set_, take)
    if check.result is Result.FAILED:
        problems.append(f"The files of {set_.name}: {check.detail}")


def _write(uploads: Sequence[Upload], content: MemberContent, made: Extraction) -> None:
    """Write one file for each of ``uploads``, which share a file in the set."""
    with contextlib.ExitStack() as opened:
        try:
            files = [
                opened.enter_context(
                    made.folder.create(upload.name, upload.made, made.place(upload))
                )
                for upload in uploads
            ]
            size = 0
            for piece in content.pieces():
                size += len(piece)
                for file, _ in files:
                    file.write(piece)
        except OSError as error:
            raise _CannotWrite(f"{made.folder.path} cannot be written", reason(error)) from error
    made.written += [Extracted(upload, name, size) for upload, (_, name) in zip(uploads, files)]


@dataclass
class LiveFolder:
    """The live data directory, in which files are put back with the rights of Mattermost's account.

    So no link that the account makes there leads further than its own rights do. A file is written
    under a temporary name, and gets its own when it is complete. ``note`` gets each file and
    directory before it is created.
    """

    path: Path
    owner: Asker
    note: Callable[[Mapping[str, str]], None]
    written: dict[str, str] = field(default_factory=dict)  # path below -> SHA-256
    differing: list[str] = field(default_factory=list)  # there already, with another content
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bytes: int = 0

    def has(self, path: str) -> bool:
        """Tell whether there is anything at ``path``; raises Failure for one that leads elsewhere."""
        with as_account(self.owner):
            return os.path.lexists(self._place(path))

    def _place(self, path: str) -> Path:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            raise Failure("An upload of the set has a path outside its directory", repr(path))
        return self.path.joinpath(*parts)

    def take(self, path: str, member: TarInfo, content: MemberContent) -> None:
        """Write a file of the set, unless there is one; raises Failure where that fails."""
        place = self._place(path)
        if self.has(path):
            self._compare(place, path, content)
            return
        try:
            with self._created(place, member) as (temporary, file):
                digest = hashlib.sha256()
                for piece in content.pieces():
                    file.write(piece)
                    digest.update(piece)
                self._complete(file, member)
                self._noted(file=path, sha256=digest.hexdigest())
                if self._named(temporary, place):
                    self.written[path] = digest.hexdigest()
                    self.bytes += member.size
                else:  # Mattermost was faster; an undo leaves that one alone
                    self._noted(stays=path)
                    self.differing.append(path)
        except OSError as error:
            raise _CannotWrite("An upload cannot be put back", reason(error)) from error

    @contextlib.contextmanager
    def _created(self, place: Path, member: TarInfo) -> Iterator[tuple[Path, BinaryIO]]:
        """Yield a new file beside ``place``, and its temporary name, which is removed at the end."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        temporary = place.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        with as_account(self.owner):
            self._make(place.parent)
            self._noted(file=str(temporary.relative_to(self.path)))
            descriptor = os.open(temporary, flags, 0o600)
        try:
            with open(descriptor, "wb") as file:
                yield temporary, file
        finally:
            with as_account(self.owner), contextlib.suppress(OSError):
                os.unlink(temporary)

    def _complete(self, file: BinaryIO, member: TarInfo) -> None:
        """Give a file the mode and time of ``member``, and sync it to disk."""
        file.flush()
        os.fchmod(file.fileno(), stat.S_IMODE(member.mode) & 0o777)
        with contextlib.suppress(OSError, OverflowError):  # a date that no disk can have
            os.utime(file.fileno(), ns=(_nanoseconds(member),) * 2)
        os.fsync(file.fileno())

    def _named(self, temporary: Path, place: Path) -> bool:
        """Give a file its own name; tell whether that was free."""
        with as_account(self.owner):
            try:
                os.link(temporary, place)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS or os.path.lexists(place):
                    raise
                os.rename(temporary, place)
            files.sync_folder(place.parent)
        return True

    def _make(self, folder: Path) -> None:
        """Create a directory and those above it, as Mattermost does (os.MkdirAll, 0750)."""
        for place in (
            *reversed(folder.relative_to(self.path).parents),
            folder.relative_to(self.path),
        ):
            if str(place) != "." and not os.path.lexists(self.path / place):
                self._noted(directory=str(place))
                os.mkdir(self.path / place, _FOLDER_MODE)
                os.chmod(self.path / place, _FOLDER_MODE)
                files.sync_folder((self.path / place).parent)

    def _noted(self, **line: str) -> None:
        try:
            self.note(line)
        except Failure as failure:
            raise _CannotWrite(failure.message, failure.detail, failure.hint) from failure

    def _compare(self, place: Path, path: str, content: MemberContent) -> None:
        try:
            with as_account(self.owner):
                descriptor = os.open(
                    place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                )
            with open(descriptor, "rb") as file:
                same = all(file.read(len(piece)) == piece for piece in content.pieces())
                if same and not file.read(1):
                    return
        except OSError:
            pass
        self.differing.append(path)


def _nanoseconds(member: TarInfo) -> int:
    """Return a member's time since 1970; tarfile's own is a float, which has fewer digits."""
    exact = member.pax_headers.get("mtime", "")
    try:
        return int(Decimal(exact or member.mtime) * 1_000_000_000)
    except ArithmeticError:
        return int(member.mtime) * 1_000_000_000


def absent(paths: Iterable[str], folder: LiveFolder) -> list[str]:
    """Return those of ``paths`` where there is no file; one that leads elsewhere is a problem."""
    found = []
    for path in paths:
        try:
            found += [] if folder.has(path) else [path]
        except Failure as failure:
            folder.problems.append(str(failure))
    return found


def put_back(set_: BackupSet, paths: Sequence[str], folder: LiveFolder) -> None:
    """Write the files at ``paths`` below the data directory back to where they were.

    Nothing is overwritten. A file that the set lacks is ``missing``, and the rest is written.
    """
    folder.problems.clear()
    lacking = absent(paths, folder)
    if not lacking:
        return
    data = _data(set_)
    wanted = {f"{data}/{path}": [path] for path in paths if ".." not in PurePosixPath(path).parts}
    try:
        for _ in range(_PASSES):
            wanted = _read_into(set_, wanted, folder) if wanted else {}
    except _CannotWrite:
        raise
    except Failure as failure:
        folder.problems.append(
            f"The files of {set_.name} could not be read to their end: {failure}"
        )
    folder.missing = [path for path in lacking if path not in folder.written]


def _read_into(
    set_: BackupSet, wanted: dict[str, list[str]], folder: LiveFolder
) -> dict[str, list[str]]:
    """Write the ``wanted`` ones that are regular files; returns those that are hard links of others."""
    linked: dict[str, list[str]] = {}

    def take(member: TarInfo, content: MemberContent) -> None:
        paths = wanted.pop(f"/{member.name}", [])
        if paths and member.isreg():
            folder.take(paths[0], member, content)
        elif paths and member.islnk():
            linked.setdefault(f"/{member.linkname}", []).extend(paths)

    _read_members(set_, {*wanted}, take, folder.problems)
    return linked


def take_away(
    folder: LiveFolder, files: Mapping[str, str], directories: Sequence[str]
) -> list[str]:
    """Remove files that were put back, and directories made for them; return what stays, as text."""
    told = []
    with as_account(folder.owner):
        for path, digest in files.items():
            place = folder.path / path
            try:
                if digest and _digest(place) != digest:
                    told.append(f"{path} was changed since, and stays")
                    continue
                os.unlink(place)
            except FileNotFoundError:
                continue
            except OSError as error:
                told.append(f"{path} cannot be removed: {reason(error)}")
        for path in reversed(directories):
            with contextlib.suppress(OSError):  # there is more in it by now
                os.rmdir(folder.path / path)
    return told


def _digest(place: Path) -> str:
    digest = hashlib.sha256()
    with open(
        os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
    ) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
