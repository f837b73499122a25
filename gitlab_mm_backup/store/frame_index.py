"""The index of a files part: which members are where, and which frames have them (see frames.py)."""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import IO, NamedTuple

from ..errors import Failure
from ..system import parallel, process
from ..system.private_files import OpenFile
from ..system.process import DECOMPRESS, Command, Finished
from .archive_rules import Known, Most, refuse_foreign, refuse_more
from .archive_writer import BYTES, Contents, member_name
from .frames import BLOCK, LARGEST, Frame, FrameCheck, NameLine, plain, told
from .sets import BackupSet

_CHUNK = 1 << 16  # bytes to read at once
_LISTED = 1 << 18  # bytes of tar's listing
_MOST = 8  # frames in a run, unless a larger file needs them
_MANY = 20_000  # members in a run, above which no further frame joins it
_EACH = 1 << 62  # runs: more than a part has frames
_MEMBER = re.compile(rb"(/[^\0]*)//(\d{1,18}) (\d{1,18})")
_MARK = b"//"  # begins all records but those of members
_FRAME_MARK, _LINKS_MARK = b"//=", b"//h"
_FRAME = re.compile(rb"//=(\d{1,18}) (\d{1,18}) (\d{1,18}) (\d{1,18})(?: ([0-9a-f]{64}))?")


class Place(NamedTuple):
    """A member, and its bytes in the tar with its headers."""

    path: bytes
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class Run(NamedTuple):
    """Frames in a row, and the members in them that are wanted, in the order of the archive."""

    frames: Sequence[Frame]
    members: Sequence[Place]

    @property
    def start(self) -> int:
        """Where it begins in the file."""
        return self.frames[0].packed

    @property
    def length(self) -> int:
        """Its bytes in the file."""
        return self.frames[-1].packed + self.frames[-1].packed_length - self.start


class Stretch(NamedTuple):
    """A run with the records of all members in it, as the index has them."""

    run: Run  # without members
    records: Sequence[bytes]
    last: bool  # its last member takes the rest of the archive


def _skip(stream: IO[bytes], count: int) -> None:
    """Read the next ``count`` bytes; raises Failure where there are fewer."""
    waste = memoryview(bytearray(min(count, _CHUNK)))
    while count:
        passed: int = stream.readinto(waste[:count])  # type: ignore[attr-defined]
        if not passed:
            raise _invalid(f"{count} bytes are missing before a member")
        count -= passed


def matching(packed: IO[bytes], texts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the records of a part that have any of ``texts``, searched by grep(1).

    Others may come too, where a text has several lines.
    """
    with tempfile.TemporaryFile() as patterns:
        patterns.writelines(max(text.split(b"\n"), key=len) + b"\n" for text in texts)
        patterns.flush()
        search = Command(
            ["grep", "--null-data", "--text", "--fixed-strings", "--file", OpenFile(patterns)],
            account="nobody",
            environment={"LC_ALL": "C"},
            may_exit=(0, 1),  # 1: none has
        )
        with process.output(DECOMPRESS, search, stdin=packed) as (stream, _):
            yield from records(stream)


def records(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the records in ``stream``; raises Failure where the last one is not complete."""
    rest = b""
    while piece := stream.read(_CHUNK):
        *complete, rest = (rest + piece).split(b"\0")
        yield from complete
    if rest:
        raise _invalid("it ends in the middle of a record")


def find(packed: IO[bytes], size: int, paths: Collection[bytes]) -> list[Run]:
    """Return what to read of a files part of ``size`` bytes for the members ``paths``.

    ``packed`` is its index. Paths that it does not have are left out. Raises Failure for an index
    that is not valid.
    """
    frames, members = list[Frame](), dict[bytes, Place]()
    for record in matching(packed, [_FRAME_MARK, *(path + b"//" for path in paths)]):
        found = parsed(record)
        if isinstance(found, Frame):
            frames.append(found)
        elif found.path in paths:
            members[found.path] = found
    check(frames, size)
    return _runs(frames, sorted(members.values(), key=lambda place: place.start))


def everything(index: Path, size: int, stretches: int) -> Iterator[Stretch]:
    """Yield all frames of a files part of ``size`` bytes with all members, in about ``stretches``.

    More where one would have more than _MOST frames or _MANY members; a member is in one stretch.
    Raises Failure for frames that are not valid.
    """
    with open(index, "rb") as packed:
        frames = _frames(matching(packed, [_FRAME_MARK]), size)
    starts = {b"%d" % frame.start: number for number, frame in enumerate(frames)}
    each = min(_MOST, max(1, len(frames) // stretches))
    begun, members = 0, list[bytes]()
    with open(index, "rb") as packed, process.output(DECOMPRESS, stdin=packed) as (stream, _):
        for record in records(stream):
            if record.startswith(_MARK):
                continue
            start = record[record.rfind(b"/") + 1 :].partition(b" ")[0]
            number = starts.get(start, begun)
            if number >= begun + each or (number > begun and len(members) > _MANY):
                yield Stretch(Run(frames[begun:number], ()), members, last=False)
                begun, members = number, []
            members.append(record)
    yield Stretch(Run(frames[begun:], ()), members, last=True)


def independent(index: Path, size: int) -> list[Frame]:
    """Return the frames of a files part in which no member needs one of another frame.

    None where there are hard links; an index without SHA-256 of frames does not say. Raises Failure
    for invalid frames.
    """
    with open(index, "rb") as packed:
        found = list(matching(packed, [_FRAME_MARK, _LINKS_MARK]))
    if any(record.startswith(_LINKS_MARK) for record in found):
        return []
    frames = _frames(found, size)
    return frames if all(frame.sha256 for frame in frames) else []


def _frames(found: Iterable[bytes], size: int) -> list[Frame]:
    frames = [frame for frame in map(parsed, found) if isinstance(frame, Frame)]
    check(frames, size)
    return frames


@contextlib.contextmanager
def unpacked(set_: BackupSet, run: Run) -> Iterator[IO[bytes]]:
    """Yield the tar in some frames of a files part; those from elsewhere after their check."""
    with contextlib.ExitStack() as opened:
        if set_.stream is None:
            yield opened.enter_context(unpacked_from(set_.file("files"), run))
            return
        there = set_.stream.piece(run.start, run.length)
        assert there is not None  # or its index is not asked
        if not all(frame.sha256 for frame in run.frames):
            yield opened.enter_context(process.output(there, DECOMPRESS))[0]
            return
        packed = opened.enter_context(tempfile.TemporaryFile(dir=set_.path))
        check = FrameCheck(run.frames, packed.write)
        process.pipeline(there, sink=check.take)
        check.finish()
        packed.flush()
        yield opened.enter_context(unzipped(packed, [(0, run.length)]))[0]


@contextlib.contextmanager
def unpacked_from(archive: Path, run: Run) -> Iterator[IO[bytes]]:
    """Yield the tar in some frames of a files part that is here."""
    with (
        open(archive, "rb") as packed,
        unzipped(packed, [(run.start, run.length)]) as (stream, _),
    ):
        yield stream


@contextlib.contextmanager
def unzipped(
    packed: IO[bytes], pieces: Sequence[tuple[int, int]], *then: Command
) -> Iterator[tuple[IO[bytes], list[Finished]]]:
    """Yield the output of zstd, or of ``then``, and the results of all, for some pieces of a file.

    ``pieces`` are starts and lengths of frames, which are read as one stream.
    """
    with (
        parallel.parts_of(packed, pieces) as source,
        process.output(DECOMPRESS, *then, stdin=source) as output,
    ):
        source.close()  # zstd alone holds it, so that the pipe breaks with zstd
        yield output


def each_member(stream: IO[bytes], run: Run) -> Iterator[tuple[Place, IO[bytes]]]:
    """Yield the members of ``run`` with their bytes, which must be read before the next one."""
    at = run.frames[0].start
    for place in run.members:
        _skip(stream, place.start - at)
        yield place, parallel.piece(stream, place.length)
        at = place.end


#: Lists a tar for ``Inspection``.
LIST = Command(
    [
        *("tar", "--list", "--verbose", "--block-number", "--quoting-style=c", "--full-time"),
        "--numeric-owner",
    ],
    account="nobody",
    environment={**BYTES, "TZ": "UTC0"},
)
# Of this listing: a file without privileges, or a directory.
_USUAL = (
    rb"block (\d+): ([-d])((?:[r-][w-][x-]){2}[r-][w-][xtT-])[.+]? \S+ +(\d+) "
    rb'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) "(%b(?:/[^"\\]*(?:\\.[^"\\]*)*)?)"\n'
)
_LISTING_END = re.compile(rb"block \d+: \*\* (?:Block of NULs|End of File) \*\*\n\Z")


class Inspection:
    """Reads tar's listing of a stretch: checks each member, and that the index has it."""

    def __init__(
        self,
        stretch: Stretch,
        roots: Sequence[str],
        known: Known,
        most: Most,
        each: Callable[[NameLine], object] | None,
    ) -> None:
        self.contents = Contents()
        self._records, self._last = stretch.records, stretch.last
        self._known, self._most, self._each = known, most, each
        self._roots = [member_name(Path(root)) for root in roots]
        any_root = b"|".join(re.escape(os.fsencode(root)) for root in self._roots)
        self._usual = re.compile(_USUAL % (b"(?:%b)" % any_root))
        self._base = self._at = stretch.run.frames[0].start
        self._end = stretch.run.frames[-1].start + stretch.run.frames[-1].length
        self._found = 0  # members

    def read(self, listing: IO[bytes]) -> None:
        """Read all of it; raises Failure for what no set of ours has."""
        rest = b""
        while piece := listing.read(_LISTED):
            lines, end, rest = (rest + piece).rpartition(b"\n")
            self._add(lines + end)
        if rest:
            raise Failure("tar tells what cannot be understood", ascii(rest[:200]))
        if self._found < len(self._records):
            raise _differs("lacks a file of its index", self._records[self._found])
        if self._at != self._end and not self._last:
            raise _differs("ends elsewhere than its index says", self._records[-1])

    def _add(self, lines: bytes) -> None:
        """Take complete lines, the usual ones at once: there may be a million."""
        ended = _LISTING_END.search(lines)
        if ended is not None:
            lines = lines[: ended.start()]
        usual = self._usual.findall(lines) if b"/.." not in lines else []
        if len(usual) != lines.count(b"\n"):
            for line in lines.splitlines(keepends=True):
                self._add_line(line)
            return
        self._compare(
            [
                self._note(
                    int(block),
                    NameLine(
                        *(kind, mode, int(size)), plain(name) if b"\\" in name else name, b"", when
                    ),
                )
                for block, kind, mode, size, when, name in usual
            ]
        )

    def _add_line(self, line: bytes) -> None:
        block, _, rest = line.partition(b": ")
        member = told(rest)
        refuse_foreign(member, self._roots, self._known, "files")
        self._compare([self._note(int(block.rpartition(b" ")[2]), member)])

    def _note(self, block: int, member: NameLine) -> bytes:
        """Count a member, which ends where the next one begins; return the record of the index."""
        start, self._at = self._at, self._base + (block + 1) * BLOCK
        if member.kind == b"-":
            self.contents.files += 1
            self.contents.size += member.size
            self._at += -(-member.size // BLOCK) * BLOCK
        if self._each is not None:
            self._each(member)
        return b"/%b//%d %d" % (member.name.rstrip(b"/"), start, self._at - start)

    def _compare(self, found: list[bytes]) -> None:
        """Raise Failure unless the index has the members ``found`` next."""
        wanted = self._records[self._found : self._found + len(found)]
        self._found += len(found)
        if self._last and self._found == len(self._records) and self._at <= self._end:
            head, _, _ = found[-1].rpartition(b" ")  # in the index it takes the end of the archive
            found[-1] = b"%b %d" % (head, self._end - int(head.rpartition(b"/")[2]))
        for ours, theirs in zip_longest(found, wanted) if found != wanted else ():
            if ours != theirs:
                raise _differs("differs from its index", ours or theirs)
        path = found[-1].rpartition(b"//")[0] if found else b""
        refuse_more(os.fsdecode(path), self.contents, self._most, "files")


def _differs(how: str, record: bytes) -> Failure:
    return Failure(f"An archive {how}", ascii(record[:200]))


class Slice(NamedTuple):
    """Frames that can be read alone, and the bytes of the tar in them by group of members."""

    start: int  # in the file
    length: int
    groups: Mapping[bytes, int]


def slices(index: Path, size: int, group: Callable[[bytes], bytes]) -> list[Slice]:
    """Return the smallest slices of a files part of ``size`` bytes, in its order.

    ``group`` returns the group of a member by its path. Raises Failure as ``everything`` does.
    """
    found = []
    for stretch in everything(index, size, _EACH):
        groups = Counter[bytes]()
        for place in map(parsed, stretch.records):
            if isinstance(place, Place):
                groups[group(place.path)] += place.length
        found.append(Slice(stretch.run.start, stretch.run.length, groups))
    return found


def parsed(record: bytes) -> Frame | Place:
    """Return what a record of an index says; raises Failure for an invalid one."""
    if found := _FRAME.fullmatch(record):
        start, length, packed, packed_length = map(int, found.groups()[:4])
        return Frame(start, length, packed, packed_length, (found[5] or b"").decode())
    if (found := _MEMBER.fullmatch(record)) and int(found[2]) % BLOCK == 0 and int(found[3]):
        return Place(found[1], int(found[2]), int(found[3]))
    raise _invalid(ascii(record[:200]))


def check(frames: Sequence[Frame], size: int) -> None:
    """Raise Failure unless ``frames`` are all of a part of ``size`` bytes, one after the other."""
    start = packed = 0
    for frame in frames:
        if (frame.start, frame.packed) != (start, packed) or not 0 < frame.length <= LARGEST:
            raise _invalid(f"a frame is not where the one before ends: {start}")
        start, packed = start + frame.length, packed + frame.packed_length
    if packed != size:
        raise _invalid(f"its frames have {packed} bytes, the part has {size}")


def _runs(frames: Sequence[Frame], members: Iterable[Place]) -> list[Run]:
    """Return the runs of frames that hold ``members``, both in the order of the archive."""
    starts = [frame.start for frame in frames]
    runs: list[tuple[int, int, list[Place]]] = []  # first frame, last frame
    for place in members:
        if place.end > frames[-1].start + frames[-1].length:
            raise _invalid(f"{ascii(place.path)[:200]} is after the end")
        first, last = (bisect.bisect_right(starts, at) - 1 for at in (place.start, place.end - 1))
        follows = runs and first == runs[-1][1] + 1 < runs[-1][0] + _MOST
        if runs and (first <= runs[-1][1] or follows):
            before = runs.pop()
            if place.start < before[2][-1].end:
                raise _invalid(f"{ascii(place.path)[:200]} is inside of another")
            before[2].append(place)
            runs.append((before[0], max(before[1], last), before[2]))
        else:
            runs.append((first, last, [place]))
    return [Run(frames[first : last + 1], found) for first, last, found in runs]


def _invalid(detail: str) -> Failure:
    return Failure("The index of the files is not valid", detail)
