"""The system log (journal or syslog), and failures for unexpected errors."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import socket
import struct
import syslog
import traceback
from collections.abc import Mapping
from pathlib import Path

from ..errors import ExitCode, Failure, Interrupted, reason
from . import redaction
from .humanize import shown

RUN_VARIABLE = "GITLAB_MM_RUN"
JOURNAL = Path("/run/systemd/journal/socket")
_NAME = "gitlab-mm"
_PRIORITIES = {
    logging.INFO: syslog.LOG_INFO,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
}
_NO_THREAD = "can't start new thread"  # RuntimeError of threading
_UNFINISHED = (
    "A restore is unfinished. Run gitlab-mm restore --rollback (the old state) or --continue "
    "(the state of the set). "
)


@functools.lru_cache(None)
def run_id() -> str:
    """Return the run's id, eight hexadecimal digits; within a hook that of the calling run."""
    given = os.environ.get(RUN_VARIABLE, "")
    return given if re.fullmatch(r"[0-9a-f]{8}", given) else os.urandom(4).hex()


class SystemLog(logging.Handler):
    """Logging handler: writes to the journal with extra fields, otherwise to syslog.

    syslog(3) drops messages where nothing listens on /dev/log.
    """

    def __init__(self, command: str, journal: Path = JOURNAL) -> None:
        super().__init__()
        self._command = command
        self._journal = journal
        syslog.openlog(_NAME, syslog.LOG_PID, syslog.LOG_DAEMON)

    def emit(self, record: logging.LogRecord) -> None:
        self.write(record.getMessage(), record.levelno)

    def write(
        self, words: str, level: int = logging.INFO, fields: Mapping[str, object] | None = None
    ) -> None:
        """Write each line of ``words``, escaped; continuation lines are indented.

        The journal also gets ``fields``, each as GITLAB_MM_ and its name in capitals. Others than
        root read this log, and it may be sent to other machines: so the first characters of a
        secret, which the terminal shows, and rows that PostgreSQL quotes in errors are left out.
        """
        priority = _PRIORITIES.get(level, syslog.LOG_INFO)
        hidden = re.sub(r"\bsecret \S{1,4}…", "secret …", redaction.without_rows(words))
        for line in shown(hidden).split("\n"):
            if line.strip():
                self._send(f"{self._command}: {line.rstrip()}", priority, fields or {})

    def _send(self, line: str, priority: int, fields: Mapping[str, object]) -> None:
        own = {"command": self._command, "run": run_id(), **fields}
        entry = {
            "MESSAGE": line,
            "PRIORITY": priority,
            "SYSLOG_IDENTIFIER": _NAME,
            "SYSLOG_FACILITY": syslog.LOG_DAEMON >> 3,
            "SYSLOG_PID": os.getpid(),
            **{f"GITLAB_MM_{name.upper()}": value for name, value in own.items()},
        }
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)  # a journal that is stuck must not hold us up
            to.sendto(_native(entry), str(self._journal))
            return
        syslog.syslog(priority, f"{line} run={run_id()}")


def _native(entry: Mapping[str, object]) -> bytes:
    """Return an entry in the journal's format (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    found = b""
    for name, value in entry.items():
        data = str(value).encode()
        found += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return found


_PACKAGE = Path(__file__).resolve().parents[1]


def bug_failure(error: BaseException, code: ExitCode = ExitCode.FAILED) -> Failure:
    """Return the failure for an unexpected error; ``code`` ATTENTION: the live state changed."""
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
        f"journalctl -t gitlab-mm GITLAB_MM_RUN={run_id()}. "
        "Report it to the maintainer of the package: apt-cache show gitlab-mm-backup."
    )
    return Failure(
        "gitlab-mm failed because of an error in its own program",
        f"{type(error).__name__} at {last[0].partition(':')[0]}",
        (_UNFINISHED if code is ExitCode.ATTENTION else "") + report,
        code,
    )


def bug_trace(error: BaseException) -> list[str]:
    """Return the traceback as lines, causes first: types, places and source lines, no messages."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    earlier = [*bug_trace(cause), "then, while that was handled:"] if cause is not None else []
    return [*earlier, *_frames(error), type(error).__name__]


def _frames(error: BaseException) -> list[str]:
    return [
        f"{_short_path(frame.filename)} line {frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def _short_path(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(_PACKAGE)) if _PACKAGE in path.parents else filename


def failure_of_system(error: OSError, code: ExitCode = ExitCode.FAILED) -> Failure:
    """Return the failure for an OSError that no job has handled."""
    return Failure(
        "The operating system refused an operation",
        reason(error),
        _UNFINISHED if code is ExitCode.ATTENTION else "",
        code,
    )


def bug_words(error: BaseException) -> str:
    """Return an error as part of a longer text: its place and type."""
    if isinstance(error, (Failure, Interrupted, OSError)):
        return reason(error)
    return bug_failure(error).detail
