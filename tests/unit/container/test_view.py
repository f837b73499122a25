"""Accounts and volumes of a container, as this process sees them."""

from __future__ import annotations

import pytest

from gitlab_mm_backup.container import view

ALL = [(0, 0, 4294967295)]
SHIFTED = [(0, 100000, 65536)]


def test_accounts_have_the_hosts_numbers() -> None:
    line = "mattermost:x:994:993::/var/opt/gitlab/mattermost:/bin/sh"
    assert view._shifted(line.split(":"), (2, 3), (ALL, ALL)) == line
    shifted = view._shifted(line.split(":"), (2, 3), (SHIFTED, [(0, 200000, 65536)]))
    assert shifted.split(":")[:4] == ["mattermost", "x", "100994", "200993"]


@pytest.mark.parametrize("line", ["", "x:x:y:z", "git:x:70000:1::/:/bin/sh", "a:x"])
def test_a_line_without_a_number_here_is_left_out(line: str) -> None:
    assert view._shifted(line.split(":"), (2, 3), (SHIFTED, SHIFTED)) == ""


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/srv/uploads", True),
        ("/data", True),
        ("/var/opt/gitlab/mattermost/data", False),  # is below a directory that is shown already
        *((path, False) for path in ("/", "/srv", "/etc/passwd", "/usr/lib", "/proc/x", "/root")),
        ("/srv/../etc", False),
    ],
)
def test_only_volumes_that_hide_nothing_of_the_host_are_shown(target: str, shown: bool) -> None:
    assert view._may_show(target) is shown
