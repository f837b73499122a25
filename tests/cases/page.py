"""docs/reported-cases.md and docs/what-operators-see.md, made of the tables."""

from __future__ import annotations

from pathlib import Path

from tests.cases import Case, Finding, Group
from tests.cases.findings import TOPICS
from tests.cases.inside import INSIDE
from tests.cases.operations import OPERATIONS
from tests.cases.reports import REPORTS
from tests.cases.security import SECURITY

GROUPS = (REPORTS, OPERATIONS, SECURITY, INSIDE)
_DOCS = Path(__file__).parents[2] / "docs"
PATH, FINDINGS = _DOCS / "reported-cases.md", _DOCS / "what-operators-see.md"
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
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


_HEAD_OF_FINDINGS = """\
# What operators see

Findings of people who tried gitlab-mm as new users: after a disaster, for a fleet of servers, and from the Japanese
README. Each row has what they met, what there is now, and the tests that hold it.

This page is made of `tests/cases/findings.py`: `python -m tests.cases`.
"""


def findings() -> str:
    """Return the page of findings."""
    lines = [_HEAD_OF_FINDINGS]
    for topic in TOPICS:
        lines += [f"## {topic.title}", "", "| found | now | tests |", "|---|---|---|"]
        lines += [*map(_finding, topic.findings), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _finding(row: Finding) -> str:
    cells = (row.found, row.now, "<br>".join(f"`{test}`" for test in row.tests))
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
