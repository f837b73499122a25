"""Differences between two states: keys from a script, rows by their keys, and what is only marked."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from gitlab_mm_backup.rehearsal import difference
from gitlab_mm_backup.rehearsal.difference import State

KEYS = {"posts": ["id"], "members": ["team", "user"]}
SCRIPT = b"""
ALTER TABLE ONLY public.posts
    ADD CONSTRAINT posts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.posts
    ADD CONSTRAINT posts_other UNIQUE (other);
ALTER TABLE "odd.schema"."Odd"
    ADD CONSTRAINT "x PRIMARY KEY (y)" PRIMARY KEY ("a ""b", c);
"""


def state(name: str, posts: str, more: str = "", columns: str = "id, message, deleteat") -> State:
    text = f"COPY public.posts ({columns}) FROM stdin;\n{posts}\\.\n{more}"

    @contextlib.contextmanager
    def opened() -> Iterator[IO[bytes]]:
        yield io.BytesIO(text.encode())

    return State(name, "utf-8", 10, opened)


def compared(before: State, after: State, folder: Path) -> difference.Difference:
    return difference.compare(before, after, KEYS, folder)


def test_primary_keys_are_read_from_a_script() -> None:
    keys = difference.parse_keys(SCRIPT)
    assert keys["posts"] == ["id"]
    assert list(keys.values())[1] == ['a "b', "c"]


def test_the_order_of_rows_is_no_difference(tmp_path: Path) -> None:
    found = compared(state("a", "1\tx\t0\n2\ty\t0\n"), state("b", "2\ty\t0\n1\tx\t0\n"), tmp_path)
    assert not found.tables and not any(found.things.values())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "way", "row"),
    [
        ("", "1\tx\t0\n", "added", "added"),
        ("1\tx\t5\n", "1\tx\t0\n", "added", "changed"),
        ("1\tx\t0\n", "", "removed", "removed"),
        ("1\tx\t0\n", "1\tx\t7\n", "removed", "changed"),
        ("1\tx\t0\n", "1\ty\t0\n", "changed", "changed"),
        ("1\tx\t\\N\n", "1\ty\t\\N\n", "changed", "changed"),
        ("1\tx\t5\n", "1\ty\t5\n", "", "changed"),
        ("1\tx\t5\n", "", "", "removed"),
    ],
)
def test_what_is_marked_as_deleted_is_gone(
    old: str, new: str, way: str, row: str, tmp_path: Path
) -> None:
    found = compared(state("a", old), state("b", new), tmp_path)
    assert {name: ids for name, ids in vars(found.things["posts"]).items() if ids} == (
        {way: ["1"]} if way else {}
    )
    counts = vars(found.tables["posts"])
    assert {name: counts[name] for name in ("added", "changed", "removed") if counts[name]} == {
        row: 1
    }


def test_a_key_of_two_columns_and_a_table_without_one(tmp_path: Path) -> None:
    before = state("a", "", "COPY public.members (team, role, user) FROM stdin;\nt\tr\tu\n\\.\n"
                   "COPY public.bare (x) FROM stdin;\n1\n2\n\\.\n")  # fmt: skip
    after = state("b", "", "COPY public.members (team, role, user) FROM stdin;\nt\ts\tu\nt\ts\tv\n\\.\n"
                  "COPY public.bare (x) FROM stdin;\n2\n3\n\\.\n")  # fmt: skip
    found = compared(before, after, tmp_path).tables
    assert (found["members"].added, found["members"].changed) == (1, 1)
    assert (found["bare"].added, found["bare"].changed, found["bare"].removed) == (1, 0, 1)


def test_other_columns_are_told_and_no_change_is_claimed(tmp_path: Path) -> None:
    after = state("b", "1\tx\t0\t9\n", columns="id, message, deleteat, later")
    found = compared(state("a", "1\tx\t0\n"), after, tmp_path)
    assert found.tables["posts"] == difference.TableDifference(columns=["later"])
    assert not any(found.things.values())


def test_no_more_things_than_can_be_read_are_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "MOST_NAMED", 2)
    after = state("b", "".join(f"{number}\tx\t0\n" for number in range(5)))
    before = state("a", "")
    found = compared(before, after, tmp_path)
    assert len(found.things["posts"].added) == 5
    named = difference.described_changes(found, before, after)["posts"]
    assert [(change.way, change.thing.id) for change in named] == [("added", "0"), ("added", "1")]
