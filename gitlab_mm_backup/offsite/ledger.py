"""The local record of copies by remote; a copy is recorded only after it was checked there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import clock
from ..config import identity, places
from ..config.identity import Host
from ..config.settings import Remote
from ..errors import ExitCode, Failure
from ..store import inventory
from ..store import manifest as store_manifest
from ..store.inventory import Store
from ..store.manifest import Manifest, is_set_name
from ..store.restic_store import ResticStore
from ..system import files, validation
from ..system.files import STATE

NOTES = STATE / "offsite.json"
_SENT: Mapping[str, validation.Check] = {
    "bytes": validation.count,
    "hashes": validation.each(validation.text, validation.text),
}
_SINCE_IDS = {"host", "installation", "empty", "shrunken"}


@dataclass(frozen=True)
class SentFile:
    """A file at a remote, and the hashes of what was sent."""

    bytes: int
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class PartialCopy:
    """An incomplete copy: its files so far, encrypted to these recipients."""

    recipients: tuple[str, ...]
    files: dict[str, SentFile]
    host: str = ""  # that made the set, as manifest.host_of has it; "" in notes of before 0.2


@dataclass(frozen=True)
class CopyRecord:
    """A complete and checked copy."""

    at: str  # RFC 3339, UTC
    bytes: int
    checks: tuple[str, ...]  # of copies.CHECKS
    base: str  # the set that it builds on; "" if it needs no other
    host: str = ""  # that made the set, as manifest.host_of has it; "" in notes of before 0.2
    installation: str = ""  # that the set is of; "" where it is not known
    empty: bool = False  # that Mattermost had never been used
    shrunken: bool = False  # it looked emptied when it was made


@dataclass
class Notes:
    """The record of one remote."""

    path: str
    sets: dict[str, CopyRecord] = field(default_factory=dict)
    begun: dict[str, PartialCopy] = field(default_factory=dict)


def of(remote: Remote, path: Path = NOTES) -> Notes:
    """Return the record of ``remote``; an empty one where its path has changed."""
    notes = everything(path).get(remote.name)
    return notes if notes is not None and notes.path == remote.path else Notes(remote.path)


def everything(path: Path = NOTES) -> dict[str, Notes]:
    """Return the record of each remote by name; an invalid file counts as empty."""
    try:
        found: dict[str, Notes] = files.read_state(path, validation.each(validation.text, _notes))
        return found
    except files.unreadable_state:
        return {}


def keep(remote: Remote, notes: Notes, path: Path = NOTES) -> None:
    """Write the record of ``remote``; raises Failure where that fails."""
    _write({**everything(path), remote.name: notes}, path)


def forget_place(wanted: str, path: Path = NOTES, marks: Path = places.NOTES) -> str:
    """Forget a location of sets or copies by its path or remote; return its path.

    Nothing there changes: the next run treats it as new. Raises Failure.
    """
    wanted = wanted.rstrip("/") or "/"
    known = everything(path)
    gone = {name: notes.path for name, notes in known.items() if wanted in (name, notes.path)}
    found = [*places.forget(wanted, marks), *gone.values()]
    if not found:
        all_ = dict.fromkeys([*places.noted(marks), *(remote.path for remote in known.values())])
        raise Failure(
            f"{wanted} is not a location that this host has used",
            f"known: {', '.join(all_) or 'none'}",
            "Give one of these paths or the name of a remote.",
            ExitCode.USAGE,
        )
    if gone:
        _write({name: notes for name, notes in known.items() if name not in gone}, path)
    return found[0]


def _write(known: Mapping[str, Notes], path: Path) -> None:
    files.write_state(path, {name: asdict(notes) for name, notes in known.items()})


def by_set(path: Path = NOTES) -> dict[str, list[str]]:
    """Return the names of the remotes that have a checked copy, by set."""
    found: dict[str, list[str]] = {}
    for name, notes in everything(path).items():
        for set_ in notes.sets:
            found.setdefault(set_, []).append(name)
    return found


def newest(names: Iterable[str], host: Host, path: Path = NOTES) -> dict[str, float | None]:
    """Return, by remote, the start of the newest set of ``host`` with a checked copy there.

    In seconds since 1970, as in names of sets; None where there is no copy. Sets that looked
    emptied or have a date in the future do not count.
    """
    known, now = everything(path), clock.now().timestamp()
    found: dict[str, float | None] = {}
    for remote in names:
        sets = known[remote].sets if remote in known else {}
        moments = (
            float(name[:10])
            for name, there in sets.items()
            if is_set_name(name) and host.owns(there.host) and not there.shrunken
        )
        found[remote] = max((moment for moment in moments if moment <= now), default=None)
    return found


def whose(manifest: Manifest) -> dict[str, Any]:
    """Return the recorded owner of a copy, and whether it could replace a fuller one."""
    return {
        "host": store_manifest.host_of(manifest),
        "installation": manifest.installation,
        "empty": manifest.empty,
        "shrunken": bool(manifest.shrunken),
    }


def _notes(value: Any) -> Notes:
    return Notes(**validation.members(value, _NOTES))


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return tuple(validation.text(name) for name in value)


_BEGUN: Mapping[str, validation.Check] = {
    "recipients": _texts,
    "files": validation.each(
        validation.text, lambda value: SentFile(**validation.members(value, _SENT))
    ),
    "host": validation.text,
}
_THERE: Mapping[str, validation.Check] = {
    "at": validation.text,
    "bytes": validation.count,
    "checks": _texts,
    "base": validation.text,
    "host": validation.text,
    "installation": validation.identifier,
    "empty": validation.one_of(True, False),
    "shrunken": validation.one_of(True, False),
}
_NOTES: Mapping[str, validation.Check] = {
    "path": validation.text,
    "sets": validation.each(
        validation.text, lambda value: CopyRecord(**validation.members(value, _THERE, _SINCE_IDS))
    ),
    "begun": validation.each(
        validation.text, lambda value: PartialCopy(**validation.members(value, _BEGUN, {"host"}))
    ),
}


def newest_elsewhere(store: Store, remotes: Iterable[str]) -> dict[str, float | None]:
    """Return the start of the newest set at each location outside this host.

    In seconds since 1970, None where there is no set, by ``remotes``; a store elsewhere is called
    restic.
    """
    here = identity.known()
    found = newest(remotes, here)
    if isinstance(store, ResticStore) and store.repository.elsewhere:
        sets = inventory.own_sets(here, store.sets())
        moments = [set_.manifest.made for set_ in sets if not set_.manifest.safety]
        found["restic"] = max((moment.timestamp() for moment in moments), default=None)
    return found
