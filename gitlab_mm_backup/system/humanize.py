"""Numbers, sizes and times as text."""

from __future__ import annotations

import unicodedata
from datetime import datetime


def size(count: float) -> str:
    """Return ``count`` bytes in IEC units: 1536 gives 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def moment(when: datetime) -> str:
    """Return ``when`` in local time, with its zone."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def age(seconds: float) -> str:
    """Return how long ago something was, in one unit: 5 min, 3 h, 12 d; of the future: future."""
    if seconds < -60:
        return "future"
    for unit, length in (("d", 86400), ("h", 3600)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0) // 60:.0f} min"


def number(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun: 1 file, 2 files."""
    return f"{grouped(count)} {singular if count == 1 else plural or singular + 's'}"


def grouped(count: int) -> str:
    """Return a count with its digits in groups of three: 12 345."""
    return f"{count:,}".replace(",", " ")


def amounts(rows: int, files: int) -> str:
    """Return what a set holds: 3 rows, 1 file."""
    return f"{number(rows, 'row')}, {number(files, 'file')}"


def padded(words: str, columns: int) -> str:
    """Return ``words`` with blanks up to ``columns`` of a terminal; a wide letter takes two."""
    return words + " " * (columns - width(words))


def width(words: str) -> int:
    """Return how many columns of a terminal ``words`` take."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in words)


def plain(words: str) -> str:
    """Return ``words`` as one line without terminal control characters: they are escaped."""
    if words.isprintable():
        return words
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in words
    )


def shown(words: str) -> str:
    """Return ``words`` for printing, with terminal control characters escaped.

    Lines after the first are indented, so that they do not look like lines of ours.
    """
    first, *others = words.split("\n")
    if not others:
        return plain(first)
    return "\n".join([plain(first), *(f"{_indent(line)}{plain(line)}" for line in others)])


def _indent(line: str) -> str:
    return "" if line.startswith("  ") else "    "


def duration(seconds: float) -> str:
    """Return a rough length of time: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
