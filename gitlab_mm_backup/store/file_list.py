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
import itertools
import operator
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
from .archive_rules import ALONE, Pair, key_of
from .archive_writer import BYTES, TOO_LONG, Contents
from .frames import NameLine, told

LISTING = "listing"  # name of the part
_CHUNK = 1 << 20
_RECORD = re.compile(rb"(/[^\0]*)//(\d{1,4}) ([fdlh]) (\d{1,20}) ([0-9. ]+)")
# Of many records.
_KEYS = re.compile(rb"(?<![^\0])(/[^\0]*//)\d{1,4} [fdlh] \d{1,20} [0-9. ]+\0")
_PATHS = re.compile(rb"(?<![^\0])([^\0]*)//")
_LINK = re.compile(rb"//\d{1,4} l ")
_LEVELS = re.compile(rb"//(\d{1,4}) ")
_SIZES = re.compile(rb"//\d{1,4} f (\d{1,20}) ")
_MANY = 10_000  # directories to remember
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
    def record(self) -> bytes:
        return b"%s//%d %s %d %s\0" % self


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
def opened(path: Path) -> Iterator[Iterator[bytes]]:
    """Yield the records of a set's listing, many at a time."""
    with open(path, "rb") as packed, process.output(DECOMPRESS, stdin=packed) as (stream, _):
        yield checked(stream, str(path))


def checked(stream: IO[bytes], where: str = "a listing") -> Iterator[bytes]:
    """Yield the records in ``stream``, many at a time; raises Failure for an invalid listing.

    There may be a million: they are checked as text.
    """
    last = b""
    for chunk in _chunks(stream, where):
        keys, count = [last, *_KEYS.findall(chunk)], chunk.count(b"\0")
        complete = len(keys) - 1 == count == chunk.count(b"//")
        ordered = all(map(operator.lt, keys, keys[1:]))
        if not complete or not ordered or b"/../" in chunk:
            every = chunk.split(b"\0")[:-1]
            first = next((record for record in every if not _RECORD.fullmatch(record)), every[0])
            raise _invalid(where, ascii(first[:200]))
        last = keys[-1]
        yield chunk


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


def parsed(record: bytes, where: str = "a listing") -> FileEntry:
    """Return the entry that a record of a listing is; raises Failure for anything else."""
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
            for both in zip(chunk.split(b"\0")[:-1], _LEVELS.sub(b"//0 ", chunk).split(b"\0"))
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
        sizes = _SIZES.findall(chunk)
        made.whole.files += len(sizes)
        made.whole.size += sum(map(int, sizes))
        for record in chunk.split(b"\0")[:-1]:
            if record != same:
                key = record[: record.index(b"//") + 2]
                while old and old[: old.index(b"//") + 2] < key:
                    old, same = next(below, _NONE)
            if record == same and (record.endswith(ALONE) or b"//0 d " in record):
                marked.write(old + b"\0")
                old, same = next(below, _NONE)
                continue
            entry = parsed(record)
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
                self._add(parsed(record), packed)
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
    counted, links = Counted(), set[bytes]()
    with opened(path) as chunks:
        for chunk in chunks:
            sizes = _SIZES.findall(chunk)
            counted.whole.files += len(sizes)
            counted.whole.size += sum(map(int, sizes))
            counted.levels.update(map(int, _LEVELS.findall(chunk)))
            if _LINK.search(chunk):
                records = filter(_LINK.search, chunk.split(b"\0"))
                links.update(key_of(record)[:-2] for record in records)
    if links:
        _refuse_below(links, path)
    return counted


def _refuse_below(links: set[bytes], path: Path) -> None:
    fine = {b""}  # directories that are not below a link
    with opened(path) as chunks:
        for chunk in chunks:
            fine = {b""} if len(fine) > _MANY else fine
            for name in _PATHS.findall(chunk):
                above = name[: name.rindex(b"/")]
                if above in fine:
                    continue
                parents = [above, *_above(above)]
                if not links.isdisjoint(parents):
                    raise Failure("A listing has something below a link", ascii(name))
                fine.update(parents)


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


@contextlib.contextmanager
def paired(own: Path, final: Path, level: int) -> Iterator[Iterator[Pair]]:
    """Yield each record of the listing ``own`` at ``level`` with that of ``final`` for its path.

    b"" stands for one that ``final`` does not have.
    """
    here = b"//%d " % level
    with contextlib.ExitStack() as stack:

        def every(path: Path) -> Iterator[bytes]:
            chunks = stack.enter_context(opened(path))
            return (record for chunk in chunks for record in chunk.split(b"\0")[:-1])

        ours = (record for record in every(own) if here in record)
        yield zip(*itertools.tee(ours)) if own == final else _pairs(ours, every(final))


def _pairs(ours: Iterable[bytes], theirs: Iterable[bytes]) -> Iterator[Pair]:
    """Yield each of ``ours`` with that of ``theirs`` for the same path; most are equal."""
    rest = iter(theirs)
    last = next(rest, b"")
    for record in ours:
        if record != last:
            key = key_of(record)
            while last and key_of(last) < key:
                last = next(rest, b"")
        if record != last and not last.startswith(key):
            yield record, b""
        else:
            yield record, last
            last = next(rest, b"")


def stale(own: Path, final: Path, level: int, source: str) -> tuple[list[str], bool]:
    """Return the members that must not be unpacked, and whether any others are left.

    ``own``, ``final`` and ``level`` are as for ListingChecker; only entries at or below ``source``
    count. A folder that exists in the final state is unpacked from each archive that has it.
    """
    top, left_out, anything = os.fsencode(source), [], False
    here, folder = b"//%d " % level, re.compile(rb".*//\d+ d ", re.DOTALL)
    with paired(own, final, level) as pairs:
        for record, last in pairs:
            if not record.startswith((top + b"//", top + b"/")):
                continue
            if here in last or (last and folder.match(last) and folder.match(record)):
                anything = True
            else:
                left_out.append(os.fsdecode(key_of(record)[:-2]))
    return left_out, anything
