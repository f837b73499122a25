"""The functions that faults of lab tests name are there."""

from __future__ import annotations

import importlib
import re
from functools import reduce
from pathlib import Path

TESTS = Path(__file__).parents[1]
# A module in one of the folders, and a function or method in it.
POINT = re.compile(r'"([a-z_]+\.[a-z_]+):([A-Za-z_]+(?:\.[a-z_]+)?)"')


def test_each_fault_is_in_a_function_that_exists() -> None:
    points = {
        (file.relative_to(TESTS), *found)
        for file in (TESTS / "system").rglob("*.py")
        for found in POINT.findall(file.read_text())
    }
    assert len(points) > 30
    for file, module, name in sorted(points):
        home = importlib.import_module(f"gitlab_mm_backup.{module}")
        assert callable(reduce(getattr, name.split("."), home)), file
