"""Charts of amounts over time: where in a drawing each point, tick and label goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH, HEIGHT = 340, 196
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 328, 26, 166  # of the plotted area
_MOST_MARKS = 80  # more would touch each other
_TICKS = 4
_SIZES = (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40))
_TIMES = (("seconds", 1), ("minutes", 60), ("hours", 3600))


@dataclass(frozen=True)
class Series:
    """Amounts, the oldest first."""

    name: str
    points: Sequence[tuple[datetime, float]]


@dataclass(frozen=True)
class Curve:
    """A series, drawn."""

    name: str
    line: str  # points of a polyline
    marks: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A drawing, all numbers in its own units."""

    title: str
    description: str
    unit: str
    ticks: Sequence[tuple[float, str]]  # height, label
    dates: Sequence[tuple[float, str, str]]  # place, label, the end of the label that is there
    curves: Sequence[Curve]

    left, right, top, bottom = _LEFT, _RIGHT, _TOP, _BOTTOM
    width, height = WIDTH, HEIGHT


def sizes(title: str, series: Sequence[Series], words: Callable[[float], str]) -> Chart:
    """Draw bytes; ``words`` tells an amount in the description."""
    return _chart(title, series, words, _SIZES)


def times(title: str, series: Sequence[Series], words: Callable[[float], str]) -> Chart:
    """Draw seconds; ``words`` tells an amount in the description."""
    return _chart(title, series, words, _TIMES)


def _chart(
    title: str,
    series: Sequence[Series],
    words: Callable[[float], str],
    units: Sequence[tuple[str, int]],
) -> Chart:
    points = [point for one in series for point in one.points]
    highest = max((amount for _, amount in points), default=0.0)
    # An axis to 1.4 of a unit has hardly a tick, so a unit is used from two of it on.
    unit, factor = [one for one in units if one[1] == 1 or highest >= 2 * one[1]][-1]
    step = _step(highest / factor)
    count = max(1, math.ceil(highest / factor / step))
    top = count * step * factor
    days = [when for when, _ in points]
    first, last = (min(days), max(days)) if days else (None, None)

    def place(when: datetime, amount: float) -> tuple[float, float]:
        x = (_LEFT + _RIGHT) / 2
        if first is not None and last is not None and last > first:
            x = _LEFT + (when - first) / (last - first) * (_RIGHT - _LEFT)
        return round(x, 1), round(_BOTTOM - amount / top * (_BOTTOM - _TOP), 1)

    return Chart(
        title=title,
        description="; ".join(_describe(one, words) for one in series) + ".",
        unit=unit,
        ticks=[
            (round(_BOTTOM - number / count * (_BOTTOM - _TOP), 1), f"{number * step:g}")
            for number in range(count + 1)
        ],
        dates=_dates(first, last),
        curves=[_curve(one.name, [place(*point) for point in one.points]) for one in series],
    )


def _step(highest: float) -> float:
    """Return 1, 2 or 5 times a power of ten, so that no more than _TICKS of it are needed."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest / _TICKS))
    return next(power * one for one in (1, 2, 5, 10) if power * one * _TICKS >= highest)


def _curve(name: str, places: Sequence[tuple[float, float]]) -> Curve:
    line = " ".join(f"{x},{y}" for x, y in places)
    return Curve(name, line, places if len(places) <= _MOST_MARKS else places[-1:])


def _dates(first: datetime | None, last: datetime | None) -> list[tuple[float, str, str]]:
    if first is None or last is None:
        return []
    middle = (_LEFT + _RIGHT) / 2
    begin, end = _day(first), _day(last)
    if begin == end:
        return [(middle, begin, "middle")]
    found = [(float(_LEFT), begin, "start"), (float(_RIGHT), end, "end")]
    between = _day(first + (last - first) / 2)
    return found if between in (begin, end) else [*found, (middle, between, "middle")]


def _day(when: datetime) -> str:
    return when.astimezone().strftime("%Y-%m-%d")


def _describe(series: Series, words: Callable[[float], str]) -> str:
    if not series.points:
        return f"{series.name}: none yet"
    (first, _), (last, newest) = series.points[0], series.points[-1]
    amounts = [amount for _, amount in series.points]
    when = _day(first) if _day(first) == _day(last) else f"{_day(first)} to {_day(last)}"
    return (
        f"{series.name}: {len(amounts)}, {when}; least {words(min(amounts))}, "
        f"most {words(max(amounts))}, newest {words(newest)}"
    )
