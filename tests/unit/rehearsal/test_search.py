"""Uploads and messages in the rows of a dump."""

from __future__ import annotations

import fnmatch
import io
import re
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.rehearsal import dump_rows, search
from gitlab_mm_backup.rehearsal.counts import Counts
from gitlab_mm_backup.rehearsal.search import Query, SearchResult
from gitlab_mm_backup.store.sets import BackupSet

SET = cast(BackupSet, SimpleNamespace(manifest=SimpleNamespace(parts={})))  # without names
TABLES: dict[str, tuple[str, list[str]]] = {
    "bots": ("userid", ["b1"]),
    "channels": (
        "id, teamid, type, name, displayname, deleteat",
        ["c1\tt1\tO\tnews\tNews\t0", "c2\tt2\tO\tnews\tNews\t0", "c3\tt1\tP\told\tOld\t5"],
    ),
    "fileinfo": (
        "id, creatorid, postid, createat, deleteat, path, name, size",
        [
            "f1\tu1\tp1\t1000\t0\ta/Report.pdf\tReport.pdf\t10",
            "f2\tu2\tp2\t2000\t9\tb/report.PDF\treport.PDF\t20",
            "f3\tu1\tp9\t3000\t0\tc/x\t\\N\tmany",
            "f4\tu1\tp1\t-5\t0\td/a\\\\b.pdf\ta\\\\b.pdf\t5",
        ],
    ),
    "posts": (
        "id, createat, deleteat, userid, channelid, originalid, type, message",
        [
            "p1\t1000\t0\tu1\tc1\t\t\tThe Ünited report\\nof May",
            "p2\t2000\t0\tu2\tc2\t\t\tno report",
            "p3\t3000\t7\tu2\tc2\tp2\t\tthe report, before",
            "p4\t4000\t0\tu1\tc1\t\tsystem_join_channel\treport the joined",
        ],
    ),
    "teams": ("id, name, displayname, deleteat", ["t1\tblue\tBlue\t0", "t2\tred\tRed\t0"]),
    "users": ("id, username, deleteat", ["u1\tada\t0", "u2\tbob\t0", "b1\trobot\t0"]),
}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The tables of each pass through a dump that holds TABLES."""
    made: list[list[str]] = []

    def read(set_: BackupSet, tables: list[dump_rows.Table]) -> None:
        made.append([table.name for table in tables])
        text = "".join(
            f"COPY public.{name} ({columns}) FROM stdin;\n" + "".join(f"{row}\n" for row in rows) + "\\.\n"
            for name, (columns, rows) in TABLES.items()
            if name in made[-1]
        )  # fmt: skip
        dump_rows.parse(io.BytesIO(text.encode()), tables, "utf-8")

    monkeypatch.setattr(dump_rows, "read", read)
    return made


def look(**wanted: Any) -> SearchResult:
    kinds = {name: wanted.pop(name) for name in ("uploads", "messages") if name in wanted}
    return search.look(SET, Query(**wanted), **kinds)


def ids(found: SearchResult) -> list[str]:
    return [upload.id for upload in found.uploads] + [post.id for post in found.messages]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["f4", "f1", "f2", "f3"]),
        ({"deleted": False}, ["f4", "f1", "f3"]),
        ({"file": "report.pdf"}, ["f1", "f2"]),
        ({"file": "*.PD?"}, ["f4", "f1", "f2"]),
        ({"file": "[rq]eport*"}, ["f1", "f2"]),
        ({"file": "a\\b*"}, ["f4"]),
        ({"file": "eport"}, []),
        ({"channel": "blue/news"}, ["f4", "f1"]),
        ({"channel": "red/news"}, ["f2"]),
        ({"user": "@ada"}, ["f4", "f1", "f3"]),
        ({"user": "ada", "channel": "c1", "file": "R*"}, ["f1"]),
        ({"since": datetime.fromtimestamp(2, timezone.utc)}, ["f2", "f3"]),
        ({"until": datetime.fromtimestamp(2, timezone.utc)}, ["f4", "f1"]),
    ],
)
def test_uploads(passes: list[list[str]], wanted: dict[str, Any], found: list[str]) -> None:
    assert ids(look(**wanted)) == found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"words": ("REPORT",)}, ["p1", "p2", "p3"]),
        ({"words": ("ünited", "may")}, ["p1"]),
        ({"words": ("report", "the"), "deleted": False}, ["p1"]),
        ({"words": ("report",), "channel": "red/news"}, ["p2", "p3"]),
        ({"words": ("joined",)}, []),
    ],
)
def test_messages(passes: list[list[str]], wanted: dict[str, Any], found: list[str]) -> None:
    assert ids(look(uploads=False, messages=True, **wanted)) == found


def test_one_pass_is_enough_unless_a_name_or_a_channel_must_be_looked_up(
    passes: list[list[str]],
) -> None:
    look(uploads=False, messages=True, words=("may",))
    assert len(passes) == 1
    look(file="none")
    assert len(passes) == 2
    look(file="*.pdf")
    assert passes[3:] == [["posts"]], "rows without a channel take their post's"


def test_numbers_and_moments_that_none_are() -> None:
    texts = ("", None, "x", "9" * 5000, "1e9", "-7", "12")
    assert [search.number(text) for text in texts] == [0, 0, 0, 0, 0, -7, 12]
    assert search.moment(0) == datetime.fromtimestamp(0, timezone.utc)
    assert [search.moment(10**exponent) for exponent in (15, 19, 400)] == [None] * 3


def copied(text: str) -> bytes:
    """A text as COPY prints it (PostgreSQL's documentation, "Text Format")."""
    for plain, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text.encode()


LETTERS = st.text(st.sampled_from("aB1*?[]\\!\n\té日 .-"), max_size=12)


@given(LETTERS, LETTERS)
def test_the_quick_look_drops_nothing_that_the_glob_matches(glob: str, name: str) -> None:
    if not re.match(fnmatch.translate(glob or "*"), name, re.I):
        return
    keeps = search._Search(Query(file=glob), "", "", SearchResult()).uploads().keeps
    assert keeps is None or keeps(b"id\t" + copied(name) + b"\n")


@given(LETTERS, LETTERS, LETTERS)
def test_the_quick_look_drops_no_message_with_the_words(before: str, words: str, end: str) -> None:
    query = Query(words=tuple(words.split()))
    keeps = search._Search(query, "", "", SearchResult()).messages().keeps
    assert keeps is None or keeps(b"id\t" + copied(f"{before}{words.upper()}{end}") + b"\n")


def test_counts(passes: list[list[str]]) -> None:
    counted = Counts()
    dump_rows.read(SET, counted.tables())
    counted.look_up(SET)
    assert dict(counted.posts_in) == {"c1": 2, "c2": 1}
    assert dict(counted.posts_by) == {"u1": 2, "u2": 1}
    assert +counted.uploads_in == {"c1": 2, "": 1}, "f2 is deleted; the post of f3 is gone"
    assert dict(counted.uploads_by) == {"u1": 3}
    people = counted.people()
    assert people == {
        "teams": 2, "open_channels": 2, "private_channels": 0, "conversations": 0, "users": 2,
        "bots": 1, "posts": 3, "first_post": "1970-01-01T00:00:01Z",
        "last_post": "1970-01-01T00:00:04Z", "uploads": 3, "upload_bytes": 15,
    }  # fmt: skip
