"""A check and its result; doctor, verify and rehearse return lists of them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Failure

# In the detail of a failed check: the live database has the problem, and so has every set of it.
LASTING = "A new set of this database would not differ"


class Result(enum.Enum):
    """The result of a check."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Check:
    """A check, its result and the detail in words."""

    name: str
    result: Result
    detail: str


def passed(name: str, detail: str = "") -> Check:
    return Check(name, Result.PASSED, detail)


def failed(name: str, detail: str) -> Check:
    return Check(name, Result.FAILED, detail)


def not_run(name: str, detail: str) -> Check:
    return Check(name, Result.NOT_RUN, detail)


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """Return the check from ``look``; a Failure becomes a failed check called ``name``."""
    try:
        return look()
    except Failure as failure:
        return failed(name, str(failure))
