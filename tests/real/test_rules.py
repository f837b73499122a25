"""The rules between versions held against real servers: where a restore is refused, the newer server does not start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.errors import LabError
from tests.lab.fakes.generation import Version
from tests.lab.real_mattermost import RealMattermost
from tests.real.chat import chat_of
from tests.real.extras import found
from tests.real.house import House

ELEVEN = (11,)
# What 11 does not start with, from Config.isValid of its public/model/config.go, and what it says.
SETTINGS = {
    "archived-channels-hidden": {"TeamSettings": {"ExperimentalViewArchivedChannels": False}},
    "client-certificates": {"ExperimentalSettings": {"ClientSideCertEnable": True}},
}
WORDS = {
    "archived-channels-hidden": "Hiding archived channels is no longer supported",
    "client-certificates": "Certificate-based authentication has been removed",
}
LOG = "/var/log/gitlab/mattermost/current"
# The steps of 10.11.17, as 11.6 has them under other numbers.
COLLIDING = """
    ALTER TABLE roles ADD COLUMN IF NOT EXISTS schemeid varchar(26);
    INSERT INTO db_migrations VALUES (142, 'add_schemeid_to_roles'),
        (143, 'backfill_roles_schemeid'), (144, 'add_roles_schemeid_index')"""


@contextmanager
def changed(house: House, values: dict[str, Any]) -> Iterator[None]:
    """Settings as an administrator saves them; config.json is put back at the end."""
    path = house.lab.path(f"{house.gitlab.home}/config.json")
    before = path.read_bytes()
    house.root.call("PUT", "/config/patch", json=values)
    try:
        yield
    finally:
        house.stop()
        path.write_bytes(before)
        house.start()


def refusal(house: House, other: RealMattermost) -> str:
    """Put another server on this one's data; gives the end of its log, or "" where it answers.

    This one is in its place at the end, stopped.
    """
    house.stop()
    other.put_into(house.lab)
    house.lab.write(LOG, "")
    house.gitlab.gitlab_ctl("start", "mattermost", check=False)
    try:
        house.gitlab.wait_until_ready(60)
    except LabError:
        return house.lab.read(LOG)[-20000:]
    finally:
        house.stop()
        house.real.put_into(house.lab)
    return ""


def into_eleven(own: Version, other: Version) -> bool:
    return own < ELEVEN <= other


@pytest.mark.pairs(of=into_eleven)
@pytest.mark.parametrize("code", SETTINGS)
def test_a_setting_that_is_refused_keeps_the_newer_server_from_starting(
    house: House, base: Path, deb: Path, other: RealMattermost, code: str
) -> None:
    with changed(house, SETTINGS[code]):
        with chat_of(house, other, base, deb) as chat:
            answer = chat.restore()
            assert answer.code == 1, answer
            assert f"Mattermost {other.version} does not start then" in str(answer.error)
        assert WORDS[code] in refusal(house, other)


@pytest.mark.pairs(of=into_eleven)
def test_a_search_that_11_has_not_is_told_and_finds_nothing(
    house: House, base: Path, deb: Path, other: RealMattermost
) -> None:
    with (
        changed(house, {"SqlSettings": {"DisableDatabaseSearch": True}}),
        chat_of(house, other, base, deb) as chat,
    ):
        answer = chat.restore()
        assert answer.code == 4, answer
        assert any("no Bleve" in text for text in answer.document["warnings"]), answer
        assert found(chat.sign_in(), house.seed.team, "staging") == []


# Only a 10.11 can have them.
@pytest.mark.pairs(of=lambda own, other: into_eleven(own, other) and own >= (10, 11))
def test_the_steps_of_10_11_17_keep_11_from_starting(house: House, other: RealMattermost) -> None:
    name = house.product("backup").document["set"]
    assert refusal(house, other) == "", "without them it starts"
    put_back(house, name)
    house.gitlab.sql(COLLIDING)
    assert 'unique constraint "db_migrations_pkey"' in refusal(house, other)
    put_back(house, name)


def put_back(house: House, name: str) -> None:
    """Restore the set, whatever another server has made of the data."""
    assert house.product.restore("--no-safety-backup", name).code == 0
    house.gitlab.wait_until_ready(120)
