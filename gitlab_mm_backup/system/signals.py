"""Signals that ask us to stop: handled while work can be undone, ignored otherwise."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ..errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_passed_over = False
_met = ""  # the signal that was heeded, since it was last said that one is


def heed() -> None:
    """Let a signal raise Interrupted in the main thread, once."""
    global _passed_over, _met
    _passed_over, _met = False, ""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def met() -> str:
    """Return the signal that interrupted the last block that handles signals, "" for none."""
    return _met


def ignore() -> None:
    """Ignore signals from now on: the rest is short and must not be interrupted.

    From any thread; a handler instead of SIG_IGN, because programs that we start would inherit
    that.
    """
    global _passed_over
    _passed_over = True


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Handle signals within the block, and restore the former handlers afterwards."""
    global _passed_over
    before, passed_over = {number: signal.getsignal(number) for number in _SIGNALS}, _passed_over
    heed()
    try:
        yield
    finally:
        _passed_over = passed_over
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    global _met
    if not _passed_over:
        ignore()
        _met = signal.Signals(number).name
        raise Interrupted(_met)
