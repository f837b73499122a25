"""One check and how it ended, in plain words: what doctor, verify and rehearse are made of."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Failure

# In the detail of a failed check: what failed lies in the live database, and in every set of it.
LASTING = "A new set of this database would not differ"


class Result(enum.Enum):
    """How one check ended."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Check:
    """One check, in plain words."""

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
    """Return what ``look`` finds; that it could not look is a failed check too."""
    try:
        return look()
    except Failure as failure:
        return failed(name, str(failure))
