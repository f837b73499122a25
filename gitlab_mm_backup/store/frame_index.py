"""The index of a files part: which members are where, and which frames have them (see frames.py)."""

from __future__ import annotations

import bisect
import io
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from ..errors import Failure
from ..system import process
from ..system.private_files import OpenFile
from ..system.process import DECOMPRESS, Command
from .frames import BLOCK, LARGEST

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_CHUNK = 1 << 16  # bytes to read at once
_MOST = 8  # frames in a run, whose members are in memory
_MEMBER = re.compile(rb"(/[^\0]*)//(\d{1,18}) (\d{1,18})")
_FRAME_MARK = b"//="
_FRAME = re.compile(rb"//=(\d{1,18}) (\d{1,18}) (\d{1,18}) (\d{1,18})")


class Frame(NamedTuple):
    """A piece of the part: its bytes in the tar, and in the file."""

    start: int
    length: int
    packed: int
    packed_length: int


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


class _Piece(io.RawIOBase):
    """The next ``length`` bytes of a stream, as if they were all."""

    def __init__(self, stream: IO[bytes], length: int) -> None:
        super().__init__()
        self._stream, self._left = stream, length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Read up to the end of the piece; raises ValueError where the stream ends before."""
        part = memoryview(buffer)[: self._left]
        count: int = self._stream.readinto(part)  # type: ignore[attr-defined]
        if not count and part:
            raise ValueError(f"{self._left} bytes are missing")
        self._left -= count
        return count


def piece(stream: IO[bytes], length: int) -> IO[bytes]:
    """Return the next ``length`` bytes of ``stream`` as a stream; reading raises ValueError."""
    return io.BufferedReader(_Piece(stream, length), _CHUNK)


def skip(stream: IO[bytes], count: int) -> None:
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


def everything(index: Path, size: int, runs: int) -> Iterator[Run]:
    """Yield all frames of a files part of ``size`` bytes with all members, in about ``runs`` runs.

    More where a run would have more than _MOST frames; a member is in one run. Raises Failure for an
    index that is not valid.
    """
    with open(index, "rb") as packed:
        frames = [
            frame
            for frame in map(parsed, matching(packed, [_FRAME_MARK]))
            if isinstance(frame, Frame)
        ]
    check(frames, size)
    starts = {frame.start: number for number, frame in enumerate(frames)}
    each = min(_MOST, max(1, len(frames) // runs))
    begun, at, members = 0, 0, list[Place]()
    with open(index, "rb") as packed, process.output(DECOMPRESS, stdin=packed) as (stream, _):
        for place in map(parsed, records(stream)):
            if isinstance(place, Frame):
                continue
            if place.start != at:
                raise _invalid(f"{ascii(place.path)[:200]} is not where the one before ends")
            number = starts.get(at, begun)
            if number >= begun + each:
                yield Run(frames[begun:number], members)
                begun, members = number, []
            members.append(place)
            at = place.end
    if at != frames[-1].start + frames[-1].length:
        raise _invalid("it has not all members")
    yield Run(frames[begun:], members)


def parsed(record: bytes) -> Frame | Place:
    """Return what a record of an index says; raises Failure for an invalid one."""
    if found := _FRAME.fullmatch(record):
        return Frame(*map(int, found.groups()))
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
        if runs and first <= runs[-1][1] + 1:
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
