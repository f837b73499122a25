"""Whose sets a place loses: this host's alone, of the installation that it has."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup import clock
from gitlab_mm_backup.backup.baseline import shrinkage
from gitlab_mm_backup.clock import utc
from gitlab_mm_backup.config.retention import SetFacts
from gitlab_mm_backup.config.settings import Rules
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.store import prune, soundness
from gitlab_mm_backup.store.inventory import Lineage
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.manifest import Contents, Manifest, name_for
from gitlab_mm_backup.store.prune import Member, Owner
from gitlab_mm_backup.store.sets import BackupSet
from tests.unit.helpers.builders import HOST, INSTALLATION, OWNER, make_manifest, make_set

NOW = datetime(2026, 11, 28, 6, 0, tzinfo=timezone.utc)
ALPHA, FORMER, EMPTY = "a1" * 16, "f0" * 16, "b" * 26
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def a_set(folder: Path, days: float, **changes: object) -> BackupSet:
    made = NOW - days * DAY
    host = str(changes.get("host_id", HOST.id))

    def change(manifest: Manifest) -> Manifest:
        return replace(manifest, started=utc(made), **changes)  # type: ignore[arg-type]

    return make_set(folder, name_for(made, "10.11.4", host), change=change)


def names(store: LocalStore) -> set[str]:
    return {set_.name for set_ in store.sets()}


def test_only_sets_of_this_host_and_installation_go(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    own = [a_set(tmp_path, day) for day in range(3)]
    others = [
        a_set(tmp_path, 10, host_id=ALPHA),
        a_set(tmp_path, 11, host_id=FORMER),
        a_set(tmp_path, 12, installation=EMPTY),
        a_set(tmp_path, 13, host_id="", installation="", contents=None),
    ]
    done = prune.prune(store, Rules(last=1), OWNER)
    assert set(done.removed) == {member.name for member in own[1:]} and not done.problems
    assert names(store) == {own[0].name, *(member.name for member in others)}
    reasons = {decision.name: decision.reason for decision in done.decisions}
    assert ALPHA in reasons[others[0].name] and "its own host removes it" in reasons[others[0].name]
    assert "another installation" in reasons[others[2].name]
    assert "no id" in reasons[others[3].name]


def test_what_was_taken_over_goes_as_its_own(tmp_path: Path) -> None:
    for day in range(2):
        a_set(tmp_path, day + 5, host_id=FORMER)
    newest = a_set(tmp_path, 0)
    owner = Owner(replace(HOST, took_over=(FORMER,)), INSTALLATION)
    prune.prune(LocalStore(tmp_path), Rules(last=1), owner, agreed=True)
    assert names(LocalStore(tmp_path)) == {newest.name}


def test_old_sets_without_ids_go_as_those_of_their_host(tmp_path: Path) -> None:
    old = {"host_id": "", "installation": "", "contents": None, "host": "git.example.org"}
    for day in range(2):
        a_set(tmp_path, day + 5, **old)
    newest = a_set(tmp_path, 0)
    owner = Owner(replace(HOST, took_over=("name:git.example.org",)), INSTALLATION)
    prune.prune(LocalStore(tmp_path), Rules(last=1), owner, agreed=True)
    assert names(LocalStore(tmp_path)) == {newest.name}


def test_whose_installation_is_not_known_removes_nothing(tmp_path: Path) -> None:
    for day in range(4):
        a_set(tmp_path, day)
    assert prune.prune(LocalStore(tmp_path), Rules(last=1), Owner(HOST, "")).removed == []


def test_the_sets_of_another_host_go_on_request_by_the_same_rules(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    theirs = [a_set(tmp_path, day, host_id=ALPHA, host="alpha") for day in range(3)]
    elsewhere = [a_set(tmp_path, day + 0.5, host_id=ALPHA, installation=EMPTY) for day in range(2)]
    own = a_set(tmp_path, 50)
    for wanted in ("alpha", ALPHA, ALPHA[:8]):
        assert {owner.host.id for owner in prune.of_host(store, wanted, HOST)} == {ALPHA}
    owners = prune.of_host(store, ALPHA, HOST)
    assert [owner.installation for owner in owners] == sorted([EMPTY, INSTALLATION])
    for owner in owners:
        prune.prune(store, Rules(last=1), owner, agreed=True)
    assert names(store) == {theirs[0].name, elsewhere[0].name, own.name}


@pytest.mark.parametrize("wanted", ["nobody", "a1", ""])
def test_a_host_without_sets_here(tmp_path: Path, wanted: str) -> None:
    a_set(tmp_path, 0, host_id=ALPHA, host="alpha")
    with pytest.raises(Failure, match="No host") as caught:
        prune.of_host(LocalStore(tmp_path), wanted, HOST)
    assert caught.value.exit_code is ExitCode.USAGE and ALPHA in caught.value.detail


def test_a_name_that_two_hosts_have_is_no_name(tmp_path: Path) -> None:
    a_set(tmp_path, 0, host_id=ALPHA, host="git")
    a_set(tmp_path, 1, host_id=FORMER, host="git")
    with pytest.raises(Failure, match="More than one host"):
        prune.of_host(LocalStore(tmp_path), "git", HOST)


# sets that look emptied

LOST = {"shrunken": ("posts: 0 of 8000",), "fuller": "1795310000_2026_11_22_10.11.4"}


def test_nothing_goes_until_an_emptied_set_is_accepted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    emptied = a_set(tmp_path, 0, **LOST)
    for day in (1, 2):
        a_set(tmp_path, day)
    done = prune.prune(store, Rules(last=1), OWNER)
    assert done.removed == [] and len(names(store)) == 3
    assert f"gitlab-mm prune --accept {emptied.name}" in done.problems[0]
    assert prune.plan(store, Rules(last=1), OWNER).holding == emptied.name
    assert prune.prune(store, Rules(last=1), OWNER, agreed=True).removed == []
    prune.accept(emptied)
    assert soundness.accepted_names() == {emptied.name}
    # What was fuller goes by the rules now, but for the newest set that holds anything.
    assert len(prune.prune(store, Rules(last=1), OWNER).removed) == 2
    assert names(store) == {emptied.name}


def test_only_a_set_that_looks_emptied_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="does not look emptied"):
        prune.accept(a_set(tmp_path, 0))


# runs that would remove too much


def test_a_run_that_would_remove_too_much_asks_until_somebody_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six nights and a clock two months ahead; then the clock goes on from there, night by night."""
    store, rules = LocalStore(tmp_path), Rules(7 * DAY)
    nights = [a_set(tmp_path, day) for day in range(6)]
    kept = {night.name for night in nights}
    for night in range(60, 80):
        monkeypatch.setattr(clock, "now", lambda night=night: NOW + night * DAY)
        made = a_set(tmp_path, -night)
        done = prune.prune(store, rules, OWNER, made.name)
        assert kept <= names(store), night
        assert "gitlab-mm prune --yes" in done.problems[0], night
    assert len(names(store)) == 6 + 8, "what is not asked about goes as ever"
    done = prune.prune(store, rules, OWNER, agreed=True)
    assert set(done.removed) == kept and not done.problems
    assert prune.past_of(prune.STORE).asked == ()


def test_what_went_before_need_not_be_asked_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for day in range(9):
        a_set(tmp_path, day)
    assert len(prune.prune(store, Rules(last=5), OWNER).removed) == 4  # less than half
    for day in range(20, 23):
        a_set(tmp_path, day)
    assert len(prune.prune(store, Rules(last=5), OWNER).removed) == 3
    for day in range(30, 36):
        a_set(tmp_path, day)
    assert prune.prune(store, Rules(last=5), OWNER).removed == []


def test_each_place_is_asked_about_by_itself() -> None:
    prune.note_question("nas", ["x"])
    prune.note_removed("the store", 7)
    assert prune.past_of("nas").asked == ("x",) and prune.past_of("nas").most == 0
    assert prune.past_of("the store").most == 7 and prune.past_of("other") == prune.Past()
    prune.note_removed("nas", 9, agreed=True)
    assert prune.past_of("nas") == prune.Past(2, ())


@pytest.mark.parametrize("content", [b"", b"[]", b'{"nas": 5}', b'{"nas": {"most": -1}}', b"\xff"])
def test_notes_that_are_not_ours_say_nothing(content: bytes) -> None:
    for file in (prune.PAST_FILE, soundness.ACCEPTED_FILE):
        file.write_bytes(content)
    assert prune.past_of("nas") == prune.Past()
    assert soundness.accepted_names() == frozenset()


# several hosts and installations

LINEAGES = [
    Lineage(installation, host)
    for installation in (INSTALLATION, EMPTY, "")
    for host in (HOST.id, FORMER, ALPHA, "name:git.example.org")
]
STATES = st.sampled_from(
    ["sound", "sound", "failed", "proven", "safety", "emptied", "empty", "ahead"]
)
MEMBERS = st.lists(st.tuples(st.integers(1, 400), STATES, st.sampled_from(LINEAGES)), max_size=24)
SOME_RULES = st.builds(
    Rules,
    st.one_of(st.none(), st.integers(0, 60).map(lambda days: days * DAY)),
    st.one_of(st.none(), st.integers(0, 60).map(lambda days: days * DAY)),
    *[st.integers(0, 4)] * 6,
)
OWNERS = st.sampled_from(
    [
        OWNER,
        Owner(HOST, EMPTY),
        Owner(HOST, ""),
        Owner(replace(HOST, took_over=(FORMER,)), INSTALLATION),
        Owner(replace(HOST, took_over=("name:git.example.org",)), EMPTY),
        Owner(replace(HOST, original=FORMER), INSTALLATION),
    ]
)


def member(number: int, days: int, state: str, lineage: Lineage) -> Member:
    made = NOW + (days if state == "ahead" else -days) * DAY + timedelta(seconds=number)
    kept = SetFacts(
        f"{number:02}",
        made,
        safety=state == "safety",
        proven=state == "proven",
        failed=state == "failed",
        empty=state in ("emptied", "empty"),
        shrunken=state == "emptied",
    )
    return Member(kept, lineage)


def is_sound(kept: SetFacts) -> bool:
    flawed = kept.safety or kept.failed or kept.shrunken or kept.empty
    return not flawed and kept.made <= NOW


@given(MEMBERS, SOME_RULES, OWNERS, st.booleans())
def test_the_newest_sound_set_of_every_installation_and_host_stays(
    rows: list[tuple[int, str, Lineage]], rules: Rules, owner: Owner, agreed: bool
) -> None:
    members = [member(number, *row) for number, row in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: NOW)
        patch.setattr(prune, "past_of", lambda place: prune.Past())
        planned = prune.decide("x", members, rules, owner, agreed=agreed)
    stay = {decision.name for decision in planned.decisions if decision.keep}
    assert [decision.name for decision in planned.decisions] == [
        candidate.kept.name
        for candidate in sorted(
            members, key=lambda candidate: (candidate.kept.made, candidate.kept.name), reverse=True
        )
    ]
    for candidate in members:
        if not owner.host.owns(candidate.lineage.host):
            assert candidate.kept.name in stay, "of another host"
        if candidate.lineage.installation not in (owner.installation, ""):
            assert candidate.kept.name in stay, "of another installation"
        if candidate.kept.made > NOW:
            assert candidate.kept.name in stay, "of the future"
    for lineage in LINEAGES:
        sound = [
            candidate.kept
            for candidate in members
            if candidate.lineage == lineage and is_sound(candidate.kept)
        ]
        if owner.may_remove(lineage):  # those count together
            continue
        assert all(candidate.name in stay for candidate in sound)
    ours = [
        candidate.kept
        for candidate in members
        if owner.may_remove(candidate.lineage) and is_sound(candidate.kept)
    ]
    assert not ours or max(ours, key=lambda set_: (set_.made, set_.name)).name in stay


# what collapsed

FULL = Contents(2, 40, 8000, 900, 1 << 30, None)


def lost(percent: int = 50, **changes: int) -> list[str]:
    new = make_manifest(contents=Contents(**{**asdict(FULL), **changes}))
    return shrinkage(new, make_manifest(contents=FULL), percent)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"posts": 4001}, []),
        ({"posts": 4000}, ["posts: 4000 of 8000"]),
        ({"posts": 0, "users": 0}, ["users: 0 of 40", "posts: 0 of 8000"]),
        ({"teams": 1}, []),  # half of two is no news, none of two is
        ({"teams": 0}, ["teams: 0 of 2"]),
        ({"upload_bytes": 1 << 20}, ["bytes of uploads: 1.0 MiB of 1.0 GiB"]),
        ({"posts": 90000}, []),
    ],
)
def test_what_collapsed_is_named(changes: dict[str, int], told: list[str]) -> None:
    assert lost(**changes) == told


def test_the_share_is_a_setting() -> None:
    assert lost(10, posts=801) == [] and lost(10, posts=800) != []
    assert lost(0, posts=1) == [] and lost(0, posts=0) != []
    assert lost(100, posts=8000) != []


def test_an_old_set_is_compared_by_its_rows() -> None:
    """Rows count what people deleted too; so they are held against rows."""
    rows = {"public.posts": 9000, "public.users": 41, "public.bots": 1, "public.teams": 2}
    database = replace(make_manifest().database, rows=rows)
    old = make_manifest(contents=None, database=database)
    assert shrinkage(make_manifest(contents=FULL, database=database), old, 50) == []
    fewer = replace(database, rows={**rows, "public.posts": 20})
    assert shrinkage(make_manifest(contents=FULL, database=fewer), old, 50) == ["posts: 20 of 9000"]


def test_tables_that_are_not_mattermosts_collapse_to_nothing() -> None:
    assert shrinkage(make_manifest(contents=None), make_manifest(contents=FULL), 50) == []


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 100))
def test_fewer_is_never_less_told(before: int, now: int, percent: int) -> None:
    then = make_manifest(contents=replace(FULL, posts=before))
    this = make_manifest(contents=replace(FULL, posts=now))
    less = make_manifest(contents=replace(FULL, posts=now // 2))
    if shrinkage(this, then, percent):
        assert shrinkage(less, then, percent)
