"""The index of a files part: which members are where, and which frames have them (see frames.py).

And the streams by which they are read.
"""

from __future__ import annotations

import bisect
import io
import itertools
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
_PASSED = 1 << 20  # the same, of a stream that is passed on
# The most bytes to read at once: of a header, or of a file of settings.
_HELD = 64 << 20
_MOST = 8  # frames in a run, whose members are in memory
_EACH = 1 << 62  # runs: more than a part has frames
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


class ForwardReader(io.RawIOBase):
    """Forward-only file over a pipe, for tarfile: seek() skips ahead; checked bytes go on.

    tarfile's own stream mode copies each skipped byte three times; this copies it once. Bytes are
    forwarded to ``on`` in order; bytes that were read wait for ``release``.
    """

    def __init__(
        self,
        stream: IO[bytes],
        on: Callable[[memoryview], object] = lambda piece: None,
        most: int | None = None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._on = on
        self._most = most  # bytes that it may have
        self._held = bytearray()
        self._at = 0
        self._waste = memoryview(bytearray(_PASSED))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end; raises ValueError for too many."""
        if size > _HELD:
            raise ValueError(f"a header or a file of settings has {size} bytes")
        piece = self._stream.read(size)
        self._go_on(len(piece))
        self._held += piece
        return piece

    def release(self) -> None:
        """Forward the bytes read so far: their member passed the checks."""
        if self._held:
            self._on(memoryview(self._held))
            self._held = bytearray()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Forward the bytes up to ``offset``, or up to the end.

        They are the content of a file whose header passed the checks. Raises
        io.UnsupportedOperation for a position further back.
        """
        if whence != io.SEEK_SET or offset < self._at:
            raise io.UnsupportedOperation("a pipe has no way back")
        while self._at < offset:
            passed = self._stream.readinto(self._waste[: offset - self._at])  # type: ignore[attr-defined]
            if not passed:
                break
            self._go_on(passed)
            self._pass_on(self._waste[:passed])
        return self._at

    def finish(self) -> None:
        """Forward the rest; raises ValueError where it is more than the zero blocks of an end."""
        rest = iter(lambda: self._stream.read(_PASSED), b"")
        for piece in itertools.chain([bytes(self._held)], rest):
            self._go_on(len(piece))
            if piece.count(0) != len(piece):
                raise ValueError("there is data after its end, or an invalid header")
            self._on(memoryview(piece))

    def _go_on(self, count: int) -> None:
        self._at += count
        if self._most is not None and self._at > self._most:
            raise ValueError(f"it goes on after {self._most} bytes, all that its set can have")

    def _pass_on(self, piece: memoryview) -> None:
        if self._held:  # what comes before it still waits
            self._held += piece
        else:
            self._on(piece)


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
    for run in everything(index, size, _EACH):
        groups = Counter[bytes]()
        for place in run.members:
            groups[group(place.path)] += place.length
        found.append(Slice(run.start, run.length, groups))
    return found


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
