"""Indexes and keys of Mattermost's database, as a dump defines them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OF_THE_SEARCH = re.compile(r" USING gin \(to_tsvector\(")


@dataclass(frozen=True)
class _OnTable:
    """What a dump makes on a table; names are written as in SQL."""

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
        """Tell whether this is an index of the full text search.

        Those of posts take two thirds of a load's time, and nothing but the search needs them.
        """
        return _OF_THE_SEARCH.search(self.statement) is not None


@dataclass(frozen=True)
class Key(_OnTable):
    """A primary key or another unique constraint."""

    kind: str  # PRIMARY KEY or UNIQUE
    columns: str  # with commas between them

    @property
    def index(self) -> str:
        """The statement that makes its index, which others of the same table do not wait for."""
        return f"CREATE UNIQUE INDEX {self.name} ON {self.full_table} USING btree ({self.columns})"

    @property
    def constraint(self) -> str:
        """The statement that makes a key of the index, at once whatever the size."""
        return (
            f"ALTER TABLE ONLY {self.full_table} "
            f"ADD CONSTRAINT {self.name} {self.kind} USING INDEX {self.name}"
        )
