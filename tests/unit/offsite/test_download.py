"""Fetching a copy: what was found and judged is what comes, whatever lies there by now."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gitlab_mm_backup.config.settings import Remote, Settings
from gitlab_mm_backup.offsite import copies, download
from gitlab_mm_backup.offsite.copies import RemoteEntry
from gitlab_mm_backup.store.manifest import Increment
from tests.unit.helpers.builders import NAME, make_manifest

REMOTE = Remote("nas", "/srv/nas")
BASE = "1795300000_2026_11_21_10.11.4"


def test_a_copy_that_was_agreed_to_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes there could have exchanged it after the question; what it builds on has its sum."""
    base = RemoteEntry(BASE, 1, make_manifest(name=BASE), None)
    increment = Increment(BASE, "a" * 64, 1, 1)
    manifest = dataclasses.replace(make_manifest(name=NAME), increment=increment)
    agreed = RemoteEntry(NAME, 1, manifest, None)
    looked_for = []

    def find(remote: Remote, wanted: str) -> RemoteEntry:
        looked_for.append(wanted)
        return {BASE: base}[wanted]

    monkeypatch.setattr(copies, "find", find)
    assert download._chain(REMOTE, agreed) == [base, agreed]
    assert looked_for == [BASE]


@pytest.mark.parametrize("wanted", ["nas", "dav:mattermost"])
def test_a_place_of_config_yml_is_used_as_that_says(wanted: str) -> None:
    """By its name or by rclone's: a limit on bandwidth counts either way."""
    nas = Remote("nas", "dav:mattermost", bandwidth=2_000_000)
    settings = Settings(sets=Path("/sets"), keep_time=None, offsite=(nas,))
    assert download.place(settings, wanted) == nas
    assert download.place(settings, "dav:other").bandwidth is None
