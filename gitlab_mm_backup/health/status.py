"""gitlab-mm status: one function for each line, from data that is collected first."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..checks import Result, guarded
from ..config import identity, keys, settings
from ..config.identity import Host
from ..config.settings import Settings
from ..errors import Failure
from ..mattermost import detect
from ..mattermost.journal import Journal
from ..mattermost.site import Site
from ..offsite import ledger
from ..store import check_records, inventory, places, prune, retention, soundness
from ..store.check_records import CheckVerdict
from ..store.inventory import SeenHost, Store
from ..store.retention import SetFacts
from ..store.sets import BackupSet
from ..store.soundness import Kind
from ..system import disk_space, humanize, redaction
from . import rating, report, scheduler
from .doctor import service_check, sign_in_check
from .rating import Found

_NIGHTS = 60  # of the forecast
_SOON = 14  # nights: time to buy a disk
_DAY = timedelta(days=1)
_STALE = timedelta(days=2)  # of an off-site copy


class State(enum.Enum):
    """The state of a line."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    OFF = "off"  # disabled, or not set up


@dataclass(frozen=True)
class Figure:
    """A number for a monitoring system, with its thresholds."""

    value: float
    unit: str = ""  # of Nagios: s, B or none
    warning: str = ""  # a range of Nagios: 60 is above 60, 14: is below 14
    bad: str = ""


@dataclass(frozen=True)
class StatusLine:
    """One line of the status."""

    name: str
    state: State
    words: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class StatusInput:
    """The collected data; the only input of the lines."""

    found: Found
    settings: Settings
    kept: Sequence[SetFacts]  # the sets as input of retention
    site: Site | None
    journal: Journal
    free: int  # bytes, where the sets are
    scheduled: str  # what starts the nightly run; "" if nothing does
    next_run: datetime | None
    offsite: Mapping[str, float | None]  # remote -> start of the newest set there
    host: Host  # this one
    seen: Sequence[SeenHost] = ()  # the hosts whose sets are in the store
    obstacle: str = ""  # why there is no nightly run, and the fix
    reserve: int = 0  # bytes that must stay free
    away: Sequence[str] = ()  # remotes at a local path whose disk is not mounted

    @property
    def now(self) -> datetime:
        return self.found.now

    @property
    def good(self) -> BackupSet | None:
        """The newest sound set of this host; no safety set."""
        return self.found.sound


def collect(store: Store, settings: Settings) -> StatusInput:
    """Collect the data; change nothing.  Raises Failure if the directory of sets cannot be read."""
    found = report.collect(store)
    try:
        site = detect.find()
    except Failure:
        site = None
    here, known, ring = identity.known(), soundness.accepted_names(), keys.ring()
    own = inventory.own_sets(here, [entry.set for entry in found.entries if entry.set])
    night = scheduler.look(found.now.astimezone())
    return StatusInput(
        found=found,
        settings=settings,
        kept=[prune.of_set(set_, known, ring).kept for set_ in own],
        site=site,
        journal=Journal(),
        free=disk_space.free(store.folder),
        reserve=disk_space.reserve(store.folder),
        away=[
            remote.name
            for remote in settings.offsite
            if remote.path.startswith("/") and places.away(remote.path)
        ],
        scheduled=night.by,
        next_run=night.next_run,
        obstacle=night.obstacle,
        offsite=ledger.newest_elsewhere(store, settings.remotes),
        host=here,
        seen=inventory.seen(store),
    )


def last_set(facts: StatusInput) -> StatusLine:
    """Return the line about the newest sound set."""
    newest = facts.good
    figures = {"sets": Figure(len(facts.found.counted))}
    if newest is None:
        words = "; ".join([f"there is none in {facts.found.folder}", *_doubts(facts, None)])
        return StatusLine("last set", State.BAD, words, figures)
    manifest = newest.manifest
    age = facts.now - manifest.made
    limit = str(int(rating.SET_AGE.total_seconds()))
    figures["set_age"] = Figure(int(age.total_seconds()), "s", limit, limit)
    figures["set_bytes"] = Figure(manifest.bytes, "B")
    words = f"{_ago(age)}, {humanize.size(manifest.bytes)}, {humanize.number(manifest.rows, 'row')}"
    words += f", {humanize.number(manifest.files.files, 'file')}: {newest.name}"
    doubts = _doubts(facts, newest)
    told = soundness.unaccepted(manifest.told, facts.settings.accept_warnings)
    state = State.WARNING if doubts or told else State.GOOD
    emptied = any(facts.found.has(set_.name, Kind.EMPTIED) for set_ in _newer(facts, newest))
    bad = emptied or age > rating.SET_AGE
    words = "; ".join([words, *doubts])
    if manifest.told:
        accepted = [caveat for caveat in manifest.told if caveat not in told]
        words += f". {soundness.caveat_sentence([*told, *accepted])}"
    return StatusLine("last set", State.BAD if bad else state, words, figures)


def _newer(facts: StatusInput, newest: BackupSet | None) -> list[BackupSet]:
    """Return the sets of this host that are newer than the newest sound one."""
    sets = facts.found.counted
    return sets[: sets.index(newest)] if newest in sets else sets


def _doubts(facts: StatusInput, newest: BackupSet | None) -> list[str]:
    """Return the doubts about sets: newer ones look emptied, are incomplete, or in the future."""
    found = [
        f"{set_.name} {flaw.words.replace('it looks', 'looks', 1)}: gitlab-mm restore, or gitlab-mm "
        f"prune --accept {set_.name}"
        for set_ in _newer(facts, newest)
        for flaw in facts.found.flaws.get(set_.name, ())
        if flaw.kind is Kind.EMPTIED
    ]
    future = [name for name in facts.found.flaws if facts.found.has(name, Kind.FUTURE)]
    if future:
        found.append(
            f"{humanize.number(len(future), 'set')} with a date in the future: {future[0]}"
        )
    broken = facts.found.incomplete
    if broken:
        found.append(f"{humanize.number(len(broken), 'set')} not complete: {broken[0]}")
    return found


def which_host(facts: StatusInput) -> StatusLine:
    """Return the line about this host, and about former hosts whose sets are not assigned yet."""
    here, words = facts.host, facts.host.id[:8] or "without an id until the first backup"
    if here.installation:
        words += f", installation {here.installation[:8]}"
    kin = inventory.kin(here, facts.seen)
    if here.original:
        words += f"; its disk comes from host {here.original[:8]}: run gitlab-mm host take-over, "
        return StatusLine("host", State.WARNING, f"{words}or gitlab-mm host new")
    if kin:
        words += f"; {humanize.number(sum(seen.sets for seen in kin), 'set')} of host {kin[0].name} are not"
        words += " pruned: run gitlab-mm host take-over, or gitlab-mm host new"
        return StatusLine("host", State.WARNING, words)
    return StatusLine("host", State.GOOD, words)


def last_rehearsal(facts: StatusInput) -> StatusLine:
    """Return the line about the newest rehearsal of any set, and its recovery time."""
    record = check_records.latest_rehearsal(facts.found.history)
    wanted = facts.settings.rehearse != "off"
    if record is None:
        state = State.WARNING if wanted else State.OFF
        return StatusLine(
            "rehearsal", state, "none was made" + ("" if wanted else "; rehearse is off")
        )
    age = facts.now - record.made
    limit = str(int(rating.REHEARSAL_AGE.total_seconds()))
    figures = {"rehearsal_age": Figure(int(age.total_seconds()), "s", limit if wanted else "")}
    words = f"{record.verdict.value} {_ago(age)}"
    if record.recovery_seconds is not None:
        figures["recovery"] = Figure(round(record.recovery_seconds, 1), "s")
        words += f", recovery in {humanize.duration(max(1, record.recovery_seconds))}"
    state = State.GOOD if record.verdict is CheckVerdict.PASSED else State.WARNING
    if record.verdict is CheckVerdict.FAILED:
        bad = [check for check in record.checks if check.result is Result.FAILED]
        words += ": " + "; ".join(
            f"{check.name}: {redaction.without_rows(check.detail)}" for check in bad
        )
        state = State.BAD
    elif wanted and age > rating.REHEARSAL_AGE:
        state = State.WARNING
    return StatusLine("rehearsal", state, words, figures)


def sign_in(facts: StatusInput) -> StatusLine:
    """Return the line about sign-in through GitLab."""
    site = facts.site
    if site is None:
        return StatusLine(
            "sign-in", State.WARNING, "not known: Mattermost is not set up on this host"
        )
    check = guarded("sign-in", lambda: sign_in_check(site))
    states = {Result.PASSED: State.GOOD, Result.FAILED: State.BAD, Result.NOT_RUN: State.OFF}
    return StatusLine("sign-in", states.get(check.result, State.WARNING), check.detail)


def running(facts: StatusInput) -> StatusLine:
    """Return the line about the service: whether Mattermost runs and answers."""
    site = facts.site
    if site is None:
        return StatusLine("service", State.OFF, "Mattermost is not set up on this host")
    check = guarded("service", lambda: service_check(site))
    state = State.GOOD if check.result is Result.PASSED else State.WARNING
    return StatusLine("service", state, check.detail)


def next_run(facts: StatusInput) -> StatusLine:
    """Return the line about the next backup, and what starts it."""
    if not facts.scheduled:
        return StatusLine("next run", State.WARNING, f"no nightly set: {facts.obstacle}")
    when = f"{humanize.moment(facts.next_run)}, " if facts.next_run else ""
    return StatusLine("next run", State.GOOD, f"{when}{facts.scheduled}")


def space(facts: StatusInput) -> StatusLine:
    """Return the line about disk space, with a forecast from the size of the last sets."""
    if facts.settings.store != "local":
        return StatusLine("space", State.OFF, f"not known of {facts.found.folder}")
    nights = _nights(facts)
    told = _NIGHTS if nights is None else nights
    figures = {"free": Figure(facts.free, "B"), "nights": Figure(told, "", f"{_SOON}:", "1:")}
    words = f"{humanize.size(facts.free)} free in {facts.found.folder}"
    for_ever = f"; {retention.FOR_EVER}" if facts.settings.rules == settings.Rules() else ""
    if facts.good is None:
        return StatusLine("space", State.GOOD, words + for_ever, {"free": figures["free"]})
    if nights is None:
        room = f"room for {_NIGHTS} nights and more{for_ever}"
        return StatusLine("space", State.GOOD, f"{words}, {room}", figures)
    state = State.BAD if nights < 1 else State.WARNING if nights < _SOON else State.GOOD
    room = f"room for {humanize.number(nights, 'night')}" if nights else "no room for the next set"
    return StatusLine("space", state, f"{words}, {room}{for_ever}", figures)


def _nights(facts: StatusInput) -> int | None:
    """Return for how many nights the disk space lasts, None for _NIGHTS or more.

    Each night one set is added, of the average size of the last seven, and then old sets are pruned.
    """
    sets = {entry.name: entry.set.manifest.bytes for entry in facts.found.entries if entry.set}
    last = list(sets.values())[:7]
    one_set = sum(last) // len(last) if last else 0
    free, there = facts.free - facts.reserve, list(facts.kept)
    for night in range(_NIGHTS):
        free -= one_set
        if free < 0:
            return night
        now = facts.now + (night + 1) * _DAY
        there.append(SetFacts(f"night {night}", now))
        going = {
            decision.name
            for decision in retention.decide(there, facts.settings.rules, now)
            if not decision.keep
        }
        free += sum(sets.get(name, one_set) for name in going)
        there = [kept for kept in there if kept.name not in going]
    return None


def off_site(facts: StatusInput) -> StatusLine | None:
    """Return the line about the newest copy at each remote; None if none is configured."""
    if not facts.offsite:
        return None
    words, figures, state = [], {}, State.GOOD
    limit = _STALE.total_seconds()
    for remote in facts.away:
        words.append(f"{remote}: not the expected place; is its disk mounted?")
    for remote, moment in facts.offsite.items():
        if remote in facts.away:
            continue
        if moment is None:
            words.append(f"{remote}: nothing yet")
            state = State.WARNING
            continue
        age = facts.now.timestamp() - moment
        words.append(f"{remote}: {_ago(timedelta(seconds=age))}")
        figures[f"offsite_age_{remote}"] = Figure(int(age), "s", f"{limit:.0f}")
        state = State.WARNING if age > limit else state
    return StatusLine("off-site", State.BAD if facts.away else state, "; ".join(words), figures)


def open_restore(facts: StatusInput) -> StatusLine:
    """Return the line about an interrupted restore and about previous states."""
    try:
        record, previous = facts.journal.read(), facts.journal.previous()
    except Failure as failure:
        return StatusLine("restore", State.BAD, str(failure))
    if record is not None:
        words = "interrupted: run gitlab-mm restore --rollback, or --continue"
        return StatusLine("restore", State.BAD, words)
    words = "interrupted restore: none"
    if previous:
        words += (
            f"; {humanize.number(len(previous), 'previous state')} kept: gitlab-mm prune --previous"
        )
    return StatusLine("restore", State.GOOD, words)


# In the order of the output.  A line that does not apply to this host is None.
LINES: tuple[Callable[[StatusInput], StatusLine | None], ...] = (
    last_set,
    last_rehearsal,
    sign_in,
    running,
    next_run,
    space,
    off_site,
    open_restore,
    which_host,
)


def status(facts: StatusInput) -> list[StatusLine]:
    """Return every line that applies to this host."""
    made = [line_of(facts) for line_of in LINES]
    return [line for line in made if line is not None]


def worst(lines: Sequence[StatusLine]) -> State:
    """Return the worst state of all lines."""
    states = {line.state for line in lines}
    return next((state for state in (State.BAD, State.WARNING) if state in states), State.GOOD)


def _ago(age: timedelta) -> str:
    seconds = max(0.0, age.total_seconds())
    if seconds < 48 * 3600:
        return f"{humanize.duration(seconds)} ago"
    return f"{humanize.number(age.days, 'day')} ago"
