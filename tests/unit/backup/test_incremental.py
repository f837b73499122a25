"""Which set the next one builds on, and when it is a full one instead."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from gitlab_mm_backup import checks
from gitlab_mm_backup.backup import incremental
from gitlab_mm_backup.store import check_records
from gitlab_mm_backup.store.check_records import EVIDENCE, CheckRecord, Depth
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.sets import LONGEST_CHAIN, BackupSet
from tests.unit.helpers.builders import make_manifest, make_set, make_set_on

ROLES = dict(make_manifest().files.folders)
WEEK = timedelta(days=7)
LISTED = {"database": b"rows", "listing": b"records"}


def name(night: int) -> str:
    return f"{1795223600 + 86400 * night}_2026_11_21_10.11.4"


def full(folder: Path, night: int = 0, **changes: object) -> BackupSet:
    """A set with a listing, made some nights after the first."""
    started = make_manifest().made + timedelta(days=night)
    stamp = started.strftime("%Y-%m-%dT%H:%M:%SZ")
    return make_set(
        folder,
        name(night),
        LISTED,
        lambda manifest: dataclasses.replace(manifest, **{"started": stamp, **changes}),  # type: ignore[arg-type]
    )


def chosen(
    folder: Path,
    night: float,
    every: timedelta | None = WEEK,
    roles: dict[str, str] = ROLES,
) -> BackupSet | None:
    now = make_manifest().made + timedelta(days=night)
    return incremental.choose_base(LocalStore(folder).sets(), every, roles, now)


def test_the_newest_set_is_built_on(tmp_path: Path) -> None:
    assert chosen(tmp_path, 0) is None
    first = full(tmp_path)
    assert chosen(tmp_path, 1) == first
    second = make_set_on(first, name(1), LISTED)
    assert chosen(tmp_path, 2) == second


def test_a_full_set_is_due_by_the_age_of_the_last_full_one(tmp_path: Path) -> None:
    """Some hours earlier than told, for cron is not exact to the second; 0: never."""
    make_set_on(full(tmp_path), name(1), LISTED)
    assert chosen(tmp_path, 6.4) is not None
    assert chosen(tmp_path, 6.6) is None
    assert chosen(tmp_path, 7) is None
    assert chosen(tmp_path, 700, None) is not None
    assert chosen(tmp_path, 1.9, timedelta(days=2)) is None
    assert chosen(tmp_path, 1.8, timedelta(days=2)) is not None


def test_the_set_of_before_a_restore_is_no_base(tmp_path: Path) -> None:
    first = full(tmp_path)
    full(tmp_path, 1, purpose="safety")
    assert chosen(tmp_path, 2) == first


def test_folders_that_have_moved_make_a_full_set(tmp_path: Path) -> None:
    full(tmp_path)
    assert chosen(tmp_path, 1, roles={**ROLES, "data": "/srv/elsewhere"}) is None
    assert chosen(tmp_path, 1, roles={**ROLES, "plugins": "/srv/plugins"}) is None
    assert chosen(tmp_path, 1, roles={"home": ROLES["home"]}) is None


def test_a_set_without_listing_is_no_base(tmp_path: Path) -> None:
    """One that was made with files: full, or by a program of before."""
    make_set(tmp_path, name(0))
    assert chosen(tmp_path, 0.1) is None


def test_a_listing_that_is_damaged_is_no_base(tmp_path: Path) -> None:
    first = full(tmp_path)
    first.file("listing").write_bytes(b"Records")
    assert chosen(tmp_path, 1) is None


@pytest.mark.parametrize("level", [0, 1])
def test_a_chain_of_which_a_check_failed_is_no_base(level: int, tmp_path: Path) -> None:
    first = full(tmp_path)
    second = make_set_on(first, name(1), LISTED)
    wrong = checks.failed("checksums", "files.tar.zst: has a wrong checksum")
    moment = "2026-11-24T04:00:00Z"
    bad = second.chain[level]
    record = CheckRecord(bad.name, Depth.VERIFY, moment, 1.0, None, "0.1", "here", "", "", [wrong])
    (bad.path / EVIDENCE).write_bytes(check_records.to_bytes([record]))
    assert chosen(tmp_path, 2) is None


def test_no_chain_grows_longer_than_can_be_opened(tmp_path: Path) -> None:
    newest = full(tmp_path)
    for night in range(1, LONGEST_CHAIN - 1):
        newest = make_set_on(newest, name(night), LISTED)
    assert chosen(tmp_path, 1, None) == newest
    make_set_on(newest, name(LONGEST_CHAIN), LISTED)
    assert chosen(tmp_path, 1, None) is None
