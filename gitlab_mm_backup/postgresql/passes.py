"""The passes in which a dump is loaded.

A pass is one pg_restore that reads the compressed dump through a pipe and takes the lines it is
given.  The contents lie at the head of the dump, so that a pass over indexes alone reads almost
nothing (measured: docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .dump_contents import DumpList
from .index import Index, Key

_INDEX_LINE = re.compile(r"^\d+; \d+ \d+ INDEX (\S+) (\S+) ")
_CONSTRAINT_LINE = re.compile(r"^\d+; \d+ \d+ CONSTRAINT (\S+) (\S+) (\S+) ")
_ROWS_LINE = re.compile(r"^\d+; \d+ \d+ TABLE DATA (\S+) (\S+) ")
_VIEW_LINE = re.compile(r"^\d+; \d+ \d+ MATERIALIZED VIEW (DATA )?")


@dataclass(frozen=True)
class Passes:
    """The lines of a dump in the passes that load it, and the keys that it makes by itself.

    The long ones can begin after the first; what is beside them needs all rows.
    """

    first: Sequence[str]  # tables, functions, and rows as far as a long one needs them
    long: Sequence[str]  # indexes of the search, each to be made in a session of its own
    rows: Sequence[str]  # all other rows
    beside: Sequence[Sequence[str]]  # for a session at a time; none is empty
    keys: Sequence[Key]  # their indexes are made beside those, and become keys before the last
    last: Sequence[str]  # what locks whole tables, or relies on what came before


def plan(
    contents: DumpList, rows: Mapping[str, int], sessions: int, without: Collection[str] = ()
) -> Passes:
    """Return the passes that load ``contents``, for so many ``sessions`` at a time.

    The search's indexes of the largest table are the long ones, for one of them takes longer than
    all else together.  CREATE INDEX takes a lock that other CREATE INDEX share, ALTER TABLE one
    that nobody shares (PostgreSQL manual, 13.3.1): so of the keys of tables that have other long
    work, the searched and the largest, the indexes are made beside, and the rest waits for the
    last pass.  Views are filled beside, for they only read.  ``rows`` (schema.table -> rows) weigh
    tables, ``without`` names indexes to leave out (schema.index).
    """
    lines = [_explained(line, contents, rows) for line in contents.after]
    lines = [one for one in lines if one.index is None or one.index.full_name not in without]
    search = [one for one in lines if one.index and one.index.of_the_search]
    largest = max(lines, key=lambda one: one.rows, default=_Line(""))
    busy = {one.table for one in (largest, *search)}
    keys = [one for one in lines if one.key and one.table in busy]
    beside = [
        one
        for one in lines
        if one.table and one not in search and (one.index or one.table not in busy)
    ]
    views = _views(contents)
    most = max((one.rows for one in search), default=0)
    long = [one for one in search if one.rows == most]
    others = [one.text for one in search if one not in long]
    first, rest = _cut(contents.first, {one.table for one in long})
    taken = {*views, *(one.text for one in (*search, *keys, *beside))}
    return Passes(
        first,
        [one.text for one in long],
        rest,
        [group for group in (views, *_spread(beside, 2 * sessions), others) if group],
        [one.key for one in keys if one.key],
        [one.text for one in lines if one.text not in taken],
    )


@dataclass(frozen=True)
class _Line:
    """A line of the list, and what it stands for."""

    text: str
    table: str = ""  # schema.table of an index or a plain constraint, "" for anything else
    rows: int = 0  # of the table
    index: Index | None = None
    key: Key | None = None  # where it is a plain one


def _explained(line: str, contents: DumpList, rows: Mapping[str, int]) -> _Line:
    found = _INDEX_LINE.match(line)
    if found:
        index = contents.indexes.get(f"{found[1]}.{found[2]}")
        table = index.full_table if index else ""
        return _Line(line, table, rows.get(table, 0), index)
    found = _CONSTRAINT_LINE.match(line)
    if found:
        table = f"{found[1]}.{found[2]}"
        # What is counted is a table of its own; one in partitions cannot be given a key this way.
        key = contents.keys.get(f"{found[1]}.{found[3]}") if table in rows else None
        return _Line(line, table, rows.get(table, 0), None, key)
    return _Line(line)


def _cut(lines: Sequence[str], tables: Collection[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Cut ``lines`` after the last that brings rows of one of ``tables``; the end where none does."""
    found = [_ROWS_LINE.match(line) for line in lines]
    ends = [at for at, one in enumerate(found, 1) if one and f"{one[1]}.{one[2]}" in tables]
    end = max(ends, default=len(lines))
    return lines[:end], lines[end:]


def _views(contents: DumpList) -> list[str]:
    """Return the lines that fill views, in their order; none where a view itself comes late.

    pg_dump keeps a view for after the data where it groups by a primary key, which comes last.
    """
    found = [(line, _VIEW_LINE.match(line)) for line in contents.after]
    if any(match and not match[1] for _, match in found):
        return []
    return [line for line, match in found if match]


def _spread(lines: Iterable[_Line], into: int) -> list[list[str]]:
    """Share ``lines`` out, the heaviest first, each to the group that has least to do then.

    Within a group constraints come first, and large tables last: a primary key shuts out all
    other work on its table, so it had better be made while the others are at other tables.
    """

    def load(group: list[_Line]) -> int:
        return sum(one.rows for one in group)

    groups: list[list[_Line]] = [[] for _ in range(into)]
    for line in sorted(lines, key=lambda one: -one.rows):
        min(groups, key=load).append(line)
    groups.sort(key=load, reverse=True)
    return [
        [one.text for one in sorted(group, key=lambda one: (one.index is not None, one.rows))]
        for group in groups
    ]
