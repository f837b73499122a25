"""Words for people: escaped once, where they are printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.system import humanize


@given(st.text())
def test_what_is_shown_has_no_character_that_a_terminal_acts_on(words: str) -> None:
    lines = humanize.shown(words).split("\n")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == words.count("\n") + 1


@given(st.text(), st.text())
def test_a_line_that_a_value_breaks_off_looks_like_none_of_ours(words: str, more: str) -> None:
    _, *others = humanize.shown(f"{words}\n{more}").split("\n")
    assert all(line.startswith("  ") for line in others)


@pytest.mark.parametrize("words", ["", "plain", "Größe 日本語 🦊", "a\n  b\n    c"])
def test_what_is_ours_stays_as_it_is(words: str) -> None:
    assert humanize.shown(words) == words


def test_escapes_are_told_and_bytes_of_no_encoding_too() -> None:
    told = humanize.shown("a\x1b[2J\x07\udcff\u202e\nError: b")
    assert told == "a\\x1b[2J\\x07\\udcff\\u202e\n    Error: b"
