"""Which set is restored if none is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup import clock
from gitlab_mm_backup.backup.live import Live
from gitlab_mm_backup.clock import utc
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.restore import choice
from gitlab_mm_backup.restore.choice import Found, Several, Want
from gitlab_mm_backup.store.manifest import Contents, name_for
from gitlab_mm_backup.store.soundness import Flaw, Kind
from tests.unit.helpers.builders import HOST, INSTALLATION, make_manifest

NOW = datetime(2026, 11, 28, 6, 0, tzinfo=timezone.utc)
FULL = Contents(1, 40, 8000, 900, 1 << 30, "2026-11-27T20:00:00Z")
NOTHING = Contents(0, 0, 0, 0, 0, None)
NEW = "b" * 26  # the installation of a Mattermost that was just set up
FORMER, ALPHA = "f0" * 16, "a1" * 16
EMPTIED = Flaw(Kind.EMPTIED, "it looks emptied (posts: 0 of 8000)")
FAILED = Flaw(Kind.FAILED, "it did not pass its rehearsal (rows: 41, not 42)")
FUTURE = Flaw(Kind.FUTURE, "its date is in the future")
FORGED = Flaw(Kind.FORGED, "it is FORGED: its manifest.json is not the one that was signed")
UNPROVEN = Flaw(Kind.UNPROVEN, "its origin is not proven: it is not signed")


def found(
    days: float,
    *flaws: Flaw,
    host: str = HOST.id,
    installation: str = INSTALLATION,
    contents: Contents = FULL,
    name: str = "git",
    purpose: str = "backup",
) -> Found:
    """A set from so many days ago."""
    made = NOW - timedelta(days=days)
    manifest = make_manifest(
        name=name_for(made, "10.11.4", host),
        started=utc(made),
        host=name,
        host_id=host,
        installation=installation,
        contents=contents,
        purpose=purpose,
    )
    return Found(manifest.name, manifest, flaws)


def half(days: float) -> Found:
    name = name_for(NOW - timedelta(days=days), "10.11.4", HOST.id)
    return Found(name, None, [Flaw(Kind.INCOMPLETE, "it is not complete: no manifest.json")])


WANT = Want(HOST, "git", Live(INSTALLATION, FULL))
# A replaced server: a new id, a new Mattermost without data.
REINSTALLED = Want(replace(HOST, installation=""), "git", Live(NEW, NOTHING))


def chosen(sets: Sequence[Found], want: Want = WANT) -> choice.Chosen:
    return choice.choose(sets, want, "here")


def test_the_newest_sound_set_is_meant() -> None:
    sets = [found(2), found(0), found(1), found(-0.5, purpose="safety")]
    assert chosen(sets).name == sets[1].name
    assert not chosen(sets).warnings and not chosen(sets).notes


def test_what_is_newer_and_not_taken_is_told() -> None:
    sets = [found(0, FAILED), half(0.5), found(1, EMPTIED), found(-90, FUTURE), found(2), found(3)]
    made = chosen(sets)
    assert made.name == sets[4].name
    told = "\n".join(made.warnings)
    assert all(sets[number].name in told for number in (0, 1, 3))
    assert "41, not 42" in told and "no manifest.json" in told and "future" in told
    assert any(sets[2].name in note for note in made.notes)
    assert f"Taking {made.name}" in made.notes


def test_an_older_bad_set_is_no_news() -> None:
    assert not chosen([found(0), found(1, FAILED), half(2), found(3, EMPTIED)]).warnings


def test_where_all_failed_the_newest_is_taken_and_that_is_told() -> None:
    made = chosen([found(0, FAILED), found(1, FAILED)])
    assert made.name == found(0).name and "no better set" in made.warnings[0]


def test_a_set_whose_origin_is_proven_comes_before_newer_ones() -> None:
    """Also where it did not pass its rehearsal: anybody can put a set there that does."""
    sets = [found(0, UNPROVEN), found(1, FAILED), found(2)]
    assert chosen(sets).name == sets[2].name
    assert chosen(sets[:2]).name == sets[1].name
    alone = chosen(sets[:1])
    assert not alone.warnings and f"{sets[0].name}: {UNPROVEN.words}" in alone.notes


def test_a_forged_set_is_not_even_looked_at_by_whoever_only_looks() -> None:
    sets = [found(0, FORGED), found(1)]
    assert chosen(sets, replace(WANT, sound=False)).name == sets[1].name


@pytest.mark.parametrize("flaw", [EMPTIED, FUTURE, FORGED])
def test_what_looks_emptied_is_of_the_future_or_forged_is_never_meant(flaw: Flaw) -> None:
    with pytest.raises(Failure, match="no sound set") as caught:
        chosen([found(0, flaw), found(1, flaw)])
    assert flaw.words in caught.value.detail


def test_nothing_is_nothing() -> None:
    with pytest.raises(Failure, match="There is no set in here"):
        chosen([])
    with pytest.raises(Failure, match="from before 2026-11-27"):
        chosen([found(0)], replace(WANT, before=NOW - timedelta(days=1)))


def test_the_newest_before_a_moment() -> None:
    sets = [found(0), found(1), found(2)]
    want = replace(WANT, before=NOW - timedelta(hours=12))
    assert chosen(sets, want).name == sets[1].name


def test_after_a_reinstall_it_is_the_set_of_the_host_that_was() -> None:
    """Also where the nights since have made sets of the empty Mattermost, which passed rehearsals."""
    nights = [found(day, EMPTIED, installation=NEW, contents=NOTHING) for day in (0, 1, 2)]
    before = [found(day, host=FORMER) for day in (3, 4)]
    made = chosen([*nights, *before], REINSTALLED)
    assert made.name == before[0].name and not made.warnings
    assert any("8 000 posts, 40 users" in note for note in made.notes), made.notes
    assert all(any(night.name in note for note in made.notes) for night in nights)


def test_an_empty_set_without_a_mark_does_not_count_beside_a_fuller_one() -> None:
    """At a place where the fuller one lay unseen: a remote, another disk."""
    sets = [found(0, installation=NEW, contents=NOTHING), found(3, host=FORMER)]
    assert chosen(sets, REINSTALLED).name == sets[1].name


def test_an_unused_server_takes_its_own_empty_set_where_there_is_no_other() -> None:
    sets = [found(0, installation=NEW, contents=NOTHING)]
    assert chosen(sets, REINSTALLED).name == sets[0].name


def test_several_installations_on_a_new_host_are_for_the_operator_to_tell() -> None:
    sets = [found(0, host=ALPHA, installation="x" * 26, name="alpha"), found(1, host=FORMER)]
    with pytest.raises(Several) as caught:
        chosen(sets, REINSTALLED)
    assert caught.value.exit_code is ExitCode.USAGE and "--installation" in caught.value.hint
    assert len(caught.value.choices) == 2
    for wanted in ("alpha", "8 000 posts", "40 users", "2026-11-27T20:00:00Z", "xxxxxxxx"):
        assert wanted in caught.value.detail
    named = replace(REINSTALLED, installation=INSTALLATION[:6])
    assert chosen(sets, named).name == sets[1].name
    assert chosen(sets, replace(REINSTALLED, of_host="alpha")).name == sets[0].name
    with pytest.raises(Failure, match="There is no set"):
        chosen(sets, replace(REINSTALLED, installation="nobody"))


def test_the_installation_that_this_host_had_is_meant_before_others() -> None:
    """GitLab was reinstalled, and our own state is still there."""
    sets = [found(0, host=ALPHA, installation="x" * 26), found(1)]
    want = replace(REINSTALLED, host=HOST)
    made = chosen(sets, want)
    assert made.name == sets[1].name and any("There is also" in note for note in made.notes)


def test_what_people_use_now_comes_before_what_was() -> None:
    used = Live(NEW, Contents(1, 3, 20, 0, 0, None))
    sets = [found(0, installation=NEW), found(1)]
    assert chosen(sets, replace(WANT, live=used)).name == sets[0].name


def test_two_hosts_of_one_installation() -> None:
    """A copy for trials beside the original: each has its own; a third one asks, or goes by name."""
    production = found(1, host=FORMER, name="git")
    trials = found(0, host=ALPHA, name="trials")
    assert chosen([trials, production, found(2)]).name == found(2).name
    assert (
        chosen([trials, production], replace(REINSTALLED, host_name="git")).name == production.name
    )
    with pytest.raises(Several, match="several hosts") as caught:
        chosen([trials, production], replace(REINSTALLED, host_name="third"))
    assert "--host" in caught.value.hint
    host = replace(HOST, took_over=(FORMER,))
    assert chosen([trials, production], replace(WANT, host=host)).name == production.name


def test_old_sets_are_of_what_their_host_had() -> None:
    old = found(0, host="", installation="", contents=FULL, name="git.example.org")
    mine = replace(HOST, took_over=("name:git.example.org",))
    assert chosen([old, found(1)], replace(WANT, host=mine)).name == old.name
    assert chosen([old, found(1)]).name == found(1).name
    assert chosen([old], REINSTALLED).name == old.name


def test_whoever_only_looks_means_the_newest_sound_or_not() -> None:
    want = replace(WANT, sound=False)
    for flaw in (FAILED, EMPTIED):
        assert chosen([found(0, flaw), found(1)], want).name == found(0).name
    made = chosen([found(-9, FUTURE), half(0), found(1)], want)
    assert made.name == found(1).name


KINDS = st.lists(st.sampled_from([EMPTIED, FAILED, FUTURE]), max_size=2)


@given(st.lists(st.tuples(st.integers(0, 90), KINDS, st.booleans()), max_size=9))
def test_of_one_installation_none_better_is_passed_over(
    rows: list[tuple[int, list[Flaw], bool]],
) -> None:
    sets = [
        found(day + number / 100, *flaws, contents=NOTHING if nobody else FULL)
        for number, (day, flaws, nobody) in enumerate(rows)
    ]
    sound = [set_ for set_ in sets if not set_.flaws and set_.manifest and not set_.manifest.empty]
    try:
        name = chosen(sets).name
    except Failure:
        assert not sound
        return
    if sound:
        assert name == max(set_.name for set_ in sound)
    picked = next(set_ for set_ in sets if set_.name == name)
    assert not picked.has(Kind.EMPTIED, Kind.FUTURE)


def test_the_clock_decides_what_is_ahead() -> None:
    assert clock.ahead(NOW + timedelta(minutes=6), NOW)
    assert not clock.ahead(NOW + timedelta(minutes=4), NOW) and not clock.ahead(NOW, NOW)
