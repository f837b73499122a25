"""Conversations of a set: threads, days, reactions and whose uploads."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.rehearsal import conversation, dump_rows
from gitlab_mm_backup.rehearsal.conversation import Conversation, Post
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


Keep = Callable[..., list[Conversation]]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Keep]:
    """Keeps messages and uploads; gives their conversations."""
    found = SearchResult()
    found.directory.teams["t1"] = Team("t1", "blue", "Blue", False)
    found.directory.channels["c1"] = Channel("c1", "t1", "O", "town", "Town", False)
    found.directory.channels["c2"] = Channel("c2", "t1", "O", "alpha", "Alpha", False)
    found.directory.users["u1"] = User("u1", "ada", False)
    rows = [
        ("p1", "u1", "tada", "7", "0"),
        ("p1", "gone", "tada", None, None),
        ("p1", "u1", "no", "7", "5"),
        ("p9", "u1", "x", "7", "0"),
    ]

    def read(set_: object, tables: list[dump_rows.Table]) -> None:
        assert [table.name for table in tables] == ["reactions"]
        for row in rows:
            tables[0].take(row)

    monkeypatch.setattr(dump_rows, "read", read)
    with ExitStack() as opened:

        def keep(
            *messages: Message, uploads: Sequence[Upload] = (), deleted: bool = False
        ) -> list[Conversation]:
            place = opened.enter_context(conversation.kept(tmp_path / "scratch", deleted=deleted))
            for message in messages:
                place.add(message, ("5", "t", '{"a": 1}'))
            found.uploads = list(uploads)
            place.complete(None, found)  # type: ignore[arg-type]  # its dump is not read
            assert list((tmp_path / "scratch").iterdir()) == [], "nothing is left after kill -9"
            return place.conversations()

        yield keep


def ids(posts: Iterable[Post]) -> list[str]:
    return [post.message.id for post in posts]


def test_replies_stand_below_their_root_whatever_came_between(kept: Keep) -> None:
    (made,) = kept(
        message("p4", 0.3, "gone"),
        message("p3", 0.2, "p1"),
        message("p2", 0.1),
        message("p1"),
        message("p0", 0.05, "p1"),
    )
    for _ in range(2):  # it is read as often as it is wanted
        day = next(iter(made.days))
        posts = list(day.posts)
        assert ids(posts) == ["p1", "p2", "p4"] and made.posts == 5
        assert ids(posts[0].replies) == ["p0", "p3"]
        assert [bool(post.replies) for post in posts] == [True, False, False]
        assert [post.orphan for post in posts] == [False, False, True]


def test_no_message_is_lost_where_rows_are_odd(kept: Keep) -> None:
    """A reply to a reply, to itself, in a circle, and to a message of another channel."""
    found = kept(
        message("p1"),
        message("p2", 0.1, "p1"),
        message("p3", 0.2, "p2"),
        message("p4", 0.3, "p4"),
        message("p5", 0.4, "p6"),
        message("p6", 0.5, "p5"),
        message("p7", 0.6, "p1", channel="c2"),
        message("\udcff", 0.7, kind="\udcfe"),
        message("", 0.8),
    )
    said = []
    for made in found:
        for post in made.threads:
            said += [post.message.id, *ids(post.replies)]
    assert sorted(said) == sorted(["p1", "p2", "p3", "p4", "p5", "p6", "p7", "\udcff", ""])
    assert [made.posts for made in found] == [1, 8]


def test_each_channel_and_each_day_stands_by_itself(kept: Keep) -> None:
    first, second = kept(message("p1"), message("p2", 30), message("p3", 31, channel="c2"))
    assert (first.channel, second.channel, second.title) == ("blue/alpha", "blue/town", "Town")
    assert [ids(day.posts) for day in second.days] == [["p1"], ["p2"]]


def test_reactions_and_uploads_are_those_of_the_message(kept: Keep) -> None:
    uploads = [
        Upload("f1", "a.txt", "x/a.txt", "c1", "u1", "p1", NOON, 3, False),
        Upload("f2", "b.txt", "x/b.txt", "c1", "u1", "", NOON, 3, False),
        Upload("f3", "c.txt", "x/c.txt", "c1", "u1", "p1", NOON, 3, True),
    ]
    messages = (
        message("p1"),
        message("p2", 1, replaced=True, deleted=True),
        message("p3", deleted=True),
    )
    (made,) = kept(*messages, uploads=uploads)
    (post,) = made.threads
    assert post.names_by_emoji == {"tada": ["ada", "gone"]}
    assert [reaction.made for reaction in post.reactions] == [7, 0]
    assert [upload.id for upload in post.uploads] == ["f1"]
    assert (post.detail.edited, post.detail.pinned, post.detail.props) == (5, True, '{"a": 1}')
    assert conversation.avatars([made]) == {"users/u1/profile.png": "u1"}
    (made,) = kept(*messages, uploads=uploads, deleted=True)
    posts = list(made.threads)
    assert ids(posts) == ["p1", "p3"]
    assert [upload.id for upload in posts[0].uploads] == ["f1", "f3"]


def test_a_date_that_no_clock_has(kept: Keep) -> None:
    (made,) = kept(message("p1", 1e12), message("p2", 1e14))
    assert [(day.date, ids(day.posts)) for day in made.days] == [("unknown", ["p1", "p2"])]


def test_a_disk_that_takes_no_more_is_told(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with (
            pytest.raises(Failure, match="cannot be written") as refused,
            conversation.kept(tmp_path, deleted=False) as place,
        ):
            for number in range(10_000):
                place.add(message(f"p{number}")._replace(text="x" * 9000), (None, None, None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "scratch_dir" in refused.value.hint


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
