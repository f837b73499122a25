"""Out of the bundle, to a standalone host with the same real server; accounts get passwords there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.signed_in_user import SignInFailed
from tests.real.chat import SITE, Chat, chat_of
from tests.real.house import House, assert_reads

PASSWORD = "Passw0rd!Passw0rd!"
NEW_PASSWORD = "An0ther!An0ther!"
WAY = ("accounts", "convert", "--from", "gitlab", "--to", "email")


@pytest.fixture(scope="module")
def chat(house: House, base: Path, deb: Path) -> Iterator[Chat]:
    with chat_of(house, house.real, base, deb) as made:
        yield made


def test_the_set_moves_to_a_standalone_host_with_sign_in(house: House, chat: Chat) -> None:
    answer = chat.restore()
    assert answer.code in (0, 4), answer
    assert chat.new.config()["ServiceSettings"]["SiteURL"] == SITE
    alice = chat.sign_in()
    assert alice.user_id == house.alice.user_id
    assert_reads(alice, house)
    assert chat.product("sso", "check").code == 0


def test_what_programs_have_works_there(house: House, chat: Chat) -> None:
    root, extras = chat.sign_in("root"), house.extras
    assert extras.bot_says("built elsewhere", root) == "built elsewhere"
    extras.call_hook(chat.lab, SITE, "deployed elsewhere")
    assert "deployed elsewhere" in root.posts("releases")
    assert extras.publicly(chat.lab) == "for everybody\n"


def test_the_standalone_one_is_backed_up_rehearsed_and_put_back(house: House, chat: Chat) -> None:
    set_ = chat.product("backup").document["set"]
    verdict = chat.product("rehearse", set_, "--full", timeout=300)
    checks = {check["name"]: check["result"] for check in verdict.document["checks"]}
    assert set(checks.values()) == {"passed"}, verdict
    late = chat.sign_in().post("written after the set", "coffee")
    answer = chat.product("restore", "--yes", "--no-safety-backup", set_, timeout=300)
    assert answer.code == 0, answer
    assert chat.new.sql(f"SELECT count(*) FROM posts WHERE id = '{late}'") == ["0"]
    assert_reads(chat.sign_in(), house)


def test_accounts_get_passwords_and_go_back_to_gitlab(house: House, chat: Chat) -> None:
    root = chat.sign_in("root")
    local = chat.new.log_in(SITE, "local", PASSWORD)
    roles = {"roles": "system_admin system_user"}
    root.call("PUT", f"/users/{local.user_id}/roles", json=roles)
    words = (*WAY, "--admin", "local", "--yes", "--json")
    done = chat.lab.run("gitlab-mm", *words, input=f"{PASSWORD}\n", check=False)
    assert done.returncode in (0, 4), done
    chat.new.wait_until_ready(60)
    with pytest.raises(SignInFailed):
        chat.sign_in()
    local = chat.new.log_in(SITE, "local", PASSWORD)
    alice_id = house.alice.user_id
    # In place of the mail that "Forgot your password?" sends.
    local.call("PUT", f"/users/{alice_id}/password", json={"new_password": NEW_PASSWORD})
    alice = chat.new.log_in(SITE, "alice", NEW_PASSWORD)
    assert alice.user_id == alice_id
    assert_reads(alice, house)
    mapping = json.loads(done.stdout)["mapping"]
    undone = chat.product("accounts", "convert", "--undo", mapping)
    assert undone.code in (0, 4), undone
    chat.new.wait_until_ready(60)
    assert_reads(chat.sign_in(), house)
