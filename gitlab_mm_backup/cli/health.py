"""The verbs that look at the host: is it ready, may GitLab be upgraded?"""

from __future__ import annotations

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


@click.command()
@click.option("--layout", is_flag=True, help="Only what is on the disk, in four lines at most.")
@click.option(
    "--to",
    type=click.Choice(["19"]),
    help="Is it ready for that GitLab: 0 ready, 4 ready with warnings, 1 not ready.",
)
@click.option("--install-alerts", is_flag=True, help="Give GitLab's Prometheus our alert rules.")
@verb
def doctor(manner: Manner, layout: bool, to: str | None, install_alerts: bool) -> Outcome:
    """Say whether this host is ready to back up and to restore, or to upgrade GitLab."""
    from ..health import doctor as health_doctor
    from ..health import metrics, upgrade_check
    from . import notify_outcomes, outcomes

    if layout + bool(to) + install_alerts > 1:
        raise click.UsageError("--layout, --to and --install-alerts exclude each other.")
    if install_alerts:
        return notify_outcomes.of_alerts(*metrics.install_alerts())
    if to:
        return outcomes.of_doctor(upgrade_check.examine(manner.settings))
    checks = health_doctor.examine(manner.settings, layout=layout)
    return outcomes.of_doctor(checks, brief=layout)


@click.command()
@click.argument("lines", metavar="LINE...", nargs=-1, required=True)
@verb
def gate(manner: Manner, lines: tuple[str, ...]) -> Outcome:
    """Decide whether apt may upgrade GitLab, as its hook asks before each upgrade.

    Each LINE is one that apt gives to DPkg::Pre-Install-Pkgs (version 3, apt.conf(5)); others
    than those of gitlab-ce and gitlab-ee are passed over. Exit code 10 means: stop.
    """
    from ..health import upgrade_gate
    from . import outcomes

    change = upgrade_gate.planned(lines)
    return outcomes.of_gate(
        upgrade_gate.guard(change, manner.settings) if change else upgrade_gate.Passed()
    )
