"""A pipe as tarfile(3) of a file wants it: what nobody asks for is passed over, or passed on."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import IO

_CHUNK = 1 << 20
# Bytes that are read at once: of a header, or of a file of settings.
_LARGEST = 64 << 20


class Forward(io.RawIOBase):
    """What a program prints, as a file that can only go on.

    tarfile's own way with pipes makes three copies of each byte that it passes over; this makes one.
    All of it is passed ``on``, in its order; but what has been read waits for ``release``.
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
        self._waste = memoryview(bytearray(_CHUNK))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer at the end alone; raises ValueError for too many."""
        if size > _LARGEST:
            raise ValueError(f"a header or a file of settings has {size} bytes")
        piece = self._stream.read(size)
        self._go_on(len(piece))
        self._held += piece
        return piece

    def release(self) -> None:
        """Pass on what has been read: it is as it should be."""
        if self._held:
            self._on(memoryview(self._held))
            self._held = bytearray()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Pass on what lies before ``offset``; at the end there may be less.

        That is the content of a file, and as good as its header.  Raises io.UnsupportedOperation
        for a way back.
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
        """Pass on what is left; raises ValueError where that is more than the zeros of an end."""
        rest = iter(lambda: self._stream.read(_CHUNK), b"")
        for piece in itertools.chain([bytes(self._held)], rest):
            self._go_on(len(piece))
            if piece.count(0) != len(piece):
                raise ValueError("there is something after its end, or a header that is none")
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
