"""Sets and rehearsals as a report finds them, without a disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from gitlab_mm_backup.checks import Check, failed, not_run, passed
from gitlab_mm_backup.clock import utc
from gitlab_mm_backup.health.rating import Found
from gitlab_mm_backup.health.report import Place, Protection
from gitlab_mm_backup.store.check_records import CheckRecord, Depth
from gitlab_mm_backup.store.manifest import Part, name_for
from gitlab_mm_backup.store.sets import BackupSet, SetEntry
from tests.unit.helpers.builders import make_manifest

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=timezone.utc)
PROTECTED = Protection(
    [
        Place("nas", datetime(2026, 11, 24, 4, 3, tzinfo=timezone.utc), encrypted=True),
        Place("b2", None, encrypted=False),
    ],
    "all sets of the last 7 days, 12 monthly",
)
GOOD = (passed("checksums"), passed("structure"), passed("boot", "it answered"))


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def made_set(when: datetime, **changes: Any) -> SetEntry:
    """Return the entry of a complete set that was begun at ``when``."""
    name = changes.get("name", name_for(when, "10.11.4", "1f3a9c2e"))
    manifest = make_manifest(**{"name": name, "started": utc(when), **changes})
    return SetEntry(name, BackupSet(Path("/sets") / name, manifest), "")


def record_of(entry: SetEntry, when: datetime, *checks: Check, **changes: Any) -> CheckRecord:
    """Return a record of ``entry``; a rehearsal that passed unless changed."""
    values: dict[str, Any] = {
        "set": entry.name,
        "depth": Depth.USUAL,
        "started": utc(when),
        "seconds": 61.5,
        "recovery_seconds": 42.25,
        "tool": "0.1.0",
        "host": "git.example.org",
        "mattermost": "10.11.4",
        "postgresql": "16.11",
        "checks": checks or GOOD,
        "left_out": ("public.idx_posts_message_txt",),
    }
    return CheckRecord(**{**values, **changes})


def failing(entry: SetEntry, when: datetime) -> CheckRecord:
    """Return the record of a rehearsal that found a row missing."""
    checks = (*GOOD[:2], failed("rows", "public.posts: 41, not 42"), not_run("boot", "rows failed"))
    return record_of(entry, when, *checks, recovery_seconds=None)


def found(
    entries: Sequence[SetEntry], records: Sequence[CheckRecord] = (), **changes: Any
) -> Found:
    """Return what a report finds; each record is kept in its set, as a rehearsal does."""
    kept: Mapping[str, Sequence[CheckRecord]] = {
        entry.name: [record for record in records if record.set == entry.name] for entry in entries
    }
    values: dict[str, Any] = {
        "entries": entries,
        "records": kept,
        "history": records,
        "uncovered": [],
        "versions": {
            "gitlab-mm-backup": "0.1.0",
            "GitLab": "18.11.9",
            "Mattermost": "10.11.4",
        },
        "host": "git.example.org",
        "folder": "/var/opt/gitlab/backups/mattermost",
        "now": NOW,
    }
    return Found(**{**values, **changes})


def many(count: int, suffix: str = "", **changes: Any) -> Found:
    """Return ``count`` nightly sets that grow, each rehearsed; each fifth rehearsal is odd.

    ``suffix`` makes names, versions and details longer.
    """
    version = f"10.11.4{suffix}"
    entries, records = [], []
    for night in range(count):
        when = ago(hours=2, days=night)
        size = (900 + 7 * (count - night) % 400 + (count - night) * 3) << 20
        parts = {"database": Part("database.dump.zst", "pg_dump custom, zstd", size, "a" * 64)}
        entry = made_set(
            when,
            name=name_for(when, version, "1f3a9c2e"),
            mattermost=version,
            parts=parts,
            seconds=70.0 + (night * 37 % 23),
        )
        entries.append(entry)
        checks: tuple[Check, ...] = GOOD
        if night % 5 == 3:
            checks = (*GOOD[:2], not_run("boot", f"the set is of Mattermost 9.11.1{suffix}"))
        if night % 10 == 9:
            checks = (
                *GOOD[:2],
                failed("rows", f"public.posts{suffix}: 41, not 42"),
                not_run("boot", "-"),
            )
        recovered = None if checks is not GOOD else 80.0 + (night * 29 % 31)
        after = when + timedelta(minutes=3)
        seconds = 120.0 + (night * 29 % 31)
        records.append(
            record_of(entry, after, *checks, seconds=seconds, recovery_seconds=recovered)
        )
    return found(entries, records[::-1], **changes)
