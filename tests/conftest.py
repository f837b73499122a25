"""Rules for every test run."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ("tests.system.helpers.faults_table",)
# Modules beside the tests assert too: pytest tells what differs there as well.
pytest.register_assert_rewrite("tests.system", "tests.conformance", "tests.lab", "tests.answers")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: what is not run there is run nowhere."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    skipped = len(reporter.stats.get("skipped", []))
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"\nCI runs every test, but {skipped} skipped", red=True)
