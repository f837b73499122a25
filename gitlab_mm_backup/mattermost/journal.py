"""State that survives a run: journal of a restore, previous states, what is still to be done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from .. import clock
from ..errors import ExitCode, Failure, reason
from ..postgresql.dump_contents import Index
from ..system import humanize, validation
from ..system.files import STATE, replace_file, sync_folder


@dataclass(frozen=True)
class Step:
    """One action by name and plain values, so that a journal on disk can hold it.

    The action must be idempotent. An undo must also work where its action has not happened, or
    only in part, because it is recorded before the action.
    """

    action: str
    values: Mapping[str, str]
    last: bool = False  # not to be done while anything before it could not be done


_ABSENT = object()
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class UnfinishedRestore:
    """An interrupted restore."""

    request: Mapping[str, Any]  # the set's path and the options, to do it again
    undo: list[Step]  # in the order of the acts
    finish: list[Step]  # where it is complete but for these


@dataclass(frozen=True)
class Previous:
    """The previous live state of a restore, which is kept."""

    since: str  # RFC 3339
    steps: list[Step]  # that remove it
    site: str = "omnibus"  # the kind of the site that it is of

    @property
    def moment(self) -> datetime:
        return clock.parse_moment(self.since)


@dataclass(frozen=True)
class PendingUploads:
    """The uploads that a restore unpacks after Mattermost's start; ``set`` "" for none."""

    token: str  # of the restore
    set: str  # its reference, as a store finds it
    name: str
    identity: str
    plan: Mapping[str, Any]
    before: str  # a day, as 20261124: uploads of earlier days are unpacked later
    work: str  # work directory
    bytes: int
    left: int = 0  # bytes
    done: str = ""  # the earliest day that is unpacked, as are all later ones
    there: Sequence[str] = ()  # days that were there already
    pinned: bool = False  # by this restore, so that the set stays

    @property
    def words(self) -> str:
        """What is not unpacked yet, as a sentence."""
        size = f"{humanize.size(self.left)} of {humanize.size(self.bytes)}"
        return f"Earlier uploads of set {self.name} are not unpacked yet ({size})"


class Journal:
    """Four files in the state directory, for root only."""

    def __init__(self, state: Path = STATE) -> None:
        self.path = state / "restore.json"
        self._previous = state / "previous.json"
        self._later = state / "indexes.json"
        self._uploads = state / "uploads.json"

    def write(self, request: Mapping[str, Any], undo: list[Step], finish: list[Step]) -> None:
        """Write the record to disk; a record without steps is removed."""
        record = asdict(UnfinishedRestore(request, undo, finish)) if undo or finish else None
        self._write(self.path, record)

    def read(self) -> UnfinishedRestore | None:
        """Return the interrupted restore, or None.

        Raises Failure with ExitCode.ATTENTION when its record cannot be read.
        """
        document = self._read(self.path)
        if document is _ABSENT:
            return None
        try:
            steps = [[Step(**step) for step in document[name]] for name in ("undo", "finish")]
            return UnfinishedRestore(document["request"], *steps)
        except (TypeError, KeyError) as error:
            raise _unreadable(self.path, reason(error)) from error

    def previous(self) -> list[Previous]:
        """Return the kept previous states, oldest first."""
        try:
            return [
                Previous(
                    state["since"],
                    [Step(**step) for step in state["steps"]],
                    state.get("site", "omnibus"),
                )
                for state in self._previous_document()
            ]
        except (TypeError, KeyError) as error:
            raise _unreadable(self._previous, reason(error)) from error

    def keep(self, states: list[Previous]) -> None:
        """Replace the list of kept previous states."""
        self._write(self._previous, [asdict(state) for state in states] or None)

    def later(self) -> list[Index]:
        """Return the indexes still to build, in order."""
        return self._entries(self._later, Index)

    def keep_later(self, indexes: Sequence[Index]) -> None:
        """Replace the list of indexes still to build."""
        self._write(self._later, [asdict(index) for index in indexes] or None)

    def uploads(self) -> list[PendingUploads]:
        """Return the uploads still to unpack; the first entry counts, others are of before it."""
        return self._entries(self._uploads, PendingUploads)

    def _entries(self, path: Path, kind: Callable[..., _Entry]) -> list[_Entry]:
        """Return what a file lists; none where it is absent."""
        document = self._read(path)
        try:
            return [] if document is _ABSENT else [kind(**entry) for entry in document]
        except TypeError as error:
            raise _unreadable(path, reason(error)) from error

    def pending(self) -> PendingUploads | None:
        """Return the uploads of the live state that are still to unpack, None for none."""
        return next((entry if entry.set else None for entry in self.uploads()[:1]), None)

    def keep_uploads(self, entries: Sequence[PendingUploads]) -> None:
        """Replace the list of uploads still to unpack."""
        self._write(self._uploads, [asdict(entry) for entry in entries] or None)

    def _previous_document(self) -> list[Any]:
        document = self._read(self._previous)
        return [] if document is _ABSENT else list(document)

    def _write(self, path: Path, document: Any) -> None:
        try:
            for left in path.parent.glob(f".{path.name}.*"):  # of a run killed while writing
                left.unlink()
            if document is None:
                path.unlink(missing_ok=True)
                if path.parent.exists():
                    sync_folder(path.parent)
            else:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(path, json.dumps(document).encode())
        except OSError as error:
            raise Failure(f"{path} cannot be written", str(error.strerror)) from error

    def _read(self, path: Path) -> Any:
        try:
            return validation.from_json(path.read_bytes())
        except FileNotFoundError:
            return _ABSENT
        except (OSError, ValueError) as error:
            raise _unreadable(path, reason(error)) from error


def _unreadable(path: Path, detail: str) -> Failure:
    return Failure(
        f"{path} cannot be read",
        detail,
        "Without it an interrupted restore must be finished or rolled back by hand.",
        ExitCode.ATTENTION,
    )
