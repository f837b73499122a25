"""Rate sets by their check records and age, for the report."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ..checks import Result
from ..config import schedule
from ..store import check_records, soundness
from ..store.check_records import CheckRecord, CheckVerdict
from ..store.sets import BackupSet, SetEntry
from ..store.soundness import Flaw, Kind
from ..system import humanize

SET_AGE = schedule.NIGHT  # of a nightly backup
REHEARSAL_AGE = timedelta(days=8)  # rehearsals may be weekly; a day more, for the same reason


_DOUBTS = (Kind.FUTURE, Kind.EMPTIED, Kind.FORGED)  # a set with one of these is never proven


class Rating(enum.Enum):
    """The rating of a set, or of the whole report."""

    PROVEN = "proven"
    NOT_PROVEN = "not proven"
    FAILED = "failed"


@dataclass(frozen=True)
class Found:
    """The input of the report."""

    entries: Sequence[SetEntry]  # the newest first, incomplete ones too
    records: Mapping[str, Sequence[CheckRecord]]  # stored in the sets, by a set's name
    history: Sequence[CheckRecord]  # of all sets that this host ever rehearsed
    uncovered: Sequence[str]
    versions: Mapping[str, str]  # of this host's programs
    host: str
    folder: str
    now: datetime
    flaws: Mapping[str, Sequence[Flaw]] = field(default_factory=dict)  # by a set's name
    foreign: Collection[str] = ()  # names of the sets of other hosts
    confirmed: Mapping[str, datetime] = field(default_factory=dict)  # set -> nothing changed until
    oldest: timedelta = SET_AGE  # of the newest set, by the schedule

    def current(self, set_: BackupSet) -> datetime:
        """Return the moment whose state a set has: when it was made, or a later unchanged one."""
        return self.confirmed.get(set_.name, set_.manifest.made)

    def age(self, set_: BackupSet) -> timedelta:
        return self.now - self.current(set_)

    def has(self, name: str, *kinds: Kind) -> bool:
        """Return whether a set has a flaw of one of these kinds."""
        return any(flaw.kind in kinds for flaw in self.flaws.get(name, ()))

    def counts(self, set_: BackupSet) -> bool:
        """Return whether a set counts as a backup of this host (soundness.counts)."""
        own = set_.name not in self.foreign
        return soundness.counts(set_.manifest, self.flaws.get(set_.name, ()), own=own)

    @property
    def counted(self) -> list[BackupSet]:
        """The sets that count as backups of this host, newest first."""
        return [entry.set for entry in self.entries if entry.set and self.counts(entry.set)]

    @property
    def sound(self) -> BackupSet | None:
        """The newest set that counts and has no flaw."""
        return next((set_ for set_ in self.counted if not self.flaws.get(set_.name)), None)

    @property
    def incomplete(self) -> list[str]:
        """The names of sets that are not complete; those of other hosts too, if unreadable."""
        return [
            entry.name
            for entry in self.entries
            if entry.set is None
            or (entry.name not in self.foreign and self.has(entry.name, Kind.INCOMPLETE))
        ]

    def of(self, set_: BackupSet) -> list[CheckRecord]:
        """Return the check records of this set, without those of copies elsewhere."""
        return [record for record in self.records.get(set_.name, ()) if record.set == set_.name]


@dataclass(frozen=True)
class RatingReason:
    """The verdict and its reason; sentences here have no full stop."""

    standing: Rating
    reason: str
    record: CheckRecord | None = None  # that decided it


@dataclass(frozen=True)
class RatingLine:
    """A set, or an incomplete one, and its rating."""

    entry: SetEntry
    standing: Rating
    words: str  # about its rehearsal
    verified: str = ""  # about its newest verification


def evaluate(found: Found, newest: BackupSet | None) -> RatingReason:
    if newest is None:
        return RatingReason(Rating.NOT_PROVEN, f"There is no set in {found.folder}")
    emptied = [flaw for flaw in found.flaws.get(newest.name, ()) if flaw.kind is Kind.EMPTIED]
    if emptied:
        reason = f"The newest set, {newest.name}, is not usable: {emptied[0].words}"
        return RatingReason(Rating.NOT_PROVEN, reason + _other_proof(found))
    records = found.of(newest)
    record = check_records.decisive(records)
    if record is not None and record.verdict is CheckVerdict.FAILED:
        return RatingReason(Rating.FAILED, _failure(record) + _other_proof(found), record)
    if record is not None and _went_to_the_end(record):
        return _judge_age(found, newest, record)
    rehearsed = check_records.latest_rehearsal(records)
    if rehearsed is None:
        reason = "The newest set was never rehearsed"
    else:
        reason = f"The rehearsal of the newest set on {humanize.moment(rehearsed.made)} passed"
        reason += f"; some checks were skipped: {', '.join(_missing(rehearsed))}"
    return RatingReason(Rating.NOT_PROVEN, reason + _other_proof(found), rehearsed)


def _judge_age(found: Found, newest: BackupSet, record: CheckRecord) -> RatingReason:
    """A proof counts only if it is new, and so is the set."""
    passed = f"The newest set passed its rehearsal on {humanize.moment(record.made)}"
    age, age_of_set = found.now - record.made, found.age(newest)
    if age > REHEARSAL_AGE:
        reason = f"Out of date. {passed}, {_age(age)} ago"
        return RatingReason(Rating.NOT_PROVEN, reason, record)
    if age_of_set > found.oldest:
        reason = f"Out of date. {passed}, but it is {_age(age_of_set)} old"
        return RatingReason(Rating.NOT_PROVEN, reason, record)
    return RatingReason(Rating.PROVEN, passed + _recovery(record), record)


def _recovery(record: CheckRecord) -> str:
    if record.recovery_seconds is None:
        return ""
    without = ", without the search indexes" if record.left_out else ""
    return (
        f"; recovery time to expect: {humanize.duration(max(1, record.recovery_seconds))}{without}"
    )


def _went_to_the_end(record: CheckRecord) -> bool:
    """Return whether all checks passed and Mattermost was started."""
    booted = any(check.name == "boot" and check.result is Result.PASSED for check in record.checks)
    return record.whole and booted


def _missing(record: CheckRecord) -> list[str]:
    return [check.name for check in record.checks if check.result is Result.NOT_RUN] or ["boot"]


def _failure(record: CheckRecord) -> str:
    kind = "rehearsal" if record.rehearsal else "verification"
    bad = [check for check in record.checks if check.result is Result.FAILED]
    text = "; ".join(f"{check.name}: {check.detail}" for check in bad)
    return f"The newest set failed its {kind} on {humanize.moment(record.made)}: {text}"


def last_proof(found: Found) -> CheckRecord | None:
    """Return the rehearsal that proved the newest proven set, whatever its age; None if none is."""
    for set_ in found.counted:
        if found.has(set_.name, Kind.EMPTIED):
            continue
        record = check_records.decisive(found.of(set_))
        if record and record.verdict is CheckVerdict.PASSED and _went_to_the_end(record):
            return record
    return None


def _other_proof(found: Found) -> str:
    """Return, in words, the newest set that passed a rehearsal."""
    record = last_proof(found)
    if record is None:
        return ". No other set has passed one"
    return f". The newest set that passed is {record.set}, on {humanize.moment(record.made)}"


def concerns(found: Found, newest: BackupSet | None) -> list[str]:
    """Return the problems that a reader must know in addition to the verdict."""
    words = [
        f"{entry.name} is not complete: {entry.problem}" for entry in found.entries if not entry.set
    ]
    here = {entry.name for entry in found.entries if entry.set}
    words += [
        f"{name}: {flaw.words}"
        for name, some in found.flaws.items()
        for flaw in some
        if flaw.kind in (Kind.FUTURE, Kind.EMPTIED, Kind.INCOMPLETE) and name in here
    ]
    if found.foreign:
        words.append(f"{humanize.number(len(found.foreign), 'set')} of other hosts are here too")
    if newest is not None and found.age(newest) > found.oldest:
        age, moment = _age(found.age(newest)), humanize.moment(found.current(newest))
        words.append(f"The newest set is {age} old: {moment}")
    words += [] if newest is None else soundness.caveat_lines(newest.manifest.told)
    bad = [entry for entry in found.entries if entry.set is not newest and _failed(found, entry)]
    if bad:
        words.append(f"{humanize.number(len(bad), 'other set')} failed: {bad[0].name}")
        words[-1] += " and older ones, marked below" if len(bad) > 1 else ""
    return words


def _failed(found: Found, entry: SetEntry) -> bool:
    record = check_records.decisive(found.of(entry.set)) if entry.set else None
    return record is not None and record.verdict is CheckVerdict.FAILED


def _age(age: timedelta) -> str:
    hours = age // timedelta(hours=1)
    return humanize.number(hours, "hour") if hours < 48 else humanize.number(age.days, "day")


def line_of(found: Found, entry: SetEntry) -> RatingLine:
    if entry.set is None:
        return RatingLine(entry, Rating.FAILED, f"not complete: {entry.problem}")
    short = [flaw for flaw in found.flaws.get(entry.name, ()) if flaw.kind is Kind.INCOMPLETE]
    if short:
        return RatingLine(entry, Rating.FAILED, short[0].words.replace("it is ", "", 1))
    verified = _verified(found.of(entry.set))
    doubts = [flaw.words for flaw in found.flaws.get(entry.name, ()) if flaw.kind in _DOUBTS]
    if doubts:
        return RatingLine(entry, Rating.NOT_PROVEN, "; ".join(doubts), verified)
    return replace(_rehearsed(found, entry, entry.set), verified=verified)


def _rehearsed(found: Found, entry: SetEntry, set_: BackupSet) -> RatingLine:
    """Return the rating of a set by its rehearsals, and by a verification that failed."""
    records = found.of(set_)
    record, rehearsed = check_records.decisive(records), check_records.latest_rehearsal(records)
    if record is not None and _failed(found, entry):
        kind = "failed" if record.rehearsal else "verification failed"
        return RatingLine(entry, Rating.FAILED, f"{kind} on {humanize.moment(record.made)}")
    if record is not None and _went_to_the_end(record):
        return RatingLine(entry, Rating.PROVEN, f"passed on {humanize.moment(record.made)}")
    if rehearsed is not None:
        words = f"passed on {humanize.moment(rehearsed.made)}; some checks were skipped"
        return RatingLine(entry, Rating.NOT_PROVEN, words)
    return RatingLine(entry, Rating.NOT_PROVEN, "never rehearsed")


def _verified(records: Sequence[CheckRecord]) -> str:
    """Return, in words, whether the newest reading of all bytes found them intact."""
    record = check_records.latest_verification(records)
    if record is None:
        return "never"
    return f"{'intact' if record.whole else 'damaged'} on {humanize.moment(record.made)}"
