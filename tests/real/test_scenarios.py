"""What a backup is for, on a real server: in the order of a story, in one lab for each version."""

from __future__ import annotations

import hashlib
import threading

from tests.real.house import RESTLESS, House, assert_reads
from tests.system.helpers.opened import opened

# The versions whose tables `recover` knows end here.
REVIEWED_BELOW = (10, 12)

# Without a licence a start of 5.x sets TeamSettings.MaxNotificationsPerChannel to a million.
CONFIG_KEPT_FROM = (6,)


def test_a_backup_beside_people_who_write_has_all_that_was_said_before(house: House) -> None:
    said: list[str] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            said.append(house.alice.post(f"message {len(said)} beside the backup", "coffee"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(said) < 5:
            over.wait(0.05)
        before = list(said)
        answer = house.product("backup")
    finally:
        over.set()
        writer.join()
    assert answer.code == 0, answer
    found = house.product("find", "--text", "beside the backup").document["messages"]
    assert set(before) <= {message["id"] for message in found} <= set(said)


def test_the_rehearsal_starts_this_server_from_the_set(house: House) -> None:
    answer = house.product("rehearse", "--full")
    assert answer.code == 0, answer
    checks = {check["name"]: check["result"] for check in answer.document["checks"]}
    assert set(checks.values()) == {"passed"}, answer.document["checks"]


def test_sign_in_works_by_what_the_server_and_gitlab_say(house: House) -> None:
    assert house.product("sso", "check").code == 0


def test_looking_into_the_set_finds_what_the_api_made(house: House) -> None:
    answer = house.product("find", "--text", "Thread of a real")
    messages = answer.document["messages"]
    assert [message["id"] for message in messages if not message["replaced"]] == [house.post]
    uploads = house.product("ls", "latest", "--channel", "engineering/releases").document["uploads"]
    assert {upload["id"] for upload in uploads} == set(house.seed.files)
    answer = house.product(
        "extract", "--channel", "engineering/releases", "--page", "--bulk-import", "--to", "/root/x"
    )
    assert answer.code == 0, answer
    assert {file["id"] for file in answer.document["files"]} == set(house.seed.files)


def test_a_reinstalled_host_gets_everything_back_with_sign_in(house: House) -> None:
    name = house.product("backup").document["set"]
    before, extras = house.gitlab.state(), house.extras.seen(house.root, house.alice)
    house.reinstall()
    answer = house.product.restore(name)
    assert answer.code == 0, answer
    house.gitlab.wait_until_ready(120)
    # A start may add something, such as a bot's message; it changes and removes nothing.
    tables = house.product("diff", name).document["tables"]
    for table in RESTLESS:
        tables.pop(table, None)
    assert not [name for name, rows in tables.items() if rows["changed"] or rows["removed"]], tables
    after = house.gitlab.state().files
    kept = {
        path: facts
        for path, facts in before.files.items()
        if house.version >= CONFIG_KEPT_FROM or not path.endswith("/config.json")
    }
    assert {path: after.get(path) for path in kept} == kept
    house.root, house.alice = house.gitlab.sign_in("root"), house.gitlab.sign_in("alice")
    assert_reads(house.alice, house)
    assert house.extras.seen(house.root, house.alice) == extras
    assert house.extras.bot_says("built", house.root)
    assert house.extras.publicly(house.lab) == "for everybody\n"


def test_a_set_is_opened_with_a_session_that_this_server_takes(house: House) -> None:
    with opened(house.lab, "--as", "alice") as opening:
        assert opening.sign_in().status == 303
        assert opening.api("/users/me").document["username"] == "alice"
        assert opening.api(f"/posts/{house.post}").document["message"].startswith("**Thread**")
        id_, file = next(iter(house.seed.files.items()))
        assert hashlib.sha256(opening.api(f"/files/{id_}").body).hexdigest() == file["sha256"]
        message = {"channel_id": house.seed.channels["coffee"], "message": "no"}
        written = opening.api("/posts", "POST", message)
        assert written.status == 403, "who is no administrator reads only"
    assert house.alice.read_post(house.post).startswith("**Thread**"), "the live one goes on"


def refused(house: House, *words: str) -> bool:
    """Whether this server's tables were not reviewed for `recover`, which then changes nothing."""
    if house.version < REVIEWED_BELOW:
        return False
    answer = house.product("recover", *words)
    assert answer.code == 1 and "not known well enough" in answer.error["message"], answer
    return True


def test_a_thread_that_was_deleted_comes_back_to_this_server(house: House) -> None:
    name = house.product("backup").document["set"]
    if refused(house, name, "--post", house.post):
        return
    house.alice.call("DELETE", f"/posts/{house.post}")
    assert house.alice.get("/users/me")["username"] == "alice"
    recovered(house, name, "--post", house.post)
    again = house.product("recover", name, "--post", house.post, "--restart")
    assert (again.code, again.document["tables"]) == (0, []), again


def test_a_channel_that_was_deleted_for_good_comes_back_to_this_server(house: House) -> None:
    name = house.product("backup").document["set"]
    if refused(house, name, "--channel", "engineering/releases"):
        return
    channel = house.seed.channels["releases"]
    house.stop()
    of_it = f"(SELECT id FROM posts WHERE channelid = '{channel}')"
    for table in ("reactions", "fileinfo"):
        house.gitlab.sql(f"DELETE FROM {table} WHERE postid IN {of_it}")
    for table in ("threads", "posts", "channelmembers", "incomingwebhooks"):
        house.gitlab.sql(f"DELETE FROM {table} WHERE channelid = '{channel}'")
    house.gitlab.sql(f"DELETE FROM channels WHERE id = '{channel}'")
    house.start()
    recovered(house, name, "--channel", "engineering/releases")


def recovered(house: House, *words: str) -> None:
    """Recover something, and read it through the server."""
    answer = house.product("recover", *words, "--restart")
    assert answer.code == 0, answer
    house.gitlab.wait_until_ready(120)
    house.alice = house.gitlab.sign_in("alice")
    assert_reads(house.alice, house)
