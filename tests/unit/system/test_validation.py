"""Checks of documents that somebody else may have written: what passes, and what just does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gitlab_mm_backup.system import validation

PAIR = {"name": validation.text, "size": validation.count}

# check: (what passes, as it is returned; what is refused)
CASES: dict[str, tuple[Callable[[Any], Any], list[Any], list[Any]]] = {
    "text": (
        validation.text,
        ["", "a", "two\nlines", "~"],
        [None, 7, b"bytes", ["a"], "a\0b", "half a pair \ud800"],
    ),
    "line": (validation.line, ["", "a b", "é"], [7, "a\nb", "a\0", "\x1b[2J", "\x9b", "\u202e"]),
    "identifier": (
        validation.identifier,
        ["", "a", "A.b_c-9", "x" * 64],
        [None, "x" * 65, "a b", "../x", "a/b", "a\n", "é", "a~"],
    ),
    "path": (
        validation.path,
        ["/", "/a", "/a/b..c", "/a/...", "/caf\udce9", "/~"],
        [None, 7, ["/"], "", "a", "./a", "/..", "/a/../b", "/a/..", "/a\0b", "/half \ud800"],
    ),
    "bytes_as_text": (
        validation.bytes_as_text,
        ["", "../a", "/a", "caf\udce9", "~"],
        [None, 7, b"bytes", "a\0b", "half \ud800"],
    ),
    "count": (validation.count, [0, 1, 2**70], [True, False, -1, 1.0, "1", None]),
    "seconds": (
        validation.seconds,
        [0, 0.0, 0.5, 1, 999_999_999.5],
        [True, False, -1, -0.5, 1e9, 1_000_000_000, float("nan"), float("inf"), "1", None],
    ),
    "sha256": (
        validation.sha256,
        ["0123456789abcdef" * 4],
        [None, "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "a" * 64 + "~"],
    ),
    "one_of": (
        validation.one_of("backup", None, True),
        ["backup", None, True],
        ["other", False, 1, 0, "", ["backup"]],
    ),
    "paths": (validation.paths, [[], ["/a", "/b"]], [None, "/a", {"/a": 1}, ("/a",), ["a"]]),
    "texts": (validation.texts, [[], ["a", ""]], [None, "a", {"a": 1}, ("a",), ["a\0"]]),
    "variables": (
        validation.variables,
        [{}, {"MM_A": "x", "odd-name.x": "a\nb", "MM_B": "B\udcfccherei", "MM_\udcfc": ""}],
        [
            *(None, [], {"": "x"}, {"A=B": "x"}, {"A/B": "x"}, {"A\0": "x"}, {"A\ud800": "x"}),
            *({"A": "x\0y"}, {"A": "\ud800"}, {"A": 1}, {"A": None}, {"A": "x", "B": ["x"]}),
        ],
    ),
    "each": (
        validation.each(validation.text, validation.count),
        [{}, {"a": 1, "b": 0}],
        [None, [], "a", [["a", 1]], {"a": -1}, {"a\0": 1}],
    ),
    "members": (
        lambda value: validation.members(value, PAIR, optional=["size"]),
        [{"name": "a", "size": 1}, {"name": "a"}],
        [None, [], "name", {}, {"size": 1}, {"name": "a", "more": 1}, {"name": 7, "size": 1}],
    ),
}


@pytest.mark.parametrize(
    ("check", "value"),
    [(check, value) for check, good, _ in CASES.values() for value in good],
    ids=[f"{name} {value!a:.30}" for name, (_, good, _) in CASES.items() for value in good],
)
def test_what_is_proper_comes_back_as_it_was(check: Callable[[Any], Any], value: Any) -> None:
    found = check(value)
    wanted = tuple(value) if isinstance(value, list) else value
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(
    ("check", "value"),
    [(check, value) for check, _, bad in CASES.values() for value in bad],
    ids=[f"{name} {value!a:.30}" for name, (_, _, bad) in CASES.items() for value in bad],
)
def test_what_is_not_proper_is_refused(check: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        check(value)
    # Half of a pair is refused by Python, whose words say where; they are printable.
    assert str(refused.value).isprintable()


def test_all_members_must_be_there_and_no_other() -> None:
    for value in ({"name": "a"}, {"size": 1}, {}, {"name": "a", "size": 1, "more": 1}):
        with pytest.raises(ValueError, match="an object must have exactly: name, size"):
            validation.members(value, PAIR)
    assert validation.members({"size": 1, "name": "a"}, PAIR) == {"name": "a", "size": 1}


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (validation.text, b"x" * 99),
        (validation.line, "\n" * 99),
        (validation.identifier, "/" * 99),
        (validation.path, "x" * 99),
        (validation.path, "/../" + "x" * 99),
        (validation.count, "7" * 99),
        (validation.one_of("a"), "x" * 99),
    ],
)
def test_forty_characters_of_what_is_refused_are_told(
    check: Callable[[Any], Any], value: Any
) -> None:
    with pytest.raises(ValueError) as refused:
        check(value)
    assert str(refused.value).endswith(ascii(value)[:40])
    assert not str(refused.value).endswith(ascii(value)[:41])


def test_a_moment_has_its_zone() -> None:
    for value in ("2026-11-22T01:10:00Z", "2026-11-22T01:10:00+09:00"):
        assert validation.instant(value) == value
    with pytest.raises(ValueError, match="a time without its zone"):
        validation.instant("2026-11-22T01:10:00")


def test_of_a_text_that_is_none_the_beginning_is_told() -> None:
    with pytest.raises(ValueError, match="not a text") as caught:
        validation.text("\ud800" * 99)
    assert str(caught.value) == f"not a text: {ascii(chr(0xD800) * 99)[:40]}"
