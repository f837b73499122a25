"""Signals that ask us to stop: heeded while work can be taken back, and not while it is."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from .errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def heed() -> None:
    """Have a signal raise Interrupted in the main thread, once."""
    for one in _SIGNALS:
        signal.signal(one, _interrupt)


def ignore() -> None:
    """Pass over signals from now on: what runs to the end is short, and must not be cut.

    A handler rather than SIG_IGN, which programs that we start would inherit.
    """
    for one in _SIGNALS:
        signal.signal(one, _pass_over)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Heed signals within the block, and afterwards do with them what was done before."""
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    heed()
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    ignore()
    raise Interrupted(signal.Signals(number).name)


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    return
