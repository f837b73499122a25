"""Accounts and volumes of a container, as this process sees them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gitlab_mm_backup.config import settings
from gitlab_mm_backup.container import view
from gitlab_mm_backup.container.engine import Container, Mount
from gitlab_mm_backup.container.view import View
from gitlab_mm_backup.errors import Failure

ALL = [(0, 0, 4294967295)]
SHIFTED = [(0, 100000, 65536)]


def test_accounts_have_the_hosts_numbers() -> None:
    line = "mattermost:x:994:993::/var/opt/gitlab/mattermost:/bin/sh"
    assert view.shifted(line.split(":"), (2, 3), (ALL, ALL)) == line
    shifted = view.shifted(line.split(":"), (2, 3), (SHIFTED, [(0, 200000, 65536)]))
    assert shifted.split(":")[:4] == ["mattermost", "x", "100994", "200993"]


@pytest.mark.parametrize("line", ["", "x:x:y:z", "git:x:70000:1::/:/bin/sh", "a:x"])
def test_a_line_without_a_number_here_is_left_out(line: str) -> None:
    assert view.shifted(line.split(":"), (2, 3), (SHIFTED, SHIFTED)) == ""


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/nowhere/uploads", True),
        ("/data-of-a-container", True),
        ("/var/opt/gitlab/mattermost/data", False),  # is below a directory that is shown already
        *((path, False) for path in ("/", "/srv", "/etc/passwd", "/usr/lib", "/proc/x", "/root")),
        ("/srv/../etc", False),
    ],
)
def test_only_volumes_that_hide_nothing_of_the_host_are_shown(target: str, shown: bool) -> None:
    assert view.may_show(Mount("volume", "data", "/nowhere/source", target)) is shown


def test_a_directory_that_the_host_has_is_shown_where_it_is_the_volume(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(view, "_HOSTS_OWN", re.compile("/"))
    assert view.may_show(Mount("bind", "", str(tmp_path), str(tmp_path)))
    assert not view.may_show(Mount("bind", "", "/srv", str(tmp_path)))


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = (Path("/var/opt/gitlab"), Path("/uploads"))
    seen = View(Container("podman", "a" * 64, "gitlab", "x", "running", 1, (), {}), trees)
    monkeypatch.setattr(view, "_entered", [seen])


def test_what_is_the_containers(entered: None) -> None:
    assert view.inside(Path("/uploads")) and view.inside(Path("/var/opt/gitlab/mattermost"))
    assert view.outside(Path("/var/opt")) and view.outside(Path("/etc"))
    assert not view.outside(Path("/uploads/2026"))


def test_sets_are_not_put_into_the_container(entered: None, tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text("backup_path: /var/opt/gitlab/backups\nscratch_dir: /var/tmp\n")
    with pytest.raises(Failure) as caught:
        settings.load(config)
    assert (
        "backup_path" in caught.value.detail
        and "is a directory of the container" in caught.value.detail
    )
    assert "scratch_dir" not in caught.value.detail


def test_without_a_container_nothing_is_inside() -> None:
    assert not view.inside(Path("/var/opt/gitlab"))
    assert not view.outside(Path("/etc"))
