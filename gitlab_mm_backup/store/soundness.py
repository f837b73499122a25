"""Soundness: the flaws of a set, and how warnings of its backup are shown and accepted."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import clock
from ..checks import Result
from ..config.origin import Kind as OriginKind
from ..config.origin import Origin
from ..system import files, humanize, redaction, validation
from ..system.files import STATE
from ..translation import Text, joined, phrase
from . import check_records
from .check_records import CheckRecord, CheckVerdict
from .manifest import Manifest

ACCEPTED_FILE = STATE / "accepted.json"
_SHOWN = 3  # of a set; a list of many sets must stay readable
# Directories of packages or the kernel: a reinstalled host has their files.
INSTALLED = tuple(
    f"/{name}/"
    for name in ("usr", "opt/gitlab", "bin", "sbin", "lib", "lib64", "dev", "proc", "sys")
)


def marks(manifest: Manifest, accepted: Collection[str]) -> Sequence[str]:
    """Return, as text, what collapsed in a set, unless the administrator has accepted it."""
    return () if manifest.name in accepted else manifest.shrunken


def emptied(manifest: Manifest) -> Text:
    """Return what collapsed in a set and compared with which set."""
    shrunken = ", ".join(manifest.shrunken)
    return phrase("{shrunken}; compared with {name}", shrunken=shrunken, name=manifest.fuller)


class Kind(enum.Enum):
    """The kind of a flaw."""

    INCOMPLETE = "incomplete"
    FUTURE = "future"
    EMPTIED = "emptied"
    FAILED = "failed"
    FORGED = "forged"  # made or changed by somebody else
    UNPROVEN = "unproven"  # from elsewhere, and nothing proves whose it is


@dataclass(frozen=True)
class Flaw:
    """A flaw of a set; ``words`` follow the set's name and a comma."""

    kind: Kind
    words: str


def flaws(
    manifest: Manifest, records: Sequence[CheckRecord], accepted: Collection[str], now: datetime
) -> list[Flaw]:
    """Return the flaws of a complete set; [] where it is sound."""
    found = []
    if clock.ahead(manifest.made, now):
        words = phrase("its date is in the future, {made}", made=humanize.moment(manifest.made))
        found.append(Flaw(Kind.FUTURE, words))
    if marks(manifest, accepted):
        words = phrase("it looks emptied ({what})", what=emptied(manifest))
        found.append(Flaw(Kind.EMPTIED, words))
    record = check_records.decisive(records)
    if record is not None and record.verdict is CheckVerdict.FAILED:
        found.append(Flaw(Kind.FAILED, _failure(record)))
    return found


# A set with one of these is no backup: it cannot be read, or its date or origin does not hold.
_DISCOUNTED = (Kind.INCOMPLETE, Kind.FUTURE, Kind.FORGED)


def counts(manifest: Manifest, found: Iterable[Flaw], *, own: bool) -> bool:
    """Return whether a set counts as a backup of this host; ``own`` is whether this host made it.

    The one rule of list, status, Nagios and the metrics.  A set that counts can still have a flaw;
    it is sound if it counts and has none.
    """
    return own and not manifest.safety and all(flaw.kind not in _DISCOUNTED for flaw in found)


def of_origin(origin: Origin, *, elsewhere: bool) -> list[Flaw]:
    """Return the flaw in a set's origin; a set from ``elsewhere`` needs a proven one."""
    if origin.kind is OriginKind.FORGED:
        return [Flaw(Kind.FORGED, phrase("it is {origin}", origin=origin.words))]
    if elsewhere and not origin.proven:
        words = phrase("its origin is not proven: it is {origin}", origin=origin.words)
        return [Flaw(Kind.UNPROVEN, words)]
    return []


def _failure(record: CheckRecord) -> Text:
    bad = [check for check in record.checks if check.result is Result.FAILED]
    text = "; ".join(f"{check.name}: {redaction.without_rows(check.detail)}" for check in bad)
    made = humanize.moment(record.made)
    if record.rehearsal:
        return phrase("it did not pass its rehearsal on {made} ({checks})", made=made, checks=text)
    return phrase("it did not pass its verification on {made} ({checks})", made=made, checks=text)


def accepted_names(path: Path | None = None) -> frozenset[str]:
    """Return the accepted sets; none where the file cannot be read, which removes nothing."""
    try:
        return frozenset(files.read_state(path or ACCEPTED_FILE, validation.texts))
    except files.unreadable_state:
        return frozenset()


def accept(name: str, path: Path | None = None) -> None:
    """Record that a set is correct; raises Failure where that cannot be written."""
    files.write_state(path or ACCEPTED_FILE, sorted({*accepted_names(path), name}))


def caveat_lines(told: Sequence[str]) -> list[str]:
    """Return the first warnings of a set's manifest as lines, escaped because they are data."""
    shown: list[str] = [
        phrase("Warning: {words}", words=humanize.plain(words)) for words in told[:_SHOWN]
    ]
    more = len(told) - len(shown)
    if more:
        shown.append(phrase("and {count} more: gitlab-mm list --json", count=more))
    return shown


def caveat_sentence(told: Sequence[str]) -> str:
    """Return them as one line; "" where there are none."""
    return joined("; ", caveat_lines(told))


def unaccepted(told: Iterable[str], accepted: Sequence[str]) -> list[str]:
    """Return the warnings without an accepted text as a whole word: /srv/a is not in /srv/ab."""
    known = [re.compile(rf"(?<![\w-]){re.escape(text)}(?![\w-])") for text in accepted]
    return [words for words in told if not any(pattern.search(words) for pattern in known)]


def target_of(link: str, target: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(link), target))


def gitlab_settings(made: Manifest) -> str:
    """Return, as text, what a set has of /etc/gitlab; "" for nothing."""
    if "etc-gitlab" not in made.parts:
        return ""
    links = [
        link
        for link, to in made.links.items()
        if link.startswith("/etc/gitlab/") and not target_of(link, to).startswith(INSTALLED)
    ]
    but = f", but not what {humanize.plain(links[0])} leads to" if links else ""
    more = f" and {len(links) - 1} more links" if len(links) > 1 else ""
    return f"/etc/gitlab without config_backup{but}{more}"
