"""A plug-in of pytest that prints the fault table at the end of a run."""

from __future__ import annotations

import shutil

import pytest

from tests.system.faults_rows import FOLDER, TABLE


def pytest_sessionstart(session: pytest.Session) -> None:
    """Rows of an earlier run must not look like rows of this one."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(FOLDER, ignore_errors=True)
        TABLE.unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, where a row was added."""
    if TABLE.exists():
        terminalreporter.section("faults")
        terminalreporter.write(TABLE.read_text())
