"""What became of the search's indexes, for a person and for a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..restore.search_index import Built
from ..result import Outcome
from ..system import humanize

if TYPE_CHECKING:
    from ..restore.search_index import Built


def line(search: Built) -> str:
    count = humanize.number(len(search.indexes), "index", "indexes")
    return f"  Search: {count} built after that, in {humanize.duration(search.seconds)}"


def fields(search: Built | None) -> dict[str, Any] | None:
    return {"indexes": search.indexes, "seconds": search.seconds} if search else None


def of_search(search: Built | None) -> Outcome:
    """Tell what became of indexes that an earlier restore had left for later."""
    lines = [line(search)] if search else []
    return Outcome(
        {"search": fields(search)}, lines, search.problems if search else [], answer=True
    )
