"""Undo: a stack of undo steps, each recorded before its action; and the undo file of a recovery."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ExitCode, Failure, reason
from ..mattermost.journal import Step
from ..mattermost.owned_rows import TABLES
from ..postgresql.contents import Change, Key
from ..system import files, log, signals, validation
from ..system.files import STATE

Action = Callable[..., None]
_FORMATS = (1, 2)  # 1 has no states: such a file is complete
_FINISHED = '{"state": "finished"}'
_ROWS = 1000  # of a table, in a line of an undo file


class Undo:
    """Undo all steps when the ``with`` block ends, except after ``commit``.

    The last step is undone first; a failing undo does not stop the others. When one failed, the
    block raises a Failure with ExitCode.ATTENTION that names it.
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        note: Callable[[list[Step], list[Step]], None],
    ) -> None:
        """``note`` writes two lists to disk: the steps to undo, and those left to finish."""
        self._actions = actions
        self._note = note
        self._steps: list[Step] = []
        self._committed = False

    def will(self, action: str, **values: str) -> None:
        """Record the undo of an action, before the action."""
        self._add(Step(action, values))

    def will_last(self, action: str, **values: str) -> None:
        """Record an undo that must not run where an earlier one failed."""
        self._add(Step(action, values, last=True))

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        self._note(self._steps, [])

    def commit(self, finish: list[Step]) -> None:
        """Make all steps final; ``finish`` is recorded as still to do."""
        signals.ignore()  # from here on an interruption could only be told wrongly
        self._note([], finish)
        self._committed = True

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._committed:
            return
        signals.ignore()
        problems = run(reversed(self._steps), self._actions)
        if problems:  # what is noted stays, for gitlab-mm restore --rollback
            raise Failure(
                "The operation failed, and not everything could be rolled back",
                "; ".join([*([log.bug_words(cause)] if cause else []), *problems]),
                "Fix the above, then run gitlab-mm restore --rollback.",
                ExitCode.ATTENTION,
            ) from cause
        self._note([], [])


def run(steps: Iterable[Step], actions: Mapping[str, Action]) -> list[str]:
    """Run all ``steps`` in order; return the problems as text."""
    problems: list[str] = []
    for step in steps:
        if step.last and problems:
            problems.append(f"{step.action}: not done because of the above")
            continue
        try:
            actions[step.action](**step.values)
        except Exception as error:  # a bug in one must not keep the others from being done
            problems.append(f"{step.action}: {log.bug_words(error)}")
    return problems


@dataclass
class RecoveryRecord:
    """What a recovery has done, as its undo file has it."""

    about: dict[str, str] = field(default_factory=dict)  # set, kind, id, name, installation
    inserted: list[tuple[str, list[Key]]] = field(default_factory=list)  # table, keys of rows
    digests: dict[str, list[Key]] = field(default_factory=dict)  # table -> (id, MD5 of the row)
    changes: list[Change] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # path -> SHA-256; "" for an incomplete one
    directories: list[str] = field(default_factory=list)  # that were made for files
    transaction: str = ""  # PostgreSQL's number of the one that wrote the rows
    finished: bool = False  # by the recovery; Mattermost has read its rows anew
    undoing: bool = False  # an undo began, and did not end

    def may_be_of(self, installation: str) -> bool:
        """Tell whether it was made in a Mattermost, by its id; "" stands for one that is not known."""
        then = self.about.get("installation", "")
        return "" in (then, installation) or then == installation


class RecoveryLog:
    """An open undo file: JSON Lines, for root only. Files are noted as they are written."""

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        """Create the file; raises Failure, with no file left."""
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise _unwritable(error) from error
        try:
            self.note({"format": _FORMATS[-1], **about})
        except Failure:
            os.close(self._file)
            self.remove()
            raise

    def __enter__(self) -> RecoveryLog:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def note(self, *lines: Mapping[str, object]) -> None:
        """Append lines; a crash of this program does not lose them. Raises Failure.

        A full disk may leave a part of a line, whose action is not begun then.
        """
        try:
            for line in lines:
                _append(self._file, line)
        except OSError as error:
            raise _unwritable(error) from error

    def settle(
        self,
        inserted: Mapping[str, Sequence[Key]],
        digests: Mapping[str, Sequence[Key]],
        changes: Iterable[Change],
        transaction: str,
    ) -> None:
        """Note all rows, before they are committed, and sync the file to disk; raises Failure."""
        for word, tables in (("inserted", inserted), ("digests", digests)):
            for name, keys in tables.items():
                for start in range(0, len(keys), _ROWS):
                    self.note({word: name, "rows": keys[start : start + _ROWS]})
        for change in changes:
            self.note({"changed": change.table, "key": change.key, "columns": dict(change.columns)})
        self.note({"transaction": transaction})
        try:
            os.fsync(self._file)
            files.sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(error) from error

    def remove(self) -> None:
        """Remove the file: nothing was changed."""
        self.path.unlink(missing_ok=True)


def _append(file: int, line: Mapping[str, object]) -> None:
    """Write a line without a buffer: what is left in one would be written again at the end."""
    left = json.dumps(line, ensure_ascii=True).encode() + b"\n"
    while left:
        left = left[os.write(file, left) :]


def _unwritable(error: OSError) -> Failure:
    return Failure(
        "The undo file cannot be written",
        reason(error),
        f"Free some disk space in {STATE}, then run the command again; nothing was changed.",
    )


def note_state(path: Path, state: str) -> None:
    """Note in an undo file that the recovery or an undo of it is ``finished`` or ``undoing``.

    On a full disk it is not noted: then the next recovery says once more what it found.
    """
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            whole = os.pread(file, os.fstat(file).st_size, 0).rfind(b"\n") + 1
            os.ftruncate(file, whole)  # without a part of a line
            _append(file, {"state": state})
        finally:
            os.close(file)


def interrupted(installation: str) -> list[tuple[Path, RecoveryRecord]]:
    """Return the undo files of recoveries that did not come to their end, oldest first.

    Those of another Mattermost than ``installation`` are left out; "" stands for one that is not known.
    """
    found = []
    for path in sorted(STATE.glob("recovery-*.jsonl")):
        *_, last = ("", *files.last_lines(path))
        if last == _FINISHED:  # most are, and may be large
            continue
        with contextlib.suppress(Failure):  # no file of ours
            record = read_recovery(path)
            if not record.finished and record.may_be_of(installation):
                found.append((path, record))
    return found


def log_path(name: str) -> Path:
    """Return the path of a new undo file."""
    return STATE / f"recovery-{name}.jsonl"


def read_recovery(path: Path) -> RecoveryRecord:
    """Read an undo file; raises Failure where it is none of ours."""
    record, number = RecoveryRecord(), 0
    try:
        with files.open_regular(path) as file, open(file.fileno(), "rb", closefd=False) as lines:
            for number, line in enumerate(lines, 1):
                if number > 1 and not line.endswith(b"\n"):
                    break  # the disk was full, or the recovery was killed: this was not begun
                _take(record, validation.from_json(line), first=number == 1)
        if not number:
            raise ValueError("it is empty")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(
            f"{path} cannot be read",
            reason(error),
            "Give the undo file that the recovery named.",
            ExitCode.USAGE,
        ) from None
    return record


def _take(record: RecoveryRecord, line: Mapping[str, Any], *, first: bool) -> None:
    if first:
        if line["format"] not in _FORMATS:
            raise ValueError(f"format {line['format']} is not known")
        record.finished = line["format"] == 1
        record.about = {name: str(value) for name, value in line.items() if name != "format"}
        return
    known = {table.name for table in TABLES}
    rows = [tuple(map(str, row)) for row in line.get("rows", ())]
    name = str(line.get("inserted") or line.get("digests") or line.get("changed") or "")
    if name and name not in known:
        raise ValueError(f"{name} is no table of a recovery")
    if "inserted" in line:
        record.inserted.append((name, rows))
    elif "digests" in line:
        record.digests.setdefault(name, []).extend(rows)
    elif "changed" in line:
        columns = {str(column): (old, new) for column, (old, new) in line["columns"].items()}
        record.changes.append(Change(name, tuple(map(str, line["key"])), columns))
    else:
        _take_step(record, line)


def _take_step(record: RecoveryRecord, line: Mapping[str, Any]) -> None:
    if "directory" in line:
        record.directories.append(str(line["directory"]))
    elif "file" in line:
        record.files[str(line["file"])] = str(line.get("sha256", ""))
    elif "stays" in line:
        record.files.pop(str(line["stays"]), None)
    elif "transaction" in line:
        record.transaction = str(line["transaction"])
    elif "state" in line:
        record.undoing = line["state"] == "undoing"
        record.finished = record.finished or not record.undoing
