"""gitlab-mm list: the sets of a store, or the copies at a remote, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .. import clock
from ..config import identity
from ..health import remarks
from ..result import CommandResult
from ..store import check_records, prune, soundness
from ..store.check_records import CheckRecord, CheckVerdict, latest_rehearsal, latest_verification
from ..system import humanize
from . import terminal
from .common import settings_and_store, verb

if TYPE_CHECKING:
    from datetime import datetime

    from ..config.identity import Host
    from ..config.origin import Origin
    from ..config.settings import Remote, Settings
    from ..offsite.copies import RemoteEntry
    from ..restore.choice import Found
    from ..store.inventory import Store
    from ..store.manifest import Manifest
    from ..store.sets import BackupSet, SetEntry
    from ..store.soundness import Flaw
    from .output import Context

HEADINGS = ("SET", "AGE", "SIZE", "POSTS", "FILES", "VERIFIED", "REHEARSED", "COPIES")
_NEVER = "never"
_NOT_KNOWN = "-"
_LOUD = ("NOT", "DAMAGED", "FAILED")  # words in red
_GAP = "  "


@dataclass(frozen=True)
class Listed:
    """A set, or an incomplete one, with its check records and flaws, for a list."""

    entry: SetEntry
    proven: Sequence[CheckRecord] = ()
    flaws: Sequence[Flaw] = ()
    origin: Origin | None = None  # None: not complete
    copies: Sequence[str] = ()  # remotes that have a checked copy


@dataclass(frozen=True)
class Row:
    """One set of the table: its cells after the name, and the lines below."""

    name: str
    cells: Sequence[str]  # none: not complete
    below: Sequence[str]


def table(rows: Sequence[Row], width: int | None) -> list[str]:
    """Return the heading and one text for each row.

    Where the table is wider than ``width``, each name has its own line.
    """
    columns = [HEADINGS[1:], *(row.cells for row in rows if row.cells)]
    widths = [max(map(len, column)) for column in zip(*columns)]
    longest = max([len(HEADINGS[0]), *(len(row.name) for row in rows if row.cells)])
    wide = width is None or longest + sum(widths) + len(_GAP) * len(widths) <= width

    def line(name: str, cells: Sequence[str]) -> str:
        told = _GAP.join(cell.rjust(room) for cell, room in zip(cells, widths)).rstrip()
        return f"{name:{longest}}{_GAP}{told}" if wide else f"{name}\n{_GAP}{told}"

    texts = [line(HEADINGS[0], HEADINGS[1:])]
    for row in rows:
        head = line(row.name, row.cells) if row.cells else row.name
        texts.append("\n".join([head, *(f"  {text}" for text in row.below)]))
    return texts


def list_result(listed: Sequence[Listed], store: Store, here: Host) -> CommandResult:
    """Return the list of a store's sets, and how many sets of other hosts are not shown."""
    damaged = damaged_names(listed)
    rows = [_row(item, damaged, here) for item in listed]
    lines = table(rows, terminal.columns()) if rows else [f"No sets in {store.where}"]
    others = store.others()
    lines += [
        f"{humanize.number(host.sets, 'set')} of host {host.name} ({identity.shown(host.host)[:8]}), "
        f"the newest {host.newest}: not shown"
        for host in others
    ]
    hidden = [{"host": host.name, "sets": host.sets, "newest": host.newest} for host in others]
    fields = [fields_of(item, damaged, here) for item in listed]
    return CommandResult(
        {"sets": fields, "others": hidden}, lines, answer=True, tones=_tones(lines)
    )


def damaged_names(listed: Sequence[Listed]) -> set[str]:
    """Return the names of the sets whose newest verification found damage."""
    newest = {item.entry.name: latest_verification(item.proven) for item in listed}
    return {name for name, record in newest.items() if record and not record.whole}


def _tones(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return for each line the word that is shown in red."""
    return [
        next(((word, "red") for word in _LOUD if word in line.split()), ("", "")) for line in lines
    ]


def _damaged_base(set_: BackupSet, damaged: set[str]) -> str | None:
    """Return the first set of the chain of ``set_`` that is damaged, None if there is none.

    A set is unusable if a set that it builds on is damaged.
    """
    return next((base.name for base in set_.chain[:-1] if base.name in damaged), None)


def _row(item: Listed, damaged: set[str], here: Host) -> Row:
    entry = item.entry
    if entry.set is None:
        return Row(entry.name, (), [f"NOT COMPLETE: {entry.problem}"])
    manifest, now = entry.set.manifest, clock.now()
    cells = [*_amounts(manifest, manifest.bytes, now), *proof_cells(item.proven, now)]
    below = [*_kind(entry.set), *remarks.origin_lines(item.origin)]
    below += remarks.of(manifest, item.flaws, here)
    base = _damaged_base(entry.set, damaged)
    if base is not None:
        below.append(f"NOT SOUND: {base}, which it builds on, is DAMAGED")
    below += soundness.caveat_lines(manifest.told)
    return Row(entry.name, [*cells, str(len(item.copies))], below)


def _amounts(manifest: Manifest, size: int, now: datetime) -> list[str]:
    posts = manifest.contents and humanize.grouped(manifest.contents.posts)
    return [
        humanize.age((now - manifest.made).total_seconds()),
        humanize.size(size),
        posts or _NOT_KNOWN,
        humanize.grouped(manifest.files.files),
    ]


def _kind(set_: BackupSet) -> list[str]:
    """Return a line about what is special about a set, or none."""
    manifest = set_.manifest
    words = [
        "safety set" if manifest.safety else "",
        "salvaged" if manifest.salvaged is not None else "",
        "pinned" if prune.pinned(set_) else "",
        f"builds on {set_.base.name}" if set_.base else "",
    ]
    text = ", ".join(filter(None, words))
    return [*([text] if text else []), *([f"note: {manifest.note}"] if manifest.note else [])]


def proof_cells(proven: Sequence[CheckRecord], now: datetime) -> list[str]:
    """Return when a set was last verified and rehearsed, or how that failed."""
    verified, rehearsed = latest_verification(proven), latest_rehearsal(proven)
    cells = [_NEVER, _NEVER]
    if verified is not None:
        cells[0] = _ago(verified, now) if verified.whole else "DAMAGED"
    if rehearsed is not None:
        failed = rehearsed.verdict is CheckVerdict.FAILED
        partly = rehearsed.verdict is CheckVerdict.INCOMPLETE
        cells[1] = "FAILED" if failed else ("partly " if partly else "") + _ago(rehearsed, now)
    return cells


def _ago(record: CheckRecord, now: datetime) -> str:
    return f"{humanize.age((now - record.made).total_seconds())} ago"


def fields_of(item: Listed, damaged: set[str], here: Host) -> dict[str, object]:
    """Return the JSON fields of one set."""
    entry, proven = item.entry, item.proven
    if entry.set is None:
        return {"name": entry.name, "complete": False, "problem": entry.problem}
    manifest = entry.set.manifest
    verified, rehearsed = latest_verification(proven), latest_rehearsal(proven)
    return {
        "name": entry.name,
        "complete": True,
        "path": entry.set.reference,
        **remarks.set_fields(manifest),
        "base": entry.set.base and entry.set.base.name,
        "damaged_base": _damaged_base(entry.set, damaged),
        "salvaged": manifest.salvaged,
        **remarks.fields(manifest, item.flaws, here),
        **remarks.origin_fields(item.origin),
        "bytes": manifest.bytes,
        "pinned": prune.pinned(entry.set),
        "note": manifest.note or None,
        "copies": list(item.copies),
        "verified": verified and {"at": verified.started, "whole": verified.whole},
        "rehearsed": rehearsed
        and {
            "at": rehearsed.started,
            "result": rehearsed.verdict.value,
            "depth": rehearsed.depth.value,
            "recovery_seconds": rehearsed.recovery_seconds,
        },
    }


@click.command("list")
@click.option(
    "--from", "place", metavar="REMOTE", help="List the copies at a remote, as in restore --from."
)
@verb
def list_sets(context: Context, place: str | None) -> CommandResult:
    """List the sets, newest first."""
    ours, store = settings_and_store(context)
    if place is not None:
        return list_copies(ours, place)
    return listed(store)


def listed(store: Store) -> CommandResult:
    """Return the list of a store's sets with their check records, flaws, origins and copies."""
    return list_result(look(store), store, identity.known())


def look(store: Store) -> list[Listed]:
    """Return the sets of a store with what is known of each."""
    from ..offsite import ledger
    from ..restore import choice

    entries, copies = store.entries(), ledger.by_set()
    return [_listed(*both, copies) for both in zip(entries, choice.of_entries(entries))]


def of_set(set_: BackupSet) -> Listed:
    """Return one set, of the store or from elsewhere, with what is known of it."""
    from ..offsite import ledger
    from ..restore import choice
    from ..store.sets import SetEntry

    return _listed(SetEntry(set_.name, set_, ""), choice.of_set(set_), ledger.by_set())


def _listed(entry: SetEntry, found: Found, copies: Mapping[str, Sequence[str]]) -> Listed:
    return Listed(entry, found.records, found.flaws, found.origin, copies.get(entry.name, ()))


def list_copies(settings: Settings, place: str) -> CommandResult:
    """Return the list of the sets or copies at a remote."""
    from ..offsite import copies, download
    from ..restore import choice, source

    repository = source.store_elsewhere(settings, place)
    if repository is not None:
        return listed(repository)
    remote = download.place(settings, place)
    entries = copies.entries(remote)
    known = {offer.name: offer for offer in choice.of_copies(entries)}
    return copies_result(remote, entries, known, identity.known())


def copies_result(
    remote: Remote, entries: Sequence[RemoteEntry], known: Mapping[str, Found], here: Host
) -> CommandResult:
    """Return the list of the copies at one remote."""
    history = check_records.history()
    rows = [_copy_row(entry, known[entry.name], here, history) for entry in entries]
    lines = table(rows, terminal.columns()) if rows else [f"No copy of a set at {remote.name}"]
    fields = [_copy_fields(remote, entry, known[entry.name], here) for entry in entries]
    return CommandResult({"sets": fields}, lines, answer=True, tones=_tones(lines))


def _copy_row(entry: RemoteEntry, found: Found, here: Host, history: Sequence[CheckRecord]) -> Row:
    if entry.manifest is None or entry.copy is None:
        return Row(entry.name, (), [f"NOT COMPLETE: {entry.problem}"])
    manifest, now = entry.manifest, clock.now()
    proven = [record for record in history if record.set == entry.name]
    cells = [*_amounts(manifest, entry.bytes, now), *proof_cells(proven, now), _NOT_KNOWN]
    below = [f"from {manifest.host}"]
    if manifest.increment:
        below[0] += f", builds on {manifest.increment.base}"
    below += [*remarks.origin_lines(found.origin), *remarks.of(manifest, found.flaws, here)]
    if entry.copy.recipients:
        below.append(f"encrypted to {'; '.join(entry.copy.recipients)}")
    return Row(entry.name, cells, [*below, *soundness.caveat_lines(manifest.told)])


def _copy_fields(remote: Remote, entry: RemoteEntry, found: Found, here: Host) -> dict[str, object]:
    manifest = entry.manifest
    if manifest is None or entry.copy is None:
        return {"name": entry.name, "complete": False, "problem": entry.problem}
    return {
        "name": entry.name,
        "complete": True,
        "path": remote.place(entry.name),
        **remarks.set_fields(manifest),
        "base": manifest.increment.base if manifest.increment else None,
        **remarks.fields(manifest, found.flaws, here),
        **remarks.origin_fields(found.origin),
        "bytes": entry.bytes,
        "recipients": list(entry.copy.recipients),
    }
