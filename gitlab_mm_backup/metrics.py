"""Metrics of rehearsals, where the node-exporter that Omnibus brings picks them up for Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import evidence
from .durable import replace_file
from .evidence import Record, Verdict

log = logging.getLogger(__name__)

# Omnibus's default for collector.textfile.directory, since GitLab 10.
FOLDER = Path("/var/opt/gitlab/node-exporter/textfile_collector")
FILE = "gitlab_mm_backup.prom"
_HELP = {
    "gitlab_mm_rehearsal_timestamp_seconds": "Start of the newest rehearsal of a set.",
    "gitlab_mm_rehearsal_result": "1 for what the newest rehearsal came to, 0 for the others.",
    "gitlab_mm_rehearsal_duration_seconds": "Time that the newest rehearsal took.",
    "gitlab_mm_rehearsal_recovery_seconds": "Recovery time that was measured last.",
    "gitlab_mm_rehearsal_passed_timestamp_seconds": "Start of the newest rehearsal that passed.",
}


def write(history: Sequence[Record], folder: Path = FOLDER) -> None:
    """Write what the ``history`` of rehearsals comes to; nothing where nobody would read it.

    The folder is another account's, so the file gets its name when it is complete.
    """
    if not folder.is_dir():
        return
    try:
        replace_file(folder / FILE, text(history).encode(), mode=0o644)
    except OSError as error:
        log.warning("The metrics are not written: %s: %s", folder / FILE, error.strerror)


def text(history: Sequence[Record]) -> str:
    """Return the file's content (Prometheus text format 0.0.4)."""
    lines = []
    told = set()
    for name, labels, value in _samples(history):
        if name not in told:
            lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"]
            told.add(name)
        lines.append(f"{name}{labels} {value}")
    return "".join(f"{line}\n" for line in lines)


def _samples(history: Sequence[Record]) -> Iterator[tuple[str, str, float]]:
    """Yield name, labels and value; a thing that never happened has none."""
    newest = evidence.latest_rehearsal(history)
    if newest is None:
        return
    yield "gitlab_mm_rehearsal_timestamp_seconds", "", newest.made.timestamp()
    for verdict in Verdict:
        labels = f'{{result="{verdict.value}"}}'
        yield "gitlab_mm_rehearsal_result", labels, int(newest.verdict is verdict)
    yield "gitlab_mm_rehearsal_duration_seconds", "", newest.seconds
    measured = [one for one in history if one.recovery_seconds is not None]
    latest = evidence.latest_rehearsal(measured)
    if latest is not None and latest.recovery_seconds is not None:
        yield "gitlab_mm_rehearsal_recovery_seconds", "", latest.recovery_seconds
    passed = evidence.latest_rehearsal(one for one in history if one.verdict is Verdict.PASSED)
    if passed is not None:
        yield "gitlab_mm_rehearsal_passed_timestamp_seconds", "", passed.made.timestamp()
