"""Soundness: what speaks against a set, by what this host knows of it.

A set is sound where nothing does: it is complete, not from the future, does not look emptied, and
the newest check of it did not fail.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from .. import clock
from ..checks import Result
from ..config.origin import Kind as OriginKind
from ..config.origin import Origin
from ..system import humanize, redaction
from . import check_records
from .check_records import Record, Verdict
from .manifest import Manifest


def marks(manifest: Manifest, accepted: Collection[str]) -> Sequence[str]:
    """Return, in words, what collapsed in a set, unless somebody has said that this is right."""
    return () if manifest.name in accepted else manifest.shrunken


def emptied(manifest: Manifest) -> str:
    """Return, in words, what collapsed in a set, and against which."""
    return f"{', '.join(manifest.shrunken)}; compared with {manifest.fuller}"


class Kind(enum.Enum):
    """What is wrong with a set."""

    INCOMPLETE = "incomplete"
    FUTURE = "future"
    EMPTIED = "emptied"
    FAILED = "failed"
    FORGED = "forged"  # somebody else made it, or changed it
    UNPROVEN = "unproven"  # from elsewhere, and nothing proves whose it is


@dataclass(frozen=True)
class Flaw:
    """One thing that speaks against a set; its words go on after the set's name and a comma."""

    kind: Kind
    words: str


def flaws(
    manifest: Manifest, records: Sequence[Record], accepted: Collection[str], now: datetime
) -> list[Flaw]:
    """Return all that speaks against a complete set; [] where it is sound."""
    found = []
    if clock.ahead(manifest.made, now):
        words = f"its date is in the future, {humanize.moment(manifest.made)}"
        found.append(Flaw(Kind.FUTURE, words))
    if marks(manifest, accepted):
        words = f"it looks emptied ({emptied(manifest)})"
        found.append(Flaw(Kind.EMPTIED, words))
    record = check_records.decisive(records)
    if record is not None and record.verdict is Verdict.FAILED:
        found.append(Flaw(Kind.FAILED, _failure(record)))
    return found


def of_origin(origin: Origin, *, elsewhere: bool) -> list[Flaw]:
    """Return what the origin of a set says against it; from ``elsewhere`` it must be proven."""
    if origin.kind is OriginKind.FORGED:
        return [Flaw(Kind.FORGED, f"it is {origin.words}")]
    if elsewhere and not origin.proven:
        return [Flaw(Kind.UNPROVEN, f"its origin is not proven: it is {origin.words}")]
    return []


def _failure(record: Record) -> str:
    kind = "rehearsal" if record.rehearsal else "verification"
    bad = [one for one in record.checks if one.result is Result.FAILED]
    told = "; ".join(f"{one.name}: {redaction.without_rows(one.detail)}" for one in bad)
    return f"it did not pass its {kind} on {humanize.moment(record.made)} ({told})"
