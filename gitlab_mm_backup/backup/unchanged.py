"""Whether anything was changed since the newest set, so that a scheduled run makes none.

A set is recorded with what it was made from, as it was before: database, files, settings. Nothing is
taken for unchanged on the word of a counter or a clock; where that cannot be known, a set is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import clock, version
from ..config.settings import Settings
from ..errors import Failure
from ..mattermost.site import Site
from ..postgresql import dump
from ..postgresql.dump import DatabaseState
from ..store import archive_writer, check_records, file_list, manifest, soundness
from ..store.inventory import Store
from ..store.sets import BackupSet, cut_short
from ..system import files, validation
from ..system.files import STATE
from . import configuration, parts

log = logging.getLogger(__name__)

RECORD = STATE / "unchanged.json"
_FORMAT = 1
# Two changes within a tick of the kernel's clock have one time, and so has what is listed between.
_STEADY = 2.0  # seconds since the newest change of a file


@dataclass(frozen=True)
class Sources:
    """Everything but the database that a set is made from, as SHA-256."""

    files: str  # "": they were being changed
    settings: str
    versions: str


@dataclass(frozen=True)
class Record:
    """A set, what it was made from, and when nothing had changed since."""

    set: str
    identity: str  # SHA-256 of its manifest
    sources: Sources
    database: DatabaseState
    seen: str = ""  # RFC 3339, UTC; "": never

    def of(self, set_: BackupSet) -> bool:
        return (self.set, self.identity) == (set_.name, _identity(set_))


def look(site: Site, settings: Settings, store: Store) -> Sources:
    """Return what a set would be made from now; raises Failure where it cannot be read."""
    ours = configuration.find(settings)
    own = {str(path): _content(file) for path, file in ours.files.items()}
    versions = [
        version.tool(),
        site.kind.value,
        site.version,
        str(site.gitlab.version),
        {role: str(path) for role, path in site.folders.real.items()},
        settings.files,
        settings.store,
        own,
        ours.left_out,
    ]
    return Sources(
        _files(site, store),
        hashlib.sha256(parts.settings_of(site)).hexdigest(),
        _digest(versions),
    )


def keep(made: BackupSet, sources: Sources | None, database: DatabaseState | None) -> None:
    """Record a finished set whose ``sources`` are known, or that it can never be taken for unchanged."""
    if sources is None:
        return
    try:
        if database is None or not sources.files:
            RECORD.unlink(missing_ok=True)
        else:
            _write(Record(made.name, _identity(made), sources, database))
    except (Failure, OSError) as error:
        log.info("The state of set %s could not be recorded: %s", made.name, error)


def since(
    site: Site, settings: Settings, store: Store, own: Sequence[BackupSet]
) -> BackupSet | None:
    """Return the newest set, of ``own``, if nothing has changed since; record this moment.

    None where something has, the set has a flaw, or that cannot be known.
    """
    now = clock.now()
    newest = next((set_ for set_ in own if not set_.manifest.safety), None)
    record = read()
    if newest is None or record is None or not record.of(newest) or _flawed(newest, now):
        return None
    try:
        if not dump.same(site.database, record.database):
            return None
        if look(site, settings, store) != record.sources:
            return None
        _write(dataclasses.replace(record, seen=clock.utc(now)))
    except (Failure, OSError) as failure:
        log.info("Whether anything has changed is not known: %s", failure)
        return None
    return newest


def confirmed(sets: Iterable[BackupSet], now: datetime) -> dict[str, datetime]:
    """Return the set of ``sets`` after which nothing had changed, and until when; {} without one."""
    record = read()
    if record is None or not record.seen:
        return {}
    seen = clock.parse_moment(record.seen)
    return {
        set_.name: seen
        for set_ in sets
        if set_.name == record.set
        and record.of(set_)
        and set_.manifest.made < seen
        and not clock.ahead(seen, now)
    }


def read(path: Path | None = None) -> Record | None:
    """Return the record; None where there is none that can be read."""
    try:
        return files.read_state(path or RECORD, _record)
    except files.unreadable_state:
        return None


def _flawed(set_: BackupSet, now: datetime) -> bool:
    """Tell whether a set, or one that it builds on, is not sound."""
    accepted = soundness.accepted_names()
    found = any(
        soundness.flaws(link.manifest, check_records.of_set(link), accepted, now)
        for link in set_.chain
    )
    return found or (
        set_.source is None and bool(cut_short(set_.path, set_.manifest.parts.values()))
    )


def _files(site: Site, store: Store) -> str:
    """Return the SHA-256 of the list of all files; "" where one was changed just now."""
    folders = [path for path in site.folders.real.values() if path.is_dir()]
    etc, excluded = parts.gitlab_settings(site)
    with tempfile.TemporaryDirectory(dir=STATE, prefix=files.WORK) as place:
        listed = _Listed(time.time() - _STEADY, [os.fsencode(path) for path in excluded])
        roots = archive_writer.outermost(folders)
        file_list.take([*roots, *etc], Path(place), listed)
    return listed.digest


class _Listed:
    """Take a listing, record by record, without keeping it."""

    def __init__(self, steady: float, excluded: Sequence[bytes]) -> None:
        self._sha256 = hashlib.sha256()
        self._rest = b""
        self._steady = steady  # seconds since 1970
        self._excluded = tuple(path + b"/" for path in excluded)
        self._moving = False

    def write(self, piece: memoryview) -> None:
        *records, self._rest = (self._rest + bytes(piece)).split(b"\0")
        for record in records:
            if record.startswith(self._excluded):
                continue
            self._sha256.update(record + b"\0")
            # <path>//<level> <kind> <size> <mode> <inode> <mtime> <ctime> <names>
            if float(record.rsplit(b" ", 2)[1]) > self._steady:
                self._moving = True
            path, _, told = record.partition(b"//")
            if told[2:3] == b"l":
                self._sha256.update(_target(os.fsdecode(path)))

    def flush(self) -> None:
        pass

    @property
    def digest(self) -> str:
        return "" if self._moving else self._sha256.hexdigest()


def _target(link: str) -> bytes:
    """Return what a link leads to, and the state of that: a set may have the file in its place."""
    try:
        there = os.stat(link)
        known = (there.st_mode, there.st_size, there.st_ino, there.st_mtime_ns, there.st_ctime_ns)
        return f"{os.readlink(link)!r} {known}".encode(errors="surrogateescape")
    except OSError as error:
        return str(error.errno).encode()


def _content(path: Path) -> str:
    return hashlib.sha256(files.read_regular(path, links=True)).hexdigest()


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def _identity(set_: BackupSet) -> str:
    return hashlib.sha256(manifest.to_bytes(set_.manifest)).hexdigest()


def _write(record: Record) -> None:
    files.write_state(RECORD, {"format": _FORMAT, **dataclasses.asdict(record)})


def _rows(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("not a number of rows and a sum")
    return [validation.count(value[0]), validation.text(value[1])]


_DATABASE: dict[str, validation.Check] = {
    **dict.fromkeys(("server", "properties"), validation.text),
    **dict.fromkeys(("database", "since"), validation.count),
    "tables": validation.each(validation.text, _rows),
    "sequences": validation.each(validation.text, validation.text),
}
_SOURCES = dict.fromkeys(("files", "settings", "versions"), validation.sha256)
_RECORD: dict[str, validation.Check] = {
    "format": validation.one_of(_FORMAT),
    "set": manifest.set_name,
    "identity": validation.sha256,
    "sources": lambda value: Sources(**validation.members(value, _SOURCES)),
    "database": lambda value: DatabaseState(**validation.members(value, _DATABASE)),
    "seen": lambda value: validation.instant(value) if value else "",
}


def _record(value: Any) -> Record:
    found = validation.members(value, _RECORD)
    del found["format"]
    return Record(**found)
