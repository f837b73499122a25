"""gitlab-mm rehearse, and open: Mattermost started from a set."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from ..checks import LASTING, Result
from ..errors import Failure
from ..result import CommandResult
from ..store.check_records import CheckRecord, CheckVerdict, result_fields
from ..store.sets import SetEntry
from ..system import humanize
from . import common, offsite, terminal
from .common import check_fields, check_line, settings_and_store, verb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..rehearsal.opened import Closed, Opened
    from ..store.sets import BackupSet
    from .output import Context

_VERDICTS = {
    CheckVerdict.PASSED: "passed",
    CheckVerdict.INCOMPLETE: "passed; some checks were skipped",
    CheckVerdict.FAILED: "FAILED",
}
_CLOSED_BY = {"SIGINT": "Ctrl-C", "SIGHUP": "closed terminal"}


def rehearse_result(
    made: Sequence[CheckRecord], warnings: list[str], *, expected: bool
) -> CommandResult:
    """Return the result of rehearsals; skipped checks are a warning unless ``expected``."""
    only = made[0] if len(made) == 1 else None
    if not expected:
        warnings = warnings + [
            f"{record.set}: {check.name} was skipped: {check.detail}"
            for record in made
            for check in record.checks
            if check.result is Result.NOT_RUN and record.verdict is not CheckVerdict.FAILED
        ]
    return CommandResult(
        {
            "set": only and only.set,
            "result": only and only.verdict.value,
            "checks": check_fields(only.checks) if only else [],
            "recovery_seconds": only and only.recovery_seconds,
            "rehearsals": [result_fields(record) for record in made],
        },
        [line for record in made for line in _rehearsal_lines(record)] or ["No set to rehearse"],
        warnings,
        error=_unproven(made),
    )


def _unproven(made: Sequence[CheckRecord]) -> Failure | None:
    bad = [record for record in made if record.verdict is CheckVerdict.FAILED]
    if not bad:
        return None
    failed = [
        (record, check)
        for record in bad
        for check in record.checks
        if check.result is Result.FAILED
    ]
    found = [f"{record.set}: {check.name}: {check.detail}" for record, check in failed]
    lasting = any(LASTING in check.detail for _, check in failed)
    return Failure(
        f"{humanize.number(len(bad), 'set')} failed the rehearsal",
        "; ".join(found),
        "Do what the detail says; docs/what-a-backup-contains.md explains it."
        if lasting
        else "Make a new backup and test it: gitlab-mm backup; gitlab-mm rehearse",
    )


def _rehearsal_lines(record: CheckRecord) -> list[str]:
    name = f"Rehearsal of {record.set}"
    lines = [
        f"{name} {_VERDICTS[record.verdict]} in {humanize.duration(record.seconds)}",
        *(f"  {check_line(check)}" for check in record.checks),
    ]
    if record.recovery_seconds is not None:
        took = humanize.duration(max(1, record.recovery_seconds))
        without = ", without the search indexes" if record.left_out else ""
        lines.append(f"  Recovery time to expect: {took}{without}")
    return lines


@click.command(epilog=common.SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option("--all", "every", is_flag=True, help="Rehearse every set, newest first.")
@click.option("--quick", is_flag=True, help="Do not unpack files or start Mattermost.")
@click.option("--full", is_flag=True, help="Build the search indexes too.")
@click.option(
    "--if-due", is_flag=True, help="Do nothing unless a rehearsal is due (rehearse in config.yml)."
)
@offsite.from_elsewhere
@verb
def rehearse(
    context: Context,
    wanted: str,
    every: bool,
    quick: bool,
    full: bool,
    if_due: bool,
    place: str | None,
    identity: Path | None,
) -> CommandResult:
    """Test a set: restore it into a temporary PostgreSQL and directory; start Mattermost there."""
    from ..backup import salvage
    from ..rehearsal import job, limits
    from ..restore import choice
    from ..store import check_records
    from ..store.check_records import Depth
    from ..system import lock, process

    _refuse_contradictions(quick and full, every and wanted != "latest", place, every or if_due)
    context.load_everything()
    with lock.only_rehearsal():
        ours, store = settings_and_store(context)
        now, done = datetime.now().astimezone(), check_records.history()
        if if_due and not limits.is_due(ours.rehearse, done, now, ours.schedule):
            text = f"No rehearsal is due (rehearse: {ours.rehearse})"
            return CommandResult({"set": None}, [text])
        depth = Depth.QUICK if quick else Depth.FULL if full else Depth.USUAL
        with offsite.looked_at(ours, store, place, wanted, identity) as chosen:
            site = salvage.site_here(store)
            entries = store.entries() if every else [SetEntry(wanted, chosen, "")]
            warnings = _incomplete(entries) if every else choice.unproven(chosen)
            process.lower_priority(ours.nice)
            context.begin(ours)
            made = []
            for set_ in [entry.set for entry in entries if entry.set]:
                with store.fetched(set_, ours.scratch_dir) as near:
                    made.append(job.rehearse(near, site, depth, ours))
                if place is None:
                    warnings += check_records.keep_record(set_, made[-1])
    return rehearse_result(made, warnings, expected=quick or if_due)


def _incomplete(entries: Sequence[SetEntry]) -> list[str]:
    return [f"{entry.name} is not complete: {entry.problem}" for entry in entries if not entry.set]


def _refuse_contradictions(depths: bool, sets: bool, place: str | None, several: bool) -> None:
    """Raise a usage error for options that exclude each other."""
    if depths:
        raise click.UsageError("--quick and --full exclude each other.")
    if sets:
        raise click.UsageError("SET and --all exclude each other.")
    if place is not None and several:
        raise click.UsageError("--from excludes --all and --if-due.")


def _time(_: click.Context, __: click.Parameter, text: str) -> timedelta:
    """Return the time of --for."""
    from ..config import options

    try:
        time = options.duration().read(int(text) if text.isdecimal() else text)
    except ValueError:
        time = None
    if not isinstance(time, timedelta):
        raise click.BadParameter(f"{text!r}: give seconds, or a number with a unit such as 30m, 2h")
    return time


@click.command("open", epilog=common.SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8066,
    show_default=True,
    help="Port on 127.0.0.1.",
)
@click.option(
    "--as",
    "user",
    metavar="USER",
    default="",
    help="Sign in as this user; otherwise as the oldest system administrator.",
)
@click.option(
    "--for",
    "time",
    metavar="TIME",
    default="1h",
    show_default=True,
    callback=_time,
    help="Close it after this time, such as 30m.",
)
@click.option("--search", is_flag=True, help="Build the search indexes first.")
@offsite.from_elsewhere
@verb
def open_set(
    context: Context,
    wanted: str,
    port: int,
    user: str,
    time: timedelta,
    search: bool,
    place: str | None,
    identity: Path | None,
) -> CommandResult:
    """Start Mattermost from a set, to look around in it; nothing is kept.

    It has no network and answers only in the browser that opens the printed address first.
    Ctrl-C, the end of the time or a closed terminal closes it.
    """
    from ..backup import salvage
    from ..rehearsal import opened
    from ..restore import choice
    from ..system import lock, process

    context.load_everything()
    wish = opened.Wish(user, port, time, search)
    with lock.only_open():
        ours, store = settings_and_store(context)
        with offsite.looked_at(ours, store, place, wanted, identity) as chosen:
            site = salvage.site_here(store)
            warnings = choice.unproven(chosen)
            process.lower_priority(ours.nice)
            with store.fetched(chosen, ours.scratch_dir) as near:

                def ready(now: Opened) -> None:
                    _tell_opened(near, now, port, err=context.as_json)

                closed = opened.open_set(near, site, wish, ours, ready)
    return open_result(chosen, closed, port, warnings)


def _tell_opened(set_: BackupSet, opened: Opened, port: int, *, err: bool) -> None:
    """Print the address, which is a secret until it is used: it goes into no log."""
    end, now = opened.until.astimezone(), datetime.now().astimezone()
    until = end.strftime("%H:%M" if end.date() == now.date() else "%Y-%m-%d %H:%M")
    made = set_.manifest.made.astimezone().strftime("%Y-%m-%d %H:%M")
    lines = [
        f"Open until {until}: {opened.address.reveal()}",
        f"State of {made}, as {opened.user}. The address works once, in one browser.",
        f"From another machine: ssh -L {port}:127.0.0.1:{port} HOST, then the same address.",
        *opened.remarks,
        "Ctrl-C closes it. Nothing is kept.",
    ]
    with terminal.undrawn():
        for line in lines:
            terminal.say(line, err=err)


def open_result(
    set_: BackupSet, closed: Closed, port: int, warnings: Sequence[str]
) -> CommandResult:
    """Return the result of a set that was open."""
    opened = closed.opened
    why = _CLOSED_BY.get(closed.reason, closed.reason)
    return CommandResult(
        {
            "set": set_.name,
            "user": opened.user,
            "port": port,
            "opening_seconds": round(opened.seconds, 3),
            "closed_by": closed.reason,
        },
        [f"Closed {set_.name}: {why}"],
        [*warnings, *opened.remarks],
    )
