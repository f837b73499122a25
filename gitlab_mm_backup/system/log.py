"""The system's log (journal or syslog): what a run did, for whoever asks later."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import struct
import syslog
from collections.abc import Mapping
from pathlib import Path

from . import discreet, run_id
from .humanize import shown

JOURNAL = Path("/run/systemd/journal/socket")
_NAME = "gitlab-mm"
_PRIORITIES = {
    logging.INFO: syslog.LOG_INFO,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
}


class SystemLog(logging.Handler):
    """Passes on what is logged: to the journal with fields of its own, else to syslog.

    Where nobody listens on /dev/log, syslog(3) drops it.
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
        """Write each line of ``words``, escaped: a line that a value breaks off goes on indented.

        The journal gets ``fields`` too, each under GITLAB_MM_ and its name in capitals.  Others
        than root read this log, and it is sent to other machines: the first characters of a
        secret, which a person at the terminal is shown, stay out, and so do the rows that
        PostgreSQL quotes in an error.
        """
        priority = _PRIORITIES.get(level, syslog.LOG_INFO)
        hidden = re.sub(r"\bsecret \S{1,4}…", "secret …", discreet.words(words))
        for line in shown(hidden).split("\n"):
            if line.strip():
                self._send(f"{self._command}: {line.rstrip()}", priority, fields or {})

    def _send(self, line: str, priority: int, fields: Mapping[str, object]) -> None:
        own = {"command": self._command, "run": run_id.current(), **fields}
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
        syslog.syslog(priority, f"{line} run={run_id.current()}")


def _native(entry: Mapping[str, object]) -> bytes:
    """Return an entry as the journal takes it (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    found = b""
    for name, value in entry.items():
        data = str(value).encode()
        found += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return found
