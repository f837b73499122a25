"""docs/reported-cases.md, made of the table."""

from __future__ import annotations

from pathlib import Path

from tests.cases import Case, Group
from tests.cases.operations import OPERATIONS
from tests.cases.reports import REPORTS
from tests.cases.security import SECURITY

GROUPS = (REPORTS, OPERATIONS, SECURITY)
PATH = Path(__file__).parents[2] / "docs/reported-cases.md"
_HEAD = """\
# Reported cases

Inputs from public reports of other projects, and attacks, with what gitlab-mm does with each. Every row is held by
tests. *Refused* says that the input is not to pass, and why. Exit codes: see the [README](../README.md).

This page is made of `tests/cases`, which names the tests of each row: `python -m tests.cases`.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(line for group in GROUPS for line in _lines(group))])


def _lines(group: Group) -> list[str]:
    table = (f"| # | {group.source} | input | result |", "|---|---|---|---|")
    return [f"## {group.title}", "", group.words, "", *table, *map(_row, group.cases), ""]


def _row(case: Case) -> str:
    result = f"*refused:* {case.result}" if case.refused else case.result
    cells = (case.number, case.source, case.given, result)
    return f"| {' | '.join(one.replace('|', '&#124;') for one in cells)} |"
