"""The tables of reported cases and of findings: held by tests that exist, and on their pages."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

import pytest

from tests.cases import Group, page
from tests.cases.findings import TOPICS
from tests.cases.inside import INSIDE
from tests.cases.operations import OPERATIONS
from tests.cases.reports import REPORTS
from tests.cases.security import SECURITY
from tests.unit.helpers.builders import ROOT

# As the reports were collected; a number that is missing was never given.
NUMBERS = {
    REPORTS.title: [*range(2, 11), *range(12, 36), 39, 40, 41],
    OPERATIONS.title: [*range(2, 25), 26, 27, 28, 29, 31, *range(35, 38), *range(39, 50)],
    INSIDE.title: [*range(1, 13)],
    SECURITY.title: [1, 3, 4, 5, 6, *range(8, 14), *range(15, 21)],
}
FINDINGS = [finding for topic in TOPICS for finding in topic.findings]
CASES = [case for group in page.GROUPS for case in group.cases]
TESTS = [*(case.tests for case in CASES), *(finding.tests for finding in FINDINGS)]
NAMED = sorted({test for tests in TESTS for test in tests})


@functools.cache
def found_in(file: str) -> set[str]:
    """The tests of a file below tests/, as pytest names them."""
    return set(_functions(ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{node.name}::")
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name


@pytest.mark.parametrize("group", page.GROUPS, ids=lambda group: group.title)
def test_every_report_has_its_row(group: Group) -> None:
    numbers = [number for case in group.cases for number in case.number.split(", ")]
    assert len(numbers) == len(set(numbers))
    assert [int(number) for number in numbers if number.isdecimal()] == NUMBERS[group.title]
    assert all(case.given and case.result and case.tests for case in group.cases)


@pytest.mark.parametrize("test", NAMED)
def test_every_row_is_held_by_a_test_that_exists(test: str) -> None:
    file, _, name = test.partition("::")
    assert name in found_in(file)


def test_every_finding_is_told_once_with_what_there_is_now() -> None:
    assert all(finding.found and finding.now and finding.tests for finding in FINDINGS)
    assert len({finding.found for finding in FINDINGS}) == len(FINDINGS)


def test_the_pages_are_made_of_the_tables() -> None:
    for path, text in ((page.PATH, page.page()), (page.FINDINGS, page.findings())):
        assert path.read_text(encoding="utf-8") == text, "python -m tests.cases"
