"""The report as one HTML page that loads nothing: for a browser, a printer and an auditor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import charts, text
from .charts import Chart, Series
from .durable import replace_file
from .errors import Failure
from .evidence import Depth, Verdict
from .report import Report
from .standing import Standing

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
    """Return the page; whatever a set, a host or a check is called, it is only text in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=text.size, moment=text.moment, duration=_duration, number=text.number
    )
    page = environment.get_template("report.jinja").render(
        made=made,
        found=made.found,
        heading=_HEADINGS[made.judgement.standing],
        records=made.records[:_MOST_RECORDS],
        older=len(made.records[_MOST_RECORDS:]),
        charts=_charts(made),
        results=_RESULTS,
        depths=_DEPTHS,
    )
    return page.encode(errors="backslashreplace")


def write(path: Path, made: Report) -> Path:
    """Write the page, readable by root alone, in one step; raises Failure. Returns its full path."""
    page = render(made)
    path = Path(os.path.abspath(path))
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        replace_file(path, page)
    except OSError as error:
        raise Failure(
            f"{path} cannot be written",
            str(error.strerror),
            "Give another file: gitlab-mm report FILE",
        ) from error
    return path


def _visible(value: Any) -> Any:
    """Return a text with what cannot be seen spelled out: it could turn a line around."""
    if type(value) is not str:  # the output of a macro is of a type of its own, and is done
        return value
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in value)


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
            "Size of each set", [Series("Sets", [(one.made, one.bytes) for one in sets])], text.size
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
