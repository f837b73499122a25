"""Failures, interruptions and the exit codes of every command."""

from __future__ import annotations

import enum
import os


class ExitCode(enum.IntEnum):
    """The exit codes with their meaning; scripts and cron rely on these numbers."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> ExitCode:
        """Create a code from its number and its meaning, which --help and the manual show."""
        code = int.__new__(cls, number)
        code._value_ = number
        code.meaning = meaning
        return code

    DONE = 0, "done"
    FAILED = 1, "failed, and the live state is as before"
    USAGE = 2, "bad usage or settings"  # nothing was begun
    LOCKED = 3, "another run holds the lock"
    WARNINGS = 4, "done, with warnings that you must read"
    ATTENTION = 5, "failed, and the live state needs attention: the message says what to do"
    REFUSED = 10, "the gate alone: apt is not to go on"


class Failure(Exception):
    """An expected failure: what happened, the detail, and what to do next.

    It is shown without a traceback.  No text may contain a secret.
    """

    def __init__(
        self,
        message: str,
        detail: str = "",
        hint: str = "",
        exit_code: ExitCode = ExitCode.FAILED,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return ": ".join(text for text in (self.message, self.detail) if text)


def reason(error: BaseException) -> str:
    """Return why something failed, in words for an administrator: never Python's own text."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):  # urllib wraps the error of the system
        return reason(inner)
    if untrusted := getattr(error, "verify_message", ""):  # of TLS
        return f"its certificate is not trusted: {untrusted}"
    if isinstance(inner, str) and inner.isupper():  # of TLS: WRONG_VERSION_NUMBER
        return f"no connection by TLS: {inner.lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        return "there was no answer in time"
    if isinstance(error, OSError):
        names = (error.filename, error.filename2)  # a number where it was a descriptor
        paths = [name for name in names if isinstance(name, (str, bytes, os.PathLike))]
        place = " -> ".join(map(os.fsdecode, paths))
        why = error.strerror or "the connection was closed"
        return f"{place}: {why}" if place else why
    if isinstance(error, (KeyError, TypeError, IndexError, RecursionError)):
        return "it does not have the expected form"
    return str(error)


class Interrupted(BaseException):
    """A signal asked us to stop.

    Not an ``Exception``, so that no handler of ordinary errors catches it.
    """

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name
