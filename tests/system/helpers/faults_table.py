"""A plug-in of pytest that prints the tables of faults and attacks at the end of a run."""

from __future__ import annotations

import shutil

import pytest

from tests.system.helpers import attacks, faults_rows
from tests.system.helpers.rows import BUILD, table

KINDS = (faults_rows.KIND, attacks.KIND)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Rows of an earlier run must not look like rows of this one."""
    if hasattr(session.config, "workerinput"):
        return
    for kind in KINDS:
        shutil.rmtree(BUILD / kind, ignore_errors=True)
        table(kind).unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables to which a row was added."""
    for kind in KINDS:
        if table(kind).exists():
            terminalreporter.section(kind)
            terminalreporter.write(table(kind).read_text())
