"""The report as one HTML page that loads no other files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..store import soundness
from ..store.check_records import CheckVerdict, Depth
from ..system import humanize
from ..system.files import replace_file
from .rating import Rating
from .report import Report

_PACKAGE = __name__.partition(".")[0]


def render(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> bytes:
    """Return a page; all values are escaped."""
    return b"".join(pieces(template, filters, **values))


def pieces(
    template: str, filters: Mapping[str, Callable[..., Any]], **values: Any
) -> Iterator[bytes]:
    """Yield a page in pieces, for one that does not fit into memory; all values are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(_PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=humanize.size, moment=humanize.moment, number=humanize.number, **filters
    )
    for piece in environment.get_template(template).generate(**values):
        yield piece.encode(errors="backslashreplace")


def write(path: Path, page: bytes, usage: str) -> Path:
    """Replace ``path`` by the page; return its full path. Raises Failure that names ``usage``."""
    path = Path(os.path.abspath(path))
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a directory")
        replace_file(path, page)
    except OSError as error:
        raise Failure(
            f"{path} cannot be written", str(error.strerror), f"Give another file: {usage}"
        ) from error
    return path


def _visible(value: Any) -> Any:
    """Return a text with invisible characters escaped, such as those that reverse a line."""
    if type(value) is not str:  # the output of a macro (Markup) is escaped already
        return value
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1]
        for letter in value
    )


WIDTH, HEIGHT = 340, 196
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 328, 26, 166  # of the plotted area
_MOST_MARKS = 80  # more would overlap
_TICKS = 4
_SIZES = (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40))
_TIMES = (("seconds", 1), ("minutes", 60), ("hours", 3600))


@dataclass(frozen=True)
class Series:
    """Amounts with their times, oldest first."""

    name: str
    points: Sequence[tuple[datetime, float]]


@dataclass(frozen=True)
class Curve:
    """A series as drawn."""

    name: str
    line: str  # points of a polyline
    marks: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A chart; all numbers are in units of the SVG."""

    title: str
    description: str
    unit: str
    ticks: Sequence[tuple[float, str]]  # height, label
    dates: Sequence[tuple[float, str, str]]  # x, label, text-anchor
    curves: Sequence[Curve]

    left, right, top, bottom = _LEFT, _RIGHT, _TOP, _BOTTOM
    width, height = WIDTH, HEIGHT


def sizes(title: str, series: Sequence[Series], words: Callable[[float], str]) -> Chart:
    """Draw bytes; ``words`` formats an amount for the description."""
    return _chart(title, series, words, _SIZES)


def times(title: str, series: Sequence[Series], words: Callable[[float], str]) -> Chart:
    """Draw seconds; ``words`` formats an amount for the description."""
    return _chart(title, series, words, _TIMES)


def _chart(
    title: str,
    series: Sequence[Series],
    words: Callable[[float], str],
    units: Sequence[tuple[str, int]],
) -> Chart:
    points = [point for curve in series for point in curve.points]
    highest = max((amount for _, amount in points), default=0.0)
    # An axis up to 1.4 of a unit has too few ticks, so a unit is used from two on.
    unit, factor = [
        candidate for candidate in units if candidate[1] == 1 or highest >= 2 * candidate[1]
    ][-1]
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
        description="; ".join(_describe(curve, words) for curve in series) + ".",
        unit=unit,
        ticks=[
            (round(_BOTTOM - number / count * (_BOTTOM - _TOP), 1), f"{number * step:g}")
            for number in range(count + 1)
        ],
        dates=_dates(first, last),
        curves=[_curve(curve.name, [place(*point) for point in curve.points]) for curve in series],
    )


def _step(highest: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that needs at most _TICKS ticks."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest / _TICKS))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * _TICKS >= highest)


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


# More would make a browser slow; JSON and the history on disk have all of them.
_MOST_RECORDS = 400

_HEADINGS = {
    Rating.PROVEN: "Proven",
    Rating.NOT_PROVEN: "Not proven",
    Rating.FAILED: "Failed",
}
_RESULTS = {
    CheckVerdict.PASSED: "passed",
    CheckVerdict.INCOMPLETE: "passed; some checks were skipped",
    CheckVerdict.FAILED: "failed",
}
_DEPTHS = {
    Depth.VERIFY: "verification: only bytes and archives",
    Depth.QUICK: "quick: only the database",
    Depth.USUAL: "usual: without the search indexes",
    Depth.FULL: "full: with the search indexes",
}


def render_report(made: Report) -> bytes:
    """Return the page."""
    return render(
        "health/report.jinja",
        {"duration": _duration, "caveats": soundness.caveat_lines, "named": _named},
        made=made,
        found=made.found,
        heading=_HEADINGS[made.judgement.standing],
        rehearsals=made.rehearsals[:_MOST_RECORDS],
        verifications=made.verifications[:_MOST_RECORDS],
        older=len(made.rehearsals[_MOST_RECORDS:]) + len(made.verifications[_MOST_RECORDS:]),
        charts=_charts(made),
        results=_RESULTS,
        depths=_DEPTHS,
    )


# A name of the usual length; a longer one may break, so that the page fits its window.
_NAME = re.compile(r"\b\d{10}_\d{4}_\d\d_\d\d_[\w.+~-]{0,23}\w(?![\w.+~-]*\w)")


def _named(text: str) -> Any:
    """Return a text in which no line breaks within the name of a set."""
    from markupsafe import Markup, escape

    sentence = str(escape(_visible(text)))
    return Markup(_NAME.sub(r'<span class="set">\g<0></span>', sentence))


def write_report(path: Path, made: Report) -> Path:
    """Write the page, readable only by root; return its full path. Raises Failure."""
    return write(path, render_report(made), "gitlab-mm report FILE")


def _duration(seconds: float) -> str:
    """Return a duration for a table: 9.5 s, 75 s, 2 min 31 s, 1 h 35 min."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _charts(made: Report) -> list[Chart]:
    sets = [line.entry.set.manifest for line in reversed(made.lines) if line.entry.set]
    runs = [record for record in reversed(made.records) if record.rehearsal]
    recovered = [
        (record.made, record.recovery_seconds)
        for record in runs
        if record.recovery_seconds is not None
    ]
    return [
        sizes(
            "Size of each set",
            [Series("Sets", [(manifest.made, manifest.bytes) for manifest in sets])],
            humanize.size,
        ),
        times(
            "Duration of each backup",
            [Series("Backups", [(manifest.made, manifest.seconds) for manifest in sets])],
            _duration,
        ),
        times(
            "Duration of each rehearsal",
            [
                Series("Rehearsals", [(record.made, record.seconds) for record in runs]),
                Series("Recovery in them", recovered),
            ],
            _duration,
        ),
    ]
