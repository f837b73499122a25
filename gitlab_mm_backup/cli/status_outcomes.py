"""What the status says to a person, to a machine and to Nagios."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ..errors import ExitCode
from ..health.status import Figure, Line, State, worst
from ..result import Outcome

_CODES = {State.BAD: ExitCode.FAILED, State.WARNING: ExitCode.WARNINGS}
_COLOURS = {State.GOOD: "green", State.WARNING: "yellow", State.BAD: "red", State.OFF: "blue"}
_NAGIOS = {State.GOOD: "OK", State.WARNING: "WARNING", State.BAD: "CRITICAL"}
_WIDTH = 79


def of_status(lines: Sequence[Line], host: str, *, nagios: bool) -> Outcome:
    """Tell every line, and all in one word."""
    state = worst(lines)
    told = _nagios(lines, state) if nagios else _screen(lines, state, host)
    fields = {
        "host": host,
        "state": state.value,
        "lines": [
            {
                "name": one.name,
                "state": one.state.value,
                "words": one.words,
                "figures": {name: each.value for name, each in one.figures.items()},
            }
            for one in lines
        ],
    }
    texts, tones = [text for text, _ in told], [tone for _, tone in told]
    return Outcome(fields, texts, code=_CODES.get(state, ExitCode.DONE), answer=True, tones=tones)


_Told = list[tuple[str, tuple[str, str]]]


def _screen(lines: Sequence[Line], state: State, host: str) -> _Told:
    told: _Told = [(f"{host}: {state.value}", _tone(state))]
    for one in lines:
        start = f"  {one.name:10} {one.state.value:8} "
        first, *more = textwrap.wrap(
            one.words,
            _WIDTH,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_on_hyphens=False,
        )
        told += [(first, _tone(one.state)), *((line, ("", "")) for line in more)]
    return told


def _tone(state: State) -> tuple[str, str]:
    return state.value, _COLOURS[state]


def _nagios(lines: Sequence[Line], state: State) -> _Told:
    """Return the one line that a plugin prints: what is wrong, or the newest set, and figures."""
    amiss = [one for one in lines if one.state in _CODES] or lines[:1]
    words = "; ".join(f"{one.name}: {one.words}" for one in amiss).replace("|", "/")
    figures = {name: each for one in lines for name, each in one.figures.items()}
    data = " ".join(f"{name}={_figure(each)}" for name, each in figures.items())
    return [(f"MATTERMOST BACKUP {_NAGIOS[state]} - {words} | {data}", ("", ""))]


def _figure(figure: Figure) -> str:
    return f"{figure.value:.15g}{figure.unit};{figure.warning};{figure.bad};0"
