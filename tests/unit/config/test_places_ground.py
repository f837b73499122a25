"""The folder of sets as a link, and on file systems without owners."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitlab_mm_backup.config import places
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store.local import LocalStore


def link(folder: Path, target: Path) -> LocalStore:
    target.mkdir(parents=True, mode=0o700)
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(target)
    return LocalStore(folder)


def test_a_link_that_others_can_change_is_refused_with_what_to_set_instead(tmp_path: Path) -> None:
    gits = tmp_path / "backups"
    gits.mkdir()
    os.chown(gits, 65534, -1)
    store = link(gits / "mattermost", tmp_path / "big/mattermost")
    for act in (store.entries, store.prepare):
        with pytest.raises(Failure, match="cannot be trusted") as caught:
            act()
        assert "it is a link to" in caught.value.detail
        assert f"backup_path: {tmp_path}/big" in caught.value.hint
    assert [set_.name for set_ in LocalStore(tmp_path / "big/mattermost").sets()] == []
    store.folder.unlink()
    store = link(store.folder, tmp_path / "other")
    with pytest.raises(Failure) as caught:
        store.entries()
    assert f"mount --bind {tmp_path}/other {store.folder}" in caught.value.hint


def test_roots_folders_are_roots_alone(tmp_path: Path) -> None:
    assert places.only_roots(Path("/usr"))
    assert not places.only_roots(tmp_path), "whoever may write to /tmp can exchange what is below"


def test_a_link_of_another_account_leads_to_no_folder_of_roots(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr")
    assert places.only_roots(tmp_path / "link/share")
    os.lchown(tmp_path / "link", 65534, 65534)
    assert not places.only_roots(tmp_path / "link/share"), "it can lead elsewhere a moment later"


def test_a_folder_of_roots_alone_that_comes_out_open_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir(mode=0o700)
    places.refuse_open(made)
    made.chmod(0o755)
    with pytest.raises(Failure, match="Others could read") as caught:
        places.refuse_open(made)
    assert "umask=0077" in caught.value.hint and "0755" in caught.value.detail
    os.chown(made, 1000, -1)
    with pytest.raises(Failure, match="Others could read"):
        places.refuse_open(made)
    os.chown(made, 65534, -1)
    with pytest.raises(Failure, match="cannot be trusted") as caught:
        places.refuse_open(made)
    assert "no_root_squash" in caught.value.hint and "offsite" in caught.value.hint


@pytest.mark.parametrize("path", ["/proc/self", "/sys/kernel"])
def test_the_file_system_of_a_path(path: str) -> None:
    assert places.file_system(Path(path)) == {"/proc/self": "proc", "/sys/kernel": "sysfs"}[path]
