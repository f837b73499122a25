"""Which sets are kept."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.retention import Decision, Kept, decide

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)
AGES = st.integers(-3 * 86400, 60 * 86400)  # seconds; a clock that was wrong makes sets of tomorrow
SETS = st.lists(AGES, max_size=12).map(
    lambda ages: [
        Kept(f"set-{number}", NOW - timedelta(seconds=age)) for number, age in enumerate(ages)
    ]
)
KEEP = st.one_of(st.none(), st.integers(0, 60 * 86400).map(lambda s: timedelta(seconds=s)))


def made(*days: float) -> list[Kept]:
    return [Kept(f"{age} days", NOW - age * DAY) for age in days]


def kept(decisions: list[Decision]) -> set[str]:
    return {one.name for one in decisions if one.keep}


def test_sets_up_to_the_keep_time_stay() -> None:
    decisions = decide(made(6.9, 1, 7, 7.1), 7 * DAY, NOW)
    assert [(one.name, one.keep) for one in decisions] == [
        ("1 days", True),
        ("6.9 days", True),
        ("7 days", True),
        ("7.1 days", False),
    ]
    assert all(one.reason for one in decisions)


def test_the_newest_stays_however_old() -> None:
    assert kept(decide(made(800, 900), 7 * DAY, NOW)) == {"800 days"}


def test_without_a_keep_time_all_stay() -> None:
    assert kept(decide(made(1, 9000), None, NOW)) == {"1 days", "9000 days"}


def test_no_set_no_decision() -> None:
    assert decide([], 7 * DAY, NOW) == []


def test_of_sets_made_at_once_the_last_by_name_counts_as_newest() -> None:
    twins = [Kept("a", NOW - 9 * DAY), Kept("b", NOW - 9 * DAY)]
    assert kept(decide(twins, DAY, NOW)) == {"b"}


@given(SETS, KEEP)
def test_every_set_gets_one_decision_newest_first(
    sets: list[Kept], keep_time: timedelta | None
) -> None:
    times = {one.name: one.made for one in sets}
    names = [one.name for one in decide(sets, keep_time, NOW)]
    assert sorted(names) == sorted(times)
    assert [times[name] for name in names] == sorted(times.values(), reverse=True)


@given(SETS, KEEP)
def test_what_goes_is_old_and_not_the_newest(sets: list[Kept], keep_time: timedelta | None) -> None:
    newest = max((one.made for one in sets), default=NOW)
    stay = kept(decide(sets, keep_time, NOW))
    gone = [one for one in sets if one.name not in stay]
    assert all(keep_time is not None and NOW - one.made > keep_time for one in gone)
    assert not sets or any(one.made == newest for one in sets if one.name in stay)
    old = [one for one in sets if keep_time is not None and NOW - one.made > keep_time]
    assert len(old) - len(gone) in (0, 1)


@given(SETS, KEEP, KEEP)
def test_a_longer_keep_time_keeps_no_less(
    sets: list[Kept], one: timedelta | None, other: timedelta | None
) -> None:
    shorter, longer = sorted((one, other), key=lambda keep: timedelta.max if keep is None else keep)
    assert kept(decide(sets, shorter, NOW)) <= kept(decide(sets, longer, NOW))


@given(SETS, KEEP)
def test_the_order_of_the_list_does_not_matter(
    sets: list[Kept], keep_time: timedelta | None
) -> None:
    assert decide(sets, keep_time, NOW) == decide(sets[::-1], keep_time, NOW)


@given(SETS, KEEP, AGES)
def test_a_newer_set_never_saves_an_old_one(
    sets: list[Kept], keep_time: timedelta | None, age: int
) -> None:
    more = [*sets, Kept("more", NOW - timedelta(seconds=age))]
    assert kept(decide(more, keep_time, NOW)) - {"more"} <= kept(decide(sets, keep_time, NOW))


def proven(*days: float) -> list[Kept]:
    return [Kept(f"{age} days", NOW - age * DAY, proven=True) for age in days]


def test_the_newest_set_whose_rehearsal_passed_stays_too() -> None:
    decisions = decide([*made(10, 20), *proven(30, 40)], 7 * DAY, NOW)
    assert kept(decisions) == {"10 days", "30 days"}
    assert "rehearsal passed" in decisions[2].reason


def test_a_safety_set_that_was_proven_stays() -> None:
    safety = Kept("safety", NOW - 20 * DAY, safety=True, proven=True)
    assert kept(decide([*made(10), safety], 7 * DAY, NOW)) == {"10 days", "safety"}
