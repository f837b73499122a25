"""docs/internals.md names modules and functions: each exists where the page says."""

from __future__ import annotations

import ast
import re

import pytest

from tests.unit.helpers.builders import PACKAGE, ROOT
from tests.unit.test_layers import STEPS

TEXT = (ROOT / "docs/internals.md").read_text(encoding="utf-8")
# A module, and the names of it that follow in the same sentence or row.
MODULE = re.compile(
    r"`(?:gitlab_mm_backup/)?((?:[a-z_]+/)?[a-z_]+\.py)`((?:[\s,|]+`[A-Za-z_.]+`)*)"
)
BEHAVIOURS = re.findall(
    r"^\| .+ \| `(.+\.py)` \| (.+) \|$", TEXT.partition("## Where is")[2], re.MULTILINE
)
MOST_HOPS = 8


def names_in(module: str) -> set[str]:
    """Return what a module defines: functions, classes with their methods, constants."""
    found: set[str] = set()
    for node in ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            inner = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}.{method.name}" for method in inner)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def named() -> list[tuple[str, str]]:
    """Return each module of the page with a name that is said to be in it, "" for none."""
    found = []
    for module, names in MODULE.findall(TEXT):
        found += [(module, name) for name in re.findall(r"`([^`]+)`", names) if "/" not in name]
        found.append((module, ""))
    return found


def test_the_page_names_modules_and_functions() -> None:
    assert len([name for _, name in named() if name]) > 40


def test_each_exists() -> None:
    modules, names = {module for module, _ in named()}, {pair for pair in named() if pair[1]}
    inner = {module for module in modules if (PACKAGE / module).is_file()}
    assert [module for module in modules - inner if not (ROOT / module).is_file()] == []
    held = {module: names_in(module) for module in inner}
    assert [(module, name) for module, name in names if name not in held[module]] == []


def test_every_folder_has_a_row() -> None:
    rows = re.findall(r"^\| `([a-z]+)/` \|", TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(folder for folder in STEPS if folder)


def test_the_newcomers_sixteen_behaviours() -> None:
    """Two steps each: a folder, then a module of it."""
    assert len(BEHAVIOURS) == 16
    for module, names in BEHAVIOURS:
        assert module.count("/") == 1
        assert {*re.findall(r"`([^`]+)`", names)} <= names_in(module), module


@pytest.mark.parametrize("what", ["backup", "restore"])
def test_few_hops_to_the_disk(what: str) -> None:
    section = TEXT.partition(f"## The way of a {what}")[2].partition("\n## ")[0]
    hops = [int(number) for number in re.findall(r"^(\d+)\. `", section, re.MULTILINE)]
    assert 4 < max(hops) <= MOST_HOPS
