"""Frames: the files part in pieces that can be read alone, and the index of what is where.

The part stays one tar in one zstd stream: zstd(1) reads concatenated frames as one. A frame has at
most 64 MiB of the tar and ends where a member ends; a larger member is cut into several. The index
is made of records ended by NUL bytes, packed by zstd, in the order of the archive:

    <path>//<start> <length>       a member: the bytes of the tar that it takes, with its headers
    //=<start> <length> <packed start> <packed length> <SHA-256>    a frame, as it is in the part;
                                   these come after all members. The first sets have no SHA-256
    //h<count>                     hard links among the members; without this record there are none

No path holds two slashes in a row, so nothing needs to be escaped.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import hashlib
import os
import re
import select
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import IO, NamedTuple

from ..errors import Failure
from ..system import parallel, private_files, process
from ..system.private_files import PipeEnd
from ..system.process import Command, Sink

INDEX = "index"  # name of the part
LARGEST = 64 << 20  # bytes of the tar in a frame
BLOCK = 512  # bytes; a member begins at a multiple of it
_HEADERS = 64 << 10  # bytes: more than a member's headers have, but for odd attributes
_LINES = 64 << 10  # bytes of the listing to read at once
_PATIENCE = 50  # milliseconds between looks at the listing while nothing is packed
_NONE = -1  # in place of the end of a pipe: there will be no more
Take = Callable[[bytes], object]
# A year may have any sign and length (btrfs); a time outside all years is a number.
_DATE = rb"-?\d{4,}-\d\d-\d\d \d\d:\d\d(?::\d\d(?:\.\d+)?)?|-?\d{15,}"
WHEN = rb"(?:" + _DATE + rb") +"
# Of tar's long listing in its quoting style "c": kind, mode, bytes, name, and what a link leads to.
_TOLD = re.compile(
    rb"([-dlhpbc])(\S{9})\S? .*? *(\d+|\d+,\d+) ("
    + _DATE
    + rb') +"([^"\\]*(?:\\.[^"\\]*)*)"(?: (?:->|link to) "([^"\\]*(?:\\.[^"\\]*)*)")?\n'
)
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPED = dict(zip((b"a", b"b", b"f", b"n", b"r", b"t", b"v"), map(bytes, zip(b"\a\b\f\n\r\t\v"))))


class NameLine(NamedTuple):
    """One line of tar's long listing about a member."""

    kind: bytes  # - for a file, h for a further name of one, d, l, p, b, c
    mode: bytes  # as ls(1) has it
    size: int
    name: bytes  # from the root on; a directory's ends with a slash
    target: bytes  # of a link
    when: bytes = b""  # of the last change: UTC as tar has it, or seconds since 1970

    @property
    def seconds(self) -> int:
        """Seconds since 1970, rounded down."""
        day, _, time = self.when.partition(b" ")
        if not time:
            return int(day)
        hours, minutes, seconds = time[:8].split(b":")
        return _midnight(day) + int(hours) * 3600 + int(minutes) * 60 + int(seconds)

    @property
    def bits(self) -> int:
        """The permissions as numbers, without set-user-id and set-group-id."""
        return _bits(self.mode)

    @property
    def path(self) -> bytes:
        return b"/" + self.name.rstrip(b"/")


@functools.lru_cache(None)
def _midnight(day: bytes) -> int:
    year, month, of_month = (int(number) for number in day.rsplit(b"-", 2))
    return calendar.timegm((year, month, of_month, 0, 0, 0))


@functools.lru_cache(None)
def _bits(mode: bytes) -> int:
    sticky = 0o1000 if mode[8:] in (b"t", b"T") else 0
    letters = (letter in b"rwxst" for letter in mode)
    return sticky | sum(1 << 8 - place for place, there in enumerate(letters) if there)


def told(line: bytes) -> NameLine:
    """Parse a line of tar's long listing; raises Failure for anything else."""
    found = _TOLD.fullmatch(line)
    if found is None:
        raise Failure("tar tells what cannot be understood", ascii(line[:200]))
    kind, mode, size, when, name, target = found.groups(b"")
    # A device has its numbers in place of a size.
    bytes_ = 0 if b"," in size else int(size)
    return NameLine(kind, mode, bytes_, plain(name), plain(target), when)


def plain(quoted: bytes) -> bytes:
    """Return a name without the quoting of tar's style "c"."""
    if b"\\" not in quoted:
        return quoted
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1]) or _byte(match[1]), quoted)


def _byte(escaped: bytes) -> bytes:
    return bytes([int(escaped, 8)]) if len(escaped) == 3 else escaped


class Frame(NamedTuple):
    """A piece of the files part: its bytes in the tar, and in the file."""

    start: int
    length: int
    packed: int
    packed_length: int
    sha256: str = ""  # of it in the file; "" in the index of an old set


class FrameCheck:
    """Passes the bytes of some frames in a row on, and compares each with its SHA-256.

    What was passed on may be used only when the next frame begins, or after ``finish``.
    """

    def __init__(self, frames: Sequence[Frame], sink: Sink) -> None:
        self._frames, self._sink = list(frames), sink
        self._digest, self._left = hashlib.sha256(), frames[0].packed_length

    def take(self, piece: bytes | memoryview) -> None:
        """Take the next bytes; raises Failure for a frame that is not what was written."""
        rest = memoryview(piece)
        while rest and self._frames:
            part, rest = rest[: self._left], rest[self._left :]
            self._digest.update(part)
            self._left -= len(part)
            self._sink(part)
            if not self._left:
                self._end_frame()
        if rest:
            raise _differs("there are more bytes than its frames have")

    def _end_frame(self) -> None:
        frame = self._frames.pop(0)
        if self._digest.hexdigest() != frame.sha256:
            size, start = frame.packed_length, frame.packed
            raise _differs(f"the checksum of the {size} bytes from {start} on differs")
        self._digest = hashlib.sha256()
        self._left = self._frames[0].packed_length if self._frames else 0

    def finish(self) -> None:
        """Raise Failure where bytes are missing."""
        if self._frames:
            frame = self._frames[0]
            raise _differs(f"{self._left} bytes of the frame at {frame.packed} are missing")


def _differs(detail: str) -> Failure:
    return Failure(
        "The files part is not what was written",
        detail,
        "Choose another copy, or another set: gitlab-mm list.",
    )


class Cutter:
    """Decides by tar's listing where frames begin, before the bytes come."""

    def __init__(self) -> None:
        self.cuts: deque[int] = deque()  # to come
        self._begun = 0
        self._inside = False  # the last cut is inside a member, which thus shares no frame

    def add(self, start: int, size: int) -> None:
        """Take the next member: where it begins, and the bytes of its content."""
        if start > self._begun and (
            self._inside or start + _HEADERS + size - self._begun > LARGEST
        ):
            self._cut(start)
            self._inside = False
        while start + BLOCK + size - self._begun > LARGEST:
            self._cut(self._begun + LARGEST)
            self._inside = True

    def force(self, at: int) -> None:
        """Cut here, inside a member whose headers were larger than expected."""
        if at > self._begun:
            self._begun, self._inside = at, True

    def _cut(self, at: int) -> None:
        self.cuts.append(at)
        self._begun = at


class _Listing:
    """tar's listing as it comes: gives lines away, members to the index, and cuts."""

    def __init__(self, file: int, each: Take, index: Take) -> None:
        self.cutter = Cutter()
        self.failure: Exception | None = None  # of ``each``
        self.file = file
        self._each, self._index = each, index
        self.links = 0  # hard links
        self._rest, self._path, self._start = b"", b"", 0
        os.set_blocking(file, False)

    def read(self) -> None:
        """Read what there is now."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.file, _LINES):
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    self._add(line + b"\n")

    def _add(self, line: bytes) -> None:
        if self.failure is not None:  # tar goes on, and is heard to its end
            return
        try:
            block, _, rest = line.partition(b": ")
            member, start = told(rest), int(block.rpartition(b" ")[2]) * BLOCK
            self.cutter.add(start, member.size if member.kind == b"-" else 0)
            self.end_member(start)
            self.links += member.kind == b"h"
            self._path, self._start = member.path, start
            self._each(rest)
        except Exception as error:
            self.failure = error

    def end_member(self, end: int) -> None:
        """Write the record of the member that ends here."""
        if self._path:
            self._index(b"%s//%d %d\0" % (self._path, self._start, end - self._start))


class _Feeder:
    """Moves tar's output to one compressor after the other."""

    def __init__(self, tar: int, listing: _Listing) -> None:
        self.ends: SimpleQueue[int] = SimpleQueue()  # of the pipes to the compressors
        self.starts: list[int] = []  # of the frames, in the tar
        self.fed = 0  # bytes
        self.done = False
        self.refused = False  # by a compressor that has ended
        self._tar, self._listing, self._end = tar, listing, _NONE

    def run(self) -> None:
        """Feed all of the tar.

        tar lists a member before it writes anything of it. So what is listed after bytes were seen
        to have come has all members that begin in them.
        """
        looks = select.poll()
        looks.register(self._tar, select.POLLIN)
        try:
            self._begin()
            count = 1
            while count:
                # tar may wait for lines to be read, before it has written anything.
                ready = looks.poll(_PATIENCE)
                count = parallel.waiting(self._tar) if ready else 1
                self._listing.read()
                if ready:
                    self._feed(count)
            self._listing.end_member(self.fed)
        except BrokenPipeError:
            self.refused = True  # the compressor's own failure tells why, if it has one
        finally:
            self.done = True
            self._close()

    def _feed(self, count: int) -> None:
        cuts = self._listing.cutter.cuts
        while count:
            while cuts and cuts[0] < self.fed:  # of a line that came too late
                cuts.popleft()
            limit = self.starts[-1] + LARGEST
            if cuts and cuts[0] == self.fed:
                cuts.popleft()
                self._begin()
            elif self.fed == limit:
                self._listing.cutter.force(limit)
                self._begin()
            else:
                stop = min(cuts[0], limit) if cuts else limit
                moved = parallel.move(self._tar, self._end, min(count, stop - self.fed))
                count, self.fed = count - moved, self.fed + moved

    def _begin(self) -> None:
        self.starts.append(self.fed)  # before the end of the one before, which is asked then
        self._close()
        self._end = self.ends.get()
        if self._end == _NONE:
            raise BrokenPipeError

    def close_all(self) -> None:
        """Close the ends that were not used, where a compressor has failed."""
        while not self.ends.empty():
            self._close()
            self._end = self.ends.get()
        self._close()

    def _close(self) -> None:
        if self._end != _NONE:
            os.close(self._end)
            self._end = _NONE


def pack(
    archive: Callable[[PipeEnd], Command],
    compressor: Command,
    sink: Sink,
    each: Take,
    index: Take,
) -> None:
    """Write a tar in frames to ``sink``, and the records of its index to ``index``.

    ``archive`` returns the tar that lists to the given end of a pipe, with block numbers and in the
    quoting style "c". ``each`` gets its long listing line by line. Raises Failure where a program
    fails, and what ``each`` raises, after the end of tar.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0) as end:
        with process.output(archive(PipeEnd(end))) as (tar, _):
            end.close()  # tar alone holds it, so that it ends with tar
            private_files.widen(reading)
            listing = _Listing(reading, each, index)
            feeder = _Feeder(tar.fileno(), listing)
            try:
                _, packed = parallel.run_all(
                    feeder.run, lambda: _compress(compressor, feeder, sink)
                )
            finally:
                feeder.close_all()
        if listing.failure is not None:
            raise listing.failure
    place = 0
    for start, end_, frame in zip(feeder.starts, [*feeder.starts[1:], feeder.fed], packed):
        size, sha256 = frame
        index(b"//=%d %d %d %d %b\0" % (start, end_ - start, place, size, sha256))
        place += size
    if listing.links:
        index(b"//h%d\0" % listing.links)


def _compress(compressor: Command, feeder: _Feeder, sink: Sink) -> list[tuple[int, bytes]]:
    """Compress each frame by its own program; return their packed sizes, and SHA-256 in hex.

    The next program is started before it is needed: it begins while the one before still writes.
    """
    packed: list[tuple[int, bytes]] = []
    with contextlib.ExitStack() as all_:
        all_.callback(feeder.ends.put, _NONE)

        def start() -> tuple[contextlib.ExitStack, IO[bytes]]:
            reading, writing = os.pipe()
            private_files.widen(reading)
            own = all_.enter_context(contextlib.ExitStack())
            with os.fdopen(reading, "rb") as source:
                stream, _ = own.enter_context(process.output(compressor, stdin=source))
            feeder.ends.put(writing)
            return own, stream

        ahead = start()
        while not (feeder.done and len(packed) == len(feeder.starts)):
            (own, stream), ahead = ahead, start()
            packed.append(_forward(stream, sink))
            own.close()
            # A frame's end is known before its compressor can see it.
            if feeder.refused or not (feeder.done or len(feeder.starts) > len(packed)):
                raise Failure(f"{compressor.program} ended before its input did")
        os.close(feeder.ends.get())  # nothing is left for the one ahead: an empty frame
        own, stream = ahead
        stream.read()
        own.close()
    return packed


def _forward(stream: IO[bytes], sink: Sink) -> tuple[int, bytes]:
    """Give all of ``stream`` to ``sink``; return its bytes, and their SHA-256 in hex."""
    digest = hashlib.sha256()

    def take(piece: memoryview) -> None:
        digest.update(piece)
        sink(piece)

    return process.forward(stream, take), digest.hexdigest().encode()
