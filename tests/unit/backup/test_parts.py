"""Parts of a set: what is packed where directories change all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup.backup import parts
from gitlab_mm_backup.store import archive_writer, file_list
from tests.unit.helpers.nights import SETTINGS, seen_as_a_link
from tests.unit.store.test_archive_writer import unpacked


def test_a_night_comes_through_where_folders_change_too_much_for_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is packed by tar's own walk then, and no other set builds on this one."""
    home, staging = tmp_path / "home", tmp_path / "staging"
    staging.mkdir()
    (home / "data").mkdir(parents=True)
    (home / "data/upload").write_bytes(b"content")
    monkeypatch.setattr(file_list.ListingWriter, "add_line", seen_as_a_link("data"))
    found = archive_writer.survey([home])
    packed = parts.changes(SETTINGS, None, staging, found)
    assert set(packed.parts) == {"files", "index"} and packed.base is None
    assert (packed.whole.files, packed.whole.size) == (1, 7)
    assert b"content" in unpacked(staging / packed.parts["files"].file)
