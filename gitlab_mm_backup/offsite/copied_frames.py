"""Frames of a copy's files part: fetched when they are needed, each compared with the set's index."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..config.settings import Remote
from ..store.frames import Frame, FrameCheck
from ..system import disk_space, process, progress
from . import rclone
from .upload import persist

_FEW = 8  # frames to read at once, and again where the connection fails
_SPARE = 64 << 20  # bytes to leave free in addition to them


@dataclass(frozen=True)
class CopiedFrames:
    """The files part of a copy as a sparse file here, with the frames that are needed now."""

    remote: Remote
    names: tuple[str, str]  # of the set's directory and the file there
    file: Path  # here
    size: int  # bytes of the part
    frames: Sequence[Frame]  # all, in their order

    def bring(self, pieces: Sequence[tuple[int, int]]) -> None:
        """Fetch these frames (start, bytes) in place of those that are here.

        Raises Failure where one differs from the index: then the file must not be used.
        """
        size = sum(length for _, length in pieces)
        with open(self.file, "wb") as file, progress.of("files", size) as advance:
            disk_space.refuse_without(self.file.parent, size + _SPARE, "the files to fetch")
            for few in self._together(pieces):
                persist(self.remote, functools.partial(self._fetch, few, file))
                advance(_bytes(few))
            file.truncate(self.size)

    def _together(self, pieces: Sequence[tuple[int, int]]) -> Iterator[list[Frame]]:
        """Yield the frames of ``pieces``, a few that follow each other at a time."""
        starts, few = [frame.packed for frame in self.frames], list[Frame]()
        for start, length in pieces:
            at = bisect.bisect_left(starts, start)
            for frame in self.frames[at : bisect.bisect_left(starts, start + length)]:
                if few and (len(few) == _FEW or few[0].packed + _bytes(few) != frame.packed):
                    yield few
                    few = []
                few.append(frame)
        if few:
            yield few

    def _fetch(self, few: Sequence[Frame], file: IO[bytes]) -> None:
        start = few[0].packed
        file.seek(start)
        check = FrameCheck(few, file.write)
        what = f"{self.names[-1]} cannot be read from {self.remote.name}"
        with rclone.explained(self.remote, what):
            there = rclone.read_piece(self.remote, start, _bytes(few), *self.names)
            process.pipeline(there, sink=check.take)
            check.finish()


def _bytes(frames: Sequence[Frame]) -> int:
    """Return how many bytes some frames have in the file."""
    return sum(frame.packed_length for frame in frames)
