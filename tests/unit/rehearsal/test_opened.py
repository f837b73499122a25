"""What an opened Mattermost is told, and what is left of permissions."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup.postgresql.endpoint import Endpoint, Login
from gitlab_mm_backup.rehearsal import boot, opened
from gitlab_mm_backup.system.redaction import Secret


@pytest.mark.parametrize(
    ("permissions", "left"),
    [
        ("", ""),
        (" read_channel  create_post edit_post ", "read_channel"),
        ("list_team_channels view_team join_public_channels", "list_team_channels view_team"),
        ("sysconsole_read_plugins sysconsole_write_plugins", "sysconsole_read_plugins"),
        ("public_playbook_view run_view run_create", "public_playbook_view run_view"),
        ("get_public_link upload_file add_reaction manage_system", "get_public_link"),
        ("reader readonly_thing unread_all", ""),
    ],
)
def test_what_is_left_of_permissions(permissions: str, left: str) -> None:
    assert opened.readable(permissions) == left


def test_no_variable_of_an_opened_mattermost_takes_back_one_of_a_rehearsal() -> None:
    login = Login("mm", password=Secret("x"))
    base = boot.overrides(Path("/data"), Endpoint("/run", 5432, "mm", login, login))
    more = opened.overrides("http://127.0.0.1:8066", "/chat")
    assert not base.keys() & more.keys()
    assert more["MM_SERVICESETTINGS_SITEURL"] == "http://127.0.0.1:8066/chat"
    assert more["MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS"] == "false"
