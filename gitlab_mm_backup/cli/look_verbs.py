"""The verbs that look at everything: report and status."""

from __future__ import annotations

from pathlib import Path

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path), default="/var/lib/gitlab-mm-backup/report.html"
)
@verb
def report(manner: Manner, file: Path) -> Outcome:
    """Write what is proven of the sets as one HTML page, for whoever must be shown.

    FILE is /var/lib/gitlab-mm-backup/report.html unless given. Exit code 0 says that the page is
    written, whatever its verdict.
    """
    from ..health import html
    from ..health import report as health_report
    from . import outcomes

    made = health_report.report(health_report.look(manner.store()))
    return outcomes.of_report(made, html.write_report(file, made))


@click.command()
@click.option("--nagios", is_flag=True, help="One line with performance data, for a plugin.")
@verb
def status(manner: Manner, nagios: bool) -> Outcome:
    """Say at a glance how things stand: sets, rehearsal, sign-in, next run, space.

    Exit code 0: all is well; 4: something wants attention soon; 1: something is wrong now.
    """
    from ..health import status as status_status
    from . import status_outcomes

    if nagios and manner.as_json:
        raise click.UsageError("--nagios and --json exclude each other.")
    ours = manner.settings()
    facts = status_status.look(manner.store(), ours)
    return status_outcomes.of_status(status_status.status(facts), facts.found.host, nagios=nagios)
