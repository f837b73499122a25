"""Listings: all files, folders and links of a set, and which set of its chain holds each.

A listing is a part of a set, and what the next set of the chain is held against.  It is made of
records, ended by NUL bytes, in the order of their bytes (LC_ALL=C sort -z), packed by zstd:

    <path>//<level> <kind> <size> <mode> <inode> <mtime> <ctime> <names>

No path holds two slashes in a row, so nothing needs to be escaped.  ``level`` is the place in the
chain of the set whose files part holds it, 0 for the full one; ``kind`` is f, d, l, or h for a
further name of a file that the same part has under an earlier one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from ..errors import Failure
from ..system import process
from ..system.files import WORK
from ..system.process import DECOMPRESS, Command
from . import frame_index
from .archive_writer import BYTES, TOO_LONG, Contents
from .frames import NameLine, told

LISTING = "listing"  # name of the part
_CHUNK = 1 << 20
_RECORD = re.compile(rb"(/[^\0]*)//(\d{1,4}) ([fdlh]) (\d{1,20}) ([0-9. ]+)")
_LEVEL = re.compile(rb"//\d{1,4} ")
_SIZE = re.compile(rb"//0 f (\d+) ")
_ALONE = b" 1"  # ends the record of a file that has one name only: no hard links
_NONE = (b"", b"")
_PRINTED = "%p//0 %y %s %m %i %T@ %C@ %n\\0"
_VANISHED = re.compile(rb"find: .*: No such file or directory")


class FileEntry(NamedTuple):
    """One file, folder or link."""

    path: bytes  # absolute
    level: int
    kind: bytes
    size: int  # bytes
    state: bytes  # mode, inode, times and number of names

    @property
    def key(self) -> bytes:
        """The sort key in a listing."""
        return self.path + b"//"

    @property
    def record(self) -> bytes:
        return b"%s//%d %s %d %s\0" % self

    @property
    def alone(self) -> bool:
        """Whether it has one name only (no hard links)."""
        return self.kind == b"d" or self.state.endswith(_ALONE)


def _add(entry: FileEntry, *amounts: Contents) -> None:
    if entry.kind == b"f":
        for amount in amounts:
            amount.files += 1
            amount.size += entry.size


class Into(Protocol):
    """What takes a listing in pieces, of which each is valid only during the call."""

    def write(self, piece: memoryview, /) -> object: ...

    def flush(self) -> None: ...


def take(roots: Iterable[Path], place: Path, into: Into) -> None:
    """List everything below ``roots``; ``place`` is a directory for sort's temporary files.

    Files that vanish are left out, and work directories of this program. Anything that cannot be
    read raises Failure, because the next set would take it for removed.
    """
    kinds = ["(", "-type", "f", "-o", "-type", "d", "-o", "-type", "l", ")"]
    shown = ["-printf", _PRINTED]
    ours = ["-name", f"{WORK}*", "-type", "d", "-uid", "0", "-prune"]
    without = [*TOO_LONG, "-o", *ours, "-o"]
    look = Command(
        ["find", *map(str, roots), "-ignore_readdir_race", *without, *kinds, *shown],
        environment=BYTES,
        excused=_VANISHED,
    )
    sort = ["sort", "--zero-terminated", "--buffer-size=32M", f"--temporary-directory={place}"]
    process.pipeline(look, Command(sort, environment=BYTES), sink=into.write)
    into.flush()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Iterator[FileEntry]]:
    """Yield the entries of a set's listing."""
    with open(path, "rb") as packed, process.output(DECOMPRESS, stdin=packed) as (stream, _):
        yield entries(stream, str(path))


def entries(stream: IO[bytes], where: str = "a listing") -> Iterator[FileEntry]:
    """Yield the entries in ``stream``; raises Failure for an invalid listing."""
    before = b""
    for record in _records(stream, where):
        entry = _parsed(record, where)
        if entry.key <= before or b"/../" in entry.path + b"/":
            raise _invalid(where, ascii(record[:200]))
        before = entry.key
        yield entry


def _chunks(stream: IO[bytes], where: str = "a listing") -> Iterator[bytes]:
    """Yield the records in ``stream``, many at a time; raises Failure for an incomplete last one."""
    rest = b""
    while piece := stream.read(_CHUNK):
        complete, nul, rest = (rest + piece).rpartition(b"\0")
        yield complete + nul
    if rest:
        raise _invalid(where, "it ends in the middle of a record")


def _records(stream: IO[bytes], where: str = "a listing") -> Iterator[bytes]:
    for chunk in _chunks(stream, where):
        yield from chunk.split(b"\0")[:-1]


def _parsed(record: bytes, where: str = "a listing") -> FileEntry:
    found = _RECORD.fullmatch(record)
    if found is None:
        raise _invalid(where, ascii(record[:200]))
    return FileEntry(found[1], int(found[2]), found[3], int(found[4]), found[5])


def _invalid(where: str, detail: str) -> Failure:
    return Failure(f"{where} is not a listing", detail)


@dataclass
class ChangePlan:
    """The new listing, and which entries are packed now, at ``level``."""

    level: int
    marked: IO[bytes]  # a listing
    folders: set[bytes] = field(default_factory=set)  # packed besides
    changed: Contents = field(default_factory=Contents)
    whole: Contents = field(default_factory=Contents)

    def records(self) -> Iterator[tuple[bytes, bool]]:
        """Yield each record of the new listing, and whether it is packed now."""
        ours, folders = b"//%d " % self.level, self.folders
        self.marked.seek(0)
        for record in _records(self.marked):
            yield record, ours in record or record[: record.index(b"//")] in folders

    def write_names(self, file: IO[bytes]) -> None:
        """Write the names to pack for tar's --null --files-from, beginning at the root."""
        for record, packed in self.records():
            if packed:
                file.write(record[1 : record.index(b"//")] + b"\0")
        file.flush()


@contextlib.contextmanager
def bases(path: Path) -> Iterator[Iterator[tuple[bytes, bytes]]]:
    """Yield the records of a base's listing, for ``plan``: as they are, and at level 0.

    It is a part of a set of this host whose checksum was compared.
    """
    with open(path, "rb") as packed, process.output(DECOMPRESS, stdin=packed) as (stream, _):
        yield (
            both
            for chunk in _chunks(stream, str(path))
            for both in zip(chunk.split(b"\0")[:-1], _LEVEL.sub(b"//0 ", chunk).split(b"\0"))
        )


def plan(
    now: IO[bytes],
    before: Iterable[tuple[bytes, bytes]],
    level: int,
    always: Collection[Path],
    marked: IO[bytes],
) -> ChangePlan:
    """Compare ``now`` with the listing ``before`` of the base set, the last of its chain.

    Parent directories of changed files are packed too, because unpacking changes their times. The
    folders ``always`` are in every archive, so that tar finds them. Nearly all records are equal:
    there may be a million, and only the others are parsed. All names of a file with hard links
    are packed anew, because they must be in one archive.
    """
    made = ChangePlan(level, marked, {os.fsencode(path) for path in always})
    below = iter(before)
    old, same = next(below, _NONE)
    now.seek(0)
    for chunk in _chunks(now):
        sizes = _SIZE.findall(chunk)
        made.whole.files += len(sizes)
        made.whole.size += sum(map(int, sizes))
        for record in chunk.split(b"\0")[:-1]:
            if record != same:
                key = record[: record.index(b"//") + 2]
                while old and old[: old.index(b"//") + 2] < key:
                    old, same = next(below, _NONE)
            if record == same and (record.endswith(_ALONE) or b"//0 d " in record):
                marked.write(old + b"\0")
                old, same = next(below, _NONE)
                continue
            entry = _parsed(record)
            _add(entry, made.changed)
            made.folders.add(os.path.dirname(entry.path))
            marked.write(entry._replace(level=level).record)
    return made


class Shifted(Failure):
    """A directory was replaced by something else while it was being packed."""


class ListingWriter:
    """Follow tar's output and write the listing of what was packed."""

    def __init__(self, planned: ChangePlan, into: IO[bytes]) -> None:
        self.packed = Contents()
        whole, changed = planned.whole, planned.changed
        self.whole = Contents(whole.files - changed.files, whole.size - changed.size)
        self._level = planned.level
        self._shifted: set[bytes] = set()  # directories that are none any more
        self._planned = planned.records()
        self._into = into

    def add_line(self, line: bytes) -> None:
        """Process a line of tar's long listing.

        Tar packs in the order of the names that it gets; a name that is missing in its output has
        vanished. A file may have another type by now; pipes are in no listing and are never
        restored. Raises Shifted where it was a directory whose content is in this set or an
        earlier one: no restore could unpack that below a link.
        """
        packed = told(line)
        for record, ours in self._planned:
            if not ours:
                self._write(record + b"\0")
            elif record[: record.index(b"//")] == packed.path:
                self._add(_parsed(record), packed)
                return
        raise Failure("tar packed a file that was not in its list", ascii(line[:200]))

    def finish(self) -> None:
        """Write the entries after the last that was packed."""
        for record, ours in self._planned:
            if not ours:
                self._write(record + b"\0")
        self._into.flush()

    def _add(self, entry: FileEntry, packed: NameLine) -> None:
        kind = {b"-": b"f"}.get(packed.kind, packed.kind)
        if entry.kind == b"d" != kind:
            self._shifted.add(entry.path)
        if kind in b"fdlh":
            size = packed.size if kind == b"f" else entry.size
            now = entry._replace(level=self._level, kind=kind, size=size)
            self._write(now.record)
            _add(now, self.whole, self.packed)

    def _write(self, record: bytes) -> None:
        if self._shifted:
            path = record[: record.index(b"//")]
            if not self._shifted.isdisjoint(_above(path)):
                raise Shifted(
                    "A directory was replaced by something else", ascii(os.path.dirname(path))
                )
        self._into.write(record)


@dataclass
class Counted:
    """Totals of a listing."""

    whole: Contents = field(default_factory=Contents)
    levels: Counter[int] = field(default_factory=Counter)  # level -> entries


def count(path: Path) -> Counted:
    """Read the whole listing at ``path``.

    Raises Failure where an entry lies below a symbolic link: the next archive of the chain must
    not be unpacked through it.
    """
    counted, links = Counted(), set()
    with opened(path) as every:
        for entry in every:
            _add(entry, counted.whole)
            counted.levels[entry.level] += 1
            if entry.kind == b"l":
                links.add(entry.path)
    with opened(path) as every:
        for entry in every if links else ():
            if not links.isdisjoint(_above(entry.path)):
                raise Failure("A listing has something below a link", ascii(entry.path))
    return counted


def levels(path: Path, wanted: Collection[bytes]) -> dict[bytes, int]:
    """Return in which set of the chain each of the paths ``wanted`` is; not those in none."""
    found = {}
    with open(path, "rb") as packed:
        for record in frame_index.matching(packed, (name + b"//" for name in wanted)):
            entry = _RECORD.fullmatch(record)
            if entry is not None and entry[1] in wanted:
                found[entry[1]] = int(entry[2])
    return found


def _above(path: bytes) -> Iterator[bytes]:
    while len(path) > 1:
        path = os.path.dirname(path)
        yield path


class ListingChecker:
    """Compare the members of an archive with the listings of two sets of a chain.

    ``own`` is the listing of the archive's set, at ``level`` of the chain. ``final`` is that of
    the requested set, in which files may have changed since.
    """

    def __init__(self, own: Iterable[FileEntry], final: Iterable[FileEntry], level: int) -> None:
        self._pairs = _pairs(own, final, level)
        self._level = level
        self._linked: set[bytes] = set()  # live files with further names
        self.live = 0  # members that the wanted set still has from here

    def passes(self, member: NameLine) -> bool:
        """Tell whether ``member`` is in the final state; raises Failure if it is out of order."""
        if member.kind == b"p":
            return False  # made while tar packed
        entry, last = next(self._pairs, (None, None))
        if entry is None or not _describes(entry, member):
            raise Failure("An archive differs from its listing", ascii(member.name))
        if last is None or last.level != self._level:
            return False
        if entry.kind == b"f" and not entry.alone:
            self._linked.add(entry.path)
        if entry.kind == b"h" and b"/" + member.target not in self._linked:
            raise Failure("An archive has a hard link to a missing file", ascii(member.name))
        self.live += 1
        return True

    def finish(self) -> None:
        """Raise Failure where the archive has ended before its listing."""
        for entry, _ in self._pairs:
            raise Failure("An archive lacks a file of its listing", ascii(entry.path))


def _describes(entry: FileEntry, member: NameLine) -> bool:
    kind = b"f" if member.kind == b"-" else member.kind
    if (entry.path, entry.kind) != (member.path, kind):
        return False
    return kind != b"f" or entry.size == member.size


def _pairs(
    own: Iterable[FileEntry], final: Iterable[FileEntry], level: int
) -> Iterator[tuple[FileEntry, FileEntry | None]]:
    """Yield each entry of ``own`` at ``level`` with the entry of ``final`` for the same path."""
    rest = iter(final)
    last = next(rest, None)
    for entry in own:
        if entry.level == level:
            while last is not None and last.key < entry.key:
                last = next(rest, None)
            yield entry, last if last is not None and last.path == entry.path else None


def stale(own: Path, final: Path, level: int, source: str) -> tuple[list[str], bool]:
    """Return the members that must not be unpacked, and whether any others are left.

    ``own``, ``final`` and ``level`` are as for ListingChecker; only entries at or below ``source``
    count. A folder that exists in the final state is unpacked from each archive that has it.
    """
    top, left_out, anything = os.fsencode(source), [], False
    with opened(own) as ours, opened(final) as wanted:
        for entry, last in _pairs(ours, wanted, level):
            if entry.path != top and not entry.path.startswith(top + b"/"):
                continue
            if last is not None and (last.level == level or last.kind == entry.kind == b"d"):
                anything = True
            else:
                left_out.append(os.fsdecode(entry.path))
    return left_out, anything
