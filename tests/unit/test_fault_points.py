"""The functions that faults of lab tests name are there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

TESTS = Path(__file__).parents[1]
# A module in one of the folders, or the constant that names it, and a function or method in it.
POINT = re.compile(r'"(?:([a-z_]+\.[a-z_]+)|\{([A-Z_]+)\}):([A-Za-z_]+(?:\.[a-z_]+)?)"')


def points_in(file: Path) -> Iterator[tuple[Path, str, str]]:
    text = file.read_text()
    for module, constant, name in POINT.findall(text):
        named = re.search(rf'^{constant} = "(.*)"$', text, re.M) if constant else None
        if module or named:  # a part of a command line has this form too
            yield file.relative_to(TESTS), named[1] if named else module, name


def test_each_fault_is_in_a_function_that_exists() -> None:
    points = [point for file in (TESTS / "system").rglob("*.py") for point in points_in(file)]
    assert len(points) > 30
    for file, module, name in points:
        home = importlib.import_module(f"gitlab_mm_backup.{module}")
        assert callable(reduce(getattr, name.split("."), home)), file
