"""All checks by their names: each takes a ``Subject`` and asserts one edge."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Callable

from tests.conformance import answering, settings, sign_in, tables, uploads
from tests.conformance.subject import Subject

Check = Callable[[Subject], None]


def _of(module: ModuleType) -> dict[str, Check]:
    """The public functions of a module that take a subject and nothing else."""
    found = inspect.getmembers(module, inspect.isfunction)
    return {
        name: function
        for name, function in found
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and list(inspect.signature(function).parameters) == ["subject"]
    }


CHECKS: dict[str, Check] = {
    name: check
    for module in (settings, answering, tables, uploads, sign_in)
    for name, check in _of(module).items()
}
