"""Publish the state: metrics for Prometheus, and a summary for accounts other than root."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from .. import clock, version
from ..config import identity
from ..config.settings import Settings
from ..errors import Failure
from ..mattermost import detect
from ..mattermost.journal import Journal
from ..offsite import ledger
from ..store import check_records
from ..store.inventory import Store
from ..system import files, redaction
from . import lights, metrics, set_lights, status, summary
from .lights import StatusInput
from .lines import State, StatusLine
from .summary import Summary

log = logging.getLogger(__name__)


def after_job(ours: Settings, find: Callable[[], Store], *, live: bool = True) -> None:
    """Publish the state after a job; without ``live`` nothing live is asked.

    If the store cannot be read, for example because its disk is not mounted, the metrics have no
    sets, but still the end of the run.
    """
    try:
        facts = lights.collect(find(), ours)
        publish(facts, status.status(facts, None if live else _seen(facts)))
    except Failure as failure:
        log.warning("The metrics have no data of sets: %s", redaction.without_rows(str(failure)))
        _write(_without_sets(ours))
        text = redaction.without_rows(str(failure))
        line = StatusLine("last set", State.BAD, text, fix="gitlab-mm doctor")
        summary.write(Summary(identity.full_hostname(), clock.now(), [line]))


def _seen(facts: StatusInput) -> dict[str, StatusLine]:
    """Return the lines of the newest summary."""
    try:
        return {line.name: line for line in summary.read(facts.now).lines}
    except Failure:
        return {}


def publish(facts: StatusInput, lines: Sequence[StatusLine]) -> None:
    """Publish the state, of which ``lines`` is the status."""
    _write(_metrics(facts, lines))
    summary.write(Summary(facts.found.host, facts.now, lines))


def _write(told: metrics.MetricsInput) -> None:
    folder = metrics.collector_folder()
    if folder.is_dir():
        files.note_trace(folder / metrics.METRICS_FILE)
        metrics.write(told, folder)


def _metrics(facts: StatusInput, lines: Sequence[StatusLine]) -> metrics.MetricsInput:
    states = {line.name: line.state for line in lines}
    answers = {State.GOOD: True, State.BAD: False}
    return metrics.MetricsInput(
        tool=version.tool(),
        runs=facts.runs,
        found=facts.found,
        host=facts.host.id,
        installation=facts.host.installation,
        history=facts.found.history,
        free=facts.free if facts.settings.store == "local" else None,
        offsite=facts.offsite,
        sign_in=answers.get(states.get("sign-in", State.OFF)),
        rehearse=facts.settings.rehearse != "off",
        no_copy=states.get("off-site") is State.WARNING and not facts.offsite,
        absent=facts.absent,
        uploads_left=_uploads_left(),
    )


def _without_sets(ours: Settings) -> metrics.MetricsInput:
    here = identity.known()
    accepted = set_lights.no_copy_accepted(ours.accept_warnings)
    return metrics.MetricsInput(
        tool=version.tool(),
        runs=metrics.read_runs(),
        found=None,
        host=here.id,
        installation=here.installation,
        history=check_records.history(),
        free=None,
        offsite=ledger.newest(ours.remotes, here),
        sign_in=None,
        rehearse=ours.rehearse != "off",
        no_copy=ours.store == "local" and not ours.remotes and not accepted,
        absent=bool(detect.absent()),
        uploads_left=_uploads_left(),
    )


def _uploads_left() -> int:
    try:
        entry = Journal().pending()
    except Failure:  # told by status
        return 0
    return entry.left if entry is not None else 0
