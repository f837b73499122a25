"""What a dump holds, by its own list of contents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
