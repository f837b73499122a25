"""Tasks beside each other, each in a thread; where one fails, the programs of all are ended."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from . import process

_Result = TypeVar("_Result")


def together(*tasks: Callable[[], Any], cancel: Callable[[], object] = lambda: None) -> list[Any]:
    """Run ``tasks`` at the same time, each in a thread, and return their results in order.

    The first failure, or a signal, ends the programs of all of them and calls ``cancel``, which
    must end whatever else a task waits for; it is raised when every thread is done.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            _give_up(futures, cancel)
            raise
    return [future.result() for future in futures]


@contextlib.contextmanager
def beside(task: Callable[[], _Result]) -> Iterator[Callable[[], _Result]]:
    """Run ``task`` in a thread beside the block; yields what waits for its result.

    What the block starts outlives the task, which would not be so in a thread of its own.  A
    block that fails ends the programs of the task too.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(task)
        try:
            yield future.result
        except BaseException:
            _give_up([future], lambda: None)
            raise


def _give_up(
    futures: Sequence[concurrent.futures.Future[Any]], cancel: Callable[[], object]
) -> None:
    """End the programs of all; one may be between two of them, so until each has given up."""
    while concurrent.futures.wait(futures, timeout=0.1).not_done:
        process.stop_all()
        cancel()
