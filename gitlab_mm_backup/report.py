"""Report: what the sets and their rehearsals amount to, as facts for a page and for a machine."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import evidence, text
from .backup import uncovered
from .checks import Result
from .evidence import Record, Verdict
from .manifest import utc
from .site import Site
from .store.local import BackupSet, Entry

# cron makes a set each night; two hours more, for a night that took longer than the one before.
_SET_AGE = timedelta(hours=26)
_REHEARSAL_AGE = timedelta(days=8)  # rehearsals may be weekly; a day more, for the same reason
_ALWAYS_UNCOVERED = (
    "GitLab itself: its repositories, database and uploads are in no set and need GitLab's own "
    "backup. /etc/gitlab is in each set, without its config_backup; a rehearsal reads that "
    "archive and puts nothing of it back",
    "The indexes of Elasticsearch and Bleve: no rehearsal looks at them. Mattermost builds them "
    "from its database",
    "Whatever needs a network: in a rehearsal Mattermost sends no mail and no push message, and "
    "runs no plugins and no jobs",
    "Copies of the sets on other machines: only the folder of sets on this host is looked at",
)


class Standing(enum.Enum):
    """What the whole report comes to."""

    PROVEN = "proven"
    NOT_PROVEN = "not proven"
    FAILED = "failed"


@dataclass(frozen=True)
class Found:
    """What was read for the report."""

    entries: Sequence[Entry]  # the newest first, those that are not complete too
    records: Mapping[str, Sequence[Record]]  # kept in the sets, by a set's name
    history: Sequence[Record]  # of all sets that this host ever rehearsed
    uncovered: Sequence[str]
    versions: Mapping[str, str]  # of this host's programs
    host: str
    folder: str
    now: datetime

    def of(self, set_: BackupSet) -> list[Record]:
        """Return what was proven of this very set: a copy of it elsewhere may be damaged."""
        return [one for one in self.records.get(set_.name, ()) if one.set == set_.name]


@dataclass(frozen=True)
class Judgement:
    """The verdict, and why; without a full stop, as all sentences here."""

    standing: Standing
    reason: str
    record: Record | None = None  # that settled it


@dataclass(frozen=True)
class Line:
    """A set, or a folder that looks like one, and what it is worth."""

    entry: Entry
    standing: Standing
    words: str


@dataclass(frozen=True)
class Report:
    """All that the page says."""

    found: Found
    newest: BackupSet | None
    judgement: Judgement
    concerns: Sequence[str]
    lines: Sequence[Line]
    records: Sequence[Record]  # verifications and rehearsals, the newest first
    uncovered: Sequence[str]

    @property
    def recovery_seconds(self) -> float | None:
        """What the rehearsal took to recover that the verdict rests on."""
        record = self.judgement.record
        proven = self.judgement.standing is Standing.PROVEN
        return record.recovery_seconds if record and proven else None


def report(found: Found) -> Report:
    """Return what ``found`` amounts to."""
    newest = _newest(found)
    records = _all_records(found)
    return Report(
        found=found,
        newest=newest,
        judgement=_judge(found, newest),
        concerns=_concerns(found, newest),
        lines=[_line(found, entry) for entry in found.entries],
        records=records,
        uncovered=[*found.uncovered, *_ALWAYS_UNCOVERED, *_not_run(records)],
    )


def uncovered_of(site: Site | None) -> list[str]:
    """Return what of the host's Mattermost is in no set, as far as can be known."""
    if site is not None:
        return uncovered(site)
    return [
        "Uploads in object storage would be in no set; whether there are any is not known, for "
        "the settings of Mattermost could not be read on this host"
    ]


def _newest(found: Found) -> BackupSet | None:
    sets = [one.set for one in found.entries if one.set and not one.set.manifest.safety]
    return sets[0] if sets else None


def _judge(found: Found, newest: BackupSet | None) -> Judgement:
    if newest is None:
        return Judgement(Standing.NOT_PROVEN, f"There is no set in {found.folder}")
    records = found.of(newest)
    record = evidence.decisive(records)
    if record is not None and record.verdict is Verdict.FAILED:
        return Judgement(Standing.FAILED, _failure(record), record)
    if record is not None and _went_to_the_end(record):
        return _judge_age(found, record)
    rehearsed = evidence.latest_rehearsal(records)
    if rehearsed is None:
        reason = "The newest set was never rehearsed"
    else:
        reason = f"The rehearsal of the newest set on {text.moment(rehearsed.made)} passed"
        reason += f" as far as it went: {', '.join(_missing(rehearsed))} not run"
    return Judgement(Standing.NOT_PROVEN, reason + _other_proof(found), rehearsed)


def _judge_age(found: Found, record: Record) -> Judgement:
    passed = f"The newest set passed its rehearsal on {text.moment(record.made)}"
    age = found.now - record.made
    if age > _REHEARSAL_AGE:
        reason = f"Out of date. {passed}, {_age(age)} ago"
        return Judgement(Standing.NOT_PROVEN, reason, record)
    return Judgement(Standing.PROVEN, passed + _recovery(record), record)


def _recovery(record: Record) -> str:
    if record.recovery_seconds is None:
        return ""
    without = ", without the indexes of the search" if record.left_out else ""
    return f"; recovery time to expect: {text.duration(max(1, record.recovery_seconds))}{without}"


def _went_to_the_end(record: Record) -> bool:
    """Tell whether Mattermost was started; a file that names no checks at all proves nothing."""
    booted = any(one.name == "boot" and one.result is Result.PASSED for one in record.checks)
    return record.whole and booted


def _missing(record: Record) -> list[str]:
    return [one.name for one in record.checks if one.result is Result.NOT_RUN] or ["boot"]


def _failure(record: Record) -> str:
    kind = "rehearsal" if record.rehearsal else "verification"
    bad = [one for one in record.checks if one.result is Result.FAILED]
    told = "; ".join(f"{one.name}: {one.detail}" for one in bad)
    return f"The newest set did not pass its {kind} on {text.moment(record.made)}: {told}"


def _other_proof(found: Found) -> str:
    """Return in words which set there is that passed, to fall back on."""
    for entry in found.entries:
        record = evidence.decisive(found.of(entry.set)) if entry.set else None
        if record and record.verdict is Verdict.PASSED and _went_to_the_end(record):
            return f". The newest set that passed is {record.set}, on {text.moment(record.made)}"
    return ". No other set has passed one"


def _concerns(found: Found, newest: BackupSet | None) -> list[str]:
    """Return what a reader must know besides the verdict."""
    concerns = [
        f"{one.name} is not complete: {one.problem}" for one in found.entries if not one.set
    ]
    if newest is not None and found.now - newest.manifest.made > _SET_AGE:
        age = _age(found.now - newest.manifest.made)
        concerns.append(f"The newest set is {age} old: {text.moment(newest.manifest.made)}")
    bad = [one for one in found.entries if one.set is not newest and _failed(found, one)]
    if bad:
        concerns.append(f"{text.number(len(bad), 'other set')} failed: {bad[0].name}")
        concerns[-1] += " and older ones, marked below" if len(bad) > 1 else ""
    return concerns


def _failed(found: Found, entry: Entry) -> bool:
    record = evidence.decisive(found.of(entry.set)) if entry.set else None
    return record is not None and record.verdict is Verdict.FAILED


def _age(age: timedelta) -> str:
    hours = age // timedelta(hours=1)
    return text.number(hours, "hour") if hours < 48 else text.number(age.days, "day")


def _line(found: Found, entry: Entry) -> Line:
    if entry.set is None:
        return Line(entry, Standing.FAILED, f"not complete: {entry.problem}")
    records = found.of(entry.set)
    record, rehearsed = evidence.decisive(records), evidence.latest_rehearsal(records)
    if record is not None and _failed(found, entry):
        return Line(entry, Standing.FAILED, f"failed on {text.moment(record.made)}")
    if record is not None and _went_to_the_end(record):
        return Line(entry, Standing.PROVEN, f"passed on {text.moment(record.made)}")
    if rehearsed is not None:
        words = f"passed as far as it went on {text.moment(rehearsed.made)}"
        return Line(entry, Standing.NOT_PROVEN, words)
    return Line(entry, Standing.NOT_PROVEN, "never rehearsed")


def _all_records(found: Found) -> list[Record]:
    """Return the history, and what sets from another host brought along, the newest first."""
    kept = [one for records in found.records.values() for one in records]
    by_run = {
        (one.set, one.started, one.depth, one.seconds): one for one in [*found.history, *kept]
    }
    return sorted(by_run.values(), key=lambda one: one.made, reverse=True)


def _not_run(records: Iterable[Record]) -> list[str]:
    """Return each check that rehearsals did not run, and why, those of the newest first."""
    skipped: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for one in record.checks if record.rehearsal else ():
            if one.result is Result.NOT_RUN:
                skipped.setdefault((one.name, one.detail), []).append(record.set)
    return [
        f"{name} was not run in {_where(sets)}: {detail}"
        for (name, detail), sets in skipped.items()
    ]


def _where(sets: Sequence[str]) -> str:
    if len(sets) == 1:
        return f"the rehearsal of {sets[0]}"
    return f"{len(sets)} rehearsals, the newest of {sets[0]}"


def as_fields(made: Report) -> dict[str, Any]:
    """Return the report as JSON has it."""
    record, proven = made.judgement.record, made.recovery_seconds is not None
    return {
        "verdict": made.judgement.standing.value,
        "reason": made.judgement.reason,
        "concerns": list(made.concerns),
        "set": made.newest and made.newest.name,
        "recovery_seconds": made.recovery_seconds,
        "recovery_without": list(record.left_out) if record and proven else [],
        "sets": [_set_fields(one) for one in made.lines],
        "rehearsals": [
            {**evidence.as_fields(one), "result": one.verdict.value} for one in made.records
        ],
        "not_covered": list(made.uncovered),
        "versions": dict(made.found.versions),
        "host": made.found.host,
        "at": utc(made.found.now),
    }


def _set_fields(line: Line) -> dict[str, Any]:
    set_ = line.entry.set
    fields = {
        "name": line.entry.name,
        "complete": set_ is not None,
        "verdict": line.standing.value,
        "words": line.words,
    }
    if set_ is None:
        return fields
    manifest = set_.manifest
    return {
        **fields,
        "made": manifest.started,
        "purpose": manifest.purpose,
        "host": manifest.host,
        "gitlab": manifest.gitlab,
        "mattermost": manifest.mattermost,
        "postgresql": manifest.database.server,
        "rows": manifest.rows,
        "files": manifest.files.files,
        "bytes": manifest.bytes,
        "seconds": manifest.seconds,
    }
