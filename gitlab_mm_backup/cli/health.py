"""gitlab-mm status, doctor, report, notify and gate."""

from __future__ import annotations

import logging
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import clock
from ..checks import Check, Result
from ..errors import ExitCode, Failure
from ..health.lines import Figure, State, StatusLine, ago, worst
from ..result import CommandResult
from ..system import humanize
from ..system import log as system_log
from . import terminal
from .common import check_fields, check_line, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.settings import Notification
    from ..health.report import Report
    from ..health.summary import Summary
    from ..health.upgrade_gate import GateResult
    from .output import Context

log = logging.getLogger(__name__)

_BRIEF = 4  # lines of doctor --brief
_CODES = {State.BAD: ExitCode.FAILED, State.WARNING: ExitCode.WARNINGS}
_COLOURS = {State.GOOD: "green", State.WARNING: "yellow", State.BAD: "red", State.OFF: "blue"}
# The words and exit codes of Nagios (Monitoring Plugins Development Guidelines, "Plugin return codes").
_NAGIOS = {State.GOOD: ("OK", 0), State.WARNING: ("WARNING", 1), State.BAD: ("CRITICAL", 2)}
_UNKNOWN = ("UNKNOWN", 3)
_WIDTH = 79


def status_result(now: Summary, *, nagios: bool, since: str = "") -> CommandResult:
    """Return every line, and the overall state; ``since`` is the age of a summary, in words."""
    lines, host = now.lines, now.host
    state = worst(lines)
    told = _nagios(lines, state) if nagios else _screen(lines, state, host, since)
    fields = {
        "host": host,
        "state": state.value,
        "as_of": clock.utc(now.at),
        "lines": [
            {
                "name": line.name,
                "state": line.state.value,
                "words": line.told,
                "fix": line.fix,
                "figures": {name: figure.value for name, figure in line.figures.items()},
            }
            for line in lines
        ],
    }
    texts, tones = [text for text, _ in told], [tone for _, tone in told]
    return CommandResult(
        fields,
        texts,
        code=_CODES.get(state, ExitCode.DONE),
        answer=True,
        tones=tones,
        status=_NAGIOS[state][1] if nagios else None,
    )


def unknown_result(failure: Failure) -> CommandResult:
    """Return the answer to Nagios where the state could not be looked at."""
    words = ". ".join(text for text in (str(failure), failure.hint) if text).replace("|", "/")
    line = f"MATTERMOST BACKUP {_UNKNOWN[0]} - {' '.join(words.split())}"
    return CommandResult({}, [line], answer=True, status=_UNKNOWN[1])


_Told = list[tuple[str, tuple[str, str]]]


def _screen(lines: Sequence[StatusLine], state: State, host: str, since: str) -> _Told:
    head = f"{host}: {state.value}" + (f" (looked at {since})" if since else "")
    told: _Told = [(head, _tone(state))]
    width = max(_WIDTH, (terminal.columns() or 0) - 1)
    for line in lines:
        start = f"  {line.name:10} {line.state.value:8} "
        first, *more = textwrap.wrap(
            line.text,
            width,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_on_hyphens=False,
        )
        told += [(first, _tone(line.state)), *((text, ("", "")) for text in more)]
    return told


def _tone(state: State) -> tuple[str, str]:
    return state.value, _COLOURS[state]


def _nagios(lines: Sequence[StatusLine], state: State) -> _Told:
    """Return the one line of a Nagios plugin: the problems, or the newest set; then the figures."""
    amiss = [line for line in lines if line.state in _CODES] or lines[:1]
    words = "; ".join(f"{line.name}: {line.text}" for line in amiss).replace("|", "/")
    figures = {name: figure for line in lines for name, figure in line.figures.items()}
    data = " ".join(f"{name}={_figure(figure)}" for name, figure in figures.items())
    return [(f"MATTERMOST BACKUP {_NAGIOS[state][0]} - {words} | {data}", ("", ""))]


def _figure(figure: Figure) -> str:
    return f"{figure.value:.15g}{figure.unit};{figure.warning};{figure.bad};0"


def test_result(wanted: Sequence[Notification]) -> CommandResult:
    """Send a test by each notification; the result lists the problem of each."""
    if not wanted:
        raise Failure(
            "No notifications are configured",
            "notifications in config.yml is empty",
            "gitlab-mm config explain notifications shows an example.",
            ExitCode.USAGE,
        )
    from ..config import identity
    from ..config.notification_channels import Message
    from ..health import notify

    host = identity.full_hostname()
    words = "This is a test of gitlab-mm-backup's notifications; no action is needed."
    problems = notify.send(wanted, Message(f"Test from {host}", words, "success"))
    names = [notify.name(number, entry) for number, entry in enumerate(wanted, 1)]
    notices = [{"notice": name, "problem": problems.get(name)} for name in names]
    lines = [f"{name}: {problems.get(name, 'sent')}" for name in names]
    failure = None
    if problems:
        failure = Failure(
            f"{humanize.number(len(problems), 'notification')} could not be sent",
            "; ".join(f"{name}: {problem}" for name, problem in problems.items()),
            "Correct notifications in /etc/gitlab-mm-backup/config.yml.",
        )
    return CommandResult({"notices": notices}, lines, answer=True, error=failure)


def alerts_result(rules: Path, warnings: list[str]) -> CommandResult:
    return CommandResult(
        {"rules": str(rules)}, [f"Alert rules installed: {rules}"], warnings, answer=True
    )


@click.command()
@click.option(
    "--test", is_flag=True, help="Send a test to each of the notifications in config.yml."
)
@verb
def notify(context: Context, test: bool) -> CommandResult:
    """Test the notifications in config.yml."""

    if not test:
        raise click.UsageError(
            "Give --test; backup, restore and the other jobs send the real notifications."
        )
    return test_result(context.settings().notifications)


def gate_result(passed: GateResult) -> CommandResult:
    fields = {"set": passed.set or None}
    return CommandResult(fields, passed.lines, passed.warnings, answer=True, lasting=True)


def report_result(made: Report, path: Path) -> CommandResult:
    """Return the path of the page and its verdict; a bad verdict does not fail the command."""
    verdict = f"{made.judgement.standing.value.capitalize()}: {made.judgement.reason}"
    lines = [str(path), f"  {verdict}", *(f"  {concern}" for concern in made.concerns)]
    return CommandResult({"path": str(path), **made.fields()}, lines, answer=True)


def _brief(checks: Sequence[Check]) -> list[str]:
    """Return the lines that installing the package prints: _BRIEF at most."""
    from ..config.retention import FOR_EVER

    gitlab, mattermost, *others = checks
    found = [gitlab.detail] + (
        [mattermost.detail] if mattermost.result is not Result.NOT_RUN else []
    )
    amiss = [
        f"  {check.name}: {check.detail}"
        for check in others
        if check.result in (Result.FAILED, Result.WARNING) or check.detail == FOR_EVER
    ]
    if len(amiss) >= _BRIEF:
        amiss = [*amiss[: _BRIEF - 2], "  and more: gitlab-mm doctor"]
    return [f"gitlab-mm-backup: {'; '.join(found)}", *amiss]


def doctor_result(checks: Sequence[Check], brief: bool = False) -> CommandResult:
    """Return every check, or with ``brief`` the versions and the problems."""
    results = {check.result for check in checks}
    code = ExitCode.DONE
    if Result.FAILED in results:
        code = ExitCode.FAILED
    elif Result.WARNING in results:
        code = ExitCode.WARNINGS
    return CommandResult(
        {"checks": check_fields(checks)},
        _brief(checks) if brief else [check_line(check) for check in checks],
        code=code,
        answer=True,
    )


@click.command()
@click.option("--layout", is_flag=True, help="Check only files on disk; prints four lines at most.")
@click.option(
    "--to",
    type=click.Choice(["19"]),
    help="Check readiness for GitLab 19. Exit code 0: ready; 4: ready with warnings; 1: not ready.",
)
@click.option(
    "--install-alerts", is_flag=True, help="Install our alert rules into GitLab's Prometheus."
)
@verb
def doctor(context: Context, layout: bool, to: str | None, install_alerts: bool) -> CommandResult:
    """Check whether this host is ready to back up and restore, or to upgrade GitLab."""
    from ..health import doctor as host_doctor
    from ..health import metrics, upgrade_check

    if layout + bool(to) + install_alerts > 1:
        raise click.UsageError("--layout, --to and --install-alerts exclude each other.")
    if install_alerts:
        return alerts_result(*metrics.install_alerts())
    if to:
        return doctor_result(upgrade_check.run_checks(context.settings))
    checks = host_doctor.run_checks(context.settings, layout=layout)
    return doctor_result(checks, brief=layout)


@click.command(hidden=True)  # apt's hook calls it, or a unit of a container; no administrator
@click.argument("lines", metavar="[LINE...]", nargs=-1)
@click.option(
    "--image", metavar="REF", help="The image of which GitLab's container will be started."
)
@verb
def gate(context: Context, lines: tuple[str, ...], image: str | None) -> CommandResult:
    """Decide whether apt may upgrade GitLab, or a container may be started of a newer image.

    Our apt hook calls it before each upgrade. Each LINE is a line of DPkg::Pre-Install-Pkgs (version
    3, apt.conf(5)). Only gitlab-ce and gitlab-ee are considered. Exit code 10 stops apt, or means
    that the image must not be started: it has no Mattermost, and no sound set has the data.
    """
    from ..health import upgrade_gate

    if bool(lines) == bool(image):
        raise click.UsageError("Give lines of apt, or --image REF.")
    if image:
        return gate_result(upgrade_gate.guard_image(image, context.settings))
    change = upgrade_gate.planned(lines)
    return gate_result(
        upgrade_gate.guard(change, context.settings) if change else upgrade_gate.GateResult()
    )


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path), default="/var/lib/gitlab-mm-backup/report.html"
)
@verb
def report(context: Context, file: Path) -> CommandResult:
    """Write an HTML restore-test report for auditors.

    FILE is /var/lib/gitlab-mm-backup/report.html unless given. Exit code 0 means that the page is
    written, whatever its verdict.
    """
    from ..health import html
    from ..health import report as host_report

    store, ours = context.store(), context.settings()
    made = host_report.report(
        host_report.collect(store, ours.schedule), host_report.protection(store, ours)
    )
    return report_result(made, html.write_report(file, made))


@click.command()
@click.option(
    "--nagios",
    is_flag=True,
    help="One line with performance data and the exit codes of Nagios: 0, 1, 2, 3.",
)
@verb
def status(context: Context, nagios: bool) -> CommandResult:
    """Show the current state: last set, rehearsal, sign-in, next run, disk space.

    Root sees the state of now, every other account that of root's last look or the last job.

    Exit code 0: good; 4: a warning needs attention soon; 1: a problem needs attention now. With
    --nagios 0: OK; 1: WARNING; 2: CRITICAL; 3: UNKNOWN, the state could not be looked at.
    """
    if nagios and context.as_json:
        raise click.UsageError("--nagios and --json exclude each other.")
    try:
        return _status(context, nagios=nagios)
    except Exception as error:
        if not nagios:
            raise
        return unknown_result(error if isinstance(error, Failure) else _bug(error))


def _bug(error: Exception) -> Failure:
    """Return the failure for an unexpected error, with its traceback in the log."""
    for line in system_log.bug_trace(error):
        log.error("%s", line)
    return system_log.bug_failure(error)


def _status(context: Context, *, nagios: bool) -> CommandResult:
    from ..health import lights, publish, summary
    from ..health import status as host_status

    if os.geteuid() != 0:
        seen, now = summary.read(clock.now()), clock.now()
        return status_result(seen, nagios=nagios, since=ago(now - seen.at))
    ours = context.settings()
    facts = lights.collect(context.store(), ours)
    lines = host_status.status(facts)
    publish.publish(facts, lines)
    seen = summary.Summary(facts.found.host, facts.now, lines)
    return status_result(seen, nagios=nagios)
