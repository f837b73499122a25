"""Where a notification goes, and that config.yml takes every channel."""

from __future__ import annotations

import pytest

from gitlab_mm_backup.config import option_text
from gitlab_mm_backup.config.notification_channels import CHANNELS, Message, ping_address
from gitlab_mm_backup.config.schema import OPTIONS


@pytest.mark.parametrize(
    ("given", "start", "success", "fail"),
    [
        ("https://h/x", "https://h/x/start", "https://h/x", "https://h/x/fail"),
        ("https://h/x/", "https://h/x/start", "https://h/x", "https://h/x/fail"),
        (
            "https://h/key/nightly?create=1",
            "https://h/key/nightly/start?create=1",
            "https://h/key/nightly?create=1",
            "https://h/key/nightly/fail?create=1",
        ),
        (
            "http://h/api/push/AbC?status=up&msg=OK&ping=",
            "",
            "http://h/api/push/AbC?status=up&msg=It+is+done&ping=",
            "http://h/api/push/AbC?status=down&msg=It+is+done&ping=",
        ),
    ],
)
def test_where_a_ping_goes(given: str, start: str, success: str, fail: str) -> None:
    for state, address in (("start", start), ("success", success), ("fail", fail)):
        assert ping_address(given, Message("It is done", "text", state)) == address


def test_config_yml_takes_and_explains_every_channel() -> None:
    items = option_text.schema(OPTIONS)["properties"]["notifications"]["items"]
    type_ = items["properties"]["type"]
    assert type_["enum"] == list(CHANNELS)
    for name, channel in CHANNELS.items():
        assert f"{name}: {channel.address}" in type_["description"]
