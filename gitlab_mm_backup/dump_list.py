"""What a dump holds, by its own list of contents, and the passes in which it is loaded.

A pass is one pg_restore that reads the compressed dump through a pipe and takes the lines it is
given.  The contents lie at the head of the dump, so that a pass over indexes alone reads almost
nothing (measured: docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import process
from .index import Index, Key
from .process import DECOMPRESS, Command

# Entries of a dump's list that belong to the server, not to Mattermost's role: the plain role
# may not touch them, and every target has its own (pg_dump up to 10 lists them always; the
# last is PgBouncer's helper on Omnibus).
_NOT_OURS = re.compile(
    r"^\d+; \d+ \d+ (?:SCHEMA - public|EXTENSION - plpgsql|COMMENT - EXTENSION plpgsql"
    r"|COMMENT - SCHEMA public|ACL - SCHEMA public|(?:ACL )?FUNCTION public pg_shadow_lookup)\b"
)
_INDEX_LINE = re.compile(r"^\d+; \d+ \d+ INDEX (\S+) (\S+) ")
_CONSTRAINT_LINE = re.compile(r"^\d+; \d+ \d+ CONSTRAINT (\S+) (\S+) (\S+) ")
_ROWS_LINE = re.compile(r"^\d+; \d+ \d+ TABLE DATA (\S+) (\S+) ")
_VIEW_LINE = re.compile(r"^\d+; \d+ \d+ MATERIALIZED VIEW (DATA )?")
_EXTENSION_LINE = re.compile(r"^\d+; \d+ \d+ EXTENSION - (\S+) ")
_INDEX = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\S+) ON (?:ONLY )?(\S+)\.(\S+) USING .*;$", re.M)
# A plain one: with INCLUDE, DEFERRABLE and the like it stays as the dump has it.
_KEY = re.compile(
    r"^ALTER TABLE ONLY (\S+)\.(\S+)\n    ADD CONSTRAINT (\S+) (PRIMARY KEY|UNIQUE) \(([^()]+)\);$",
    re.M,
)


@dataclass(frozen=True)
class DumpList:
    """A dump's contents: the lines of its list that are ours to load, and its indexes."""

    first: Sequence[str]  # tables, functions, rows: what pg_restore calls pre-data and data
    after: Sequence[str]  # post-data: indexes, constraints, triggers
    indexes: Mapping[str, Index]  # by schema.name
    keys: Mapping[str, Key]  # the same

    @property
    def search(self) -> list[Index]:
        return [one for one in self.indexes.values() if one.of_the_search]

    @property
    def extensions(self) -> list[str]:
        found = (_EXTENSION_LINE.match(line) for line in self.first)
        return [one[1] for one in found if one]


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


def read(programs: Path, archive: Path) -> DumpList:
    """Return the contents of the compressed dump ``archive``; raises Failure if it has none."""
    lines = _printed(programs, archive, "--list").splitlines(keepends=True)
    after = set(_printed(programs, archive, "--list", "--section=post-data").splitlines(True))
    script = _printed(programs, archive, "--section=post-data", "--file=-")
    ours = [line for line in lines if not _NOT_OURS.match(line)]
    return DumpList(
        [line for line in ours if line not in after],
        [line for line in ours if line in after and not line.startswith(";")],
        _indexes(script),
        keys_in(script),
    )


def rows_in(programs: Path, archive: Path, table: str) -> list[list[str]]:
    """Return the rows of public.``table`` in the compressed dump, each a list of its columns.

    All of the dump is read for it.  No rows where there is no such table.
    """
    wanted = ("--data-only", "--schema=public", f"--table={table}", "--file=-")
    text = _printed(programs, archive, *wanted)
    copied = re.search(r"^COPY [^\n]* FROM stdin;\n(.*?)^\\\.$", text, re.M | re.S)
    return [line.split("\t") for line in copied[1].splitlines()] if copied else []


def _printed(programs: Path, archive: Path, *options: str) -> str:
    command = Command([str(programs / "pg_restore"), *options], account="nobody")
    with open(archive, "rb") as packed:
        return process.printed(DECOMPRESS, command, stdin=packed).decode(errors="surrogateescape")


def _indexes(script: str) -> dict[str, Index]:
    found = (
        Index(match[2], match[1], match[3], match[0].rstrip(";"))
        for match in _INDEX.finditer(script)
    )
    return {index.full_name: index for index in found}


def keys_in(script: str) -> dict[str, Key]:
    """Return the plain keys that pg_restore's ``script`` makes, by schema.name.

    Plain is what ALTER TABLE ... USING INDEX makes the same of.
    """
    found = (
        Key(match[1], match[3], match[2], match[4], match[5]) for match in _KEY.finditer(script)
    )
    return {key.full_name: key for key in found if not _said_more_of(key, script)}


def _said_more_of(key: Key, script: str) -> bool:
    """Tell whether the dump does more with a key's index: CLUSTER ON, REPLICA IDENTITY."""
    return re.search(rf"^ALTER .*[ .]{re.escape(key.name)};$", script, re.M) is not None


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
    wanted = [line for line in contents.after if _index_name(line) not in without]
    tables = {line: _table(line, contents.indexes) for line in wanted}
    weights = {line: rows.get(tables[line], 0) for line in wanted}
    names = {index.full_name for index in contents.search}
    search = [line for line in wanted if _index_name(line) in names]
    largest = max(tables.values(), key=lambda table: rows.get(table, 0), default="")
    busy = {largest, *(tables[line] for line in search)}
    beside = [
        line
        for line in wanted
        if line not in search
        and tables[line]
        and (_INDEX_LINE.match(line) or tables[line] not in busy)
    ]
    named = {line: _key_name(line) for line in wanted if tables[line] in busy}
    keys = {line: contents.keys[name] for line, name in named.items() if name in contents.keys}
    views = _views(contents)
    most = max((weights[line] for line in search), default=0)
    long = [line for line in search if weights[line] == most]
    others = [line for line in search if line not in long]
    first, rest = _cut(contents.first, {tables[line] for line in long})
    taken = {*search, *beside, *keys, *views}
    return Passes(
        first,
        long,
        rest,
        [group for group in (views, *_spread(beside, weights, 2 * sessions), others) if group],
        list(keys.values()),
        [line for line in wanted if line not in taken],
    )


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


def _spread(lines: Iterable[str], weights: Mapping[str, int], into: int) -> list[list[str]]:
    """Share ``lines`` out, the heaviest first, each to the group that has least to do then.

    Within a group constraints come first, and large tables last: a primary key shuts out all
    other work on its table, so it had better be made while the others are at other tables.
    """

    def load(group: list[str]) -> int:
        return sum(weights[line] for line in group)

    groups: list[list[str]] = [[] for _ in range(into)]
    for line in sorted(lines, key=lambda line: -weights[line]):
        min(groups, key=load).append(line)
    groups.sort(key=load, reverse=True)
    return [
        sorted(group, key=lambda line: (bool(_INDEX_LINE.match(line)), weights[line]))
        for group in groups
    ]


def _index_name(line: str) -> str:
    """Return schema.index of a line that stands for an index, "" for any other."""
    found = _INDEX_LINE.match(line)
    return f"{found[1]}.{found[2]}" if found else ""


def _key_name(line: str) -> str:
    """Return schema.name of a line that stands for a plain constraint, "" for any other."""
    found = _CONSTRAINT_LINE.match(line)
    return f"{found[1]}.{found[3]}" if found else ""


def _table(line: str, indexes: Mapping[str, Index]) -> str:
    """Return schema.table of an index or a plain constraint, "" for anything else."""
    index = indexes.get(_index_name(line))
    found = _CONSTRAINT_LINE.match(line)
    if index is not None:
        return index.full_table
    return f"{found[1]}.{found[2]}" if found else ""
