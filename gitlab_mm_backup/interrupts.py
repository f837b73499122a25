"""Signals that ask us to stop: heeded while work can be taken back, and not while it is."""

from __future__ import annotations

import signal
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


def _interrupt(number: int, _: FrameType | None) -> None:
    ignore()
    raise Interrupted(signal.Signals(number).name)


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    return
