"""The variables that a set's settings part holds: as a service has them, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import effective_config

HOSTILE: dict[str, Any] = {
    "no variables": None,
    "a list": ["MM_A=x"],
    "a name with =": {"MM_A=B": "x"},
    "a name that climbs": {"MM_../../etc/cron.d/x": "* * * * * root id"},
    "a name with NUL": {"MM_\0": "x"},
    "no name": {"": "x"},
    "a value with NUL": {"MM_A": "x\0y"},
    "a value that is no bytes": {"MM_A": "\ud800"},
    "a value that is no text": {"MM_A": ["x"]},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_process_can_be_started_with_is_refused(what: str) -> None:
    with pytest.raises(Failure, match="settings part of the set is invalid") as caught:
        effective_config.environment_of_set({"environment": HOSTILE[what]})
    assert "list" in caught.value.hint and caught.value.detail.isprintable()


def test_variables_come_back_as_they_were() -> None:
    """Of any bytes, as an old host has them, and with line breaks, for which chpst has NUL."""
    given = {"MM_A": "B\udcfccherei", "GODEBUG": "", "odd-name.x": "a\nb", "MM_E": "🎉"}
    found = effective_config.environment_of_set({"environment": given})
    assert {name: secret.reveal() for name, secret in found.items()} == given
