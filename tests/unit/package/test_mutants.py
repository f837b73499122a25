"""The mutation test itself: which changes it makes, what it makes of the outcome, and a sample of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import changes, survivors
from tests.mutants.changes import Mutant
from tests.unit.helpers.builders import ROOT

SOURCE = '''
LIMIT = 3
FLAG: bool = True
@decorated(order=True)
class Rule:
    def holds(self, a, b=1):
        """Not a text that decides."""
        if not a < LIMIT or a is None and b in ("x", "y"):
            raise ValueError("too much")
        return a + b
'''


def words(source: str) -> list[str]:
    return [mutant.words.partition(": ")[2] for mutant in changes.of_module("rules", source)]


def test_every_kind_of_change_is_made_once() -> None:
    test = "not a < LIMIT or (a is None and b in ('x', 'y'))"
    assert words(SOURCE) == [
        "LIMIT = 3 -> LIMIT = 4",
        "FLAG: bool = True -> FLAG: bool = False",
        "self, a, b=1 -> self, a, b=2",
        f"{test} -> not a < LIMIT and (a is None and b in ('x', 'y'))",
        "not a < LIMIT -> a < LIMIT",
        "a < LIMIT -> a <= LIMIT",
        "a < LIMIT -> a >= LIMIT",
        "a is None and b in ('x', 'y') -> a is None or b in ('x', 'y')",
        "a is None -> a is not None",
        "b in ('x', 'y') -> b not in ('x', 'y')",
        "('x', 'y') -> ('x~', 'y')",
        "('x', 'y') -> ('x', 'y~')",
        "raise ValueError('too much') -> pass",
        "a + b -> a - b",
    ]


def test_a_change_is_named_by_where_it_is_and_not_by_a_line() -> None:
    found = changes.of_module("rules", SOURCE)
    assert found[-1].words == "rules.Rule.holds: a + b -> a - b"
    moved = changes.of_module("rules", "\n\n" + SOURCE)
    assert [mutant.words for mutant in moved] == [mutant.words for mutant in found]
    twice = changes.of_module("m", "def f(a):\n    return (a + 1) * (a + 1)\n")
    assert [mutant.words for mutant in twice][-1].endswith(" (2)")


@pytest.mark.parametrize(
    ("source", "value", "changed"),
    [
        ("value = 3 < 3", False, [True, True, False, True]),
        ("value = not False", True, [False, False]),
        ("value = 1 + 1", 2, [0, 3, 3]),
        ("value = 'a' in ('a', 'b')", True, [False, False, False, True]),
        ("value = True and False", False, [True, False, True]),
    ],
)
def test_the_code_of_a_change_does_it(source: str, value: object, changed: list[object]) -> None:
    def run(code: object) -> object:
        space: dict[str, object] = {}
        exec(code, space)  # type: ignore[arg-type]
        return space["value"]

    assert run(source) is value or run(source) == value
    found = [run(mutant.code(source, "x.py")) for mutant in changes.of_module("x", source)]
    assert found == changed


def mutant(words: str) -> Mutant:
    return Mutant(words.partition(".")[0], words, 0, 0, 0)


MUTANTS = [mutant(f"trust.f: {number}") for number in range(40)]


def judge(*alive: int, **listed: str) -> tuple[str, bool]:
    listed = {f"trust.f: {name[1:]}": why for name, why in listed.items()}
    return survivors.judge(MUTANTS, [MUTANTS[number] for number in alive], listed, MUTANTS)


def test_all_is_well_where_all_are_killed_or_listed_with_a_reason() -> None:
    assert judge()[1]
    text, well = judge(3, 4, _3="it is logged alone", _4="equivalent: as it is")
    assert well and "it is logged alone" in text
    assert "all                    40           1      38          1    97.4" in text


def test_one_that_is_not_listed_fails() -> None:
    text, well = judge(3)
    assert not well and "not in survivors.txt:\n  trust.f: 3" in text


@pytest.mark.parametrize("name", ["_3", "_99"])
def test_one_that_is_listed_in_vain_fails(name: str) -> None:
    text, well = judge(**{name: "equivalent: it was"})
    assert not well and f"noticed:\n  trust.f: {name[1:]}" in text


def test_too_many_fail_though_all_are_listed() -> None:
    assert judge(0, 1, _0="x", _1="y")[1]
    text, well = judge(0, 1, 2, _0="x", _1="y", _2="z")
    assert not well and "Fewer than 95 of 100" in text
    assert judge(0, 1, 2, _0="x", _1="equivalent: y", _2="equivalent: z")[1]


def test_a_list_without_reasons_or_with_one_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "survivors.txt"
    path.write_text("# Changes\n\na.b: 1 -> 2\n  because of\n  this\n")
    assert survivors.read(path) == {"a.b: 1 -> 2": "because of this"}
    path.write_text("a.b: 1 -> 2\nc.d: 1 -> 2\n  because\n")
    with pytest.raises(ValueError, match=r"does not say why: a\.b"):
        survivors.read(path)
    path.write_text("a.b: 1 -> 2\n  because\na.b: 1 -> 2\n  because\n")
    with pytest.raises(ValueError, match="twice"):
        survivors.read(path)


def test_a_sample_of_all_changes_is_noticed() -> None:
    """What make mutants does with all of them; here with always the same ones, and one test file each."""
    command = [sys.executable, "-B", "-m", "tests.mutants", "--sample", "20", "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
