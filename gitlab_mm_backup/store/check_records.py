"""Records of verifications and rehearsals: rehearsal.json of a set, and the host's history."""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import clock
from ..checks import Check, Result
from ..errors import Failure, reason
from ..system import lock, validation
from ..system.files import replace_file
from .sets import BackupSet

FORMAT = 1
EVIDENCE = "rehearsal.json"  # next to the manifest, outside of the checksums


class Depth(enum.Enum):
    """How thorough a check of a set was."""

    VERIFY = "verify"  # its bytes and archives alone
    QUICK = "quick"  # and its database loaded, without files and without starting Mattermost
    USUAL = "usual"  # and its files unpacked, Mattermost started; without the search index
    FULL = "full"  # and the search index built


class CheckVerdict(enum.Enum):
    """The overall result of a record's checks."""

    PASSED = "passed"
    INCOMPLETE = "incomplete"  # nothing failed, but something was not run
    FAILED = "failed"


@dataclass(frozen=True)
class CheckRecord:
    """One verification or rehearsal of one set."""

    set: str
    depth: Depth
    started: str  # RFC 3339, UTC
    seconds: float
    recovery_seconds: float | None  # measured: load, unpack and start; None where it got not so far
    tool: str
    host: str
    mattermost: str  # of this host's program, "" where there is none
    postgresql: str  # that the dump was loaded into, "" where it was not
    checks: Sequence[Check]
    left_out: Sequence[str] = ()  # indexes that were not built

    @property
    def made(self) -> datetime:
        return clock.parse_moment(self.started)

    @property
    def verdict(self) -> CheckVerdict:
        results = {check.result for check in self.checks}
        if Result.FAILED in results:
            return CheckVerdict.FAILED
        return CheckVerdict.INCOMPLETE if Result.NOT_RUN in results else CheckVerdict.PASSED

    @property
    def whole(self) -> bool:
        """Tell whether all bytes and archives of the set were intact."""
        passed = {check.name for check in self.checks if check.result is Result.PASSED}
        return passed >= {"checksums", "structure"}

    @property
    def rehearsal(self) -> bool:
        return self.depth is not Depth.VERIFY


def latest_rehearsal(records: Iterable[CheckRecord]) -> CheckRecord | None:
    """Return the newest record of a rehearsal."""
    return _newest(record for record in records if record.rehearsal)


def latest_verification(records: Iterable[CheckRecord]) -> CheckRecord | None:
    """Return the newest record; every check begins with reading the whole set."""
    return _newest(records)


def decisive(records: Iterable[CheckRecord]) -> CheckRecord | None:
    """Return the newest conclusive record: a rehearsal that passed, or a failure."""
    return _newest(
        record
        for record in records
        if record.verdict is CheckVerdict.FAILED
        or (record.rehearsal and record.verdict is CheckVerdict.PASSED)
    )


def _newest(records: Iterable[CheckRecord]) -> CheckRecord | None:
    """Return the newest record; of several of one second, the one that was written last."""
    return max(reversed([*records]), key=lambda record: record.made, default=None)


def proven(records: Iterable[CheckRecord]) -> bool:
    """Tell whether a rehearsal passed and no check has failed since."""
    newest = decisive(records)
    return newest is not None and newest.verdict is CheckVerdict.PASSED


def refuted(records: Iterable[CheckRecord]) -> bool:
    """Tell whether a check failed and no rehearsal has passed since."""
    newest = decisive(records)
    return newest is not None and newest.verdict is CheckVerdict.FAILED


class Damaged(Failure):
    """A set differs from what was written; ``checks`` say where."""

    checks: Sequence[Check] = ()


def damaged(name: str, found: Sequence[Check]) -> Damaged | None:
    """Return the failure for set ``name`` after a failed check."""
    problems = [check.detail for check in found if check.result is Result.FAILED]
    if not problems:
        return None
    failure = Damaged(
        f"Set {name} is damaged",
        "; ".join(problems),
        "Choose another set (gitlab-mm list), and find out why this one is damaged.",
    )
    failure.checks = found
    return failure


def to_bytes(records: Sequence[CheckRecord]) -> bytes:
    """Return the content of rehearsal.json, the oldest record first."""
    document = {"format": FORMAT, "records": [as_fields(record) for record in records]}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def to_line(record: CheckRecord) -> bytes:
    """Return ``record`` as a line of the history."""
    return (json.dumps(as_fields(record), ensure_ascii=False) + "\n").encode()


def as_fields(record: CheckRecord) -> dict[str, Any]:
    """Return the record as a JSON object."""
    checks = [{**asdict(check), "result": check.result.value} for check in record.checks]
    return {**asdict(record), "depth": record.depth.value, "checks": checks}


def result_fields(record: CheckRecord) -> dict[str, Any]:
    """Return the record as it is shown: with its result."""
    return {**as_fields(record), "result": record.verdict.value}


def parse(data: bytes, where: str) -> list[CheckRecord]:
    """Return the records in the rehearsal.json ``data``; raises Failure for any other content."""
    with _refusing(where):
        records: list[CheckRecord] = validation.members(validation.from_json(data), _DOCUMENT)[
            "records"
        ]
        return records


def parse_line(line: bytes, where: str) -> CheckRecord:
    """Return the record of a line of the history; raises Failure for any other content."""
    with _refusing(where):
        return _record(validation.from_json(line))


@contextlib.contextmanager
def _refusing(where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failure(
            "The record of rehearsals cannot be read",
            f"{where}: {reason(error)[:200]}",
            "Remove the file; no set depends on it.",
        ) from None


def _check(value: Any) -> Check:
    fields = validation.members(
        value,
        {
            "name": validation.text,
            "result": validation.one_of(*(result.value for result in Result)),
            "detail": validation.text,
        },
    )
    return Check(fields["name"], Result(fields["result"]), fields["detail"])


def _record(value: Any) -> CheckRecord:
    fields = validation.members(value, _RECORD)
    return CheckRecord(**{**fields, "depth": Depth(fields["depth"])})


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _some(value: Any) -> list[Any]:
    """Accept a list that is not empty: a record without a check proves nothing."""
    if not _list(value):
        raise ValueError("an empty list")
    return _list(value)


_RECORD: dict[str, validation.Check] = {
    **dict.fromkeys(("set", "tool", "host", "mattermost", "postgresql"), validation.text),
    "depth": validation.one_of(*(depth_value.value for depth_value in Depth)),
    "started": validation.instant,
    "seconds": validation.seconds,
    "recovery_seconds": lambda value: value if value is None else validation.seconds(value),
    "checks": lambda value: [_check(entry) for entry in _some(value)],
    "left_out": lambda value: [validation.text(text) for text in _list(value)],
}
_DOCUMENT: dict[str, validation.Check] = {
    "format": validation.one_of(FORMAT),
    "records": lambda value: [_record(entry) for entry in _list(value)],
}

log = logging.getLogger(__name__)

HISTORY = Path("/var/lib/gitlab-mm-backup/rehearsals.jsonl")
_MOST_IN_SET = 30  # a nightly rehearsal of all sets must not grow each of them for ever
_MOST_IN_HISTORY = 2000
_LARGEST = 16 << 20  # bytes; more is no file of ours


def of_set(set_: BackupSet) -> list[CheckRecord]:
    """Return the records of ``set_``, oldest first; none where they cannot be read.

    Records from a clock that was ahead count only after their date has come.
    """
    return _dated(_all_of_set(set_))


class Records:
    """The records of the sets of one listing: each is read once, however many build on it."""

    def __init__(self) -> None:
        self._found: dict[Path, list[CheckRecord]] = {}
        self._refuted: dict[Path, bool] = {}

    def of(self, set_: BackupSet) -> list[CheckRecord]:
        if set_.path not in self._found:
            self._found[set_.path] = of_set(set_)
        return self._found[set_.path]

    def refuted(self, set_: BackupSet) -> bool:
        """Tell whether a check of the set, or of one that it builds on, was the last and failed."""
        if set_.path not in self._refuted:
            below = set_.base is not None and self.refuted(set_.base)
            self._refuted[set_.path] = below or refuted(self.of(set_))
        return self._refuted[set_.path]


def _dated(found: list[CheckRecord]) -> list[CheckRecord]:
    now = clock.now()
    return [record for record in found if not clock.ahead(record.made, now)]


def _all_of_set(set_: BackupSet) -> list[CheckRecord]:
    path = f"{set_.path}/{EVIDENCE}"
    data = _read(path)
    try:
        return parse(data, path) if data else []
    except Failure as failure:
        log.info("%s", failure)
        return []


def history(path: Path = HISTORY) -> list[CheckRecord]:
    """Return the records of all sets, oldest first, without lines cut by a power loss."""
    return _dated(_all(path))


def _all(path: Path) -> list[CheckRecord]:
    found = []
    for line in _read(path).splitlines():
        with contextlib.suppress(Failure):
            found.append(parse_line(line, str(path)))
    return found


def keep_record(set_: BackupSet, record: CheckRecord, path: Path = HISTORY) -> list[str]:
    """Add ``record`` to the set and the history; return warnings where that fails.

    Safe against another process that does the same at the same time.
    """
    warnings = []
    try:
        with lock.noting(set_.path):
            kept = [*_all_of_set(set_), record][-_MOST_IN_SET:]
            replace_file(set_.path / EVIDENCE, to_bytes(kept))
    except OSError as error:
        warnings.append(
            f"The result could not be recorded in the set: {set_.path}: {error.strerror}"
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock.noting(path.parent):
            lines = [to_line(entry) for entry in [*_all(path), record][-_MOST_IN_HISTORY:]]
            replace_file(path, b"".join(lines))
    except OSError as error:
        warnings.append(
            f"The result could not be recorded in the history: {path}: {error.strerror}"
        )
    return warnings


def _read(path: Path | str) -> bytes:
    """Return the file's bytes; none where it is missing or cannot be one of ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return b""
