"""What Mattermost says of itself: lines of JSON from 5.0 on, plain ones before and where Go gives up."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..system import validation

_STAMP = re.compile(r"^\d{4}-\d\d-\d\d_\S+ ")  # of svlogd(8)
_GRAVE = re.compile(
    r'"level": ?"(error|critical|fatal|panic)"|^(panic|fatal error|Error): |\[(EROR|CRIT)\]'
)
_SHOWN = 400  # letters


def message(line: str) -> str:
    """Return what a line says; of one in JSON the message and the error alone."""
    line = _STAMP.sub("", line)
    try:
        told = validation.from_json(line)
        return " ".join(str(told[key]) for key in ("msg", "err", "error") if key in told)
    except (ValueError, TypeError):
        return line


def reason(lines: Sequence[str]) -> str:
    """Return the last line that is an error, or else the last one; "" where there is none."""
    told = [line for line in map(str.strip, lines) if line]
    grave = [line for line in told if _GRAVE.search(_STAMP.sub("", line))]
    return message((grave or told or [""])[-1])[:_SHOWN]
