"""The system's log (journal or syslog): what a run did, for whoever asks later."""

from __future__ import annotations

import logging
import re
import syslog

from . import discreet

_PRIORITIES = {
    logging.INFO: syslog.LOG_INFO,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
}


class SystemLog(logging.Handler):
    """Passes on what is logged; where nobody listens on /dev/log, syslog(3) drops it."""

    def __init__(self, command: str) -> None:
        super().__init__()
        self._command = command
        syslog.openlog("gitlab-mm", syslog.LOG_PID, syslog.LOG_DAEMON)

    def emit(self, record: logging.LogRecord) -> None:
        self.write(record.getMessage(), record.levelno)

    def write(self, text: str, level: int = logging.INFO) -> None:
        """Write each line of ``text``; a name in it may hold bytes that no encoding has.

        Others than root read this log, and it is sent to other machines: the first characters
        of a secret, which a person at the terminal is shown, stay out, and so do the rows that
        PostgreSQL quotes in an error.
        """
        priority = _PRIORITIES.get(level, syslog.LOG_INFO)
        for line in discreet.words(text.replace("\0", "\\0")).splitlines():
            hidden = re.sub(r"\bsecret \S{1,4}…", "secret …", line)
            told = hidden.encode(errors="backslashreplace").decode()
            syslog.syslog(priority, f"{self._command}: {told.strip()}")
