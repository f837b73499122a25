"""Errors that nobody foresaw, as a Failure and as lines for the log; the error's own text in neither.

That text may quote a row, a password or whatever else was at hand.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from ..errors import ExitCode, Failure, Interrupted, reason
from . import run_id

_PACKAGE = Path(__file__).resolve().parents[1]
_NO_THREAD = "can't start new thread"  # RuntimeError of threading
_UNFINISHED = (
    "A restore is unfinished. Run gitlab-mm restore --rollback (the old state) or --continue "
    "(the state of the set). "
)


def failure(error: BaseException, code: ExitCode = ExitCode.FAILED) -> Failure:
    """Return what the operator is told; ``code`` ATTENTION: the live state is not as before."""
    if isinstance(error, MemoryError) or _NO_THREAD in str(error):
        return Failure(
            "There is not enough memory, or a limit of this process is reached",
            "the system gave no more memory, or no further thread",
            (_UNFINISHED if code is ExitCode.ATTENTION else "")
            + "Free memory or raise the limit (ulimit -a; MemoryMax and TasksMax of the unit), then "
            "try again.",
            code,
        )
    last = _frames(error)[-1:] or ["an unknown place"]
    report = (
        "The traceback is in the system log: "
        f"journalctl -t gitlab-mm GITLAB_MM_RUN={run_id.current()}. "
        "Report it to the maintainer of the package: apt-cache show gitlab-mm-backup."
    )
    return Failure(
        "gitlab-mm failed because of an error in its own program",
        f"{type(error).__name__} at {last[0].partition(':')[0]}",
        (_UNFINISHED if code is ExitCode.ATTENTION else "") + report,
        code,
    )


def trace(error: BaseException) -> list[str]:
    """Return the traceback in lines, causes first: types, places and source lines, no texts."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    earlier = [*trace(cause), "then, while that was handled:"] if cause is not None else []
    return [*earlier, *_frames(error), type(error).__name__]


def _frames(error: BaseException) -> list[str]:
    return [
        f"{_short(frame.filename)} line {frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(_PACKAGE)) if _PACKAGE in path.parents else filename


def of_system(error: OSError, code: ExitCode = ExitCode.FAILED) -> Failure:
    """Return a Failure for what the kernel refused, where no job has explained it."""
    return Failure(
        "The operating system refused an operation",
        reason(error),
        _UNFINISHED if code is ExitCode.ATTENTION else "",
        code,
    )


def words(error: BaseException) -> str:
    """Return an error as one part of a longer text: where it happened, and what it is."""
    if isinstance(error, (Failure, Interrupted, OSError)):
        return reason(error)
    return failure(error).detail
