"""How the newest run of each job ended: what metrics, and notices of a recovery, are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..system import files, validation
from ..system.files import replace_file

FILE = Path("/var/lib/gitlab-mm-backup/runs.json")


@dataclass(frozen=True)
class Run:
    """The newest run of one job."""

    began: float  # seconds since 1970
    seconds: float
    exit_code: int
    succeeded: float | None  # end of the newest run that was good; None: never

    @property
    def ended(self) -> float:
        return self.began + self.seconds

    @property
    def good(self) -> bool:
        return self.exit_code in (0, 4)


def read(path: Path = FILE) -> dict[str, Run]:
    """Return the newest run of each job; nothing where the file cannot be read."""
    try:
        return dict(files.read_state(path, validation.each(validation.text, _run)))
    except files.unreadable_state:
        return {}


def note(
    job: str, began: datetime, seconds: float, exit_code: int, path: Path = FILE
) -> tuple[Run | None, Run]:
    """Note how a run of ``job`` ended; return the run before, if there was one, and this one.

    Raises OSError where that cannot be written.
    """
    known = read(path)
    before = known.get(job)
    now = Run(began.timestamp(), round(seconds, 3), exit_code, before.succeeded if before else None)
    if now.good:
        now = Run(now.began, now.seconds, now.exit_code, now.ended)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, _to_bytes({**known, job: now}))
    return before, now


def _to_bytes(known: Mapping[str, Run]) -> bytes:
    return json.dumps({job: asdict(run) for job, run in known.items()}, indent=2).encode()


def _run(value: Any) -> Run:
    return Run(**validation.members(value, _FIELDS))


def _moment(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        raise ValueError("not a moment")
    return float(value)


_FIELDS: dict[str, validation.Check] = {
    "began": _moment,
    "seconds": validation.seconds,
    "exit_code": validation.count,
    "succeeded": lambda value: value if value is None else _moment(value),
}
