"""A backup of a disk: what is refused before the disk is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup.backup import from_disk
from gitlab_mm_backup.config.identity import Host, Machine
from gitlab_mm_backup.config.settings import Restic, Settings
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.store.restic_store import ResticStore


def test_a_repository_cannot_take_the_set_of_a_disk(tmp_path: Path) -> None:
    access = Restic(repository="/srv/restic")
    settings = Settings(tmp_path / "sets", None, store="restic", restic=access)
    with pytest.raises(Failure, match="not into a restic repository") as refused:
        from_disk.make(
            tmp_path / "disk", settings, ResticStore(access, Host("0" * 32, Machine("", "")))
        )
    assert refused.value.exit_code is ExitCode.USAGE
    assert "store: local" in refused.value.hint
