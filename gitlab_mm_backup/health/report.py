"""The report on sets and their rehearsals, for the HTML page and for JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from .. import clock, version
from ..backup import unchanged
from ..checks import Result
from ..clock import utc
from ..config import identity, retention, schedule
from ..config.schedule import Schedule
from ..config.settings import Rules, Settings
from ..errors import Failure
from ..mattermost import detect
from ..offsite import ledger
from ..restore import choice
from ..store import check_records, inventory, soundness
from ..store.check_records import CheckRecord
from ..store.inventory import Store
from ..store.sets import BackupSet
from ..system import humanize, redaction
from . import remarks
from .rating import (
    Found,
    Rating,
    RatingLine,
    RatingReason,
    concerns,
    evaluate,
    last_proof,
    line_of,
)

log = logging.getLogger(__name__)

_ALWAYS_UNCOVERED = (
    "GitLab itself: back up its repositories, database and uploads with gitlab-backup",
    "The indexes of Elasticsearch and Bleve: they are not in the sets. Mattermost rebuilds them from "
    "its database",
    "Functions that need a network: in a rehearsal, Mattermost sends no mail and no push messages, "
    "and runs no plugins and no jobs",
    "The content of copies on other machines: only the sets on this host are checked",
)


_UPLOADS_UNKNOWN = (
    "Uploads in object storage are not in the sets; whether there are any is not known, because the "
    "settings of Mattermost could not be read on this host"
)


@dataclass(frozen=True)
class Place:
    """A place outside this host for copies."""

    name: str
    newest: datetime | None  # start of the newest set there
    encrypted: bool


@dataclass(frozen=True)
class Protection:
    """What the settings say about copies, retention and encryption."""

    places: Sequence[Place] = ()
    retention: str = ""  # in words
    encrypted: bool = False  # whether the sets on this host are, by restic


def protection(store: Store, ours: Settings) -> Protection:
    """Read where copies are, and how long sets are kept."""
    recipients = {remote.name: bool(remote.recipients) for remote in ours.offsite}
    places = [
        Place(
            name,
            clock.moment_of(at) if at is not None else None,
            recipients.get(name, name == "restic"),
        )
        for name, at in ledger.newest_elsewhere(store, ours.remotes).items()
    ]
    return Protection(places, _retention(ours.rules), ours.store == "restic")


def _retention(rules: Rules) -> str:
    if rules == Rules():
        return retention.FOR_EVER
    lines = [f"all sets of the last {_span(rules.keep_time)}"] if rules.keep_time else []
    if rules.within:
        lines.append(f"all within {_span(rules.within)} of the newest")
    counts = {"last": rules.last, "hourly": rules.hourly, "daily": rules.daily}
    counts.update(weekly=rules.weekly, monthly=rules.monthly, yearly=rules.yearly)
    return ", ".join([*lines, *(f"{count} {name}" for name, count in counts.items() if count)])


def _span(time: timedelta) -> str:
    whole = humanize.number(time.days, "day")
    return whole if time.days > 1 else humanize.duration(time.total_seconds())


@dataclass(frozen=True)
class Report:
    """The content of the page."""

    found: Found
    protection: Protection
    proof: CheckRecord | None  # of the newest proven set, whatever its age
    newest: BackupSet | None
    judgement: RatingReason
    concerns: Sequence[str]
    lines: Sequence[RatingLine]
    records: Sequence[CheckRecord]  # verifications and rehearsals, the newest first
    uncovered: Sequence[str]

    @property
    def recovery_seconds(self) -> float | None:
        """The recovery time in the rehearsal that decided the verdict; None unless proven."""
        record = self.judgement.record
        proven = self.judgement.standing is Rating.PROVEN
        return record.recovery_seconds if record and proven else None

    @property
    def rehearsals(self) -> list[CheckRecord]:
        return [record for record in self.records if record.rehearsal]

    @property
    def verifications(self) -> list[CheckRecord]:
        return [record for record in self.records if not record.rehearsal]

    def fields(self) -> dict[str, Any]:
        """Return the JSON fields of the report."""
        record, proven = self.judgement.record, self.recovery_seconds is not None
        return {
            "verdict": self.judgement.standing.value,
            "reason": self.judgement.reason,
            "concerns": list(self.concerns),
            "set": self.newest and self.newest.name,
            "last_proven": self.proof and {"set": self.proof.set, "at": self.proof.started},
            "copies": [
                {
                    "place": place.name,
                    "newest": place.newest and utc(place.newest),
                    "encrypted": place.encrypted,
                }
                for place in self.protection.places
            ],
            "retention": self.protection.retention,
            "encrypted": self.protection.encrypted,
            "recovery_seconds": self.recovery_seconds,
            "recovery_without": list(record.left_out) if record and proven else [],
            "sets": [_set_fields(line) for line in self.lines],
            "rehearsals": [check_records.result_fields(record) for record in self.records],
            "not_covered": list(self.uncovered),
            "versions": dict(self.found.versions),
            "host": self.found.host,
            "at": utc(self.found.now),
        }


def report(found: Found, protected: Protection) -> Report:
    """Return the report, without rows of the database, so that it can be given to others."""
    found = _discreet(found)
    newest = next(iter(found.counted), None)
    runs = _all_records(found)
    return Report(
        found=found,
        protection=protected,
        proof=last_proof(found),
        newest=newest,
        judgement=evaluate(found, newest),
        concerns=concerns(found, newest),
        lines=[line_of(found, entry) for entry in found.entries],
        records=runs,
        uncovered=[*found.uncovered, *_ALWAYS_UNCOVERED, *_of_gitlab(newest), *_not_run(runs)],
    )


def _of_gitlab(newest: BackupSet | None) -> list[str]:
    has = soundness.gitlab_settings(newest.manifest) if newest else ""
    text = f"The newest set has {has}; a rehearsal reads that archive, but does not restore it"
    return [text] if has else []


def _discreet(found: Found) -> Found:
    kept = {
        name: [_without_rows(record) for record in some] for name, some in found.records.items()
    }
    history = [_without_rows(record) for record in found.history]
    return replace(found, records=kept, history=history)


def _without_rows(record: CheckRecord) -> CheckRecord:
    checks = [
        replace(check, detail=redaction.without_rows(check.detail)) for check in record.checks
    ]
    return replace(record, checks=checks)


def collect(store: Store, plan: Schedule | None = None) -> Found:
    """Read the sets, their check records, and the versions of this host's programs.

    ``plan`` is the schedule of config.yml.

    Raises Failure if the directory of the sets cannot be read.
    """
    entries = store.entries()
    offers = {offer.name: offer for offer in choice.of_entries(entries)}
    here = identity.known()
    own = {
        set_.name
        for set_ in inventory.own_sets(here, [entry.set for entry in entries if entry.set])
    }
    try:
        site = detect.find()
    except Failure as failure:  # the sets may be on a host without GitLab
        log.info("%s", failure)
        site = None
    now = datetime.now(timezone.utc)
    seen = unchanged.confirmed([entry.set for entry in entries if entry.set], now)
    return Found(
        entries=entries,
        records={entry.name: offers[entry.name].records for entry in entries if entry.set},
        history=check_records.history(),
        uncovered=site.uncovered if site else [_UPLOADS_UNKNOWN],
        versions={
            "gitlab-mm-backup": version.tool(),
            "GitLab": site.gitlab.version if site else "",
            "Mattermost": site.version if site else "",
        },
        host=identity.full_hostname(),
        folder=store.where,
        now=now,
        flaws={name: offer.flaws for name, offer in offers.items()},
        foreign={entry.name for entry in entries if entry.set and entry.name not in own},
        confirmed=seen,
        oldest=schedule.oldest(plan),
    )


def _all_records(found: Found) -> list[CheckRecord]:
    """Return the check records of the history and of sets from other hosts, newest first."""
    kept = [record for name, some in found.records.items() for record in some if record.set == name]
    by_run = {
        (record.set, record.started, record.depth, record.seconds): record
        for record in [*found.history, *kept]
    }
    return sorted(by_run.values(), key=lambda record: record.made, reverse=True)


def _not_run(runs: Iterable[CheckRecord]) -> list[str]:
    """Return the skipped checks of rehearsals with their reasons, newest first."""
    skipped: dict[tuple[str, str], list[str]] = {}
    for record in runs:
        for check in record.checks if record.rehearsal else ():
            if check.result is Result.NOT_RUN:
                skipped.setdefault((check.name, check.detail), []).append(record.set)
    return [
        f"{name} was skipped in {_where(sets)}: {detail}"
        for (name, detail), sets in skipped.items()
    ]


def _where(sets: Sequence[str]) -> str:
    if len(sets) == 1:
        return f"the rehearsal of {sets[0]}"
    return f"{len(sets)} rehearsals, the newest of {sets[0]}"


def _set_fields(line: RatingLine) -> dict[str, Any]:
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
        "verified": line.verified,
        **remarks.set_fields(manifest),
        "postgresql": manifest.database.server,
        "bytes": manifest.bytes,
        "seconds": manifest.seconds,
    }
