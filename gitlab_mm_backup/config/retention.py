"""Which sets to keep: a pure function of names, times and rehearsal results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .. import clock
from .settings import Rules


@dataclass(frozen=True)
class SetFacts:
    """What retention needs to know about one complete set."""

    name: str
    made: datetime
    safety: bool = False  # made before a restore: never the newest that counts
    proven: bool = False  # a rehearsal passed, and nothing has failed since
    failed: bool = False  # a verification or rehearsal failed, and no rehearsal has passed since
    base: str = ""  # the set that it builds on, and is nothing without
    empty: bool = False  # its Mattermost had never been used
    shrunken: bool = False  # it holds far less than a fuller one, and was not accepted
    pinned: bool = False  # the administrator keeps it


FOR_EVER = "sets are kept for ever: neither keep_time nor keep is set in config.yml"


@dataclass(frozen=True)
class Decision:
    """The decision about one set, with its reason."""

    name: str
    keep: bool
    reason: str


_LEAP = 3  # keep times between two sets: more is a clock that jumped, or a host that was off
_NIGHTS = timedelta(days=2)  # between two sets are usual, with one that failed
# The name of the hour, day and so on of a local time; weeks begin on Monday (ISO 8601).
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "hourly": lambda made: f"{made:%Y-%m-%d %H}:00",
    "daily": lambda made: f"{made:%Y-%m-%d}",
    "weekly": lambda made: "week {1} of {0}".format(*made.isocalendar()),
    "monthly": lambda made: f"{made:%Y-%m}",
    "yearly": lambda made: f"{made:%Y}",
}


def decide(sets: Iterable[SetFacts], rules: Rules, now: datetime, made: str = "") -> list[Decision]:
    """Return a decision for each set of one host and installation, newest first.

    Only complete sets may be given. Some are never removed, however old: the newest that is not a
    safety set, the newest of these without a failed check, the newest sound one, the newest whose
    rehearsal passed, pinned ones, and the set ``made`` in this run. Safety sets, sets with a failed check and
    sets that look emptied never count as the set of a day, because a good one would be removed
    instead. Hours, days and so on are in local time. A set that a kept one builds on is kept too.

    A set with a date in the future is kept and not counted. While a set that looks emptied is
    newer than every sound one, nothing is removed.
    """
    newest_first = sorted(sets, key=lambda facts: (facts.made, facts.name), reverse=True)
    if rules == Rules():
        return [Decision(facts.name, True, "no keep time is set") for facts in newest_first]
    reasons: dict[str, list[str]] = {facts.name: [] for facts in newest_first}
    dated = [facts for facts in newest_first if not clock.ahead(facts.made, now)]
    for facts in newest_first:
        reasons[facts.name] += _own_reasons(facts, now, made)
    for reason, found in [*_protected(dated), *_young(dated, rules, now)]:
        reasons[found.name].append(reason)
    emptied = _emptied(dated)
    for facts in dated if emptied else ():
        reasons[facts.name].append(f"nothing goes while {emptied} looks emptied")
    good = [
        facts
        for facts in dated
        if not facts.safety and not facts.failed and not _weak(facts, dated)
    ]
    for reason, found in [*_last(good, rules.last), *_periods(good, rules)]:
        reasons[found.name].append(reason)
    otherwise = _otherwise(rules)
    decisions = [
        Decision(name, bool(found), "; ".join(found) or otherwise)
        for name, found in reasons.items()
    ]
    return with_bases(decisions, {facts.name: facts.base for facts in newest_first if facts.base})


def unusual(
    sets: Iterable[SetFacts], decisions: Sequence[Decision], rules: Rules, most: int
) -> bool:
    """Tell whether ``decisions`` remove so much that the administrator should be asked.

    That is at least half of the sets and more than the ``most`` that any run has removed: either
    by the keep time alone, since the second newest set was made (a clock that jumped, a host that
    was off), or at least three for any reason.
    """
    known = {facts.name: facts for facts in sets}
    going = [known[decision.name] for decision in decisions if not decision.keep]
    if not going or len(going) * 2 < len(known) or len(going) <= most:
        return False
    return len(going) > 2 or _overtaken(going, known.values(), rules.keep_time)


def _overtaken(
    going: Sequence[SetFacts], every: Iterable[SetFacts], keep_time: timedelta | None
) -> bool:
    """Tell whether all sets to remove were young when the second newest set was made, long ago."""
    moments = sorted(facts.made for facts in every if not facts.safety)
    if keep_time is None or len(moments) < 2:
        return False
    before, newest = moments[-2:]
    return newest - before > max(_LEAP * keep_time, _NIGHTS) and all(
        before - facts.made <= keep_time for facts in going
    )


def with_bases(decisions: Sequence[Decision], bases: Mapping[str, str]) -> list[Decision]:
    """Return ``decisions`` changed so that the base of each kept set is kept.

    ``bases`` maps each incremental set to its base.
    """
    needed: dict[str, str] = {}  # set -> the one that builds on it, and stays
    for decision in decisions:
        name = decision.name
        while decision.keep and name in bases and bases[name] not in needed:
            needed[bases[name]] = name
            name = bases[name]
    return [
        decision
        if decision.keep or decision.name not in needed
        else Decision(decision.name, True, f"set {needed[decision.name]} builds on it")
        for decision in decisions
    ]


def _own_reasons(facts: SetFacts, now: datetime, made: str) -> list[str]:
    """Return why a set is kept whatever others there are."""
    reasons = {
        "its date is in the future": clock.ahead(facts.made, now),
        "pinned": facts.pinned,
        "made in this run": facts.name == made,
    }
    return [reason for reason, holds in reasons.items() if holds]


_Reason = tuple[str, SetFacts]


def _protected(newest_first: Sequence[SetFacts]) -> Iterable[_Reason]:
    """Yield the sets that no rule can remove."""
    regular = [facts for facts in newest_first if not facts.safety]
    good = [facts for facts in regular if not facts.failed]
    sound = [facts for facts in good if not _weak(facts, newest_first)]
    proven = [facts for facts in newest_first if facts.proven and not _weak(facts, newest_first)]
    for facts in regular[:1]:
        yield "the newest set is never removed", facts
    for facts in good[:1]:
        if facts != regular[0]:
            yield "the newest set of which no check failed is never removed", facts
    for facts in sound[:1]:
        if facts != good[0]:
            yield "the newest set that does not look emptied is never removed", facts
    for facts in proven[:1]:
        yield "the newest set whose rehearsal passed is never removed", facts


def _weak(facts: SetFacts, every: Sequence[SetFacts]) -> bool:
    """Tell whether a set must not replace a fuller one."""
    return facts.shrunken or (facts.empty and any(not other.empty for other in every))


def holding(sets: Iterable[SetFacts], now: datetime) -> str:
    """Return the set that stops all removals: it looks emptied, and no sound one is newer."""
    newest_first = sorted(sets, key=lambda facts: (facts.made, facts.name), reverse=True)
    return _emptied([facts for facts in newest_first if not clock.ahead(facts.made, now)])


def _emptied(newest_first: Sequence[SetFacts]) -> str:
    for facts in newest_first:
        if facts.shrunken and not facts.safety:
            return facts.name
        if not facts.safety and not facts.failed:
            return ""
    return ""


def _young(newest_first: Sequence[SetFacts], rules: Rules, now: datetime) -> Iterable[_Reason]:
    newest = next((facts.made for facts in newest_first if not facts.safety), now)
    for facts in newest_first:
        if rules.keep_time is not None and now - facts.made <= rules.keep_time:
            yield "younger than the keep time", facts
        if rules.within is not None and newest - facts.made <= rules.within:
            yield "within the time before the newest set", facts


def _last(good: Sequence[SetFacts], number: int) -> Iterable[_Reason]:
    for place, facts in enumerate(good[:number], 1):
        yield f"last {place} of {number}", facts


def _periods(good: Sequence[SetFacts], rules: Rules) -> Iterable[_Reason]:
    """Yield the newest set of each of the last hours, days and so on that have one."""
    for rule, name_of in _PERIODS.items():
        number: int = getattr(rules, rule)
        newest: dict[str, SetFacts] = {}
        for facts in good:
            newest.setdefault(name_of(facts.made.astimezone()), facts)
        for place, (period, facts) in enumerate(list(newest.items())[:number], 1):
            yield f"{rule} {place} of {number}, the newest of {period}", facts


def _otherwise(rules: Rules) -> str:
    """Return why a set is removed."""
    if rules == Rules(keep_time=rules.keep_time):
        return "older than the keep time"
    return "no rule keeps it"
