"""Teams, channels and users of a set by their names."""

from __future__ import annotations

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.rehearsal.directory import Directory

TEAMS = [("t1", "blue", "Blue", "0"), ("t2", "red", "Red", "0")]
CHANNELS = [
    ("c1", "t1", "O", "town-square", "Town Square", "0"),
    ("c2", "t2", "O", "town-square", "Town Square", "0"),
    ("c3", "t1", "P", "plans", "Plans", "0"),
    ("c4", "t1", "O", "old", "Old", "1700000000000"),
    ("c5", "t1", "O", "old", "Old", "0"),
    ("d1", "", "D", "u2__u1", "", "0"),
    ("d2", "", "D", "u1__u1", "", "0"),
    ("d3", "", "D", "u1__gone", "", "0"),
    ("g1", "", "G", "f00", "ada, bob, eve", "0"),
]
USERS = [("u1", "ada", "0"), ("u2", "bob", "0"), ("u3", "Bob", "1700000000000")]


@pytest.fixture
def directory() -> Directory:
    made = Directory()
    given = {"teams": TEAMS, "channels": CHANNELS, "users": USERS, "bots": [("b1",)]}
    for table in made.tables():
        for row in given[table.name]:  # type: ignore[attr-defined]
            table.take(row)
    return made


@pytest.mark.parametrize(
    ("wanted", "id_"),
    [
        ("blue/town-square", "c1"),
        ("RED/Town-Square", "c2"),
        ("plans", "c3"),
        ("blue/old", "c5"),  # the other one is deleted
        ("c4", "c4"),
        ("@bob,@ada", "d1"),
        ("@ada", "d2"),
        ("@eve, @ada, @bob", "g1"),
    ],
)
def test_a_channel_is_found_by_its_name_or_id(directory: Directory, wanted: str, id_: str) -> None:
    assert directory.channel(wanted).id == id_


def test_a_name_that_two_teams_have_is_refused_with_both(directory: Directory) -> None:
    with pytest.raises(Failure, match="several") as failure:
        directory.channel("town-square")
    assert "blue/town-square (id c1); red/town-square (id c2)" in failure.value.detail


@pytest.mark.parametrize("wanted", ["blue/none", "@ada,@eve", "", "u2__u1"])
def test_no_such_channel(directory: Directory, wanted: str) -> None:
    with pytest.raises(Failure, match="has no channel"):
        directory.channel(wanted)


def test_names_are_shown_as_people_know_them(directory: Directory) -> None:
    names = {id_: directory.name_of_channel(id_) for id_ in ("c1", "d1", "d2", "d3", "g1", "none")}
    assert names == {
        "c1": "blue/town-square",
        "d1": "@ada,@bob",
        "d2": "@ada",
        "d3": "@ada,@gone",
        "g1": "@ada,@bob,@eve",
        "none": "none",
    }


def test_users_and_teams(directory: Directory) -> None:
    assert directory.user("@ada").id == "u1"
    assert directory.user("bob").id == "u2"
    assert directory.user("u3").deleted
    assert directory.team("RED").id == "t2"
    with pytest.raises(Failure, match="has no user"):
        directory.user("stranger")
