"""Metrics, where the node-exporter that Omnibus brings picks them up for Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..store import check_records
from ..store.check_records import Record, Verdict
from ..store.sets import BackupSet, Entry
from ..system.files import replace_file
from .runs import Run

log = logging.getLogger(__name__)

FILE = "gitlab_mm_backup.prom"
Sample = tuple[str, Mapping[str, str], float]  # name without our prefix, labels, value
_HELP = {
    "tool": "The version of gitlab-mm-backup, as a label.",
    "host": "This host's id and that of its Mattermost, as labels.",
    "run_start_timestamp_seconds": "Start of the newest run of a command.",
    "run_end_timestamp_seconds": "End of the newest run of a command.",
    "run_success": "1 where the newest run of a command was good, also with warnings.",
    "run_success_timestamp_seconds": "End of the newest run of a command that was good.",
    "run_duration_seconds": "Time that the newest run of a command took.",
    "run_exit_code": "Exit code of the newest run of a command.",
    "sets": "Complete sets that are kept, safety sets aside.",
    "sets_incomplete": "Folders that look like sets and are not complete.",
    "sets_future": "Sets with a date in the future, which count for nothing.",
    "sets_foreign": "Sets of other hosts that lie in the same place.",
    "set_emptied": "1 where the newest set looks emptied, and nobody has accepted it.",
    "set_oldest_timestamp_seconds": "Start of the oldest set that is kept.",
    "set_newest_timestamp_seconds": "Start of the newest sound set.",
    "set_bytes": "Bytes of that newest set.",
    "set_part_bytes": "Bytes of a part of that newest set.",
    "set_rows": "Rows in that newest set.",
    "set_files": "Files in that newest set.",
    "set_duration_seconds": "Time that making that newest set took.",
    "sign_in_verified": "1 where GitLab accepted the credentials when that newest set was made.",
    "free_bytes": "Bytes free where the sets are.",
    "offsite_timestamp_seconds": "Start of the newest set that has a checked copy at a remote.",
    "rehearsal_timestamp_seconds": "Start of the newest rehearsal of a set.",
    "rehearsal_result": "1 for what the newest rehearsal came to, 0 for the others.",
    "rehearsal_duration_seconds": "Time that the newest rehearsal took.",
    "rehearsal_recovery_seconds": "Recovery time that was measured last.",
    "rehearsal_passed_timestamp_seconds": "Start of the newest rehearsal that passed.",
}


@dataclass(frozen=True)
class Facts:
    """What the metrics are made from."""

    tool: str  # our version
    runs: Mapping[str, Run]
    entries: Sequence[Entry]  # of this host, newest first; none with a date in the future
    refuted: frozenset[str]  # names of sets that a check has failed
    emptied: frozenset[str]  # and of those that look emptied
    future: int  # sets with a date in the future
    foreign: int  # sets of other hosts
    host: str  # this one's id
    installation: str  # of its Mattermost, "" where that is not known
    history: Sequence[Record]
    free: int | None  # bytes; None where nobody knows
    offsite: Mapping[str, float | None]  # remote -> start of the newest set there


def write(facts: Facts, folder: Path) -> None:
    """Write the metrics into ``folder``; nothing where nobody would read it.

    The folder is another account's, so the file gets its name when it is complete.
    """
    if not folder.is_dir():
        return
    try:
        replace_file(folder / FILE, text(facts).encode(), mode=0o644)
    except OSError as error:
        log.warning("The metrics are not written: %s: %s", folder / FILE, error.strerror)


def text(facts: Facts) -> str:
    """Return the file's content: OpenMetrics 1.0, which Prometheus's older format includes here."""
    lines: list[str] = []
    told = set()
    for name, labels, value in _samples(facts):
        if name not in told:
            lines += [f"# HELP gitlab_mm_{name} {_HELP[name]}", f"# TYPE gitlab_mm_{name} gauge"]
            told.add(name)
        inside = ",".join(f'{key}="{_escaped(one)}"' for key, one in labels.items())
        lines.append(
            f"gitlab_mm_{name}{{{inside}}} {value}" if inside else f"gitlab_mm_{name} {value}"
        )
    return "".join(f"{line}\n" for line in [*lines, "# EOF"])


def _escaped(value: str) -> str:
    plain = value.encode(errors="replace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _samples(facts: Facts) -> Iterator[Sample]:
    """Yield all samples, those of one name together; a thing that never happened has none."""
    yield "tool", {"version": facts.tool}, 1
    yield "host", {"id": facts.host, "installation": facts.installation}, 1
    yield from _of_runs(facts.runs)
    yield from _of_sets(facts)
    if facts.free is not None:
        yield "free_bytes", {}, facts.free
    for remote, moment in facts.offsite.items():
        # A remote that has never got a set is as stale as can be.
        yield "offsite_timestamp_seconds", {"remote": remote}, moment or 0
    yield from _of_rehearsals([one for one in facts.history if one.set not in facts.emptied])


def _of_runs(runs: Mapping[str, Run]) -> Iterator[Sample]:
    for name, value in (
        ("run_start_timestamp_seconds", lambda run: run.began),
        ("run_end_timestamp_seconds", lambda run: run.ended),
        ("run_success", lambda run: int(run.good)),
        ("run_success_timestamp_seconds", lambda run: run.succeeded),
        ("run_duration_seconds", lambda run: run.seconds),
        ("run_exit_code", lambda run: run.exit_code),
    ):
        for command, run in sorted(runs.items()):
            if value(run) is not None:
                yield name, {"command": command}, value(run)


def _of_sets(facts: Facts) -> Iterator[Sample]:
    sets = [one.set for one in facts.entries if one.set and not one.set.manifest.safety]
    yield "sets", {}, len(sets)
    yield "sets_incomplete", {}, sum(1 for one in facts.entries if one.set is None)
    if sets:
        yield "set_oldest_timestamp_seconds", {}, min(one.manifest.made for one in sets).timestamp()
    yield "sets_future", {}, facts.future
    yield "sets_foreign", {}, facts.foreign
    yield "set_emptied", {}, int(bool(sets) and sets[0].name in facts.emptied)
    bad = facts.refuted | facts.emptied
    newest = next((one for one in sets if one.name not in bad), None)
    if newest is not None:
        yield from _of_newest(newest)


def _of_newest(newest: BackupSet) -> Iterator[Sample]:
    manifest = newest.manifest
    yield "set_newest_timestamp_seconds", {}, manifest.made.timestamp()
    yield "set_bytes", {}, manifest.bytes
    for name, part in manifest.parts.items():
        yield "set_part_bytes", {"part": name}, part.bytes
    yield "set_rows", {}, manifest.rows
    yield "set_files", {}, manifest.files.files
    yield "set_duration_seconds", {}, manifest.seconds
    if manifest.credentials.verified is not None:
        yield "sign_in_verified", {}, int(manifest.credentials.verified)


def _of_rehearsals(history: Sequence[Record]) -> Iterator[Sample]:
    newest = check_records.latest_rehearsal(history)
    if newest is None:
        return
    yield "rehearsal_timestamp_seconds", {}, newest.made.timestamp()
    for verdict in Verdict:
        yield "rehearsal_result", {"result": verdict.value}, int(newest.verdict is verdict)
    yield "rehearsal_duration_seconds", {}, newest.seconds
    measured = [one for one in history if one.recovery_seconds is not None]
    latest = check_records.latest_rehearsal(measured)
    if latest is not None and latest.recovery_seconds is not None:
        yield "rehearsal_recovery_seconds", {}, latest.recovery_seconds
    passed = check_records.latest_rehearsal(one for one in history if one.verdict is Verdict.PASSED)
    if passed is not None:
        yield "rehearsal_passed_timestamp_seconds", {}, passed.made.timestamp()
