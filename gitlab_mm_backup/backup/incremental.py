"""The files and the listing of a set: full, or the changes since another set."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from .. import clock
from ..config.settings import Settings
from ..store import archive_writer, check_records, file_list
from ..store.file_list import LISTING
from ..store.frames import INDEX
from ..store.local import PartWriter
from ..store.manifest import Increment, Part
from ..store.sets import LONGEST_CHAIN, BackupSet, part_problem
from ..system import progress
from ..system.process import compress, pipeline

log = logging.getLogger(__name__)

# A full set is due this much early, because tonight's run may be quicker than last week's.
_SLACK = timedelta(hours=12)


@dataclass(frozen=True)
class Packed:
    """The parts that were written, and the totals of a restore of the set.

    Without a listing among them the set is neither a base nor incremental.
    """

    parts: Mapping[str, Part]
    whole: archive_writer.Contents
    base: BackupSet | None = None
    increment: Increment | None = None


def choose_base(
    own: Sequence[BackupSet], full_every: timedelta | None, roles: Mapping[str, str], now: datetime
) -> BackupSet | None:
    """Return the base for the next set: the newest, unless there is an objection.

    ``own`` are this host's sets, newest first; one with a date in the future does not count.
    ``roles`` are the current paths of Mattermost's folders, as in a manifest.
    """
    counting = [set_ for set_ in own if not clock.ahead(set_.manifest.made, now)]
    newest = next((set_ for set_ in counting if not set_.manifest.safety), None)
    why = "there is no set yet"
    if newest is not None:
        why = _objection(newest, roles) or _due(newest, full_every, now)
    if why:
        log.info("Packing all files: %s", why)
        return None
    return newest


def _objection(newest: BackupSet, roles: Mapping[str, str]) -> str:
    """Return, as text, the objection to ``newest`` as the base, or ""."""
    listed = newest.manifest.parts.get(LISTING)
    if listed is None:
        return f"set {newest.name} has no listing"
    if newest.manifest.files.folders != roles:
        return f"Mattermost's directories are not where they were in set {newest.name}"
    for set_ in newest.chain:
        if check_records.refuted(check_records.of_set(set_)):
            return f"set {set_.name} did not pass its last check"
    if part_problem(newest.path / listed.file, listed):
        return f"the listing of set {newest.name} is damaged"
    return ""


def _due(newest: BackupSet, full_every: timedelta | None, now: datetime) -> str:
    if len(newest.chain) >= LONGEST_CHAIN:
        return f"set {newest.name} is the last of {LONGEST_CHAIN}"
    age = now - newest.chain[0].manifest.made
    if full_every is not None and age >= full_every - min(_SLACK, full_every / 14):
        return "a full set is due"
    return ""


def pack(
    settings: Settings,
    base: BackupSet | None,
    staging: Path,
    found: archive_writer.Survey,
) -> Packed:
    """Write the files part and the listing into ``staging``, incremental to ``base`` if it pays."""
    with contextlib.ExitStack() as stack:
        files = (stack.enter_context(tempfile.TemporaryFile(dir=staging)) for _ in range(5))
        now, marked, names, final, index = files
        roots = archive_writer.outermost(found.folders)
        file_list.take(roots, staging, now)
        planned, base = _plan(now, list(found.folders), base, marked)
        planned.write_names(names)
        witness = file_list.ListingWriter(planned, final)
        writer = PartWriter(staging / "files.tar.zst")
        stack.callback(writer.close)
        packer = compress(settings.files_level, settings.packers)
        with progress.measured("files", planned.changed.size, lambda: witness.packed.size):
            archive_writer.pack_named(
                names,
                roots,
                found,
                packer,
                writer.write,
                witness.add_line,
                index.write,
            )
        witness.finish()
        form = "tar of what changed, zstd" if base else "tar, zstd"
        parts = {
            "files": writer.finish(form),
            LISTING: keep(settings, staging / "files.list.zst", final),
            INDEX: keep(settings, staging / "files.index.zst", index),
        }
    increment = None
    if base is not None:
        packed = witness.packed
        increment = Increment(base.name, base.identity, packed.files, packed.size)
    return Packed(parts, witness.whole, base, increment)


def _plan(
    now: IO[bytes], folders: list[Path], base: BackupSet | None, marked: IO[bytes]
) -> tuple[file_list.ChangePlan, BackupSet | None]:
    """Return the changes and their base; if most has changed, it becomes a full set."""
    if base is not None:
        with file_list.bases(base.file(LISTING)) as before:
            planned = file_list.plan(now, before, len(base.chain), folders, marked)
        if planned.changed.size * 2 <= planned.whole.size:
            return planned, base
        log.info("Packing all files: more than half has changed since set %s", base.name)
        marked.seek(0)
        marked.truncate()
    return file_list.plan(now, (), 0, folders, marked), None


def keep(settings: Settings, path: Path, records: IO[bytes]) -> Part:
    """Write a part of records: the listing, or the index."""
    writer = PartWriter(path)
    records.seek(0)
    packer = compress(settings.files_level, settings.packers)
    pipeline(packer, stdin=records, sink=writer.write)
    return writer.finish("records ended by NUL, zstd")
