"""Sets on disk: find, open and read a set with its base, and check its files."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol, TypeVar

from ..config import places
from ..config.identity import Host
from ..config.origin import SIGNATURE, Documents, Origin
from ..errors import ExitCode, Failure, reason
from ..system import files, humanize, progress
from ..system.process import Command
from ..translation import phrase
from .frames import INDEX
from .manifest import MANIFEST, SUMS, Manifest, Part, is_set_name, parse, sums, to_bytes

T = TypeVar("T")
_LENT = ("files", "listing")
Sign = Callable[[str, bytes], bytes]  # a set's name, its manifest.json -> its signature.json
LONGEST_CHAIN = 100  # sets, of which each but the first builds on the one before
_CHUNK = 1 << 20
_FEW, _MANY = 5, 100  # entries of a directory that is no set: told, and looked into
_SETS_HAVE = "A set is a directory with manifest.json; a tar of one must be unpacked first."


class Source(Protocol):
    """The parts of a set that is not on this host."""

    def problems(self) -> list[str]:
        """Read the whole set; return its problems as text."""
        ...

    def dump(self) -> Command:
        """Return the command that prints the dump of the database, in pg_dump's custom format."""
        ...

    def files(self) -> Command:
        """Return the command that prints the files part as a tar."""
        ...

    def folder(self, path: str) -> Command:
        """Return the command that prints a directory of the files part as a tar."""
        ...

    def open(self, part: str) -> AbstractContextManager[IO[bytes]]:
        """Yield the content of a small part; raises Failure."""
        ...


class Stream(Protocol):
    """The files part of a set, read from elsewhere without keeping it here."""

    def read_by(self, take: Callable[[IO[bytes]], T]) -> T:
        """Have ``take`` read its tar to the end, and return what that does.

        Raises Failure where it is not what was written.
        """
        ...

    def piece(self, start: int, length: int) -> Command | None:
        """Return the command that prints these bytes of the packed part, None where none can."""
        ...

    def folder(self, path: str) -> Command | None:
        """Return the command that prints a directory as a tar, None where none can."""
        ...


class Frames(Protocol):
    """The files part of a set that is elsewhere, of which some frames are in its file here."""

    def bring(self, pieces: Sequence[tuple[int, int]]) -> None:
        """Fetch these frames (start, bytes) in place of those that are here.

        Raises Failure where one is not what was written: then the file must not be used.
        """
        ...


def cut_short(folder: Path, parts: Iterable[Part]) -> str:
    """Return, as text, which file of ``parts`` is missing or too short, or ""; no checksums."""
    for part in parts:
        path = f"{folder}/{part.file}"
        try:
            size = os.lstat(path).st_size
        except OSError as error:
            return f"{path}: {error.strerror}"
        if size != part.bytes:
            return phrase(
                "{path} has {size} bytes, should have {whole}",
                path=path,
                size=size,
                whole=part.bytes,
            )
    return ""


@dataclass(frozen=True)
class BackupSet:
    """A complete set; an incremental one is complete only with its base.

    With a ``source`` its parts are elsewhere, and ``path`` is the directory for the local
    information about it. ``reference`` finds it in its store.
    """

    path: Path
    manifest: Manifest
    base: BackupSet | None = None  # the base of an incremental set
    source: Source | None = None
    kept_as: str = ""  # its name in a store whose sets have no folder of their own
    problems: tuple[str, ...] = ()  # found when it was fetched
    stream: Stream | None = None  # its files part alone is elsewhere, and comes when it is unpacked
    frames: Frames | None = None  # of such a stream, where they can be fetched one by one
    said: Documents | None = None  # by a set that is elsewhere, or came from there
    # By the listing that opened it: the result of the check of its documents, with no key trusted.
    checked: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def reference(self) -> str:
        return self.kept_as or str(self.path)

    def open(self, part: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Yield the content of a part other than database and files; raises Failure."""
        if self.source is not None:
            return self.source.open(part)
        try:
            return open(self.file(part), "rb")
        except OSError as error:
            raise Failure(f"{self.file(part)} cannot be read", str(error.strerror)) from error

    @property
    def documents(self) -> Documents:
        """Its manifest and signature, byte for byte; empty where they cannot be read."""
        if self.said is not None:
            return self.said
        manifest = files.read_or_none(self.path / MANIFEST)
        return Documents(self.name, manifest or b"", files.read_or_none(self.path / SIGNATURE))

    @property
    def chain(self) -> tuple[BackupSet, ...]:
        """All sets that a restore of this one reads, the oldest first and this one last."""
        return (*(self.base.chain if self.base else ()), self)

    @property
    def lent(self) -> list[Part]:
        """The parts that incremental sets need from this one."""
        return [part for name, part in self.manifest.parts.items() if name in _LENT]

    @property
    def identity(self) -> str:
        """SHA-256 of manifest.json, and so of all parts; an incremental set records its base's."""
        return hashlib.sha256(files.read_regular(self.path / MANIFEST, links=True)).hexdigest()

    def file(self, part: str) -> Path:
        """Return the file of ``part``; raises Failure when the set has no such part."""
        try:
            return self.path / self.manifest.parts[part].file
        except KeyError:
            raise Failure(f"Set {self.name} holds no part {part}") from None

    @property
    def index(self) -> Path | None:
        """The index of the files part; None without one, or where not all of the part is here."""
        return self.file(INDEX) if INDEX in self.manifest.parts and self.stream is None else None


@dataclass(frozen=True)
class SetEntry:
    """An entry of the list: a set, or a directory that looks like one and its problem."""

    name: str
    set: BackupSet | None
    problem: str


@dataclass(frozen=True)
class Others:
    """Sets of another host in a store that does not list them."""

    host: str  # as manifest.host_of has it
    name: str  # of the host
    installation: str
    sets: int
    newest: str  # name of the newest


class SetStore(abc.ABC):
    """The operations that every store has."""

    where: str  # the store, for people
    folder: Path  # of the sets, or of the local information about them

    def others(self) -> list[Others]:
        """Return the owners of sets that ``entries`` leaves out; a directory lists all."""
        return []

    @abc.abstractmethod
    def serve(self, host: Host) -> None:
        """Set the host for which the store works."""

    @abc.abstractmethod
    def entries(self) -> list[SetEntry]:
        """Return all sets, complete or damaged, newest first."""

    def every(self) -> list[SetEntry]:
        """Return all sets of all hosts, newest first, those left out by ``entries`` included."""
        return self.entries()

    def sets(self) -> list[BackupSet]:
        """Return the complete sets, newest first."""
        return [entry.set for entry in self.entries() if entry.set is not None]

    def find(self, wanted: str) -> BackupSet:
        """Return the set ``wanted``: a name, or a path to a set.

        A set in a directory that other accounts can change counts as from elsewhere. Raises
        Failure when there is none or it is incomplete.
        """
        if "/" in wanted:
            set_ = open_set(Path(wanted))
            ours = set_.path.parent == self.folder or places.only_roots(set_.path)
            return set_ if ours else replace(set_, said=set_.documents)
        if not is_set_name(wanted):
            raise Failure(
                f"{wanted!r} is neither the name of a set nor a path",
                hint="gitlab-mm list shows the sets; a path must hold a slash.",
                exit_code=ExitCode.USAGE,
            )
        return self.named(wanted)

    @abc.abstractmethod
    def named(self, name: str) -> BackupSet:
        """Return the set of that name; raises Failure when it is missing or incomplete."""


class Listing:
    """The sets of one listing: each is read once, however many build on it."""

    def __init__(self) -> None:
        self.sets: dict[Path, tuple[str, BackupSet]] = {}  # with their identities

    def manifest(self, data: bytes, identity: str, path: Path) -> Manifest:
        """Return the manifest of the set at ``path``; raises Failure as ``parse`` does."""
        return parse(data, f"{path}/{MANIFEST}")

    def origin(self, data: bytes, identity: str, set_: BackupSet) -> Origin | None:
        """Return the result of the check of a set's documents; None leaves it to others."""
        return None

    def keep(self) -> None:
        """End the listing: what was found may be kept for the next one."""


def open_set(
    path: Path,
    longest: int = LONGEST_CHAIN,
    identity: str = "",
    listing: Listing | None = None,
) -> BackupSet:
    """Return the set at ``path``; raises Failure when it or one of its bases is incomplete.

    With an ``identity`` it must be exactly that set, checked before anything of it is used.
    It is added to the ``listing`` that it is opened for.
    """
    path = Path(os.path.abspath(path))
    listing = listing or Listing()
    known = listing.sets.get(path)
    if known is not None and identity in ("", known[0]) and len(known[1].chain) <= longest:
        return known[1]
    try:
        data = files.read_regular(f"{path}/{MANIFEST}", links=True)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_set(path) from None
    except OSError as error:
        raise Failure(f"Set {path.name} cannot be read", str(error.strerror)) from error
    found = hashlib.sha256(data).hexdigest()
    if identity and found != identity:
        raise Failure(f"{path} is not the set of then", f"its {MANIFEST} is another, or damaged")
    manifest = listing.manifest(data, found, path)
    set_ = BackupSet(path, manifest, _open_base(path, manifest, longest - 1, listing))
    checked = listing.origin(data, found, set_)
    if checked is not None:
        set_ = replace(set_, checked=checked)
    listing.sets[path] = found, set_
    return set_


def _no_set(path: Path) -> Failure:
    """Return the failure for a directory without a manifest, with what is there instead."""
    if not path.is_dir():
        return Failure(
            f"There is no set {path.name}",
            f"{path} is not a directory",
            "gitlab-mm list shows the sets.",
        )
    if is_set_name(path.name):
        return Failure(
            f"Set {path.name} is not complete",
            f"it has no {MANIFEST}",
            "Its backup did not end well; choose another set (gitlab-mm list).",
        )
    names = sorted(_names_in(path))
    for folder in (path, *(path / name for name in names[:_MANY])):
        sets = sorted(filter(is_set_name, names if folder is path else _names_in(folder)))
        if sets:
            return Failure(
                f"{path} is not a set",
                f"{folder} has {humanize.number(len(sets), 'set')}, the newest {sets[-1]}",
                f"Give its path: {folder / sets[-1]}",
            )
    few = ", ".join(names[:_FEW]) + (" and more" if len(names) > _FEW else "")
    return Failure(
        f"{path} is not a set", f"it has no {MANIFEST}; it has: {few or 'nothing'}", _SETS_HAVE
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _open_base(path: Path, manifest: Manifest, longest: int, listing: Listing) -> BackupSet | None:
    """Return the base of the set at ``path``: exactly the recorded one, with all of its files."""
    if manifest.increment is None:
        return None
    name = manifest.increment.base
    place = Path(os.path.realpath(path)).parent / name
    wrong = f"Set {manifest.name} is not complete: it builds on set {name}"
    if not longest:
        raise Failure(wrong, f"and that on more than {LONGEST_CHAIN} others, which is not valid")
    try:
        base = open_set(place, longest, manifest.increment.manifest, listing)
    except Failure as failure:
        raise Failure(
            wrong,
            str(failure),
            f"Copy {name}, and what it builds on, into {place.parent}; or choose another set.",
        ) from failure
    told = cut_short(base.path, base.lent)
    if told:
        raise Failure(wrong, told, "Choose another set (gitlab-mm list).")
    return base


def damage(set_: BackupSet, *, lent: bool = False) -> list[str]:
    """Compare a set's files with their recorded sizes and checksums; return problems as text."""
    if set_.source is not None:
        return set_.source.problems()
    problems = list(set_.problems)
    try:
        known = files.read_regular(set_.path / MANIFEST, links=True) == to_bytes(set_.manifest)
        if not known or files.read_regular(set_.path / SUMS, links=True) != sums(set_.manifest):
            problems.append(f"{SUMS} and {MANIFEST} contradict each other")
    except (OSError, Failure) as error:
        problems.append(f"{SUMS}: {reason(error)}")
    here = dict(set_.manifest.parts)
    if set_.stream is not None:  # which is weighed as it comes
        del here["files"]
    for part in set_.lent if lent else here.values():
        problem = part_problem(set_.path / part.file, part)
        if problem:
            problems.append(f"{part.file}: {problem}")
    return problems


def part_problem(path: Path, part: Part) -> str:
    """Read the file of a part; return how it differs from its record, or ""."""
    sha256 = hashlib.sha256()
    try:
        with files.open_regular(path, links=True) as file, progress.of_file(path.name, file):
            size = os.fstat(file.fileno()).st_size
            if size != part.bytes:
                return f"has {size} bytes, should have {part.bytes}"
            while piece := file.read(_CHUNK):
                sha256.update(piece)
    except FileNotFoundError:
        return "is missing"
    except (OSError, Failure) as error:
        return reason(error)
    return "" if sha256.hexdigest() == part.sha256 else "has a wrong checksum"
