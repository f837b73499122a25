"""The table of sets, at the width of a terminal and in a file."""

from __future__ import annotations

import pytest

from gitlab_mm_backup.cli import listing, terminal
from gitlab_mm_backup.cli.listing import HEADINGS, Row, table

NAMES = ("1795310000_2026_11_22_10.11.4-aaaaaa", "1795223600_2026_11_21_10.11.4-aaaaaa")
CELLS = ("3 h", "1.2 GiB", "8 012", "12 345", "2 d ago", "DAMAGED", "2")
ROWS = [
    Row(NAMES[0], CELLS, ["NOT SOUND: something"]),
    Row("1795223600_2026_11_21_10.11.4", (), ["NOT COMPLETE: no manifest"]),
    Row(NAMES[1], ("12 d", "980.0 MiB", "-", "1", "never", "never", "0"), []),
]


def columns(line: str, names: tuple[str, ...]) -> list[int]:
    """Where each of the words ends in a line, which is right-aligned."""
    found, at = [], 0
    for name in names:
        at = line.index(name, at) + len(name)
        found.append(at)
    return found


@pytest.mark.parametrize("width", [None, 120])
def test_a_set_is_one_line_where_there_is_room(width: int | None) -> None:
    headings, first, incomplete, last = table(ROWS, width)
    assert headings.split() == list(HEADINGS)
    head, below = first.split("\n")
    assert head.startswith(f"{NAMES[0]} ") and below == "  NOT SOUND: something"
    assert columns(headings, HEADINGS[1:]) == columns(head, CELLS)
    assert incomplete == "1795223600_2026_11_21_10.11.4\n  NOT COMPLETE: no manifest"
    assert last.count("\n") == 0


def test_at_80_columns_the_name_has_a_line_of_its_own() -> None:
    lines = [line for text in table(ROWS, 80) for line in text.split("\n")]
    assert all(len(line) <= 80 for line in lines)
    assert lines[:4] == [
        "SET",
        "   AGE       SIZE  POSTS   FILES  VERIFIED  REHEARSED  COPIES",
        NAMES[0],
        "   3 h    1.2 GiB  8 012  12 345   2 d ago    DAMAGED       2",
    ]


def test_what_is_wrong_with_a_set_is_red() -> None:
    lines = table(ROWS, None)
    painted = [terminal.toned(line, *tone) for line, tone in zip(lines, listing._tones(lines))]
    assert "\x1b[31m" not in painted[0] + painted[3]
    assert painted[1].endswith("  \x1b[31m\x1b[1mNOT\x1b[0m SOUND: something")
    assert "\x1b[31m\x1b[1mNOT\x1b[0m COMPLETE" in painted[2]
