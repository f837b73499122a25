"""A pipe as tarfile(3) of a file wants it: what nobody asks for is passed over, not kept."""

from __future__ import annotations

import io
from typing import IO

_CHUNK = 1 << 20


class Forward(io.RawIOBase):
    """What a program prints, as a file that can only go on.

    tarfile's own way with pipes makes three copies of each byte that it passes over; this makes one.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._at = 0
        self._waste = memoryview(bytearray(_CHUNK))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer at the end alone."""
        piece = self._stream.read(size)
        self._at += len(piece)
        return piece

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Pass over what lies before ``offset``; at the end there may be less.

        Raises io.UnsupportedOperation for a way back.
        """
        if whence != io.SEEK_SET or offset < self._at:
            raise io.UnsupportedOperation("a pipe has no way back")
        while self._at < offset:
            passed = self._stream.readinto(self._waste[: offset - self._at])  # type: ignore[attr-defined]
            if not passed:
                break
            self._at += passed
        return self._at
