"""The settings part of a set, as info shows it."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import effective_config
from gitlab_mm_backup.store.sets import BackupSet


def set_with(data: bytes) -> BackupSet:
    return cast(BackupSet, SimpleNamespace(open=lambda part: nullcontext(io.BytesIO(data))))


def plugins(section: Any) -> dict[str, bool]:
    document = {"config": {"PluginSettings": section}, "environment": {}}
    return dict(effective_config.of_set(set_with(json.dumps(document).encode())).plugins)


def test_plugins_have_settings_or_a_state() -> None:
    section = {
        "Plugins": {"b": {}, "a": {"secret": "x"}},
        "PluginStates": {"b": {"Enable": True}, "c": {"Enable": False}, "d": 1},
    }
    assert plugins(section) == {"a": False, "b": True, "c": False, "d": False}
    odd: Any
    for odd in (None, [], {}, {"Plugins": [], "PluginStates": "x"}):
        assert plugins(odd) == {}


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"config": []}', b"\xff", b'{"config": {}'])
def test_what_are_no_settings(data: bytes) -> None:
    with pytest.raises(Failure, match="invalid"):
        effective_config.of_set(set_with(data))


def test_the_environment_counts_in_what_differs() -> None:
    document = {
        "config": {"EmailSettings": {"SMTPServer": "a"}},
        "environment": {"MM_EMAILSETTINGS_SMTPSERVER": "b"},
    }
    kept = effective_config.of_set(set_with(json.dumps(document).encode())).effective
    assert kept.text("EmailSettings", "SMTPServer") == "b"
