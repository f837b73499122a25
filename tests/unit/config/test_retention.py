"""Which sets are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.config.retention import (
    Decision,
    SetFacts,
    decide,
    holding,
    unusual,
    with_bases,
)
from gitlab_mm_backup.config.settings import Rules

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)
AGES = st.integers(0, 60 * 86400)  # seconds
SETS = st.lists(AGES, max_size=12).map(
    lambda ages: [
        SetFacts(f"set-{number}", NOW - timedelta(seconds=age)) for number, age in enumerate(ages)
    ]
)
KEEP = st.one_of(st.none(), st.integers(0, 60 * 86400).map(lambda s: timedelta(seconds=s)))

Clock = Callable[[str], None]


@pytest.fixture(autouse=True, scope="module")
def clock() -> Iterator[Clock]:
    """The zone of the host's clock: UTC, but a test may set it."""

    def turn(zone: str) -> None:
        patch.setenv("TZ", zone)
        time.tzset()

    with pytest.MonkeyPatch.context() as patch:
        turn("UTC")
        yield turn
    time.tzset()


def made(*days: float) -> list[SetFacts]:
    return [SetFacts(f"{age} days", NOW - age * DAY) for age in days]


def kept(decisions: list[Decision]) -> set[str]:
    return {decision.name for decision in decisions if decision.keep}


def test_a_pinned_set_stays_and_counts_as_before() -> None:
    old = replace(made(90)[0], pinned=True)
    decisions = decide([*made(1, 2, 91), old], Rules(7 * DAY, last=1), NOW)
    assert kept(decisions) == {"1 days", "2 days", "90 days"}
    assert next(decision.reason for decision in decisions if decision.name == "90 days") == "pinned"


def test_sets_up_to_the_keep_time_stay() -> None:
    decisions = decide(made(6.9, 1, 7, 7.1), Rules(7 * DAY), NOW)
    assert [(decision.name, decision.keep) for decision in decisions] == [
        ("1 days", True),
        ("6.9 days", True),
        ("7 days", True),
        ("7.1 days", False),
    ]
    assert all(decision.reason for decision in decisions)


def test_the_newest_stays_however_old() -> None:
    assert kept(decide(made(800, 900), Rules(7 * DAY), NOW)) == {"800 days"}


def test_without_a_keep_time_all_stay() -> None:
    assert kept(decide(made(1, 9000), Rules(None), NOW)) == {"1 days", "9000 days"}


def test_no_set_no_decision() -> None:
    assert decide([], Rules(7 * DAY), NOW) == []


def test_of_sets_made_at_once_the_last_by_name_counts_as_newest() -> None:
    twins = [SetFacts("a", NOW - 9 * DAY), SetFacts("b", NOW - 9 * DAY)]
    assert kept(decide(twins, Rules(DAY), NOW)) == {"b"}


@given(SETS, KEEP)
def test_every_set_gets_one_decision_newest_first(
    sets: list[SetFacts], keep_time: timedelta | None
) -> None:
    times = {set_.name: set_.made for set_ in sets}
    names = [decision.name for decision in decide(sets, Rules(keep_time), NOW)]
    assert sorted(names) == sorted(times)
    assert [times[name] for name in names] == sorted(times.values(), reverse=True)


@given(SETS, KEEP)
def test_what_goes_is_old_and_not_the_newest(
    sets: list[SetFacts], keep_time: timedelta | None
) -> None:
    newest = max((set_.made for set_ in sets), default=NOW)
    stay = kept(decide(sets, Rules(keep_time), NOW))
    gone = [set_ for set_ in sets if set_.name not in stay]
    assert all(keep_time is not None and NOW - set_.made > keep_time for set_ in gone)
    assert not sets or any(set_.made == newest for set_ in sets if set_.name in stay)
    old = [set_ for set_ in sets if keep_time is not None and NOW - set_.made > keep_time]
    assert len(old) - len(gone) in (0, 1)


@given(SETS, KEEP, KEEP)
def test_a_longer_keep_time_keeps_no_less(
    sets: list[SetFacts], one: timedelta | None, other: timedelta | None
) -> None:
    shorter, longer = sorted((one, other), key=lambda keep: timedelta.max if keep is None else keep)
    assert kept(decide(sets, Rules(shorter), NOW)) <= kept(decide(sets, Rules(longer), NOW))


@given(SETS, KEEP)
def test_the_order_of_the_list_does_not_matter(
    sets: list[SetFacts], keep_time: timedelta | None
) -> None:
    assert decide(sets, Rules(keep_time), NOW) == decide(sets[::-1], Rules(keep_time), NOW)


@given(SETS, KEEP, AGES)
def test_a_newer_set_never_saves_an_old_one(
    sets: list[SetFacts], keep_time: timedelta | None, age: int
) -> None:
    more = [*sets, SetFacts("more", NOW - timedelta(seconds=age))]
    assert kept(decide(more, Rules(keep_time), NOW)) - {"more"} <= kept(
        decide(sets, Rules(keep_time), NOW)
    )


def proven(*days: float) -> list[SetFacts]:
    return [SetFacts(f"{age} days", NOW - age * DAY, proven=True) for age in days]


def test_the_newest_set_whose_rehearsal_passed_stays_too() -> None:
    decisions = decide([*made(10, 20), *proven(30, 40)], Rules(7 * DAY), NOW)
    assert kept(decisions) == {"10 days", "30 days"}
    assert "rehearsal passed" in decisions[2].reason


def test_a_safety_set_that_was_proven_stays() -> None:
    safety = SetFacts("safety", NOW - 20 * DAY, safety=True, proven=True)
    assert kept(decide([*made(10), safety], Rules(7 * DAY), NOW)) == {"10 days", "safety"}


def test_the_newest_set_of_which_no_check_failed_stays() -> None:
    broken = SetFacts("broken", NOW - 8 * DAY, failed=True)
    decisions = decide([broken, *made(10, 20)], Rules(7 * DAY), NOW)
    assert kept(decisions) == {"broken", "10 days"}
    assert "no check failed" in decisions[1].reason


# rules beyond the keep time

PERIODS = {"hourly": 3600, "daily": 86400}
COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
MARKED = st.lists(
    st.tuples(st.integers(0, 900 * 86400), st.booleans(), st.booleans(), st.booleans()),
    max_size=25,
).map(
    lambda rows: [
        SetFacts(
            f"set-{number}",
            NOW - timedelta(seconds=age),
            safety=safety and failed,
            proven=proven and not failed,
            failed=failed and not safety,
        )
        for number, (age, safety, proven, failed) in enumerate(rows)
    ]
)
RULES = st.builds(Rules, KEEP, KEEP, *[st.integers(0, 8)] * len(COUNTS))


def alone(rules: Rules) -> list[Rules]:
    """Each rule by itself."""
    said = [field_.name for field_ in fields(Rules)]
    given_ = [name for name in said if getattr(rules, name) != getattr(Rules(), name)]
    return [replace(Rules(), **{name: getattr(rules, name)}) for name in given_]


@given(MARKED, RULES)
def test_each_rule_alone_is_enough_and_nothing_else_keeps_a_set(
    sets: list[SetFacts], rules: Rules
) -> None:
    every_rule = alone(rules) or [rules]
    wanted = set().union(*(kept(decide(sets, rules_, NOW)) for rules_ in every_rule))
    assert kept(decide(sets, rules, NOW)) == wanted


@given(MARKED, RULES)
def test_what_may_never_go_stays_under_any_rules(sets: list[SetFacts], rules: Rules) -> None:
    stay = kept(decide(sets, rules, NOW))
    regular = [set_ for set_ in sets if not set_.safety]
    good = [set_ for set_ in regular if not set_.failed]
    proven = [set_ for set_ in sets if set_.proven]
    for group in (regular, good, proven):
        assert not group or max(group, key=lambda set_: (set_.made, set_.name)).name in stay


@given(MARKED, RULES)
def test_every_decision_is_explained_and_made_once(sets: list[SetFacts], rules: Rules) -> None:
    decisions = decide(sets, rules, NOW)
    assert sorted(decision.name for decision in decisions) == sorted(set_.name for set_ in sets)
    assert all(decision.reason for decision in decisions)
    assert decide(sets[::-1], rules, NOW) == decisions


@given(MARKED, RULES, st.sampled_from(COUNTS))
def test_a_larger_count_keeps_no_less(sets: list[SetFacts], rules: Rules, count: str) -> None:
    rules = replace(rules, last=rules.last + 1)  # without any rule every set stays
    more = replace(rules, **{count: getattr(rules, count) + 1})
    assert kept(decide(sets, rules, NOW)) <= kept(decide(sets, more, NOW))


@given(MARKED, RULES)
def test_what_a_prune_left_the_next_leaves_too(sets: list[SetFacts], rules: Rules) -> None:
    stay = kept(decide(sets, rules, NOW))
    assert kept(decide([set_ for set_ in sets if set_.name in stay], rules, NOW)) == stay


@given(MARKED.map(lambda sets: [replace(set_, proven=False, failed=False) for set_ in sets]), RULES)
def test_a_prune_each_night_leaves_what_one_prune_at_last_would(
    sets: list[SetFacts], rules: Rules
) -> None:
    left: list[SetFacts] = []
    for backup_set in sorted(sets, key=lambda set_: (set_.made, set_.name)):
        left.append(backup_set)
        stay = kept(decide(left, rules, backup_set.made))
        left = [set_ for set_ in left if set_.name in stay]
    now = max([NOW, *(set_.made for set_ in sets)])
    assert kept(decide(left, rules, now)) == kept(decide(sets, rules, now))


@given(MARKED, st.integers(1, 8), st.sampled_from(sorted(PERIODS)))
def test_of_each_period_that_has_a_set_the_newest_stays(
    sets: list[SetFacts], number: int, rule: str
) -> None:
    """Held against a count by hand."""
    good = [set_ for set_ in sets if not set_.safety and not set_.failed]
    newest = {
        int(backup_set.made.timestamp() // PERIODS[rule]): backup_set.name
        for backup_set in sorted(good, key=lambda set_: (set_.made, set_.name))
    }
    wanted = [name for _, name in sorted(newest.items(), reverse=True)[:number]]
    rules = Rules(hourly=number) if rule == "hourly" else Rules(daily=number)
    found = decide(sets, rules, NOW)
    assert [decision.name for decision in found if f"{rule} " in decision.reason] == wanted


def test_three_years_of_nights() -> None:
    nights = [SetFacts(f"{age:04}", NOW - age * DAY) for age in range(3 * 365)]
    rules = Rules(keep_time=3 * DAY, daily=7, weekly=4, monthly=12, yearly=5)
    decisions = {
        decision.name: decision for decision in decide(nights, rules, NOW) if decision.keep
    }
    # Today is a Sunday, the last day of its week.
    assert list(decisions)[:7] == [f"{age:04}" for age in range(7)]
    assert [name for name, decision in decisions.items() if "weekly" in decision.reason] == [
        f"{age:04}" for age in (0, 7, 14, 21)
    ]
    monthly = [
        NOW - int(name) * DAY
        for name, decision in decisions.items()
        if "monthly" in decision.reason
    ]
    assert [f"{(day + DAY):%d}" for day in monthly[1:]] == ["01"] * 11
    assert [f"{day:%Y}" for day in monthly if day.month == 12] == ["2025"]
    yearly = [name for name, decision in decisions.items() if "yearly" in decision.reason]
    assert [f"{NOW - int(name) * DAY:%m-%d}" for name in yearly] == [
        "11-22",
        "12-31",
        "12-31",
        "12-31",
    ]
    assert decisions["0000"].reason == (
        "the newest set is never removed; younger than the keep time; "
        "daily 1 of 7, the newest of 2026-11-22; weekly 1 of 4, the newest of week 47 of 2026; "
        "monthly 1 of 12, the newest of 2026-11; yearly 1 of 5, the newest of 2026"
    )


def test_a_safety_or_a_broken_set_never_stands_for_a_day() -> None:
    good = SetFacts("good", NOW - 10 * DAY)
    for odd in (
        SetFacts("odd", good.made + timedelta(hours=1), safety=True),
        SetFacts("odd", good.made + timedelta(hours=1), failed=True),
    ):
        found = {
            decision.name: decision
            for decision in decide([*made(0), good, odd], Rules(daily=7), NOW)
        }
        assert found["good"].keep
        assert (found["odd"].keep, found["odd"].reason) == (False, "no rule keeps it")


def test_within_counts_back_from_the_newest_set() -> None:
    """A host that was off for a year keeps its last fortnight."""
    sets = made(365, 370, 379, 380)
    assert kept(decide(sets, Rules(within=14 * DAY), NOW)) == {"365 days", "370 days", "379 days"}


def test_days_are_those_of_the_hosts_clock(clock: Clock) -> None:
    """23:30 and 00:30 in Berlin: one day in UTC, two there; in summer two hours from UTC."""
    clock("Europe/Berlin")
    for day, hour in (("2026-11-20", 22), ("2026-07-20", 21)):
        late = datetime.fromisoformat(f"{day}T{hour}:30:00+00:00")
        sets = [SetFacts("late", late), SetFacts("early", late + timedelta(hours=1))]
        assert kept(decide(sets, Rules(daily=2), NOW)) == {"late", "early"}
        sets = [SetFacts("late", late), SetFacts("earlier", late - timedelta(hours=20))]
        assert kept(decide(sets, Rules(daily=2), NOW)) == {"late"}
    clock("UTC")


@pytest.mark.parametrize(
    ("zone", "weeks", "months"),
    [
        ("UTC", ["01-12", "01-10", "01-03", "12-27"], ["01-12", "12-31"]),
        ("Pacific/Auckland", ["01-12", "01-10", "01-03", "12-27"], ["01-12", "12-31"]),
        # In the evening before.
        ("America/Los_Angeles", ["01-12", "01-11", "01-04", "12-28"], ["01-12", "01-01"]),
    ],
)
def test_the_end_of_a_year_with_53_weeks(
    zone: str, weeks: list[str], months: list[str], clock: Clock
) -> None:
    clock(zone)
    first = datetime(2026, 12, 14, 3, 30, tzinfo=timezone.utc)
    nights = [
        SetFacts(f"{first + number * DAY:%m-%d}", first + number * DAY) for number in range(30)
    ]
    for rules, wanted in ((Rules(weekly=4), weeks), (Rules(monthly=2), months)):
        found = decide(nights, rules, first + 30 * DAY)
        assert [decision.name for decision in found if decision.keep] == wanted
    clock("UTC")


def chain(*days: float) -> list[SetFacts]:
    """Sets that each build on the one before; the oldest first."""
    names = [f"{age} days" for age in days]
    return [
        SetFacts(name, NOW - age * DAY, base=base)
        for name, age, base in zip(names, days, ["", *names])
    ]


def test_what_a_kept_set_builds_on_stays_with_the_reason() -> None:
    decisions = decide([*chain(16, 14, 10, 6, 5), *made(30)], Rules(7 * DAY), NOW)
    assert [(decision.name, decision.keep) for decision in decisions] == [
        ("5 days", True),
        ("6 days", True),
        ("10 days", True),
        ("14 days", True),
        ("16 days", True),
        ("30 days", False),
    ]
    assert decisions[1].reason == "younger than the keep time"
    assert decisions[2].reason == "set 6 days builds on it"
    assert decisions[4].reason == "set 14 days builds on it"


def test_a_chain_goes_when_nothing_of_it_is_young() -> None:
    assert kept(decide([*chain(16, 14, 10), *chain(2, 1)], Rules(7 * DAY), NOW)) == {
        "2 days",
        "1 days",
    }


def test_the_chain_of_a_set_that_never_goes_stays() -> None:
    assert kept(decide(chain(90, 80, 70), Rules(7 * DAY), NOW)) == {"90 days", "80 days", "70 days"}


@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 12)), max_size=12))
def test_no_set_goes_while_one_that_stays_builds_on_it(drawn: list[tuple[bool, int]]) -> None:
    """Whatever the decisions were, and however many build on one; nothing else is changed."""
    before = [Decision(str(number), keep, "why") for number, (keep, _) in enumerate(drawn)]
    bases = {str(number): str(base) for number, (_, base) in enumerate(drawn) if base < number}
    after = with_bases(before, bases)
    stay = kept(after)
    assert [decision.name for decision in after] == [decision.name for decision in before]
    assert all(bases[name] in stay for name in stay if name in bases and bases[name] != "-1")
    needed = {bases[name] for name in stay if name in bases}
    assert stay - kept(before) <= needed
    assert all(
        decision == was
        for decision, was in zip(after, before)
        if was.keep or decision.name not in needed
    )


# sets of the future, sets that look emptied, and runs that would remove too much

MONTH = 30 * DAY


def test_a_set_of_the_future_counts_for_nothing_and_stays() -> None:
    ahead = SetFacts("ahead", NOW + 180 * DAY, proven=True)
    for rules in (Rules(7 * DAY), Rules(last=1), Rules(within=DAY), Rules(daily=1)):
        found = {
            decision.name: decision for decision in decide([ahead, *made(1, 2, 9)], rules, NOW)
        }
        assert found["ahead"].keep and found["ahead"].reason == "its date is in the future"
        assert "never removed" in found["1 days"].reason
        assert not found["9 days"].keep


def test_the_clocks_of_two_hosts_may_differ_by_minutes() -> None:
    near = SetFacts("near", NOW + timedelta(minutes=4))
    assert "the newest set is never removed" in decide([near], Rules(last=1), NOW)[0].reason


def test_the_set_just_made_stays_whatever_its_clock_says() -> None:
    """The clock fell back to 1970: all other sets are of the future, and its own is the oldest."""
    then = datetime(1970, 1, 1, tzinfo=timezone.utc)
    sets = [SetFacts("now", then), *made(1, 2)]
    assert kept(decide(sets, Rules(timedelta(seconds=1)), then, "now")) == {
        "now",
        "1 days",
        "2 days",
    }
    late = [SetFacts("late", NOW - 90 * DAY), *made(1)]
    assert (
        "made in this run"
        in {decision.name: decision.reason for decision in decide(late, Rules(DAY), NOW, "late")}[
            "late"
        ]
    )


def emptied(age: float) -> SetFacts:
    return SetFacts(f"emptied {age}", NOW - age * DAY, proven=True, empty=True, shrunken=True)


def test_nothing_goes_while_the_newest_set_looks_emptied() -> None:
    sets = [emptied(0), emptied(1), *made(9, 10, 11)]
    decisions = decide(sets, Rules(last=1), NOW)
    assert kept(decisions) == {set_.name for set_ in sets}
    assert all("while emptied 0 looks emptied" in decision.reason for decision in decisions)
    assert holding(sets, NOW) == "emptied 0"


@pytest.mark.parametrize("safety", [True, False])
def test_neither_a_failed_nor_a_safety_set_ends_that(safety: bool) -> None:
    newer = SetFacts("newer", NOW - DAY / 2, safety=safety, failed=not safety)
    assert holding([newer, emptied(1), *made(2)], NOW) == "emptied 1"


def test_a_sound_set_after_it_ends_that_and_the_emptied_one_stands_for_no_day() -> None:
    sets = [*made(0), emptied(1), *made(2, 3)]
    assert holding(sets, NOW) == ""
    assert kept(decide(sets, Rules(daily=2), NOW)) == {"0 days", "2 days"}


def test_an_emptied_set_that_passed_its_rehearsal_does_not_take_the_place_of_a_proven_one() -> None:
    sets = [*made(0), emptied(1), *proven(20)]
    decisions = {decision.name: decision for decision in decide(sets, Rules(DAY / 2), NOW)}
    assert decisions["20 days"].keep and "rehearsal passed" in decisions["20 days"].reason
    assert not decisions["emptied 1"].keep


def test_empty_sets_of_a_server_that_nobody_uses_are_pruned_as_any_other() -> None:
    sets = [SetFacts(str(age), NOW - age * DAY, empty=True) for age in range(5)]
    assert kept(decide(sets, Rules(last=2), NOW)) == {"0", "1"}


def would_ask(sets: list[SetFacts], rules: Rules, most: int = 0) -> bool:
    return unusual(sets, decide(sets, rules, NOW), rules, most)


def test_a_clock_that_jumps_is_asked_about() -> None:
    """Six nights, then one two months ahead; and the same with fewer of them."""
    for nights in range(1, 7):
        sets = made(0, *(60 + age for age in range(nights)))
        assert would_ask(sets, Rules(7 * DAY)), nights


def test_what_goes_each_night_is_not_asked_about() -> None:
    assert not would_ask(made(*range(9)), Rules(7 * DAY))
    assert not would_ask(made(0, 1), Rules(last=1))
    assert not would_ask(made(0, 1), Rules(DAY / 2))
    assert not would_ask(made(0, 1, 2, 3), Rules(last=1), most=3)
    assert not would_ask([], Rules(DAY))


def test_rules_that_would_remove_half_at_once_are_asked_about() -> None:
    assert would_ask(made(*range(10)), Rules(last=3))
    assert not would_ask(made(*range(10)), Rules(last=6))


def test_three_that_go_at_once_are_asked_about_and_two_are_not() -> None:
    assert would_ask(made(*range(6)), Rules(last=3))
    assert not would_ask(made(*range(4)), Rules(last=2))


@pytest.mark.parametrize(
    ("keep", "gap", "asked"),
    [
        (1, 3, False),  # three keep times between the last two sets
        (1, 3.5, True),
        (0.5, 2, False),  # two days at least: a night that failed is nothing unusual
        (0.5, 2.5, True),
    ],
)
def test_how_long_without_a_set_is_asked_about(keep: float, gap: float, asked: bool) -> None:
    assert would_ask(made(0, gap), Rules(keep * DAY)) is asked


def test_what_was_just_young_enough_when_the_last_set_was_made_is_asked_about() -> None:
    sets = made(0, 60, 61)
    assert would_ask(sets, Rules(DAY))
    assert not would_ask(made(0, 60, 61.1), Rules(DAY)), "it would have gone before"


def test_a_shrunken_set_displaces_no_fuller_one_though_there_is_something_in_it() -> None:
    shrunken = SetFacts("shrunken", NOW, shrunken=True)
    decisions = {
        decision.name: decision for decision in decide([shrunken, *made(9)], Rules(last=1), NOW)
    }
    assert holding([shrunken, *made(9)], NOW) == "shrunken" and decisions["9 days"].keep
    assert decisions["9 days"].reason.startswith("the newest set that does not look emptied")


def test_a_set_of_which_nothing_is_said_is_not_an_empty_one() -> None:
    decisions = decide([SetFacts("empty", NOW, empty=True), *made(9)], Rules(last=1), NOW)
    assert "last 1 of 1" in {decision.name: decision.reason for decision in decisions}["9 days"]


def test_the_last_ones_are_counted_from_one() -> None:
    reasons = [decision.reason for decision in decide(made(0, 1, 2), Rules(last=2), NOW)]
    assert "last 1 of 2" in reasons[0] and reasons[1] == "last 2 of 2"
    assert reasons[2] == "no rule keeps it"


STATES = st.sampled_from(["sound", "sound", "failed", "proven", "safety", "emptied", "ahead"])
HISTORIES = st.lists(st.tuples(st.integers(0, 400 * 86400), STATES), max_size=25)


@given(HISTORIES, RULES)
def test_the_newest_sound_set_with_anything_in_it_is_never_removed(
    rows: list[tuple[int, str]], rules: Rules
) -> None:
    """Whatever the rules, clocks, emptied sets and rehearsals: of one host and installation."""
    sets = [history(number, age, state) for number, (age, state) in enumerate(rows)]
    stay = kept(decide(sets, rules, NOW))
    sound = [
        set_
        for set_ in sets
        if not (set_.safety or set_.failed or set_.shrunken or set_.empty) and set_.made <= NOW
    ]
    assert not sound or max(sound, key=lambda set_: (set_.made, set_.name)).name in stay
    assert all(set_.name in stay for set_ in sets if set_.made > NOW)
    good = [set_ for set_ in sound if set_.proven]
    assert not good or max(good, key=lambda set_: (set_.made, set_.name)).name in stay


def history(number: int, age: int, state: str) -> SetFacts:
    seconds = timedelta(seconds=age + 400)
    return SetFacts(
        f"{number:02}",
        NOW + seconds if state == "ahead" else NOW - seconds,
        safety=state == "safety",
        proven=state == "proven",
        failed=state == "failed",
        empty=state == "emptied",
        shrunken=state == "emptied",
    )
