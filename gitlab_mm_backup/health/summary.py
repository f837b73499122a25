"""The state for accounts other than root: a file without secrets that everybody can read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from .. import clock
from ..errors import ExitCode, Failure
from ..system import files, validation
from . import rating
from .lines import Figure, State, StatusLine, ago

log = logging.getLogger(__name__)

SUMMARY = Path("/var/cache/gitlab-mm-status/status.json")
_FORMAT = 1
_AGES = ("set_age", "rehearsal_age", "offsite_age_")


@dataclass(frozen=True)
class Summary:
    """The state at a moment."""

    host: str
    at: datetime
    lines: Sequence[StatusLine]


def write(now: Summary, path: Path = SUMMARY) -> None:
    """Write the file, without the details of the lines; a failure is only logged."""
    document = {
        "format": _FORMAT,
        "host": now.host,
        "at": clock.utc(now.at),
        "lines": [_fields(line) for line in now.lines],
    }
    if not path.parent.is_dir():  # the package brings it
        return
    try:
        files.replace_file(path, json.dumps(document).encode(), mode=0o644)
    except OSError as error:
        log.warning("The summary could not be written: %s: %s", path, error.strerror)


def _fields(line: StatusLine) -> dict[str, Any]:
    return {
        "name": line.name,
        "state": line.state.value,
        "words": line.words,
        "figures": {name: asdict(figure) for name, figure in line.figures.items()},
        "fix": line.fix,
    }


def read(now: datetime, path: Path = SUMMARY) -> Summary:
    """Return the state as root saw it last; ages are those of ``now``.

    Raises Failure if there is no summary or it cannot be read.
    """
    try:
        fields = validation.members(validation.from_json(path.read_bytes()), _DOCUMENT)
    except OSError as error:
        raise Failure(
            "The state is not known yet",
            f"{path}: {error.strerror}",
            "sudo gitlab-mm status",
            ExitCode.USAGE,
        ) from error
    except (ValueError, RecursionError) as error:
        raise Failure("The state cannot be read", str(path), "sudo gitlab-mm status") from error
    at = clock.parse_moment(fields["at"])
    passed = max(timedelta(0), now - at)
    lines = [_aged(line, passed) for line in fields["lines"]]
    if passed > _oldest(lines) or clock.ahead(at, now):
        words = f"the state was looked at {ago(passed)}"
        lines.append(StatusLine("summary", State.WARNING, words, fix="sudo gitlab-mm status"))
    return Summary(fields["host"], at, lines)


def _oldest(lines: Sequence[StatusLine]) -> timedelta:
    """Return the age above which the newest set is too old, by the schedule of then."""
    limits = [line.figures["set_age"].bad for line in lines if "set_age" in line.figures]
    known = [int(limit) for limit in limits if limit.isdigit()]
    return timedelta(seconds=min(known)) if known else rating.SET_AGE


def _aged(line: StatusLine, passed: timedelta) -> StatusLine:
    """Return a line whose ages have grown; above a limit it is a warning, or bad."""
    seconds = passed.total_seconds()
    figures = {
        name: replace(figure, value=figure.value + int(seconds))
        if name.startswith(_AGES)
        else figure
        for name, figure in line.figures.items()
    }
    aged = [figure for name, figure in figures.items() if name.startswith(_AGES)]
    state, fix = line.state, line.fix
    if state in (State.GOOD, State.WARNING) and any(_above(figure, figure.bad) for figure in aged):
        state = State.BAD
    elif state is State.GOOD and any(_above(figure, figure.warning) for figure in aged):
        state = State.WARNING
    if state is not line.state:
        fix = fix or "sudo gitlab-mm status"
    return replace(line, figures=figures, state=state, fix=fix)


def _above(figure: Figure, limit: str) -> bool:
    return limit.isdigit() and figure.value > int(limit)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("not a number")
    return float(value)


def _line(value: Any) -> StatusLine:
    fields = validation.members(value, _LINE)
    return StatusLine(**{**fields, "state": State(fields["state"])})


def _lines(value: Any) -> list[StatusLine]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return [_line(entry) for entry in value]


_FIGURE: dict[str, validation.Check] = {
    "value": _number,
    **dict.fromkeys(("unit", "warning", "bad"), validation.text),
}
_LINE: dict[str, validation.Check] = {
    **dict.fromkeys(("name", "words", "fix"), validation.text),
    "state": validation.one_of(*(state.value for state in State)),
    "figures": validation.each(
        validation.text, lambda value: Figure(**validation.members(value, _FIGURE))
    ),
}
_DOCUMENT: dict[str, validation.Check] = {
    "format": validation.one_of(_FORMAT),
    "host": validation.text,
    "at": validation.instant,
    "lines": _lines,
}
