"""The report as one HTML page that loads nothing: for a browser, a printer and an auditor."""

from __future__ import annotations

from pathlib import Path

from ..store import soundness
from ..store.check_records import Depth, Verdict
from ..system import humanize
from . import charts, pages
from .charts import Chart, Series
from .rating import Standing
from .report import Report

# A browser grows slow with more; JSON has all of them, and so has the history on the disk.
_MOST_RECORDS = 400

_HEADINGS = {
    Standing.PROVEN: "Proven",
    Standing.NOT_PROVEN: "Not proven",
    Standing.FAILED: "Failed",
}
_RESULTS = {
    Verdict.PASSED: "passed",
    Verdict.INCOMPLETE: "passed as far as it went",
    Verdict.FAILED: "failed",
}
_DEPTHS = {
    Depth.VERIFY: "verification: bytes and archives alone",
    Depth.QUICK: "quick: the database alone",
    Depth.USUAL: "usual: without the indexes of the search",
    Depth.FULL: "full: with the indexes of the search",
}


def render(made: Report) -> bytes:
    """Return the page."""
    return pages.render(
        "health/report.jinja",
        {"duration": _duration, "caveats": soundness.caveat_lines},
        made=made,
        found=made.found,
        heading=_HEADINGS[made.judgement.standing],
        records=made.records[:_MOST_RECORDS],
        older=len(made.records[_MOST_RECORDS:]),
        charts=_charts(made),
        results=_RESULTS,
        depths=_DEPTHS,
    )


def write(path: Path, made: Report) -> Path:
    """Write the page, readable by root alone, in one step; raises Failure. Returns its full path."""
    return pages.write(path, render(made), "gitlab-mm report FILE")


def _duration(seconds: float) -> str:
    """Return a length of time as exact as a table needs it: 9.5 s, 75 s, 2 min 31 s, 1 h 35 min."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _charts(made: Report) -> list[Chart]:
    sets = [line.entry.set.manifest for line in reversed(made.lines) if line.entry.set]
    runs = [one for one in reversed(made.records) if one.rehearsal]
    recovered = [
        (one.made, one.recovery_seconds) for one in runs if one.recovery_seconds is not None
    ]
    return [
        charts.sizes(
            "Size of each set",
            [Series("Sets", [(one.made, one.bytes) for one in sets])],
            humanize.size,
        ),
        charts.times(
            "Duration of each backup",
            [Series("Backups", [(one.made, one.seconds) for one in sets])],
            _duration,
        ),
        charts.times(
            "Duration of each rehearsal",
            [
                Series("Rehearsals", [(one.made, one.seconds) for one in runs]),
                Series("Recovery in them", recovered),
            ],
            _duration,
        ),
    ]
