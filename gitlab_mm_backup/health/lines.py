"""The lines of the status, as they are shown; without the modules that find them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ..system import humanize


class State(enum.Enum):
    """The state of a line."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    OFF = "off"  # disabled, or not set up


@dataclass(frozen=True)
class Figure:
    """A number for a monitoring system, with its thresholds."""

    value: float
    unit: str = ""  # of Nagios: s, B or none
    warning: str = ""  # a range of Nagios: 60 is above 60, 14: is below 14
    bad: str = ""


@dataclass(frozen=True)
class StatusLine:
    """One line of the status.

    ``fix`` is a command; a line that is bad or a warning has one.  ``detail`` may name files, tables
    and addresses, and is for root only.
    """

    name: str
    state: State
    words: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    fix: str = ""
    detail: str = ""

    @property
    def told(self) -> str:
        """The words with the detail."""
        return f"{self.words}: {self.detail}" if self.detail else self.words

    @property
    def text(self) -> str:
        """All of it, ending with the command."""
        return f"{self.told}. Run: {self.fix}" if self.fix else self.told


def worst(lines: Sequence[StatusLine]) -> State:
    """Return the worst state of all lines."""
    states = {line.state for line in lines}
    return next((state for state in (State.BAD, State.WARNING) if state in states), State.GOOD)


def ago(age: timedelta) -> str:
    seconds = max(0.0, age.total_seconds())
    if seconds < 48 * 3600:
        return f"{humanize.duration(seconds)} ago"
    return f"{humanize.number(age.days, 'day')} ago"
