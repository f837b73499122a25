"""The contents of a dump, from its list (pg_restore --list)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..system import process
from ..system.private_files import InMemory
from ..system.process import DECOMPRESS, Command
from ..system.redaction import Secret

_OF_THE_SEARCH = re.compile(r" USING gin \(to_tsvector\(")


@dataclass(frozen=True)
class _OnTable:
    """An object that a dump creates on a table; names are written as in SQL."""

    schema: str
    name: str
    table: str

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def full_table(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Index(_OnTable):
    """One index."""

    statement: str  # CREATE INDEX ..., without a semicolon

    @property
    def of_the_search(self) -> bool:
        """Tell whether this is a full text search index.

        Those of posts take two thirds of a load's time, and only the search needs them.
        """
        return _OF_THE_SEARCH.search(self.statement) is not None


@dataclass(frozen=True)
class Key(_OnTable):
    """A primary key or another unique constraint."""

    kind: str  # PRIMARY KEY or UNIQUE
    columns: str  # with commas between them

    @property
    def index(self) -> str:
        """The statement that creates its index, without blocking others of the same table."""
        return f"CREATE UNIQUE INDEX {self.name} ON {self.full_table} USING btree ({self.columns})"

    @property
    def constraint(self) -> str:
        """The statement that makes the index a key, immediately whatever its size."""
        return (
            f"ALTER TABLE ONLY {self.full_table} "
            f"ADD CONSTRAINT {self.name} {self.kind} USING INDEX {self.name}"
        )


# Entries of a dump's list that belong to the server, not to Mattermost's role: the plain role
# may not touch them, and every target has its own (pg_dump up to 10 lists them always; the
# last is PgBouncer's helper on Omnibus).
_NOT_OURS = re.compile(
    r"^\d+; \d+ \d+ (?:SCHEMA - public|EXTENSION - plpgsql|COMMENT - EXTENSION plpgsql"
    r"|COMMENT - SCHEMA public|(?:ACL )?FUNCTION public pg_shadow_lookup)\b"
)
_EXTENSION_LINE = re.compile(r"^\d+; \d+ \d+ EXTENSION - (\S+) ")
_INDEX = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\S+) ON (?:ONLY )?(\S+)\.(\S+) USING .*;$", re.M)
# Plain keys only: those with INCLUDE, DEFERRABLE and the like are loaded as in the dump.
_KEY = re.compile(
    r"^ALTER TABLE ONLY (\S+)\.(\S+)\n    ADD CONSTRAINT (\S+) (PRIMARY KEY|UNIQUE) \(([^()]+)\);$",
    re.M,
)
_ACL = re.compile(r"^\d+; \d+ \d+ (?:DEFAULT )?ACL ")
# A whole statement: a semicolon within quotes does not end it.
_GRANT = re.compile(
    r"""^(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES)\s(?:[^;"']|"(?:[^"]|"")*"|'(?:[^']|'')*')*;""",
    re.M,
)
_GRANTEE = re.compile(
    r"""\s(?:TO|FROM)\s+(?:GROUP\s+)?("(?:[^"]|"")+"|[^\s";]+)(?:\s+WITH GRANT OPTION)?;$"""
)

# For the schema public only privileges of roles: pg_dump up to 10 lists all privileges, and those
# of PUBLIC depend on the server.
_OF_SERVER = re.compile(
    r"REVOKE [^;]* ON SCHEMA public FROM |GRANT [^;]* ON SCHEMA public TO PUBLIC;"
)
_DEFAULT = re.compile(r"""(ALTER DEFAULT PRIVILEGES FOR ROLE )("(?:[^"]|"")+"|[^\s";]+)""")


@dataclass(frozen=True)
class Grants:
    """A statement that grants or revokes privileges on an object."""

    role: str  # as the dump names it; PUBLIC for everybody
    statement: str

    @property
    def default_of(self) -> str:
        """The role whose default privileges it changes, "" where it is about an object."""
        found = _DEFAULT.match(self.statement)
        return _unquoted(found[2]) if found else ""

    def of(self, role: str) -> str:
        """Return it for the default privileges of ``role``, which is quoted."""
        return _DEFAULT.sub(lambda found: found[1] + role, self.statement, count=1)

    def to(self, role: str) -> Grants:
        """Return the same for grantee ``role``, which is quoted."""
        found = _GRANTEE.search(self.statement)
        if found is None:
            return self
        text = self.statement
        return replace(self, statement=text[: found.start(1)] + role + text[found.end(1) :])


@dataclass(frozen=True)
class DumpList:
    """The contents of a dump: the lines of its list to load, and its indexes."""

    first: Sequence[str]  # tables, functions, rows: what pg_restore calls pre-data and data
    after: Sequence[str]  # post-data: indexes, constraints, triggers
    indexes: Mapping[str, Index]  # by schema.name
    keys: Mapping[str, Key]  # the same

    @property
    def search(self) -> list[Index]:
        return [index for index in self.indexes.values() if index.of_the_search]

    @property
    def extensions(self) -> list[str]:
        found = (_EXTENSION_LINE.match(line) for line in self.first)
        return [match[1] for match in found if match]

    @property
    def lines(self) -> list[str]:
        return [*self.first, *self.after]

    def only(self, kept: Collection[str]) -> DumpList:
        """Return the same with only the ``kept`` lines."""
        return replace(
            self,
            first=[line for line in self.first if line in kept],
            after=[line for line in self.after if line in kept],
        )


def read(programs: Path, archive: Path) -> DumpList:
    """Return the contents of the compressed dump ``archive``; raises Failure for an invalid one."""
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


def grants(programs: Path, archive: Path, lines: Sequence[str]) -> list[Grants]:
    """Return the privileges in the dump."""
    wanted = "".join(line for line in lines if _ACL.match(line))
    if not wanted:
        return []
    script = _printed(programs, archive, "--use-list", InMemory(Secret(wanted)), "--file=-")
    return grants_in(script)


def grants_in(script: str) -> list[Grants]:
    """Return the GRANT and REVOKE statements in pg_restore's ``script``."""
    found = []
    for match in _GRANT.finditer(script):
        to = _GRANTEE.search(match[0])
        role = _unquoted(to[1]) if to else ""
        if role and not _OF_SERVER.match(match[0]):
            found.append(Grants(role, match[0]))
    return found


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def rows_in(programs: Path, archive: Path, schema: str, table: str) -> list[list[str]]:
    """Return the rows of a table in the compressed dump, each a list of its columns.

    The whole dump is read. No rows where there is no such table.
    """
    wanted = ("--data-only", f"--schema={schema}", f"--table={table}", "--file=-")
    text = _printed(programs, archive, *wanted)
    copied = re.search(r"^COPY [^\n]* FROM stdin;\n(.*?)^\\\.$", text, re.M | re.S)
    return [line.split("\t") for line in copied[1].splitlines()] if copied else []


def _printed(programs: Path, archive: Path, *options: str | InMemory) -> str:
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
    """Return the plain keys that pg_restore's ``script`` creates, by schema.name.

    Plain: ALTER TABLE ... USING INDEX creates the same.
    """
    found = (
        Key(match[1], match[3], match[2], match[4], match[5]) for match in _KEY.finditer(script)
    )
    return {key.full_name: key for key in found if not _said_more_of(key, script)}


def _said_more_of(key: Key, script: str) -> bool:
    """Tell whether the dump changes a key's index further: CLUSTER ON, REPLICA IDENTITY."""
    return re.search(rf"^ALTER .*[ .]{re.escape(key.name)};$", script, re.M) is not None
