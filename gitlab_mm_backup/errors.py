"""What can go wrong, in the words an administrator reads, and the one table of exit codes."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ended; scripts and cron rely on these numbers."""

    DONE = 0
    FAILED = 1  # the live state is as it was before
    USAGE = 2  # bad usage or bad settings; nothing was begun
    LOCKED = 3  # another run holds the lock
    WARNINGS = 4  # done, and there is something the operator must read
    ATTENTION = 5  # failed, and the live state needs attention
    REFUSED = 10  # the gate alone: apt is not to go on


class Failure(Exception):
    """An expected failure: what happened, the detail, and what to do next.

    No traceback is shown for it.  Neither text may hold a secret.
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


class Interrupted(BaseException):
    """A signal asked us to stop.

    Not an ``Exception``, so that no handler of ordinary errors takes it for one on its way up.
    """

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name
