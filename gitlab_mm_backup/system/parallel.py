"""Run tasks at the same time, each in a thread; a failure of one ends the programs of all."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import io
import os
import struct
import termios
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar, Union

from ..errors import Failure, reason
from . import private_files, process
from .process import Stopped

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_Result = TypeVar("_Result")
_Given = TypeVar("_Given")
Put = Callable[[Union[bytes, memoryview]], object]  # takes one piece


def run_all(
    *tasks: Callable[[], Any],
    at_a_time: int | None = None,
    cancel: Callable[[], object] = lambda: None,
) -> list[Any]:
    """Run ``tasks`` in parallel threads, ``at_a_time`` at most; return their results in order.

    The first failure, or a signal, ends the programs of all tasks and calls ``cancel``, which must
    end whatever else they wait for; it is raised when every thread has ended.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=at_a_time or len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except Stopped as stopped:  # another thread has failed, and its failure counts
            _give_up(futures, cancel)
            raise _cause(futures) or stopped from None
        except BaseException:
            _give_up(futures, cancel)
            raise
    return [future.result() for future in futures]


def in_order(tasks: Iterable[Callable[[], _Result]], at_a_time: int) -> Iterator[_Result]:
    """Run ``tasks`` in parallel threads, ``at_a_time``; yield their results in order.

    A task begins only when few results wait. After a failure no further task begins; those that run
    are waited for.
    """
    waiting: deque[concurrent.futures.Future[_Result]] = deque()
    with concurrent.futures.ThreadPoolExecutor(max_workers=at_a_time) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                if len(waiting) > at_a_time:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def in_background(task: Callable[[], _Result]) -> Iterator[Callable[[], _Result]]:
    """Run ``task`` in a thread during the block; yields a function that waits for its result.

    Programs that the block starts outlive the task. A failing block ends the task's programs.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(task)
        try:
            yield future.result
        except BaseException:
            _give_up([future], lambda: None)
            raise


def pipe_between(
    give: Callable[[Put], _Given], take: Callable[[IO[bytes]], _Result]
) -> tuple[_Given, _Result]:
    """Connect two threads by a pipe: ``give`` writes, ``take`` reads; return both results.

    Where one fails the other ends, and the first failure is raised: it is recorded before the pipe
    closes, which may make the other fail.
    """
    ends = os.pipe()
    private_files.widen(ends[0])
    reading, writing = os.fdopen(ends[0], "rb"), os.fdopen(ends[1], "wb", 0)
    failures: list[BaseException] = []

    def giving() -> _Given:
        with writing, _noted(failures):
            return give(functools.partial(_put, writing))

    def taking() -> _Result:
        with reading, _noted(failures):
            return take(reading)

    try:
        with reading, writing:  # one that has not begun when the other fails never will
            given, taken = run_all(giving, taking)
    except Exception:
        causes = [failure for failure in failures if not isinstance(failure, BrokenPipeError)]
        causes.sort(key=lambda failure: isinstance(failure, Stopped))  # ended because of another
        unread = Failure("A program ended before it had read all its input")
        raise (causes or [unread])[0] from None
    return given, taken


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
    return io.BufferedReader(_Piece(stream, length), process.PIECE)


def part_of(
    file: IO[bytes], length: int, start: int | None = None
) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Yield a pipe with the next ``length`` bytes of ``file``, or those from ``start`` on."""
    return parts_of(file, [(start, length)])


@contextlib.contextmanager
def parts_of(file: IO[bytes], parts: Sequence[tuple[int | None, int]]) -> Iterator[IO[bytes]]:
    """Yield a pipe with some parts of ``file``: start, None for where it is, and bytes.

    There are fewer where it ends before. Close it once a program reads it, who may stop early.
    Raises Failure for a file that cannot be read.
    """
    reading, writing = os.pipe()
    private_files.widen(reading)

    def feed() -> None:
        start, left = None, 0
        with os.fdopen(writing, "wb", 0), contextlib.suppress(BrokenPipeError):
            for start, left in parts:
                if start is not None:
                    os.lseek(file.fileno(), start, os.SEEK_SET)
                while left and (moved := move(file.fileno(), writing, left)):
                    left -= moved
        while start is None and left and (rest := os.read(file.fileno(), min(left, process.PIECE))):
            left -= len(rest)  # the program has stopped; what comes after the part is next

    with in_background(feed) as fed:
        with os.fdopen(reading, "rb", 0) as source:
            yield source
        try:
            fed()
        except OSError as error:
            raise Failure(f"{file.name} cannot be read", reason(error)) from None


def waiting(pipe: int) -> int:
    """Return the bytes that can be read at once."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


def move(source: int, target: int, count: int) -> int:
    """Move at most ``count`` bytes to a pipe, from another or a file; return how many, 0 at an end.

    They are copied only where Python cannot do better.
    """
    splice: Callable[[int, int, int], int] | None = getattr(os, "splice", None)  # from 3.10 on
    if splice is not None:
        return splice(source, target, count)
    piece = memoryview(os.read(source, min(count, process.PIECE)))
    left = piece
    while left:
        left = left[os.write(target, left) :]
    return len(piece)


def _put(pipe: IO[bytes], piece: bytes | memoryview) -> None:
    left = memoryview(piece)
    while left:
        left = left[pipe.write(left) :]


@contextlib.contextmanager
def _noted(failures: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except BaseException as failure:
        failures.append(failure)
        raise


def _cause(futures: Sequence[concurrent.futures.Future[Any]]) -> BaseException | None:
    """Return the first failure that is not Stopped."""
    failures = [future.exception() for future in futures if not future.cancelled()]
    return next(
        (failure for failure in failures if failure and not isinstance(failure, Stopped)), None
    )


def _give_up(
    futures: Sequence[concurrent.futures.Future[Any]], cancel: Callable[[], object]
) -> None:
    """End the programs of all tasks, repeatedly: a task may be between two programs."""
    # Waiting tasks, the last first, so that none starts after an earlier one was cancelled.
    for future in reversed(futures):
        future.cancel()
    while concurrent.futures.wait(futures, timeout=0.1).not_done:
        process.stop_all()
        cancel()
