"""Uploads of earlier days: how a set has them, in which batches they are unpacked, and what is there.

Those that are there already are moved out of the previous data directory after Mattermost's start,
before it is removed. Nothing is shared by two directories: Mattermost appends to an upload that a
client sends in pieces.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tarfile import TarInfo

from ..errors import Failure
from ..store import file_list, frame_index, verify
from ..store.archive_reader import MemberContent, Portion
from ..store.file_list import LISTING, FileEntry
from ..store.frame_index import Slice
from ..store.frames import INDEX, NameLine
from ..store.sets import BackupSet
from ..system import files
from . import folder_swap
from .unpack import Without

_RECENT = timedelta(days=7)  # before the set was made: their uploads are there at the start
_DAY = 8  # digits
FIRST = b""  # in place of a day: what is there before the start
_BATCH = 256 << 20  # bytes of the tar, at least, that are unpacked, synced and moved at once
_ALL = -1  # in place of the start of a slice: the whole part, which has no index
_SAMPLES = 50  # days of which one file is compared by its bytes
_CHUNK = 1 << 20
_MODE = 0o1777  # without set-user-id and set-group-id
_KINDS = {b"d": stat.S_IFDIR, b"l": stat.S_IFLNK}  # all others are files here
_UNKNOWN = "\0"  # no link leads there


@dataclass
class Digest:
    """The names, kinds, modes, sizes and times of the files of a day, in any order."""

    total: int = 0
    sample: str = ""  # the largest file, below the data directory
    largest: int = -1

    def add(self, name: str, mode: int, size: int, seconds: int, target: str = "") -> None:
        """Add a file, directory or link; of a directory size and time do not count."""
        if stat.S_ISDIR(mode):
            size = seconds = 0
        if stat.S_ISREG(mode) and size > self.largest:
            self.sample, self.largest = name, size
        line = f"{name}\0{mode}\0{size}\0{seconds}\0{target}"
        summed = hashlib.blake2b(line.encode(errors="surrogateescape"), digest_size=16).digest()
        self.total += int.from_bytes(summed, "big")


@dataclass
class Look:
    """What the verification of a set shows about its uploads."""

    set: BackupSet
    before: str
    days: Counter[bytes] = field(default_factory=Counter)  # day -> bytes
    linked: bool = False  # some are hard links, which may be of one that comes later
    there: Collection[str] = ()  # days that are unpacked, or were there already
    digests: dict[bytes, Digest] = field(default_factory=dict)  # by day

    @classmethod
    def at(cls, set_: BackupSet) -> Look:
        return cls(set_, f"{set_.manifest.made - _RECENT:%Y%m%d}")

    def each(self, member: NameLine, _: bytes | None) -> None:
        """Take one member of the files part."""
        if day := self.day(member.path):
            self.days[day] += member.size if member.kind == b"-" else 0
            self._digest(day, member)
        if member.kind == b"h":
            self.linked |= bool(day or self.day(b"/" + member.target))

    def read_listing(self) -> None:
        """Take the uploads from the listing of the set, whose archive is not read here.

        A listing does not have what a link leads to, so a day with one is never the same.
        """
        with file_list.opened(self.set.file(LISTING)) as chunks:
            for chunk in chunks:
                for record in chunk.split(b"\0")[:-1]:
                    self._take(file_list.parsed(record))

    def _take(self, entry: FileEntry) -> None:
        if day := self.day(entry.path):
            mode, _, changed, *_ = entry.state.split(b" ")
            self._add(
                *(day, entry.path, _KINDS.get(entry.kind, stat.S_IFREG)),
                *(int(mode, 8) & _MODE, entry.size, int(changed.partition(b".")[0])),
                _UNKNOWN,
            )

    def day(self, path: bytes) -> bytes:
        """Return the day of an earlier upload, or of its directory; b"" for all else."""
        data = os.fsencode(self.set.manifest.files.folders.get("data", ""))
        if not data or not path.startswith(data + b"/"):
            return FIRST
        name = path[len(data) + 1 :].partition(b"/")[0]
        earlier = len(name) == _DAY and name.isdigit() and name < os.fsencode(self.before)
        return name if earlier and name.decode() not in self.there else FIRST

    def _digest(self, day: bytes, member: NameLine) -> None:
        """Add a member to the digest of its day."""
        size = member.size if member.kind == b"-" else 0
        kind, target = _KINDS.get(member.kind, stat.S_IFREG), os.fsdecode(member.target)
        self._add(day, member.path, kind, member.bits, size, member.seconds, target)

    def _add(
        self, day: bytes, path: bytes, kind: int, mode: int, size: int, seconds: int, target: str
    ) -> None:
        """Add a file to the digest of its day, by its path below the data directory."""
        name = os.fsdecode(path)[len(self.set.manifest.files.folders["data"]) + 1 :]
        if kind == stat.S_IFLNK:
            mode = size = seconds = 0
        else:
            target = ""
        self.digests.setdefault(day, Digest()).add(name, kind | mode, size, seconds, target)


@dataclass(frozen=True)
class Batch:
    """All uploads of some days, unpacked together: a directory may come before what it is in."""

    earliest: str  # of the days
    portions: Mapping[str, Portion]  # by the name of the set of the chain, oldest first
    bytes: int  # of the tar


@dataclass(frozen=True)
class Later:
    """The uploads of a set that are unpacked later, in order, and what a restore leaves out."""

    look: Look
    days: Mapping[str, int]  # bytes of each
    batches: Sequence[Batch]
    without: Mapping[str, Without]  # by the name of the set of the chain

    @property
    def bytes(self) -> int:
        return sum(batch.bytes for batch in self.batches)


def split(look: Look) -> Later | None:
    """Divide the files part of each set of the chain; None where nothing is left for later."""
    data = look.set.manifest.files.folders.get("data", "")
    days: dict[bytes, list[tuple[str, Slice]]] = {}
    without = dict[str, Without]()
    for link in look.set.chain:
        slices = _slices(link, look)
        if slices is None:
            return None
        first = [slice_ for slice_ in slices if FIRST in slice_.groups]
        for slice_ in slices:
            for day in slice_.groups:
                days.setdefault(day, []).append((link.name, slice_))
        here = [day for day in days if day != FIRST]
        without[link.name] = Without(_paths(data, here), _portion(first))
    days.pop(FIRST, None)
    batches = list(_batches(data, days))
    sizes = {day.decode(): _size(days[day], day) for day in days}
    return Later(look, sizes, batches, without) if batches else None


def _slices(link: BackupSet, look: Look) -> list[Slice] | None:
    """Return the slices of one set; a set without an index is one slice, None if in a chain."""
    if INDEX in link.manifest.parts:
        size = link.manifest.parts["files"].bytes
        return frame_index.slices(link.file(INDEX), size, look.day)
    return [Slice(_ALL, _ALL, {FIRST: 0, **look.days})] if look.set.base is None else None


def _batches(data: str, days: Mapping[bytes, Sequence[tuple[str, Slice]]]) -> Iterator[Batch]:
    """Yield the days, newest first, in batches of at least _BATCH bytes."""
    together, size = list[bytes](), 0
    for day in sorted(days, reverse=True):
        together.append(day)
        size += _size(days[day], day)
        if size >= _BATCH:
            yield _batch(data, days, together, size)
            together, size = [], 0
    if together:
        yield _batch(data, days, together, size)


def _size(slices: Sequence[tuple[str, Slice]], day: bytes) -> int:
    return sum(slice_.groups[day] for _, slice_ in slices)


def _batch(
    data: str,
    days: Mapping[bytes, Sequence[tuple[str, Slice]]],
    together: Sequence[bytes],
    size: int,
) -> Batch:
    portions = {}
    for link in dict.fromkeys(link for day in together for link, _ in days[day]):
        here = [day for day in together if any(link == name for name, _ in days[day])]
        slices = {part.start: part for day in here for name, part in days[day] if name == link}
        portion = _portion([slices[start] for start in sorted(slices)])
        portions[link] = portion._replace(members=_paths(data, here))
    return Batch(together[-1].decode(), portions, size)


def _paths(data: str, days: Iterable[bytes]) -> list[str]:
    return [f"{data}/{day.decode()}" for day in sorted(days)]


def _portion(slices: Sequence[Slice]) -> Portion:
    """Return the portion that consists of ``slices``."""
    if any(slice_.start == _ALL for slice_ in slices):
        return Portion()
    return Portion([(slice_.start, slice_.length) for slice_ in slices])


def take(
    set_: BackupSet, known: Mapping[bytes, Digest], previous: Path, live: Path, account: int
) -> list[bytes]:
    """Move the days that are the same from the directory ``previous`` to ``live``; return them.

    Only such whose files all belong to ``account``. Of some days one file is compared by its
    bytes. Raises Failure where one differs, before anything is moved; and OSError.
    """
    with files.open_directory(previous, links=True) as old, files.open_directory(live) as new:
        same = [day for day in known if _is_same(day, known[day], old, account)]
        same.sort(reverse=True)
        _compare_bytes(set_, [known[day] for day in same], old)
        return [day for day in same if folder_swap.move_new(day.decode(), old, new)]


def _is_same(day: bytes, wanted: Digest, folder: int, account: int) -> bool:
    found = Digest()
    try:
        for name, status, target in _walk(day.decode(), folder):
            if status.st_uid != account or (status.st_nlink > 1 and stat.S_ISREG(status.st_mode)):
                return False
            kind = stat.S_IFMT(status.st_mode)
            mode = 0 if kind == stat.S_IFLNK else status.st_mode & _MODE
            size = status.st_size if kind == stat.S_IFREG else 0
            seconds = 0 if kind == stat.S_IFLNK else status.st_mtime_ns // 10**9
            found.add(name, kind | mode, size, seconds, target)
    except OSError:  # there is no such directory
        return False
    return found.total == wanted.total


def _walk(top: str, folder: int) -> Iterator[tuple[str, os.stat_result, str]]:
    """Yield the paths below and including ``top`` in an open directory; no link is followed."""
    yield top, os.stat(top, dir_fd=folder, follow_symlinks=False), ""
    for path, folders, names, inside in os.fwalk(top, dir_fd=folder, onerror=_raise):
        for name in (*folders, *names):
            status = os.stat(name, dir_fd=inside, follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            yield f"{path}/{name}", status, os.readlink(name, dir_fd=inside) if is_link else ""


def _raise(error: OSError) -> None:
    raise error


def _compare_bytes(set_: BackupSet, days: list[Digest], folder: int) -> None:
    """Compare one file each of some days with the set; raises Failure where one differs."""
    chosen = [digest for digest in days if digest.sample]
    chosen = chosen[:: max(1, len(chosen) // _SAMPLES)]
    data = set_.manifest.files.folders["data"]
    wanted = {f"{data}/{digest.sample}": digest.sample for digest in chosen}
    differing = set(wanted)

    def compare(member: TarInfo, content: MemberContent) -> None:
        path = f"/{member.name}"
        if path in wanted and _sha256(content.pieces()) == _sha256(_pieces(wanted[path], folder)):
            differing.discard(path)

    if wanted:
        verify.read_members(set_, list(wanted), compare)
    if differing:
        raise Failure(
            f"{wanted[min(differing)]} has other bytes than in the set, with the same size and time",
            "so all uploads are taken from the set",
            "Find out what changed it.",
        )


def _pieces(path: str, folder: int) -> Iterator[bytes]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags, dir_fd=folder), "rb", buffering=0) as file:
        while piece := file.read(_CHUNK):
            yield piece


def _sha256(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
