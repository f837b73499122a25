"""What a test of the notices, and installed alerts, say to a person and to a machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import identity
from ..config.settings import Notice
from ..errors import ExitCode, Failure
from ..health import notify
from ..health.notify import Message
from ..result import Outcome
from ..system import humanize


def of_test(wanted: Sequence[Notice]) -> Outcome:
    """Send a test by every notice, and tell which did not go out."""
    if not wanted:
        raise Failure(
            "There is nobody to be told",
            "notices in config.yml is empty",
            "gitlab-mm config explain notices says how to name somebody.",
            ExitCode.USAGE,
        )
    host = identity.full_hostname()
    words = "This is a test of gitlab-mm-backup's notices; nothing has happened."
    problems = notify.send(wanted, Message(f"Test from {host}", words, "success"))
    names = [notify.name(number, one) for number, one in enumerate(wanted, 1)]
    told = [{"notice": name, "problem": problems.get(name)} for name in names]
    lines = [f"{name}: {problems.get(name, 'sent')}" for name in names]
    failure = None
    if problems:
        failure = Failure(
            f"{humanize.number(len(problems), 'notice')} could not be sent",
            "; ".join(f"{name}: {problem}" for name, problem in problems.items()),
            "Look at notices in /etc/gitlab-mm-backup/config.yml.",
        )
    return Outcome({"notices": told}, lines, answer=True, error=failure)


def of_alerts(rules: Path, warnings: list[str]) -> Outcome:
    return Outcome({"rules": str(rules)}, [f"Alert rules are in {rules}"], warnings, answer=True)
