"""A set of each server on a standalone host that has another one: newer, or older, as the rules allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.fakes.generation import version_tuple
from tests.lab.real_mattermost import RealMattermost
from tests.real.chat import Chat, chat_of
from tests.real.house import House, assert_reads

# Since then the page has a button for GitLab only with a licence.
LICENSED_FROM = (11,)


# The same version is in test_standalone.py.
@pytest.mark.pairs(of=lambda own, other: own != other)
def test_a_set_goes_onto_a_newer_server_and_onto_no_older_one(
    house: House, base: Path, deb: Path, other: RealMattermost
) -> None:
    with chat_of(house, other, base, deb) as chat:
        if version_tuple(other.version) < house.version:
            refused(chat)
        else:
            served(house, chat)


def refused(chat: Chat) -> None:
    answer = chat.restore()
    assert answer.code == 1, answer
    assert "Mattermost cannot be downgraded" in str(answer.error), answer


def served(house: House, chat: Chat) -> None:
    answer = chat.restore()
    assert answer.code in (0, 4), answer
    unlicensed = version_tuple(chat.real.version) >= LICENSED_FROM
    warned = [text for text in answer.document["warnings"] if "licen" in text]
    assert bool(warned) == (unlicensed and house.version < LICENSED_FROM), answer
    button = chat.client_config().get("EnableSignUpWithGitLab")
    assert button == (None if unlicensed else "true")
    alice = chat.sign_in()  # without the button: at the address behind it
    assert alice.user_id == house.alice.user_id
    assert_reads(alice, house)
    assert house.extras.bot_says("upgraded", chat.sign_in("root")) == "upgraded"
