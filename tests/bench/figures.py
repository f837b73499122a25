"""Numbers of several rounds: medians, and ratios round by round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """What one run took: seconds, seconds of processors, bytes."""

    wall: float
    cpu: float = 0.0  # of the command's tree and of the PostgreSQL server
    bytes: int = 0
    extra: Mapping[str, float] = field(default_factory=dict)

    def value(self, what: str) -> float:
        """One of the fields above, or of `extra`."""
        named = {"wall": self.wall, "cpu": self.cpu, "bytes": float(self.bytes)}
        return named[what] if what in named else self.extra[what]


@dataclass(frozen=True)
class Measured:
    """What a contender took, round by round; its memory is that of the round before the first."""

    samples: Sequence[Sample]
    peak: int = 0  # bytes, 0 where it was not looked at


@dataclass(frozen=True)
class Ratio:
    """Ours over theirs: the median of the rounds, and the least and the most."""

    median: float
    least: float
    most: float
    rounds: int


def median(measured: Measured, what: str = "wall") -> float:
    """The middle of the rounds."""
    return statistics.median(sample.value(what) for sample in measured.samples)


def ratio(ours: Measured, theirs: Measured, what: str = "wall") -> Ratio:
    """Compare round by round; with fewer rounds on one side, each of ours with the middle of theirs."""
    middle = median(theirs, what)
    paired = len(ours.samples) == len(theirs.samples)
    values = [
        mine.value(what) / (theirs.samples[place].value(what) if paired else middle)
        for place, mine in enumerate(ours.samples)
    ]
    rounds = min(len(ours.samples), len(theirs.samples))
    return Ratio(statistics.median(values), min(values), max(values), rounds)
