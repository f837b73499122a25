"""Metrics for Prometheus, in the textfile collector of Omnibus's node-exporter."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..store import check_records
from ..store.check_records import CheckRecord, CheckVerdict
from ..store.sets import BackupSet
from ..store.soundness import Kind
from ..system import files, process, validation
from ..system.files import replace_file
from ..system.process import Command
from .rating import Found

_RUN = "opt/gitlab/sv/{}/run"
# Omnibus's defaults, used if the command lines of the services do not set the paths.
_COLLECTOR = Path("/var/opt/gitlab/node-exporter/textfile_collector")  # since GitLab 10
_PROMETHEUS = Path("/var/opt/gitlab/prometheus/prometheus.yml")


def collector_folder(root: Path = Path("/")) -> Path:
    """Return the directory of node-exporter's textfile collector."""
    return _argument(root, "node-exporter", "collector.textfile.directory", _COLLECTOR)


def rules_folder(root: Path = Path("/")) -> Path:
    """Return the directory of Prometheus's rules, next to its configuration file."""
    return _argument(root, "prometheus", "config.file", _PROMETHEUS).parent / "rules"


def _argument(root: Path, service: str, name: str, default: Path) -> Path:
    """Return a path from the command line by which runit starts a service."""
    try:
        script = (root / _RUN.format(service)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        script = ""
    found = re.search(rf"--{re.escape(name)}[= ]['\"]?(/[^'\"\s]+)", script)
    return root / (found[1] if found else str(default)).lstrip("/")


ALERT_RULES = Path("/usr/share/gitlab-mm-backup/gitlab-mm-backup.rules")
_CONTROL = "/opt/gitlab/bin/gitlab-ctl"


def install_alerts(source: Path = ALERT_RULES, root: Path = Path("/")) -> tuple[Path, list[str]]:
    """Install the alert rules into Prometheus's directory and reload Prometheus.

    Returns the path of the rules, and warnings.  Raises Failure if there is no Prometheus.
    """
    folder = rules_folder(root)
    target = folder / source.name
    if not folder.is_dir():
        raise Failure(
            "GitLab on this host has no Prometheus",
            f"{folder} is not a directory",
            f"Add {source} to the rules of the Prometheus that monitors this host.",
        )
    files.note_trace(target)
    try:
        replace_file(target, source.read_bytes(), mode=0o644)
    except OSError as error:
        raise Failure(f"{target} cannot be written", str(error.strerror)) from error
    try:
        process.run(Command([_CONTROL, "hup", "prometheus"]), timeout=60)
    except Failure as failure:
        return target, [f"Prometheus has not loaded them yet: {failure}"]
    return target, []


RUNS_FILE = Path("/var/lib/gitlab-mm-backup/runs.json")


@dataclass(frozen=True)
class JobRun:
    """The newest run of one job."""

    began: float  # seconds since 1970
    seconds: float
    exit_code: int
    succeeded: float | None  # end of the newest successful run; None: never

    @property
    def ended(self) -> float:
        return self.began + self.seconds

    @property
    def good(self) -> bool:
        return self.exit_code in (0, 4)


def read_runs(path: Path = RUNS_FILE) -> dict[str, JobRun]:
    """Return the newest run of each job; {} if the file cannot be read."""
    try:
        return dict(files.read_state(path, validation.each(validation.text, _run)))
    except files.unreadable_state:
        return {}


def note_run(
    job: str, began: datetime, seconds: float, exit_code: int, path: Path = RUNS_FILE
) -> tuple[JobRun | None, JobRun]:
    """Record the end of a run of ``job``; return the previous run, None if there is none, and this.

    Raises OSError if the file cannot be written.
    """
    known = read_runs(path)
    before = known.get(job)
    now = JobRun(
        began.timestamp(), round(seconds, 3), exit_code, before.succeeded if before else None
    )
    if now.good:
        now = JobRun(now.began, now.seconds, now.exit_code, now.ended)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, _to_bytes({**known, job: now}))
    return before, now


def _to_bytes(known: Mapping[str, JobRun]) -> bytes:
    return json.dumps({job: asdict(run) for job, run in known.items()}, indent=2).encode()


def _run(value: Any) -> JobRun:
    return JobRun(**validation.members(value, _FIELDS))


def _moment(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        raise ValueError("not a moment")
    return float(value)


_FIELDS: dict[str, validation.Check] = {
    "began": _moment,
    "seconds": validation.seconds,
    "exit_code": validation.count,
    "succeeded": lambda value: value if value is None else _moment(value),
}

log = logging.getLogger(__name__)

METRICS_FILE = "gitlab_mm_backup.prom"
Sample = tuple[str, Mapping[str, str], float]  # name without our prefix, labels, value
_HELP = {
    "tool_info": "The version of gitlab-mm-backup, as a label.",
    "host_info": "This host's id and that of its Mattermost, as labels.",
    "run_start_timestamp_seconds": "Start of the newest run of a command.",
    "run_end_timestamp_seconds": "End of the newest run of a command.",
    "run_success": "1 if the newest run of a command succeeded, also with warnings.",
    "run_success_timestamp_seconds": "End of the newest successful run of a command.",
    "run_duration_seconds": "Duration of the newest run of a command.",
    "run_exit_code": "Exit code of the newest run of a command.",
    "sets": "Complete sets that are kept, safety sets aside.",
    "sets_incomplete": "Directories of sets that are not complete.",
    "sets_future": "Sets with a date in the future; they are ignored.",
    "sets_foreign": "Sets of other hosts in the same place.",
    "set_emptied": "1 if the newest set looks emptied and was not accepted.",
    "set_oldest_timestamp_seconds": "Start of the oldest set.",
    "set_newest_timestamp_seconds": "Start of the newest sound set, or of a later run that found nothing changed.",
    "set_age_limit_seconds": "Age above which the newest set is too old, by the schedule.",
    "set_bytes": "Bytes of the newest sound set.",
    "set_part_bytes": "Bytes of a part of the newest sound set.",
    "set_rows": "Rows in the newest sound set.",
    "set_files": "Files in the newest sound set.",
    "set_duration_seconds": "Duration of making the newest sound set.",
    "sign_in_verified": "1 if sign-in through GitLab works, 0 if it is broken; absent if not known.",
    "free_bytes": "Free bytes on the disk of the sets.",
    "restore_uploads_left_bytes": "Bytes of uploads that a restore has not unpacked yet.",
    "offsite_timestamp_seconds": "Start of the newest set that has a checked copy at a remote.",
    "offsite_missing": "1 if no off-site copies are configured and that is not accepted.",
    "rehearsal_scheduled": "1 if scheduled backups are rehearsed (rehearse in config.yml).",
    "rehearsal_timestamp_seconds": "Start of the newest rehearsal of a set.",
    "rehearsal_result": "1 for the result of the newest rehearsal, 0 for the other results.",
    "rehearsal_duration_seconds": "Duration of the newest rehearsal.",
    "rehearsal_recovery_seconds": "Recovery time measured in the newest rehearsal.",
    "rehearsal_passed_timestamp_seconds": "Start of the newest rehearsal that passed.",
}


@dataclass(frozen=True)
class MetricsInput:
    """The input of the metrics."""

    tool: str  # our version
    runs: Mapping[str, JobRun]
    found: Found | None  # the sets; None if the store cannot be read
    host: str  # this one's id
    installation: str  # of its Mattermost; "" if not known
    history: Sequence[CheckRecord]
    free: int | None  # bytes; None if not known
    offsite: Mapping[str, float | None]  # remote -> start of the newest set there
    sign_in: bool | None = None  # whether sign-in works now; None if not known
    rehearse: bool = True  # whether scheduled backups are rehearsed
    no_copy: bool = False  # no copies elsewhere are configured, and that is not accepted
    absent: bool = False  # no Mattermost is set up on this host
    uploads_left: int = 0  # bytes that a restore has not unpacked yet


def write(facts: MetricsInput, folder: Path) -> None:
    """Write the metrics into ``folder``, if it exists.

    The folder belongs to another account, so the file gets its name when it is complete.
    """
    if not folder.is_dir():
        return
    try:
        replace_file(folder / METRICS_FILE, text(facts).encode(), mode=0o644)
    except OSError as error:
        log.warning(
            "The metrics could not be written: %s: %s", folder / METRICS_FILE, error.strerror
        )


def text(facts: MetricsInput) -> str:
    """Return the content of the file, valid as OpenMetrics 1.0 and as Prometheus's text format."""
    lines: list[str] = []
    told = set()
    for name, labels, value in _samples(facts):
        if name not in told:
            lines += [f"# HELP gitlab_mm_{name} {_HELP[name]}", f"# TYPE gitlab_mm_{name} gauge"]
            told.add(name)
        inside = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        lines.append(
            f"gitlab_mm_{name}{{{inside}}} {value}" if inside else f"gitlab_mm_{name} {value}"
        )
    return "".join(f"{line}\n" for line in [*lines, "# EOF"])


def _escaped(value: str) -> str:
    plain = value.encode(errors="replace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _samples(facts: MetricsInput) -> Iterator[Sample]:
    """Yield all samples, grouped by name; a metric is absent until its event has happened once."""
    yield "tool_info", {"version": facts.tool}, 1
    yield "host_info", {"id": facts.host, "installation": facts.installation}, 1
    yield from _of_runs(facts.runs)
    # A host that has no Mattermost, and never had sets, needs none.
    if not facts.absent or (facts.found and facts.found.counted):
        yield from _of_sets(facts)
        yield "rehearsal_scheduled", {}, int(facts.rehearse)
        yield "offsite_missing", {}, int(facts.no_copy)
    if facts.sign_in is not None:
        yield "sign_in_verified", {}, int(facts.sign_in)
    if facts.free is not None:
        yield "free_bytes", {}, facts.free
    if facts.uploads_left:
        yield "restore_uploads_left_bytes", {}, facts.uploads_left
    for remote, moment in facts.offsite.items():
        # 0 for a remote that has no set yet, so that an alert on its age fires.
        yield "offsite_timestamp_seconds", {"remote": remote}, moment or 0
    found = facts.found
    yield from _of_rehearsals(
        [record for record in facts.history if not found or not found.has(record.set, Kind.EMPTIED)]
    )


def _of_runs(runs: Mapping[str, JobRun]) -> Iterator[Sample]:
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


def _of_sets(facts: MetricsInput) -> Iterator[Sample]:
    found = facts.found
    sets = found.counted if found else []
    yield "sets", {}, len(sets)
    yield "sets_incomplete", {}, len(found.incomplete) if found else 0
    if sets:
        yield (
            "set_oldest_timestamp_seconds",
            {},
            min(set_.manifest.made for set_ in sets).timestamp(),
        )
    own = [name for name in found.flaws if name not in found.foreign] if found else []
    future = [name for name in own if found and found.has(name, Kind.FUTURE)]
    yield "sets_future", {}, len(future)
    yield "sets_foreign", {}, len(found.foreign) if found else 0
    emptied = found is not None and bool(sets) and found.has(sets[0].name, Kind.EMPTIED)
    yield "set_emptied", {}, int(emptied)
    if found and found.sound:
        yield "set_newest_timestamp_seconds", {}, found.current(found.sound).timestamp()
        yield "set_age_limit_seconds", {}, found.oldest.total_seconds()
        yield from _of_newest(found.sound)


def _of_newest(newest: BackupSet) -> Iterator[Sample]:
    manifest = newest.manifest
    yield "set_bytes", {}, manifest.bytes
    for name, part in manifest.parts.items():
        yield "set_part_bytes", {"part": name}, part.bytes
    yield "set_rows", {}, manifest.rows
    yield "set_files", {}, manifest.files.files
    yield "set_duration_seconds", {}, manifest.seconds


def _of_rehearsals(history: Sequence[CheckRecord]) -> Iterator[Sample]:
    newest = check_records.latest_rehearsal(history)
    if newest is None:
        return
    yield "rehearsal_timestamp_seconds", {}, newest.made.timestamp()
    for verdict in CheckVerdict:
        yield "rehearsal_result", {"result": verdict.value}, int(newest.verdict is verdict)
    yield "rehearsal_duration_seconds", {}, newest.seconds
    measured = [record for record in history if record.recovery_seconds is not None]
    latest = check_records.latest_rehearsal(measured)
    if latest is not None and latest.recovery_seconds is not None:
        yield "rehearsal_recovery_seconds", {}, latest.recovery_seconds
    passed = check_records.latest_rehearsal(
        record for record in history if record.verdict is CheckVerdict.PASSED
    )
    if passed is not None:
        yield "rehearsal_passed_timestamp_seconds", {}, passed.made.timestamp()
