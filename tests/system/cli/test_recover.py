"""One thing back into the live Mattermost: deleted as Mattermost does it, brought back, and every row compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers import deletions
from tests.system.helpers.deletions import DATA
from tests.system.helpers.opened import opened
from tests.system.helpers.recovery import CONFIG, STATE, House, as_before, built_house


@pytest.fixture(scope="module")
def built(base: Path, deb: Path) -> Iterator[House]:
    with built_house(base, deb) as house:
        yield house


@pytest.fixture
def house(built: House) -> House:
    return as_before(built)


@pytest.mark.parametrize("delete", [deletions.delete_channel, deletions.delete_channel_with_files])
def test_a_channel_deleted_for_good_is_back_row_for_row(
    house: House, delete: Callable[[Omnibus, str], None]
) -> None:
    delete(house.gitlab, house.seed.channels["releases"])
    assert set(house.differences()) >= {
        "posts",
        "threads",
        "reactions",
        "channels",
        "channelmembers",
    }
    house.there_and_back("--channel", "engineering/releases")
    assert house.differences() == {}


def test_an_archived_channel_is_undeleted_with_its_hooks(house: House) -> None:
    deletions.archive_channel(house.gitlab, house.seed.channels["releases"])
    changed = house.differences()
    assert set(changed) == {"channels", "publicchannels", "incomingwebhooks", "outgoingwebhooks"}
    answer = house.there_and_back("--channel", "engineering/releases")
    assert all(table["inserted"] == [] for table in answer.document["tables"])
    assert house.differences() == {}


def test_a_message_deleted_for_good_is_back_with_its_thread_and_uploads(house: House) -> None:
    deletions.delete_post(house.gitlab, house.root)
    assert {"posts", "threads", "fileinfo", "preferences"} <= set(house.differences())
    answer = house.there_and_back("--post", house.root)
    assert [path.rpartition("/")[2] for path in answer.document["files"]] == ["plan.txt"]
    assert house.differences() == {}


def test_a_deleted_message_is_undeleted_with_its_thread(house: House) -> None:
    deletions.delete_post_softly(house.gitlab, house.root, house.people["alice"])
    assert {"posts", "threads", "fileinfo", "preferences"} <= set(house.differences())
    house.there_and_back("--post", house.root)
    assert house.differences() == {}


def test_a_reply_is_back_and_its_thread_counts_it(house: House) -> None:
    reply = house.one(
        f"SELECT id FROM posts WHERE rootid = '{house.root}' ORDER BY createat DESC LIMIT 1"
    )
    root = house.one(f"SELECT updateat FROM posts WHERE id = '{house.root}'")
    house.gitlab.sql(
        f"UPDATE posts SET deleteat = {deletions.NOW}, updateat = {deletions.NOW} WHERE id = '{reply}';"
        "UPDATE threads SET replycount = 1, lastreplyat = (SELECT max(createat) FROM posts WHERE"
        f" rootid = '{house.root}' AND deleteat = 0), participants = participants - '{house.people['alice']}'"
        f" WHERE postid = '{house.root}'"
    )
    house.there_and_back("--post", reply)
    assert house.one(f"SELECT updateat FROM posts WHERE id = '{house.root}'") == root
    assert house.differences() == {}


def test_a_reply_deleted_for_good_is_back_with_its_reactions_and_uploads(house: House) -> None:
    reply = house.one(
        f"SELECT id FROM posts WHERE rootid = '{house.root}' ORDER BY createat LIMIT 1"
    )
    deletions.delete_reply(house.gitlab, reply)
    assert {"posts", "threads", "reactions", "fileinfo"} <= set(house.differences())
    answer = house.there_and_back("--post", reply)
    assert [path.rpartition("/")[2] for path in answer.document["files"]] == ["answer.txt"]
    assert house.differences() == {}


@pytest.mark.parametrize("for_good", [True, False])
def test_an_upload_is_back(house: House, for_good: bool) -> None:
    where = f"id IN (SELECT id FROM fileinfo WHERE postid = '{house.root}')"
    id_ = house.one(f"SELECT id FROM fileinfo WHERE {where}")
    deletions.remove_files(house.gitlab, where)
    if for_good:
        house.gitlab.sql(f"DELETE FROM fileinfo WHERE {where}")
    else:
        house.gitlab.sql(f"UPDATE fileinfo SET deleteat = {deletions.NOW} WHERE {where}")
    answer = house.there_and_back("--file", id_)
    assert len(answer.document["files"]) == 1
    assert house.differences() == {}


@pytest.mark.parametrize(
    ("name", "delete"),
    [("deactivated", deletions.deactivate), ("deleted", deletions.delete_user)],
)
def test_an_account_is_back_and_signs_in_as_before(
    house: House, name: str, delete: Callable[[Omnibus, str], None]
) -> None:
    bob = house.people["bob"]
    delete(house.gitlab, bob)
    gone = house.differences()
    assert "users" in gone
    house.there_and_back("--user", "bob")
    house.gitlab.restart_mattermost()
    left = house.differences()
    # Mattermost leaves the moment of the deletion in the messages that lost a reaction.
    moment = [row for row in left.pop("posts", []) if row.startswith("+")]
    assert len(moment) == (2 if name == "deleted" else 0)
    assert all(f",{deletions.NOW}," in row for row in moment)
    assert left == {}
    assert house.gitlab.sign_in("bob").me()["id"] == bob
    assert house.one(f"SELECT authservice FROM users WHERE id = '{bob}'") == "gitlab"


@pytest.mark.parametrize("delete", [deletions.archive_team, deletions.delete_team])
def test_a_team_is_back_with_its_channels(
    house: House, delete: Callable[[Omnibus, str], None]
) -> None:
    delete(house.gitlab, house.seed.team)
    assert "teams" in house.differences()
    house.there_and_back("--team", "engineering")
    assert house.differences() == {}


def test_a_dry_run_lists_every_row_and_changes_nothing(house: House) -> None:
    channel = house.seed.channels["releases"]
    deletions.delete_channel(house.gitlab, channel)
    gone, files = deletions.look(house.gitlab), house.lab.run("ls", STATE).stdout
    answer = house.recover("--channel", "engineering/releases", "--dry-run", code=0)
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    assert house.lab.run("ls", STATE).stdout == files
    listed = {table["table"]: table["inserted"] for table in answer.document["tables"]}
    lost = house.differences()
    assert {name: len(rows) for name, rows in listed.items()} == {
        name: len(rows) for name, rows in lost.items()
    }
    said = house.product.run("recover", house.set, "--channel", channel, "--dry-run").stdout
    for name, rows in listed.items():
        assert f"{name}:\n" in said
        assert all(f"  insert  {'  '.join(key)}\n" in said for key in rows)
    house.recover("--channel", channel)


def test_an_undo_is_exact_and_a_second_recovery_changes_nothing(house: House) -> None:
    deletions.delete_channel(house.gitlab, house.seed.channels["releases"])
    deletions.delete_post(house.gitlab, house.root)
    gone = deletions.look(house.gitlab)
    first = house.recover("--channel", "engineering/releases")
    undo = str(first.document["undo"])
    assert house.lab.run("stat", "-c", "%a %U", undo).stdout == "600 root\n"
    again = house.recover("--channel", "engineering/releases", code=0)
    assert (again.document["rows"], again.document["undo"]) == (0, None)
    done = house.product.run("recover", house.set, "--channel", "engineering/releases")
    assert done.stdout.startswith("Nothing to bring back: channel engineering/releases")
    back = house.product("recover", "--undo", undo)
    assert back.code == 4 and back.document["undone"]["rows"] == first.document["rows"], back
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    assert house.product("recover", "--undo", undo).document["undone"] == {"rows": 0, "files": 0}
    house.recover("--channel", "engineering/releases")


def test_an_undo_is_refused_where_people_have_written_since(house: House) -> None:
    channel = house.seed.channels["releases"]
    deletions.delete_channel(house.gitlab, channel)
    undo = house.recover("--channel", "engineering/releases", "--restart", code=0).document["undo"]
    session = house.gitlab.sign_in("alice")
    session._channels["releases"] = channel
    post = session.post("is it back?", "releases")
    there = deletions.look(house.gitlab)
    answer = house.product("recover", "--undo", undo)
    assert answer.code == 1 and "changed since: 1 message" in answer.error["detail"], answer
    assert deletions.differences(there, deletions.look(house.gitlab)) == {}
    house.gitlab.sql(f"DELETE FROM posts WHERE id = '{post}'")
    assert house.product("recover", "--undo", undo).code == 4
    house.recover("--channel", "engineering/releases")


def test_a_row_that_was_changed_since_keeps_that(house: House) -> None:
    deletions.delete_post_softly(house.gitlab, house.root, house.people["alice"])
    house.gitlab.sql(f"UPDATE posts SET message = 'edited since' WHERE id = '{house.root}'")
    done = house.product.run("recover", house.set, "--post", house.root)
    assert f"posts: {house.root} was changed since the set, and keeps that" in done.stdout
    left = house.one(f"SELECT message, deleteat, props FROM posts WHERE id = '{house.root}'")
    assert left.startswith("edited since|0|") and "deleteBy" not in left


def test_what_was_deleted_on_its_own_stays_deleted_and_is_said(house: House) -> None:
    channel = house.seed.channels["releases"]
    post = house.one(
        f"SELECT id FROM posts WHERE channelid = '{channel}' AND message LIKE 'Good%' LIMIT 1"
    )
    house.gitlab.sql(f"UPDATE posts SET deleteat = 12345 WHERE id = '{post}'")
    deletions.archive_channel(house.gitlab, channel)
    done = house.product.run("recover", house.set, "--channel", channel)
    assert "posts: 1 row deleted on their own since, and left so" in done.stdout
    assert house.one(f"SELECT deleteat FROM posts WHERE id = '{post}'") == "12345"
    house.recover("--post", post)


def test_a_taken_name_is_refused_and_another_one_given(house: House) -> None:
    channel = house.seed.channels["releases"]
    deletions.delete_channel(house.gitlab, channel)
    session = house.gitlab.sign_in("alice")
    made = {
        "team_id": house.seed.team,
        "name": "releases",
        "display_name": "New",
        "type": "O",
    }
    session.call("POST", "/channels", json=made)
    there = deletions.look(house.gitlab)
    answer = house.recover("--channel", channel, code=1)
    assert "taken" in answer.error["message"] and "--as TEAM/NEW-CHANNEL" in answer.error["hint"]
    assert deletions.differences(there, deletions.look(house.gitlab)) == {}
    for place, words in (
        ("engineering/No Name", "not TEAM/NEW"),
        ("nowhere/old", "no team nowhere"),
    ):
        answer = house.recover("--channel", channel, "--as", place, code=2)
        assert words in answer.error["message"], answer
    house.recover("--channel", channel, "--as", "engineering/releases-2026")
    assert house.one(f"SELECT name FROM channels WHERE id = '{channel}'") == "releases-2026"
    assert house.one(f"SELECT name FROM publicchannels WHERE id = '{channel}'") == "releases-2026"
    answer = house.recover("--channel", channel, "--as", "engineering/again", code=2)
    assert "still there" in answer.error["message"], answer


def test_a_channel_comes_back_into_another_team(house: House) -> None:
    """Of its members alice alone is in that team; the others' memberships stay out, as Mattermost has it."""
    channel, alice = house.seed.channels["releases"], house.people["alice"]
    session = house.gitlab.sign_in("alice")
    team = json.loads(
        session.call("POST", "/teams", json={"name": "ops", "display_name": "Ops", "type": "O"})
    )["id"]
    made = {"team_id": team, "name": "releases", "display_name": "Theirs", "type": "O"}
    session.call("POST", "/channels", json=made)
    members = house.gitlab.sql(f"SELECT userid FROM channelmembers WHERE channelid = '{channel}'")
    assert alice in members and len(members) > 1
    deletions.delete_channel(house.gitlab, channel)
    house.gitlab.sql(f"DELETE FROM sidebarchannels WHERE channelid = '{channel}'")
    gone = deletions.look(house.gitlab)
    for place, code, words in (
        ("ops/releases", 1, "The name of the channel is taken"),
        ("nowhere/releases", 2, "There is no team nowhere in Mattermost"),
        ("ops", 2, "ops is not TEAM/NEW-CHANNEL"),
        ("ops/" + "x" * 65, 2, "is not TEAM/NEW-CHANNEL"),
        ("ops/UPPER", 2, "is not TEAM/NEW-CHANNEL"),
        ("o\x1b[31mps/new", 2, "There is no team o\\x1b[31mps in Mattermost"),
    ):
        answer = house.recover("--channel", channel, "--as", place, code=code)
        assert words in answer.error["message"], answer
        assert answer.error["hint"] or code == 2
    house.gitlab.sql(f"UPDATE teams SET deleteat = 1 WHERE id = '{team}'")
    answer = house.recover("--channel", channel, "--as", "ops/theirs", code=2)
    assert answer.error["message"] == "The team ops is deleted in Mattermost", answer
    house.gitlab.sql(f"UPDATE teams SET deleteat = 0 WHERE id = '{team}'")
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}

    answer = house.there_and_back("--channel", channel, "--as", "ops/theirs")
    left = f"channelmembers: {len(members) - 1} rows left out: not in its team now"
    assert left in answer.document["warnings"], answer
    changed = house.differences()
    for table in ("channels", "publicchannels"):
        assert (
            house.one(f"SELECT name, teamid FROM {table} WHERE id = '{channel}'")
            == f"theirs|{team}"
        )
    assert house.gitlab.sql(f"SELECT userid FROM channelmembers WHERE channelid = '{channel}'") == [
        alice
    ]
    followed = f"SELECT DISTINCT userid FROM threadmemberships WHERE postid = '{house.root}'"
    assert house.gitlab.sql(followed) == [alice], "a stranger sees a thread of the channel"
    teams = "SELECT teamid FROM {} WHERE channelid = '" + channel + "'"
    for table in ("incomingwebhooks", "outgoingwebhooks"):
        assert house.one(teams.format(table)) == team
    assert house.one(f"SELECT threadteamid FROM threads WHERE postid = '{house.root}'") == team
    assert house.gitlab.sql(f"SELECT 1 FROM sidebarchannels WHERE channelid = '{channel}'") == []
    for table in ("posts", "reactions", "fileinfo", "drafts", "preferences"):
        assert table not in changed, changed[table]


def test_messages_of_people_who_are_gone_stay_out_until_these_are_back(house: House) -> None:
    channel, bob = house.seed.channels["releases"], house.people["bob"]
    deletions.delete_channel(house.gitlab, channel)
    house.gitlab.sql(f"UPDATE users SET id = 'somebody' WHERE id = '{bob}'")
    answer = house.recover("--channel", channel)
    warned = [text for text in answer.document["warnings"] if "the user is gone" in text]
    assert any(text.startswith("posts: ") for text in warned), answer
    assert (
        house.one(f"SELECT count(*) FROM posts WHERE userid = '{bob}' AND channelid = '{channel}'")
        == "0"
    )
    counted = house.one(f"SELECT replycount FROM threads WHERE postid = '{house.root}'")
    assert counted == "1"
    house.gitlab.sql(f"UPDATE users SET id = '{bob}' WHERE id = 'somebody'")
    house.product("recover", "--undo", str(answer.document["undo"]))
    house.recover("--channel", channel)


def test_a_message_without_its_channel_or_thread_says_what_comes_first(house: House) -> None:
    deletions.delete_channel(house.gitlab, house.seed.channels["releases"])
    answer = house.recover("--post", house.root, code=1)
    assert answer.error["message"] == "The channel of this post is gone", answer
    assert f"--channel {house.seed.channels['releases']}" in answer.error["hint"]
    house.recover("--channel", "engineering/releases")


def test_a_user_whose_name_is_taken_is_refused(house: House) -> None:
    bob = house.people["bob"]
    house.gitlab.sql(f"UPDATE users SET id = 'another' WHERE id = '{bob}'")
    answer = house.recover("--user", "bob", code=1)
    assert answer.error["message"] == "The name of the user is taken", answer
    house.gitlab.sql(f"UPDATE users SET id = '{bob}' WHERE id = 'another'")


def test_a_team_whose_name_is_taken_is_refused(house: House) -> None:
    deletions.delete_team(house.gitlab, house.seed.team)
    session = house.gitlab.sign_in("alice")
    made = {"name": "engineering", "display_name": "Anew", "type": "O"}
    session.call("POST", "/teams", json=made)
    there = deletions.look(house.gitlab)
    answer = house.recover("--team", "engineering", code=1)
    assert answer.error["message"] == "The name of the team is taken", answer
    assert "Rename the other team" in answer.error["hint"]
    assert deletions.differences(there, deletions.look(house.gitlab)) == {}


def test_a_file_that_the_set_lacks_is_told_and_the_rest_comes(house: House) -> None:
    lost = house.one(f"SELECT path FROM fileinfo WHERE postid = '{house.root}'")
    content = house.lab.path(f"{DATA}/{lost}").read_bytes()
    stamp = house.lab.run("stat", "-c", "%y", f"{DATA}/{lost}").stdout.strip()
    house.lab.run("mv", f"{DATA}/{lost}", "/root/aside")
    poor = str(house.product("backup").document["set"])
    deletions.delete_channel(house.gitlab, house.seed.channels["releases"])
    answer = house.product("recover", poor, "--channel", "engineering/releases")
    assert answer.code == 4 and answer.document["missing"] == [lost], answer
    assert f"Not in the set: {lost}" in answer.document["warnings"]
    assert content and stamp
    house.lab.run("mv", "/root/aside", f"{DATA}/{lost}")
    house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{poor}")


def test_nothing_that_is_there_is_overwritten_by_a_file(house: House) -> None:
    path = house.one(f"SELECT path FROM fileinfo WHERE postid = '{house.root}'")
    house.lab.run("cp", "-a", f"{DATA}/{path}", "/root/aside")
    other = house.one("SELECT path FROM fileinfo WHERE name = 'answer.txt'")
    house.lab.run("cp", "-a", f"{DATA}/{other}", "/root/other")
    deletions.delete_channel(house.gitlab, house.seed.channels["releases"])
    house.lab.path(f"{DATA}/{path}").write_text("mine")
    house.lab.run("rm", f"{DATA}/{other}")
    answer = house.recover("--channel", "engineering/releases")
    assert f"{path} has another content than in the set, and stays" in answer.document["warnings"]
    assert house.lab.read(f"{DATA}/{path}") == "mine"
    house.lab.run("cp", "-a", "/root/aside", f"{DATA}/{path}")


def test_a_table_in_no_list_is_told(house: House) -> None:
    channel = house.seed.channels["releases"]
    house.gitlab.sql(
        "CREATE TABLE ir_incident (id text PRIMARY KEY, channelid text);"
        "ALTER TABLE ir_incident OWNER TO gitlab_mattermost;"
        f"INSERT INTO ir_incident VALUES ('one', '{channel}'), ('two', 'else')"
    )
    name = str(house.product("backup").document["set"])
    deletions.delete_channel(house.gitlab, channel)
    answer = house.product("recover", name, "--channel", channel, "--restart")
    assert answer.code == 4, answer
    assert [text for text in answer.document["warnings"] if text.startswith("ir_incident: 1 row ")]
    house.gitlab.sql("DROP TABLE ir_incident")
    house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{name}")


def test_another_major_version_is_refused_and_points_to_extract(house: House) -> None:
    folder = f"/root/{house.set}"
    house.lab.run("cp", "-a", f"/var/opt/gitlab/backups/mattermost/{house.set}", folder)
    manifest = json.loads(house.lab.read(f"{folder}/manifest.json"))
    manifest["mattermost"] = "9.11.2"
    house.lab.write(f"{folder}/manifest.json", json.dumps(manifest))
    house.lab.run("rm", "-f", f"{folder}/signature.json")
    words = ("recover", folder, "--channel", "engineering/releases")
    answer = house.product(*words, "--trust-unsigned", house.set)
    assert answer.code == 1 and "another major version" in answer.error["message"], answer
    assert "gitlab-mm extract" in answer.error["hint"]
    answer = house.product("open", folder)
    assert answer.code == 1 and "gitlab-mm ls, find and extract" in answer.error["hint"], answer
    for verb, more in (
        ("ls", ()), ("find", ("--file", "*")), ("info", ()), ("diff", ()),
        ("extract", ("--page", "--bulk-import", "--to", "/root/of9")),
    ):  # fmt: skip
        answer = house.product(verb, folder, *more)
        assert answer.code == 0, answer
    house.lab.run("rm", "-rf", folder, "/root/of9")


def test_a_set_without_uploads_is_read_opened_and_recovered_from(house: House) -> None:
    house.gitlab.sql("DELETE FROM fileinfo")
    house.lab.run("find", DATA, "-mindepth", "1", "-delete")
    before = deletions.look(house.gitlab)
    answer = house.product("backup")
    assert answer.code in (0, 4), answer
    name = str(answer.document["set"])
    for verb, more in (
        ("ls", ()), ("find", ("--file", "*")), ("diff", ()),
        ("extract", ("--page", "--bulk-import", "--to", "/root/poor")),
    ):  # fmt: skip
        answer = house.product(verb, name, *more)
        assert answer.code == 0, answer
        assert not answer.document.get("files") and not answer.document.get("missing"), answer
    with opened(house.lab, name) as opening:
        opening.sign_in()
        assert opening.api(f"/posts/{house.root}").status == 200
        opening.close()
    deletions.delete_channel(house.gitlab, house.seed.channels["releases"])
    answer = house.product("recover", name, "--channel", "engineering/releases", "--restart")
    assert (answer.code, answer.document["files"]) == (0, []), answer
    assert deletions.differences(before, deletions.look(house.gitlab)) == {}
    house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{name}", "/root/poor")


def test_a_hostile_set_reaches_neither_the_terminal_nor_other_places(house: House) -> None:
    channel, bob = house.seed.channels["releases"], house.people["bob"]
    evil = r"E'\x1b[31m\u202e<script>'"
    house.gitlab.sql(
        f"UPDATE posts SET message = {evil} WHERE id = '{house.root}';"
        "INSERT INTO reactions (userid, postid, emojiname, createat, updateat, deleteat, channelid)"
        f" VALUES ('{bob}', '{house.root}', {evil}, 1, 1, 0, '{channel}');"
        f"UPDATE fileinfo SET path = '../../../../../root/owned', name = {evil}, thumbnailpath = {evil},"
        f" previewpath = '/root/owned' WHERE postid = '{house.root}';"
        f"UPDATE channels SET displayname = {evil} WHERE id = '{channel}';"
        f"INSERT INTO drafts (createat, updateat, deleteat, userid, channelid, rootid, message, props, fileids)"
        f" VALUES (1, 1, 0, '{bob}', '{channel}', {evil}, 'x', '{{}}', '[]')"
    )
    before = deletions.look(house.gitlab)
    name = str(house.product("backup").document["set"])
    deletions.delete_channel(house.gitlab, channel)
    house.gitlab.sql(
        f"DELETE FROM drafts WHERE channelid = '{channel}'; DELETE FROM fileinfo WHERE postid = '{house.root}'"
    )
    words = ("recover", name, "--channel", "engineering/releases")
    for more in (("--dry-run",), (), ()):
        done = house.product.run(*words, *more)
        said = done.stdout + done.stderr
        assert done.returncode in (0, 4) and "Traceback" not in said, done
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said), said
    assert not house.lab.path("/root/owned").exists()
    assert deletions.differences(before, deletions.look(house.gitlab)) == {}
    done = house.product.run("diff", name)
    assert "\x1b" not in done.stdout + done.stderr
    house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{name}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give one of"),
        (("--post", "x", "--file", "y"), "Give one of"),
        (("--post", "x" * 26, "--as", "a/b"), "--as needs --channel"),
        (("--post", "short"), "is not the id"),
        (("--post", "z" * 26), "has no message"),
        (("--file", "z" * 26), "has no file"),
        (("--channel", "engineering/none"), "has no channel"),
        (("--user", "nobody"), "has no user"),
        (("--undo", "/etc/hostname"), "cannot be read"),
    ],
)
def test_what_cannot_be_found_is_refused(house: House, words: tuple[str, ...], said: str) -> None:
    answer = house.product("recover", house.set, *words)
    assert answer.code == 2 and said in answer.error["message"], answer


def test_an_older_server_is_served_by_its_own_columns(base: Path, deb: Path) -> None:
    """Of Mattermost 6, where threads, reactions and uploads have fewer columns, and some tables are not there."""
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(version="14.10.0"))
        product = install_product(lab, deb)
        lab.write(CONFIG, "rehearse: off\nfollow_gitlab: false\n", mode=0o600)
        seed = gitlab.seed()
        session = gitlab.sign_in("alice")
        channel = seed.channels["releases"]
        root = next(iter(seed.posts))
        place = gitlab.sql(f"SELECT channelid FROM posts WHERE id = '{root}'")[0]
        for _ in range(2):
            message = {"channel_id": place, "message": "a reply", "root_id": root}
            session.call("POST", "/posts", json=message)
        made = product("backup")
        assert made.code == 0, made
        before = deletions.look(gitlab)
        deletions.delete_channel(gitlab, channel)
        deletions.delete_channel(gitlab, seed.channels["coffee"])
        for name in ("releases", "coffee"):
            answer = product("recover", "--channel", f"engineering/{name}", "--restart")
            assert answer.code == 0, answer
        assert deletions.differences(before, deletions.look(gitlab)) == {}
