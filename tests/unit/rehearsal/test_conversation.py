"""Conversations of a set: threads, days, reactions and whose uploads."""

from __future__ import annotations

from typing import Any

import pytest

from gitlab_mm_backup.rehearsal import conversation, dump_rows
from gitlab_mm_backup.rehearsal.directory import Channel, Team, User
from gitlab_mm_backup.rehearsal.search import Message, SearchResult, Upload

HOUR = 3_600_000
NOON = 1_700_000_000_000


def message(
    id_: str, hours: float = 0, root: str = "", channel: str = "c1", **more: Any
) -> Message:
    fields = {"deleted": False, "replaced": False, **more}
    return Message(
        id=id_,
        text=f"text {id_}",
        channel=channel,
        user="u1",
        made=NOON + int(hours * HOUR),
        root=root,
        **fields,
    )


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> SearchResult:
    made = SearchResult()
    made.directory.teams["t1"] = Team("t1", "blue", "Blue", False)
    made.directory.channels["c1"] = Channel("c1", "t1", "O", "town", "Town", False)
    made.directory.channels["c2"] = Channel("c2", "t1", "O", "alpha", "Alpha", False)
    made.directory.users["u1"] = User("u1", "ada", False)
    rows = [
        ("u1", "p1", "tada", "7", "0"),
        ("gone", "p1", "tada", None, None),
        ("u1", "p1", "no", "7", "5"),
        ("u1", "p9", "x", "7", "0"),
    ]

    def read(set_: object, tables: list[dump_rows.Table]) -> None:
        assert [table.name for table in tables] == ["reactions"]
        for row in rows:
            tables[0].take(row)

    monkeypatch.setattr(dump_rows, "read", read)
    return made


def test_replies_stand_below_their_root_whatever_came_between(found: SearchResult) -> None:
    found.messages = [
        message("p1"),
        message("p2", 0.1),
        message("p3", 0.2, "p1"),
        message("p4", 0.3, "gone"),
    ]
    (made,) = conversation.of(None, found)  # type: ignore[arg-type]  # its dump is not read
    (day, *later) = made.days
    assert not later and made.posts == 4
    assert [post.message.id for post in day.posts] == ["p1", "p2", "p4"]
    assert [reply.message.id for reply in day.posts[0].replies] == ["p3"]
    assert [post.orphan for post in day.posts] == [False, False, True]


def test_each_channel_and_each_day_stands_by_itself(found: SearchResult) -> None:
    found.messages = [message("p1"), message("p2", 30), message("p3", 31, channel="c2")]
    first, second = conversation.of(None, found)  # type: ignore[arg-type]
    assert (first.channel, second.channel, second.title) == ("blue/alpha", "blue/town", "Town")
    assert [len(day.posts) for day in second.days] == [1, 1]


def test_reactions_and_uploads_are_those_of_the_message(found: SearchResult) -> None:
    found.messages = [message("p1"), message("p2", 1, replaced=True, deleted=True)]
    found.uploads = [
        Upload("f1", "a.txt", "x/a.txt", "c1", "u1", "p1", NOON, 3, False),
        Upload("f2", "b.txt", "x/b.txt", "c1", "u1", "", NOON, 3, False),
        Upload("f3", "c.txt", "x/c.txt", "c1", "u1", "p1", NOON, 3, True),
    ]
    (made,) = conversation.of(None, found)  # type: ignore[arg-type]
    (post,) = made.days[0].posts
    assert post.names_by_emoji == {"tada": ["ada", "gone"]}
    assert [reaction.made for reaction in post.reactions] == [7, 0]
    assert [upload.id for upload in post.uploads] == ["f1"]
    assert conversation.avatars([made]) == {"users/u1/profile.png": "u1"}


def test_a_date_that_no_clock_has(found: SearchResult) -> None:
    found.messages = [message("p1", 1e12)]
    (made,) = conversation.of(None, found)  # type: ignore[arg-type]
    assert made.days[0].date == "unknown"


@pytest.mark.parametrize(
    ("picture", "begins"),
    [
        (b"\x89PNG\r\n\x1a\nrest", "data:image/png;base64,iVBORw0KGgpyZXN0"),
        (b"\xff\xd8\xffrest", "data:image/jpeg;base64,"),
        (b"<svg onload=x>", ""),
    ],
)
def test_only_pictures_go_into_a_page_as_such(picture: bytes, begins: str) -> None:
    made = conversation.as_data(picture)
    assert made.startswith(begins) and bool(made) is bool(begins)
