"""Looking into a set, and taking uploads out of it; SQL on the live database and sha256sum say what is right.

The set is incremental on another one; a copy of it is encrypted on a remote, and a repository of restic has a third
set. Odd rows are made by SQL, because Mattermost's API makes none.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator

from tests.lab.disks import CHECKOUT
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Spec, install
from tests.lab.sandbox import Lab
from tests.system.cli.test_completion import BASH, ZSH, Terminal, ask_fish
from tests.system.helpers import deletions
from tests.system.helpers.opened import opened

CONFIG = "/etc/gitlab-mm-backup/config.yml"
RESTIC_YML = "/srv/restic.yml"
WORD = "/srv/restic-password"
KEY = "/root/age-key"
RCLONE = "[nas]\ntype = alias\nremote = /srv\n"
TO = "/root/found"
STATE = "/var/lib/gitlab-mm-backup"
EVE = 4321
PG_RESTORE = "/opt/gitlab/embedded/bin/pg_restore"
DATA = "/var/opt/gitlab/mattermost/data"
LONG = "é" * 125 + ".txt"
HOSTILE = "../../etc/\x1b[31mred\x07\u202e.pdf"
PICTURE = b"\x89PNG\r\n\x1a\nalice"
NEW_YEAR = 1577836800000  # 2020-01-01 00:00 UTC, in milliseconds since 1970


@dataclass(frozen=True)
class House:
    """A server, its sets, and what its database and disk say."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    seed: Seed
    full: str  # name of the first set
    newest: str  # of the one that builds on it
    kept: str  # of the one in the repository

    def rows(self, columns: str, rest: str) -> list[list[str]]:
        """Rows of the live database, their columns as text; no text here has the separator."""
        texts = ", ".join(f"coalesce({column}::text, '')" for column in columns.split(", "))
        lines = self.gitlab.sql(f"SELECT concat_ws('~~', {texts}) {rest}")
        return [line.split("~~") for line in lines]

    def uploads(self, condition: str = "true") -> dict[str, str]:
        """Ids of uploads in the database -> SHA-256 of their files, where these are there."""
        found = {}
        for id_, path in self.rows("id, path", f"FROM fileinfo WHERE {condition}"):
            done = self.lab.run("sha256sum", f"{DATA}/{path}", check=False)
            found[id_] = done.stdout.lstrip("\\").partition(" ")[0]
        return found

    def extract(self, *words: str, code: int = 0, to: str = TO) -> list[dict[str, str]]:
        """Extract into a new directory; gives what was said of each file, with its SHA-256."""
        self.lab.run("rm", "-rf", to)
        answer = self.product("extract", *words, "--to", to)
        assert answer.code == code, answer
        return [
            {**file, "sha256": self.sha256(f"{to}/{file['file']}")}
            for file in answer.document["files"]
        ]

    def sha256(self, path: str) -> str:
        return self.lab.run("sha256sum", path).stdout.lstrip("\\").partition(" ")[0]


def backup(product: Product, *words: str) -> str:
    """Make a set, with the warning that an upload is missing on the disk; gives its name."""
    answer = product("backup", *words)
    assert answer.code == 4 and "gone.txt" in answer.document["warnings"][0], answer
    return str(answer.document["set"])


def whole_seconds(lab: Lab) -> None:
    """Give new uploads a date in whole seconds: restic prints no others, and no pax header has these."""
    find = ("find", DATA, "-type", "f", "-newermt", "@1790000000")
    lab.run(*find, "-exec", "touch", "-d", "@1790000000", "{}", "+")


def odd_rows(gitlab: Omnibus, seed: Seed) -> None:
    """Rows as years, plugins and people with bad intentions leave them."""
    ids = {file["name"]: id_ for id_, file in seed.files.items()}
    alice, bob = (
        gitlab.sql(f"SELECT id FROM users WHERE username = '{name}'")[0]
        for name in ("alice", "bob")
    )
    post = gitlab.sql("SELECT id FROM posts WHERE message LIKE 'Good morning%' LIMIT 1")[0]
    direct = "d" * 26
    picture = f"users/{alice}/profile.png"
    gitlab.lab.run(
        "install", "-D", "-o", "mattermost", "-m", "0600", "/dev/null", f"{DATA}/{picture}"
    )
    gitlab.lab.path(f"{DATA}/{picture}").write_bytes(PICTURE)
    gitlab.sql(
        f"UPDATE fileinfo SET name = E'{HOSTILE.encode('unicode_escape').decode()}'"
        f" WHERE id = '{ids['diagram (1).png']}';"
        f"UPDATE fileinfo SET name = '{LONG}', createat = {NEW_YEAR}"
        f" WHERE id = '{ids['-rf --no-preserve-root']}';"
        f"UPDATE fileinfo SET deleteat = 1 WHERE id = '{ids['fish & chips <menu>.md']}';"
        "INSERT INTO fileinfo (id, creatorid, postid, createat, deleteat, path, name, size)"
        f" VALUES ('{'m' * 26}', '{alice}', '{post}', {NEW_YEAR}, 0, 'nowhere/gone.txt', 'gone.txt', 5);"
        "INSERT INTO channels (id, createat, deleteat, teamid, type, name, displayname) VALUES"
        f" ('{direct}', 1, 0, '', 'D', '{min(alice, bob)}__{max(alice, bob)}', ''),"
        f" ('{'x' * 26}', 1, 5, '{seed.team}', 'P', 'buried', E'\\x1b]0;title'),"
        f" ('{'y' * 26}', 1, 0, '{seed.team}', 'P', '$(touch /root/owned)', 'a trap');"
        "INSERT INTO posts (id, createat, updateat, deleteat, userid, channelid, rootid, originalid,"
        f" message, type) VALUES ('{'p' * 26}', {NEW_YEAR}, 1, 0, '{alice}', '{direct}', 'nothing',"
        " '', E'a secret \\x1b[2J plan', ''),"
        f" ('{'o' * 26}', {NEW_YEAR}, 1, 7, '{alice}', '{direct}', '', '{'p' * 26}',"
        " 'a secret draft', ''),"
        f" ('{'j' * 26}', {NEW_YEAR}, 1, 0, '{alice}', '{direct}', '', '', 'a secret join',"
        " 'system_join_channel');"
        f"UPDATE fileinfo SET postid = '{'p' * 26}', channelid = '{direct}'"
        f" WHERE id = '{ids['report 2026.txt']}';"
        # A thread, a reaction to its beginning, and one that was taken back.
        "INSERT INTO posts (id, createat, updateat, deleteat, userid, channelid, rootid, originalid,"
        f" message, type) SELECT '{'t' * 26}', createat + 1, 1, 0, '{bob}', channelid, id, '',"
        f" '**Welcome** <b>back</b>', '' FROM posts WHERE id = '{post}';"
        "INSERT INTO reactions (userid, postid, emojiname, createat) VALUES"
        f" ('{bob}', '{post}', 'tada', 1);"
        "INSERT INTO users (id, username, email, createat, deleteat)"
        f" VALUES ('{'b' * 26}', 'robot', 'robot@example.test', 1, 0);"
        f"INSERT INTO bots (userid, createat, updateat, deleteat) VALUES ('{'b' * 26}', 1, 1, 0)"
    )


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        seed = gitlab.seed()
        odd_rows(gitlab, seed)
        lab.run("useradd", "--create-home", "--uid", str(EVE), "eve")
        lab.run("mkdir", "-p", "/root/.config/rclone", "/srv/copies")
        lab.write("/root/.config/rclone/rclone.conf", RCLONE, mode=0o600)
        lab.run("age-keygen", "-o", KEY)
        public = lab.run("age-keygen", "-y", KEY).stdout.strip()
        lab.write(
            CONFIG,
            "files: incremental\nrehearse: off\nfollow_gitlab: false\nkeep: {last: 9}\n"
            f"offsite:\n  - remote: nas:copies\n    recipients: [{public}]\n",
            mode=0o600,
        )
        session = gitlab.sign_in("bob")
        session._channels["releases"] = seed.channels["releases"]
        large = session.upload("large.bin", random.Random(7).randbytes(3 << 20), "releases")
        session.post("more than one piece", "releases", [large])
        whole_seconds(lab)
        full = backup(product)
        second = json.loads(
            session.call("POST", "/teams", json={"name": "ops", "display_name": "Ops", "type": "O"})
        )["id"]
        made = session.call(
            "POST",
            "/channels",
            json={"team_id": second, "name": "releases", "display_name": "Ours", "type": "O"},
        )
        channel = json.loads(made)["id"]
        session._channels["ours"] = channel
        for text in ("first", "second"):
            file = session.upload("report 2026.txt", text.encode() * 10, "ours")
            session.post(f"the {text} report of the ops team", "ours", [file])
        whole_seconds(lab)
        newest = backup(product)
        lab.write(WORD, "of the repository\n", mode=0o600)
        lab.run("restic", "init", "-r", "/srv/restic", "-p", WORD)
        settings = f"store: restic\nrestic: {{repository: /srv/restic, password_file: {WORD}}}\n"
        lab.write(RESTIC_YML, settings, mode=0o600)
        kept = backup(product, "--config", RESTIC_YML)
        yield House(lab, gitlab, product, seed, full, newest, kept)


def test_info_has_what_the_database_has(house: House) -> None:
    answer = house.product("info", house.newest)
    assert answer.code == 0 and answer.document["base"] == house.full, answer
    counted = house.rows(
        "(SELECT count(*) FROM teams WHERE deleteat = 0), "
        "(SELECT count(*) FROM channels WHERE type = 'O' AND deleteat = 0), "
        "(SELECT count(*) FROM channels WHERE type = 'P' AND deleteat = 0), "
        "(SELECT count(*) FROM channels WHERE type = 'D' AND deleteat = 0), "
        "(SELECT count(*) FROM posts WHERE deleteat = 0), "
        "(SELECT count(*) FROM fileinfo WHERE deleteat = 0), "
        "(SELECT sum(size) FROM fileinfo WHERE deleteat = 0), "
        "(SELECT count(*) FROM users WHERE deleteat = 0)",
        "",
    )[0]
    people = answer.document["people"]
    names = ("teams", "open_channels", "private_channels", "conversations", "posts", "uploads")
    assert [people[name] for name in (*names, "upload_bytes")] == [int(x) for x in counted[:7]]
    assert (people["users"] + 1, people["bots"]) == (int(counted[7]), 1)
    assert people["first_post"] == "2020-01-01T00:00:00Z"
    section = house.gitlab.config()["PluginSettings"]
    states = {name: state["Enable"] for name, state in section["PluginStates"].items()}
    assert answer.document["plugins"] == {**dict.fromkeys(section["Plugins"], False), **states}
    assert answer.document["settings_differ"] == []


def test_info_names_the_settings_that_differ_and_no_values(house: House) -> None:
    path = house.lab.path(f"{house.gitlab.home}/config.json")
    kept = path.read_bytes()
    config = house.gitlab.config()
    config["EmailSettings"]["SMTPPassword"] = "hush-hush"
    path.write_text(json.dumps(config))
    try:
        done = house.product.run("info", house.newest)
        assert re.search(r"^Settings that differ: +EmailSettings.SMTPPassword$", done.stdout, re.M)
        assert "hush" not in done.stdout + done.stderr
    finally:
        path.write_bytes(kept)


def test_ls_has_the_places_and_people_of_the_database(house: House) -> None:
    answer = house.product("ls", house.newest)
    assert answer.code == 0, answer
    posts = dict(
        house.rows("channelid, count(*)", "FROM posts WHERE deleteat = 0 GROUP BY channelid")
    )
    uploads = dict(
        house.rows(
            "p.channelid, count(*)",
            "FROM fileinfo f JOIN posts p ON p.id = f.postid WHERE f.deleteat = 0 GROUP BY p.channelid",
        )
    )
    live = {row[0] for row in house.rows("id", "FROM channels WHERE deleteat = 0")}
    said = {channel["id"]: channel for channel in answer.document["channels"]}
    assert set(said) == live
    for id_, channel in said.items():
        assert channel["posts"] == int(posts.get(id_, 0)), channel
        assert channel["uploads"] == int(uploads.get(id_, 0)), channel
    assert said["d" * 26]["name"] == "@alice,@bob"
    by_name = {user["name"]: user for user in answer.document["users"]}
    written = dict(house.rows("userid, count(*)", "FROM posts WHERE deleteat = 0 GROUP BY userid"))
    assert {user["id"]: user["posts"] for user in by_name.values() if user["posts"]} == {
        id_: int(count) for id_, count in written.items()
    }
    assert by_name["robot"]["bot"] and not by_name["alice"]["bot"]
    everything = house.product("ls", house.newest, "--deleted").document["channels"]
    assert {channel["id"] for channel in everything} - live == {"x" * 26}


def test_ls_of_a_channel_and_of_a_user(house: House) -> None:
    channel = house.seed.channels["releases"]
    of_channel = f"postid IN (SELECT id FROM posts WHERE channelid = '{channel}')"
    of_user = "creatorid = (SELECT id FROM users WHERE username = 'bob')"
    for words, condition in (
        (("--channel", "engineering/releases"), of_channel),
        (("--channel", "@bob,@alice"), f"postid = '{'p' * 26}'"),
        (("--user", "@bob"), of_user),
        (("--channel", channel, "--user", "bob"), f"{of_channel} AND {of_user}"),
    ):
        for more, deleted in (((), " AND deleteat = 0"), (("--deleted",), "")):
            answer = house.product("ls", house.newest, *words, *more)
            rows = house.rows("id, name", f"FROM fileinfo WHERE {condition}{deleted}")
            said = [[upload["id"], upload["name"]] for upload in answer.document["uploads"]]
            assert rows and sorted(id_ for id_, _ in said) == sorted(row[0] for row in rows)


def test_the_dump_gives_the_same_where_a_set_has_no_names(house: House) -> None:
    sets, old = "/var/opt/gitlab/backups/mattermost", f"/root/old/{house.newest}"
    house.lab.run("mkdir", "/root/old")
    house.lab.run(
        "cp", "-a", *(f"{sets}/{name}" for name in (house.full, house.newest)), "/root/old"
    )
    manifest = json.loads(house.lab.read(f"{old}/manifest.json"))
    house.lab.run("rm", f"{old}/{manifest['parts'].pop('names')['file']}")
    house.lab.write(f"{old}/manifest.json", json.dumps(manifest), mode=0o600)
    without = house.gitlab.sql("SELECT count(*) FROM fileinfo WHERE channelid IS NULL")
    assert without != ["0"], "an upload whose channel is its post's"
    for words in (
        ("ls",),
        ("ls", "--deleted"),
        ("ls", "--deleted", "--channel", "engineering/releases"),
        ("ls", "--deleted", "--user", "alice"),
        ("find", "--file", "*"),
        ("find", "--since", "2019-01-01"),
        ("names", "channels"),
    ):
        verb, *rest = words
        by_names, by_dump = (
            house.product(*((verb, *rest, place) if verb == "names" else (verb, place, *rest)))
            for place in (house.newest, old)
        )
        assert by_names.code == by_dump.code == 0, (by_names, by_dump)
        of_a_run = {name: by_names.document[name] for name in ("run", "seconds")}
        assert by_names.document == {**by_dump.document, **of_a_run}, words


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("ls", ()),
        ("find", ("--file", "*")),
        ("extract", ("--to", TO)),
        ("extract", ("--page", "--bulk-import", "--to", TO)),
        ("recover", ()),
    ],
)
def test_a_name_that_two_teams_have_is_refused_with_both(
    house: House, verb: str, words: tuple[str, ...]
) -> None:
    answer = house.product(verb, house.newest, "--channel", "releases", *words)
    assert answer.code == 2 and "engineering/releases" in answer.error["detail"], answer
    assert "ops/releases" in answer.error["detail"]
    option = "--channel" if verb == "recover" else "--user"
    answer = house.product(verb, house.newest, option, "stranger\x1b[31m", *words)
    assert answer.code == 2 and "\x1b" not in answer.error["message"], answer


def test_find_has_uploads_by_name_and_messages_by_text(house: House) -> None:
    answer = house.product("find", house.newest, "--file", "*REPORT*.txt")
    rows = house.rows("id", "FROM fileinfo WHERE name ILIKE '%report%.txt'")
    assert sorted(upload["id"] for upload in answer.document["uploads"]) == sorted(
        row[0] for row in rows
    )
    assert len(rows) == 3 and answer.document["messages"] == []
    answer = house.product("find", house.newest, "--text", "SECRET a")
    said = {post["id"]: (post["deleted"], post["replaced"]) for post in answer.document["messages"]}
    assert said == {"p" * 26: (False, False), "o" * 26: (False, True)}
    assert answer.document["uploads"] == []
    answer = house.product("find", house.newest, "--file", "fish*", "--text", "fish")
    assert [upload["deleted"] for upload in answer.document["uploads"]] == [True]
    assert [post["text"] for post in answer.document["messages"]] == ["fish & chips <menu>.md"]


def test_find_by_time(house: House) -> None:
    old = house.product("find", house.newest, "--until", "2020-01-01").document
    assert {upload["name"] for upload in old["uploads"]} == {LONG, "gone.txt"}
    assert {post["id"] for post in old["messages"]} == {"p" * 26, "o" * 26}
    later = house.product("find", house.newest, "--since", "2020-01-02", "--file", "*").document
    assert len(later["uploads"]) == len(house.uploads()) - 2
    assert house.product("find", house.newest).code == 2
    assert house.product("find", house.newest, "--since", "someday").code == 2


def test_find_in_all_sets_names_those_that_hold_it(house: House) -> None:
    answer = house.product("find", "--all", "--file", "report*", "--text", "report ops")
    assert answer.code == 0 and answer.document["sets"] == [house.newest, house.full], answer
    of_ops = house.rows("id", "FROM fileinfo WHERE name = 'report 2026.txt' AND size > 40")
    for upload in answer.document["uploads"]:
        both = [upload["id"]] not in of_ops
        assert upload["sets"] == ([house.newest, house.full] if both else [house.newest])
    assert len(answer.document["uploads"]) == 3
    assert [post["sets"] for post in answer.document["messages"]] == [[house.newest]] * 2
    answer = house.product("find", "--all", "--channel", "ops/releases", "--file", "*")
    assert answer.code == 0 and len(answer.document["uploads"]) == 2, answer
    assert house.product("find", "--all", "--channel", "ops/none", "--file", "*").code == 2
    away = house.product("find", "--all", "--from", "nas:copies", "--identity", KEY, "--file", "r*")
    assert away.code == 0 and len(away.document["uploads"]) == 3, away


def test_all_uploads_of_a_set_that_builds_on_another_come_back(house: House) -> None:
    files = house.extract(house.newest, code=4)
    live = house.uploads("deleteat = 0")
    assert live.pop("m" * 26) == ""
    assert {file["id"]: file["sha256"] for file in files} == live
    listed = house.lab.run("find", TO, "-mindepth", "1", "-printf", "%f\\t%m\\t%U\\t%y\\n").stdout
    on_disk = {line.split("\t")[0]: line.split("\t")[1:] for line in listed.splitlines()}
    assert set(on_disk) == {file["file"] for file in files}
    assert set(map(tuple, on_disk.values())) == {("600", "0", "f")}
    assert house.lab.run("stat", "-c", "%a %U", TO).stdout == "700 root\n"
    assert {name for name in on_disk if name.startswith("report")} == {
        "report 2026.txt", "report 2026 (2).txt", "report 2026 (3).txt"
    }  # fmt: skip
    plain = [file for file in files if re.fullmatch(r"[\w ()&;<>'\"]+\.\w+", file["name"])]
    assert len(plain) >= 5
    for file in plain:
        if file["name"] == LONG:
            continue
        assert re.sub(r" \(\d\)(?=\.)", "", file["file"]) == re.sub(
            r" \(\d\)(?=\.)", "", file["name"]
        )


def test_dates_are_those_of_the_uploads(house: House) -> None:
    files = house.extract(house.newest, code=4)
    made = dict(house.rows("id, createat", "FROM fileinfo"))
    for file in files:
        stamp = house.lab.run("stat", "-c", "%Y", f"{TO}/{file['file']}").stdout
        assert int(stamp) == int(made[file["id"]]) // 1000, file


def test_hostile_names_lead_nowhere(house: House) -> None:
    files = {file["name"]: file for file in house.extract(house.newest, code=4)}
    assert files[HOSTILE]["file"] == "_[31mred__.pdf"
    long = files[LONG]["file"]
    assert long.endswith("é.txt") and len(long.encode()) <= 200
    assert house.lab.run("find", "/root", "/etc", "-name", "*red*.pdf").stdout == (
        f"{TO}/_[31mred__.pdf\n"
    )
    for words in (
        ("ls", "--deleted"),
        ("ls", "--user", "alice", "--deleted"),
        ("find", "--file", "*"),
        ("find", "--text", "secret"),
        ("extract", "--to", "/root/other"),
    ):
        done = house.product.run(*words)
        said = done.stdout + done.stderr
        assert done.returncode in (0, 4)
        assert not re.search(r"[^\n\x20-\x7e\xa0-\u2027\u2030-\uffff\U00010000-\U0010ffff]", said)
        assert "\u202e" not in said
    assert "\\x1b" in house.product.run("find", "--text", "secret").stdout


def test_a_file_that_the_set_lacks_is_told_and_the_rest_comes(house: House) -> None:
    answer = house.product("extract", house.newest, "--until", "2020-01-01", "--to", "/root/old")
    assert answer.code == 4
    assert [file["name"] for file in answer.document["files"]] == [LONG]
    assert [upload["name"] for upload in answer.document["missing"]] == ["gone.txt"]
    assert any(text.startswith("Not in the set: ") for text in answer.document["warnings"])


def test_nothing_is_overwritten_and_deleted_uploads_come_when_asked_for(house: House) -> None:
    words = ("extract", house.newest, "--file", "fish*", "--to", "/root/fish")
    answer = house.product(*words)
    assert (answer.code, answer.document["left_out"], answer.document["files"]) == (0, 1, []), (
        answer
    )
    house.lab.write("/root/fish/fish & chips <menu>.md", "mine")
    answer = house.product(*words, "--deleted")
    assert [file["file"] for file in answer.document["files"]] == ["fish & chips <menu> (2).md"]
    assert house.lab.read("/root/fish/fish & chips <menu>.md") == "mine"
    assert house.lab.read("/root/fish/fish & chips <menu> (2).md") == "# menu\n"


def test_copies_and_repositories_give_the_same(house: House) -> None:
    live = house.uploads("deleteat = 0")
    del live["m" * 26]
    for words in (
        (house.newest, "--from", "nas:copies", "--identity", KEY),
        (house.kept, "--config", RESTIC_YML),
        (house.kept, "--from", "restic:/srv/restic", "--config", RESTIC_YML),
    ):
        files = house.extract(*words, code=4)
        assert {file["id"]: file["sha256"] for file in files} == live, words
        for verb, rest in (("ls", ()), ("find", ("--file", "*")), ("info", ())):
            answer = house.product(verb, *words, *rest)
            assert (answer.code, answer.document["warnings"]) == (0, []), answer
    assert house.product.leftovers() == []
    answer = house.product("ls", house.full, "--from", "nas:copies")
    assert answer.code != 0, "the key was not needed"


def test_a_set_opens_from_wherever_it_is(house: House) -> None:
    (file,) = (id_ for id_, file in house.seed.files.items() if file["name"] == "report 2026.txt")
    for words in (
        (house.newest,),
        (house.newest, "--from", "nas:copies", "--identity", KEY),
        (house.kept, "--config", RESTIC_YML),
        (house.kept, "--from", "restic:/srv/restic", "--config", RESTIC_YML),
    ):
        with opened(house.lab, *words) as opening:
            opening.sign_in()
            content = opening.api(f"/files/{file}").body
            assert hashlib.sha256(content).hexdigest() == house.seed.files[file]["sha256"], words
            assert opening.close()[0] == 0
    assert house.product.leftovers() == []


ELSEWHERE = ("--from", "nas:copies", "--identity", KEY)
REPOSITORY = ("--from", "restic:/srv/restic", "--config", RESTIC_YML)


@pytest.mark.parametrize("channel", ["ops/releases", "@alice,@bob"])
def test_a_channel_comes_back_from_wherever_the_set_is(house: House, channel: str) -> None:
    """Also one between people, whose reply to a message that is gone comes back as it was."""
    id_ = next(
        row["id"]
        for row in house.product("ls", house.newest).document["channels"]
        if row["name"] == channel
    )
    before = deletions.look(house.gitlab)
    for words in ((house.newest, *ELSEWHERE), (house.kept, *REPOSITORY), (house.newest,)):
        deletions.delete_channel_with_files(house.gitlab, id_)
        gone = deletions.look(house.gitlab)
        answer = house.product("recover", *words, "--channel", channel)
        assert answer.code == 4 and answer.document["files"], answer
        assert deletions.differences(before, deletions.look(house.gitlab)) == {}, words
        back = house.product("recover", "--undo", str(answer.document["undo"]))
        assert back.code == 4, back
        assert deletions.differences(gone, deletions.look(house.gitlab)) == {}, words
        house.product("recover", *words, "--channel", channel)
    assert deletions.differences(before, deletions.look(house.gitlab)) == {}
    assert house.product.leftovers() == []


def test_a_copy_that_cannot_be_read_or_trusted_changes_nothing(house: House) -> None:
    before = deletions.look(house.gitlab)
    words = ("--channel", "ops/releases")
    answer = house.product("recover", house.newest, "--from", "nas:copies", *words)
    assert answer.code in (1, 2) and "--identity" in answer.error["hint"], answer
    settings = "follow_gitlab: false\nkeep: {last: 9}\noffsite:\n  - remote: nas:plain\n"
    house.lab.write("/root/plain.yml", settings, mode=0o600)
    house.lab.run("mkdir", "-p", "/srv/plain")
    answer = house.product("offsite", "--config", "/root/plain.yml")
    assert answer.code == 0, answer
    house.lab.run("rm", f"/srv/plain/{house.full}/signature.json")
    copy = (house.full, "--from", "nas:plain")
    answer = house.product("recover", *copy, "--channel", "engineering/coffee")
    assert answer.code == 2 and "--trust-unsigned" in answer.error["hint"], answer
    assert deletions.differences(before, deletions.look(house.gitlab)) == {}
    assert house.product.leftovers() == []


def test_the_sets_of_a_repository_are_searched_and_compared(house: House) -> None:
    away = house.product("find", "--all", *REPOSITORY, "--file", "report*")
    assert (away.code, away.document["sets"]) == (0, [house.kept]), away
    assert len(away.document["uploads"]) == 3
    names = ("posts", "channels", "uploads", "users", "teams", "tables", "settings_differ")
    here = house.product("diff", house.full, house.newest).document
    there = house.product("diff", house.full, house.newest, *ELSEWHERE)
    assert there.code == 0, there
    assert {name: there.document[name] for name in names} == {name: here[name] for name in names}
    live = house.product("diff", house.newest).document
    away = house.product("diff", house.newest, *ELSEWHERE)
    assert away.code == 0, away
    assert {name: away.document[name] for name in names} == {name: live[name] for name in names}
    away = house.product("diff", house.kept, *REPOSITORY)
    kept = house.product("diff", house.kept, "--config", RESTIC_YML)
    assert (away.code, kept.code) == (0, 0), (away, kept)
    assert {name: away.document[name] for name in names} == {
        name: kept.document[name] for name in names
    }
    assert house.product.leftovers() == []


def test_names_that_changed_since_are_those_of_the_set(house: House) -> None:
    """Somebody was renamed and deactivated, and a channel was deleted and created anew."""
    (bob,) = house.rows("id", "FROM users WHERE username = 'bob'")[0]
    (channel,) = house.rows(
        "c.id",
        "FROM channels c JOIN teams t ON t.id = c.teamid WHERE t.name = 'ops' AND c.name = 'releases'",
    )[0]
    before = deletions.look(house.gitlab)
    house.gitlab.sql(
        f"UPDATE users SET username = 'robert', deleteat = 9, updateat = 9 WHERE id = '{bob}'"
    )
    deletions.delete_channel(house.gitlab, channel)
    house.gitlab.sql(
        "INSERT INTO channels (id, createat, updateat, deleteat, teamid, type, name, displayname)"
        f" SELECT '{'r' * 26}', 1, 1, 0, id, 'O', 'releases', 'Anew' FROM teams WHERE name = 'ops'"
    )
    try:
        made = house.product("diff", house.newest).document
        assert [(user["name"], user["change"]) for user in made["users"]["named"]] == [
            ("bob", "removed")
        ]
        assert {(row["id"], row["name"], row["change"]) for row in made["channels"]["named"]} == {
            ("r" * 26, "ops/releases", "added"), (channel, "ops/releases", "removed"),
        }  # fmt: skip
        for words in (("ls", house.newest), ("find", house.newest, "--file", "*")):
            answer = house.product(*words, "--user", "bob")
            assert answer.code == 0 and answer.document["uploads"], answer
            assert house.product(*words, "--user", "robert").code == 2
            uploads = house.product(*words, "--channel", "ops/releases").document["uploads"]
            assert len(uploads) == 2
        assert len(house.extract(house.newest, "--channel", "ops/releases")) == 2
        answer = house.product("recover", house.newest, "--channel", "ops/releases")
        assert answer.code == 1 and "taken" in answer.error["message"], answer
        answer = house.product("recover", house.newest, "--user", "robert")
        assert answer.code == 2, answer
        done = house.product.run("recover", house.newest, "--user", "bob")
        assert done.returncode == 4 and "was changed since the set, and keeps that" in done.stdout
        assert house.rows("username, deleteat", f"FROM users WHERE id = '{bob}'") == [
            ["robert", "0"]
        ]
        house.gitlab.sql(f"DELETE FROM channels WHERE id = '{'r' * 26}'")
        assert house.product("recover", house.newest, "--channel", "ops/releases").code == 4
    finally:
        house.gitlab.sql(f"DELETE FROM channels WHERE id = '{'r' * 26}';"
                         f"UPDATE users SET username = 'bob', deleteat = 0 WHERE id = '{bob}'")  # fmt: skip
    assert set(deletions.differences(before, deletions.look(house.gitlab))) <= {"users"}


def test_files_belong_to_who_called_sudo(house: House) -> None:
    lab = house.lab
    sudo = {"SUDO_UID": str(EVE), "SUDO_GID": str(EVE)}
    for to in ("/home/eve/found", "/srv/found"):
        words = ("gitlab-mm", "extract", house.newest, "--file", "report*", "--to", to)
        assert lab.run(*words, env=sudo, check=False).returncode == 0
        owned = lab.run("find", to, "-printf", "%u:%g %m %y\\n").stdout.splitlines()
        assert owned == ["eve:eve 700 d", *["eve:eve 600 f"] * 3]


@pytest.mark.parametrize(
    ("to", "prepare"),
    [
        ("/home/eve/link/found", "ln -sfn /root/private /home/eve/link"),
        ("/home/eve/straight", "ln -sfn /root/private /home/eve/straight"),
        ("/tmp/hers", "install -d -o eve -g eve -m 755 /tmp/hers; chmod 777 /tmp/hers"),
        ("/tmp/sticky", "install -d -o nobody -m 700 /tmp/sticky"),
        ("/home/eve/../eve/link/x", "true"),
    ],
)
@pytest.mark.parametrize("sudo", [True, False])
def test_no_other_account_leads_root_astray(
    house: House, to: str, prepare: str, sudo: bool
) -> None:
    lab = house.lab
    lab.run("mkdir", "-p", "-m", "700", "/root/private")
    lab.run("sh", "-c", prepare)
    env = {"SUDO_UID": str(EVE), "SUDO_GID": str(EVE)} if sudo else {}
    words = ("gitlab-mm", "extract", house.newest, "--file", "report*", "--to", to)
    done = lab.run(*words, env=env, check=False)
    assert done.returncode in (1, 2), done
    assert os.listdir(lab.path("/root/private")) == []
    assert "Traceback" not in done.stderr


def test_root_writes_into_no_directory_of_others(house: House) -> None:
    answer = house.product("extract", house.newest, "--file", "report*", "--to", "/home/eve/roots")
    assert answer.code == 2 and "can change the path" in answer.error["detail"], answer
    assert not house.lab.path("/home/eve/roots").exists()


def test_no_server_and_no_mattermost_are_needed(house: House) -> None:
    house.gitlab.gitlab_ctl("stop", "mattermost")
    house.gitlab.gitlab_ctl("stop", "postgresql")
    try:
        assert house.product("ls", house.newest).code == 0
        assert house.product("find", house.newest, "--file", "report*").code == 0
        assert len(house.extract(house.newest, "--file", "report*")) == 3
        assert house.product("info", house.newest).document["people"]["teams"] == 2
    finally:
        house.gitlab.gitlab_ctl("start", "postgresql")
        house.gitlab.gitlab_ctl("start", "mattermost")
        house.gitlab.wait_until_ready()


def test_on_a_host_without_mattermost_what_needs_one_says_so(house: House) -> None:
    house.gitlab.gitlab_ctl("stop", "mattermost")
    house.gitlab.gitlab_ctl("stop", "postgresql")
    house.lab.run("mv", "/opt/gitlab", "/srv/gitlab")
    house.lab.run("mv", "/etc/gitlab", "/srv/etc-gitlab")
    house.lab.run("mv", "/var/opt/gitlab/mattermost", "/srv/var-mattermost")
    path = f"/var/opt/gitlab/backups/mattermost/{house.newest}"
    try:
        for words in (("ls",), ("find", "--file", "*"), ("info",), ("diff", path)):
            answer = house.product(words[0], path, *words[1:])
            assert answer.code in (0, 4) and answer.error["message"] == "", answer
        assert len(house.extract(path, "--file", "report*")) == 3
        for words in (("open",), ("diff",), ("recover", "--channel", "ops/releases")):
            answer = house.product(words[0], path, *words[1:])
            assert answer.code in (1, 2) and answer.error["hint"], answer
    finally:
        house.lab.run("mv", "/srv/var-mattermost", "/var/opt/gitlab/mattermost")
        house.lab.run("mv", "/srv/etc-gitlab", "/etc/gitlab")
        house.lab.run("mv", "/srv/gitlab", "/opt/gitlab")
        house.gitlab.gitlab_ctl("start", "postgresql")
        house.gitlab.gitlab_ctl("start", "mattermost")
        house.gitlab.wait_until_ready()


def test_a_disk_that_is_too_small_is_told(house: House) -> None:
    house.lab.run("mkdir", "-p", "/srv/tiny")
    house.lab.run("mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", "/srv/tiny")
    config = f"{house.lab.read(CONFIG)}scratch_dir: /srv/tiny\n"
    house.lab.write("/root/tiny.yml", config, mode=0o600)
    try:
        answer = house.product("extract", house.newest, "--to", "/srv/tiny/found")
        assert answer.error["message"] == "Not enough disk space for the uploads", answer
        assert "--to DIR" in answer.error["hint"]
        for words, message in (
            (("diff", house.newest), "Not enough disk space for a comparison"),
            (("open", house.newest), "Not enough disk space for opening a set"),
            (("extract", house.newest, "--page", "--to", TO), "/srv/tiny cannot be written"),
            (
                ("recover", house.newest, *ELSEWHERE, "--channel", "ops/releases"),
                "Not enough disk space",
            ),
            (("extract", house.newest, *ELSEWHERE, "--to", TO), "Not enough disk space"),
        ):
            answer = house.product(*words, "--config", "/root/tiny.yml")
            assert answer.code == 1 and answer.error["message"].startswith(message), answer
        assert house.lab.run("find", "/srv/tiny", "-type", "f").stdout == ""
    finally:
        house.lab.run("umount", "/srv/tiny")


def test_without_pg_restore_the_package_to_install_is_named(house: House) -> None:
    house.lab.run("sh", "-c", f"mv {PG_RESTORE} {PG_RESTORE}.away; mv /usr/lib/postgresql /srv/")
    try:
        answer = house.product("ls", house.newest)
        assert answer.code == 1 and "postgresql-client" in answer.error["hint"], answer
        answer = house.product("info", house.newest)
        assert (answer.code, answer.document["people"]) == (0, None), answer
        assert "No pg_restore" in answer.document["warnings"][0]
    finally:
        house.lab.run(
            "sh", "-c", f"mv {PG_RESTORE}.away {PG_RESTORE}; mv /srv/postgresql /usr/lib/"
        )


def test_a_channel_in_the_row_of_an_upload_is_used(house: House) -> None:
    """fileinfo has it since Mattermost 7; rows from before, which have none, take their post's."""
    channel = house.seed.channels["coffee"]
    (file,) = house.rows("id", "FROM fileinfo WHERE name = 'überblick 日本語 🦊.pdf'")
    house.gitlab.sql(
        f"UPDATE fileinfo SET channelid = '{channel}' WHERE id = '{file[0]}';"
        "UPDATE fileinfo SET channelid = NULL WHERE name = 'empty.txt'"
    )
    try:
        name = backup(house.product)
        there = house.product("ls", name, "--channel", "engineering/coffee").document["uploads"]
        assert [upload["id"] for upload in there] == file
        others = house.product("ls", name, "--channel", "engineering/releases").document["uploads"]
        assert file[0] not in [upload["id"] for upload in others]
        assert "empty.txt" in [upload["name"] for upload in others]
        channels = house.product("ls", name).document["channels"]
        counts = {channel["name"]: channel["uploads"] for channel in channels}
        assert counts["engineering/coffee"] == 1
        house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{name}")
    finally:
        house.gitlab.sql(
            "UPDATE fileinfo f SET channelid = p.channelid FROM posts p WHERE p.id = f.postid"
            f" AND (f.id = '{file[0]}' OR f.name = 'empty.txt')"
        )


def test_the_messages_of_each_channel_become_a_page(house: House) -> None:
    house.lab.run("rm", "-rf", TO)
    answer = house.product("extract", house.newest, "--page", "--to", TO)
    assert answer.code == 4, answer
    pages = {page["channel"]: page for page in answer.document["pages"]}
    live = "FROM posts WHERE deleteat = 0 AND originalid = '' AND type NOT LIKE 'system_%'"
    counted = house.rows("channelid, count(*)", f"{live} GROUP BY channelid")
    assert sorted(page["messages"] for page in pages.values()) == sorted(int(n) for _, n in counted)
    assert pages["ops/releases"]["file"] != pages["engineering/releases"]["file"]
    text = house.lab.read(f"{TO}/{pages['engineering/releases']['file']}")
    root = text.partition("Good morning")[2].partition("</article>")[0]
    assert (
        "<strong>Welcome</strong> &lt;b&gt;back&lt;/b&gt;" in root.partition('class="replies"')[2]
    )
    assert '<li title="bob">:tada: <span>1</span>' in root
    assert "data:image/png;base64,iVBORw0KGgphbGljZQ==" in text
    names = re.findall(r"<li>(?!<a)([^<]*) <span class=.note.>not in the set", text)
    assert names == ["gone.txt"], "a deleted upload was left out, and is not missing"
    for file in answer.document["files"]:
        if file["channel"] == "engineering/releases":
            assert f'<a href="{quote(file["file"])}">' in text, file
    talk = house.lab.read(f"{TO}/{pages['@alice,@bob']['file']}")
    assert "a secret \\x1b[2J plan" in talk
    assert "draft" not in talk and "join" not in talk.partition("<body>")[2]


IMPORT = "/root/import"
# The order that Mattermost's importer asks for.
KINDS = ["version", "emoji", "team", "channel", "user", "post", "direct_channel", "direct_post"]


def imported(house: House, *words: str) -> tuple[Answer, dict[str, list[Any]]]:
    """Extract for the bulk import; gives the objects of the file, each valid, by kinds."""
    house.lab.run("rm", "-rf", IMPORT)
    answer = house.product("extract", house.newest, *words, "--bulk-import", "--to", IMPORT)
    schema = json.loads(Path(__file__).with_name("bulk_import.json").read_text())
    validator = Draft202012Validator(schema)
    text = house.lab.read(f"{IMPORT}/{answer.document['import_file']['file']}")
    lines = text.removesuffix("\n").split("\n")
    objects = [json.loads(line) for line in lines]
    for line in objects:
        validator.validate(line)
    kinds = [line["type"] for line in objects]
    assert kinds == sorted(kinds, key=KINDS.index) and kinds.count("version") == 1
    made: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for line in objects:
        made[line["type"]].append(line[line["type"]])
    return answer, made


def test_the_bulk_import_has_every_message_thread_reaction_and_upload(house: House) -> None:
    answer, made = imported(house)
    assert answer.code == 4, answer
    posts = [*made["post"], *made["direct_post"]]
    posts += [reply for post in posts for reply in post.get("replies", ())]
    live = "FROM posts WHERE deleteat = 0 AND originalid = '' AND type NOT LIKE 'system_%'"
    names = dict(house.rows("id, username", "FROM users"))
    rows = house.rows("userid, createat, md5(message)", live)
    md5 = {post["message"]: hashlib.md5(post["message"].encode()).hexdigest() for post in posts}
    assert sorted((names[user], int(at), text) for user, at, text in rows) == sorted(
        (post["user"], post["create_at"], md5[post["message"]]) for post in posts
    )
    assert answer.document["import_file"]["messages"] == len(rows)
    (root,) = (post for post in posts if "replies" in post)
    assert root["message"].startswith("Good morning")
    assert [reply["message"] for reply in root["replies"]] == ["**Welcome** <b>back</b>"]
    (tada,) = (reaction for reaction in root["reactions"] if reaction["user"] == "bob")
    assert (tada["emoji_name"], tada["create_at"]) == ("tada", root["create_at"]), (
        "the importer refuses one that is older than its message"
    )
    paths = [file["path"] for post in posts for file in post.get("attachments", ())]
    live_files = house.uploads("deleteat = 0 AND postid <> '' AND id <> '" + "m" * 26 + "'")
    sums = {file["id"]: f"{IMPORT}/{file['file']}" for file in answer.document["files"]}
    assert {f"{IMPORT}/data/{path}" for path in paths} == {sums[id_] for id_ in live_files}
    for id_, sha in live_files.items():
        assert house.sha256(sums[id_]) == sha
    assert len(set(paths)) == len(paths) > len({path.rpartition("/")[2] for path in paths}), (
        "files of the same name lie apart"
    )


def test_the_bulk_import_has_the_people_and_their_places(house: House) -> None:
    _, made = imported(house)
    users = {user["username"]: user for user in made["user"]}
    rows = house.rows("username, email, authdata", "FROM users WHERE authservice = 'gitlab'")
    for name, email, data in rows:
        if name in users:
            assert (users[name]["email"], users[name]["auth_data"]) == (email, data)
    assert "alice" in users and "password" not in json.dumps(made)
    assert users["alice"]["profile_image"] == "avatars/alice.png"
    assert house.lab.path(f"{IMPORT}/data/avatars/alice.png").read_bytes() == PICTURE
    members = {
        (name, team["name"], channel["name"])
        for name, user in users.items()
        for team in user.get("teams", ())
        for channel in team["channels"]
    }
    said = {(channel["team"], channel["name"]) for channel in made["channel"]}
    there = house.rows(
        "u.username, t.name, c.name",
        "FROM channelmembers m JOIN channels c ON c.id = m.channelid JOIN users u ON u.id = m.userid"
        " JOIN teams t ON t.id = c.teamid JOIN teammembers tm ON (tm.teamid, tm.userid) = (t.id, u.id)"
        " WHERE tm.deleteat = 0",
    )
    assert members == {(user, team, name) for user, team, name in there if (team, name) in said}
    assert made["direct_channel"] == [{"members": ["alice", "bob"]}] or made["direct_channel"] == [
        {"members": ["bob", "alice"]}
    ]


def test_the_bulk_import_of_a_channel_has_nothing_of_others(house: House) -> None:
    answer, made = imported(house, "--channel", "ops/releases")
    assert answer.code == 0, answer
    assert [team["name"] for team in made["team"]] == ["ops"]
    assert {(post["team"], post["channel"]) for post in made["post"]} == {("ops", "releases")}
    assert not made["direct_channel"] and not made["direct_post"]


def test_messages_of_lost_accounts_are_told_and_not_in_the_bulk_import(house: House) -> None:
    house.gitlab.sql(
        "INSERT INTO posts (id, createat, updateat, deleteat, userid, channelid, rootid, originalid,"
        f" message, type) VALUES ('{'l' * 26}', {NEW_YEAR}, 1, 0, 'nobody',"
        f" '{house.seed.channels['coffee']}', '', '', 'of a lost account', '')"
    )
    try:
        name = backup(house.product)
        answer = house.product(
            "extract",
            name,
            "--channel",
            "engineering/coffee",
            "--bulk-import",
            "--to",
            "/root/lost",
        )
        assert answer.code == 4, answer
        assert answer.document["warnings"] == [
            "Not in import.jsonl: 1 message of users whose accounts are gone"
        ]
        assert "of a lost account" not in house.lab.read("/root/lost/import.jsonl")
        house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{name}")
    finally:
        house.gitlab.sql(f"DELETE FROM posts WHERE id = '{'l' * 26}'")


PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
sys.exit(done.returncode)
"""


def peak(house: House, channel: str, posts: int) -> int:
    """The peak memory, in bytes, of extracting a channel with many posts, as page and for the bulk import."""
    size = "('x' || lpad(n::text, 25, '0'))"
    user = "(SELECT id FROM users WHERE username = 'alice')"
    where = f"channelid = '{channel}'"
    house.gitlab.sql(
        "INSERT INTO posts (id, createat, updateat, deleteat, userid, channelid, rootid, originalid,"
        f" message, type, props) SELECT {size}, {NEW_YEAR} + n::bigint * 60000, 1, 0, {user}, '{channel}',"
        # One thread has some of them: a line of the import file is a thread.
        " CASE WHEN n % 10 = 7 AND n < 5000 THEN 'x' || lpad('1', 25, '0') ELSE '' END, '',"
        f" 'message ' || n || ' **of many** ' || repeat('words ', 20), '', '{{}}'"
        f" FROM generate_series(1, {posts}) n;"
        "INSERT INTO reactions (userid, postid, emojiname, createat) SELECT"
        f" {user}, {size}, 'tada', 1 FROM generate_series(1, {posts}, 4) n"
    )
    try:
        name = backup(house.product)
        words = ("--channel", channel, "--page", "--bulk-import", "--to", "/root/many")
        command = ("gitlab-mm", "extract", name, *words)
        done = house.lab.run("python3", "-c", PEAK, *command, timeout=900)
        page = house.lab.run("sh", "-c", "grep -c '<article' /root/many/*.html").stdout
        assert int(page) == posts
        script = "import json; print(sum(1 + len(json.loads(l).get('post', {}).get('replies', ()))"
        script += " for l in open('/root/many/import.jsonl') if '\"post\"' in l[:20]))"
        assert int(house.lab.run("python3", "-c", script).stdout) == posts
        house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{name}", "/root/many")
        return int(done.stdout)
    finally:
        house.gitlab.sql(f"DELETE FROM reactions WHERE postid IN (SELECT id FROM posts WHERE {where});"
                         f"DELETE FROM posts WHERE {where}")  # fmt: skip


def test_memory_does_not_grow_with_the_messages(house: House) -> None:
    few, many = (peak(house, "y" * 26, posts) for posts in (2_000, 20_000))
    assert many - few < 12 << 20, (few, many)


@pytest.mark.long
def test_two_hundred_thousand_messages_need_little_memory(house: House) -> None:
    assert peak(house, "y" * 26, 200_000) < 150 << 20


@pytest.mark.parametrize("shell", [BASH, ZSH], ids=["bash", "zsh"])
def test_names_of_the_set_are_completed(shell: tuple[str, ...], house: House) -> None:
    house.lab.run("mkdir", "-p", "/root/a")
    terminal = Terminal(house.lab, shell)
    words = terminal.complete("gitlab-mm ls --channel ", "ops/releases")
    assert {"engineering/coffee", "engineering/releases", "ops/town-square"} <= set(words)
    assert "engineering/buried" not in words
    older = terminal.complete(f"gitlab-mm ls {house.full} --channel ", "engineering/")
    assert not any(word.startswith("ops/") for word in older)
    assert {"alice", "bob"} <= set(terminal.complete("gitlab-mm find --user ", "alice"))
    terminal.close()
    assert not house.lab.path("/root/owned").exists(), "a name was run"


def test_names_for_a_shell(house: House) -> None:
    house.lab.run("mkdir", "-p", "/root/a")
    assert {"alice", "bob"} <= set(ask_fish(house.lab, "gitlab-mm find --user "))
    assert ask_fish(house.lab, f"gitlab-mm ls {house.full} --channel ops/") == []
    assert ask_fish(house.lab, "gitlab-mm ls --from nas:copies --channel ") == []
    assert house.product("names", "teams", house.full).document["names"] == ["engineering"]
    done = house.lab.run("gitlab-mm", "names", "users", user="nobody", check=False)
    assert (done.stdout, done.returncode) == ("", 2)


def test_diff_of_two_sets_has_what_was_made_between_them(house: House) -> None:
    answer = house.product("diff", house.full, house.newest)
    assert answer.code == 0, answer
    made = answer.document
    assert [team["name"] for team in made["teams"]["named"]] == ["ops"]
    assert {channel["name"] for channel in made["channels"]["named"] if channel["change"] == "added"} == {
        "ops/releases", "ops/town-square", "ops/off-topic"
    }  # fmt: skip
    new = house.rows("id", "FROM posts WHERE message LIKE 'the % report of the ops team'")
    posts = {post["id"] for post in made["posts"]["named"] if post["change"] == "added"}
    assert {id_ for (id_,) in new} <= posts
    assert [upload["name"] for upload in made["uploads"]["named"]] == ["report 2026.txt"] * 2
    assert (made["users"]["added"], made["settings_differ"]) == (0, [])
    back = house.product("diff", house.newest, house.full).document
    assert back["posts"]["removed"] == made["posts"]["added"] > 0
    assert {name: (rows["added"], rows["removed"]) for name, rows in made["tables"].items()} == {
        name: (rows["removed"], rows["added"]) for name, rows in back["tables"].items()
    }
    same = house.product.run("diff", house.full, house.full)
    assert (same.returncode, same.stdout) == (
        0,
        f"{house.full} and {house.full}: nothing differs\n",
    )


def test_diff_to_the_live_mattermost_counts_what_sql_changed(house: House) -> None:
    name = backup(house.product)
    post, other, third = (id_ for (id_,) in house.rows(
        "id", "FROM posts WHERE deleteat = 0 AND type = '' ORDER BY createat, id LIMIT 3"
    ))  # fmt: skip
    before = house.product("diff", name).document
    assert (before["tables"], before["posts"]["added"]) == ({}, 0), before
    house.gitlab.sql(
        "CREATE TABLE kept_posts AS SELECT * FROM posts; ALTER TABLE kept_posts ADD PRIMARY KEY (id)"
    )
    try:
        house.gitlab.sql(
            f"UPDATE posts SET message = 'edited \x1b[2J' WHERE id = '{post}';"
            f"UPDATE posts SET deleteat = 9 WHERE id = '{other}';"
            f"DELETE FROM posts WHERE id = '{third}';"
            "UPDATE users SET position = 'chief' WHERE username = 'alice'"
        )
        hidden = house.product("diff", name)
        assert (hidden.code, len(hidden.document["warnings"])) == (4, 1), hidden
        assert "kept_posts" in hidden.document["warnings"][0]
        assert "kept_posts" not in hidden.document["tables"]
        owner = house.rows("tableowner", "FROM pg_tables WHERE tablename = 'posts'")[0][0]
        house.gitlab.sql(f"GRANT SELECT ON kept_posts TO {owner}")
        answer = house.product("diff", name)
        assert answer.code == 0, answer
        made = answer.document
        assert {thing["id"]: thing["change"] for thing in made["posts"]["named"]} == {
            post: "changed", other: "removed", third: "removed"
        }  # fmt: skip
        assert [(user["name"], user["change"]) for user in made["users"]["named"]] == [
            ("alice", "changed")
        ]
        counts = {key: made["tables"]["posts"][key] for key in ("added", "changed", "removed")}
        assert counts == {"added": 0, "changed": 2, "removed": 1}
        assert made["tables"]["kept_posts"]["added"] == int(
            house.rows("count(*)", "FROM kept_posts")[0][0]
        )
        done = house.product.run("diff", name)
        assert "\x1b" not in done.stdout and "  posts: 1 changed, 2 removed\n" in done.stdout
        house.gitlab.sql("ALTER TABLE posts ADD later int")
        answer = house.product("diff", name)
        assert answer.document["tables"]["posts"] == {
            "added": 0, "changed": 0, "removed": 1, "columns": ["later"]
        }  # fmt: skip
        done = house.product.run("diff", name)
        assert (
            "rows of posts: 1 removed, only one has later, so changes are not counted"
            in done.stdout
        )
    finally:
        house.gitlab.sql(
            "ALTER TABLE posts DROP COLUMN IF EXISTS later; DELETE FROM posts;"
            "INSERT INTO posts SELECT * FROM kept_posts; DROP TABLE kept_posts;"
            "UPDATE users SET position = '' WHERE username = 'alice'"
        )
        house.lab.run("rm", "-rf", f"/var/opt/gitlab/backups/mattermost/{name}")


def test_diff_without_a_live_mattermost_says_so(house: House) -> None:
    assert house.product("diff", "live").code == 2
    house.lab.run("mv", "/opt/gitlab/embedded/bin/mattermost", "/srv/mattermost.away")
    try:
        answer = house.product("diff", house.full, house.newest)
        assert answer.code == 0, answer
    finally:
        house.lab.run("mv", "/srv/mattermost.away", "/opt/gitlab/embedded/bin/mattermost")


@pytest.mark.parametrize("form", ["--page", "--bulk-import"])
def test_messages_are_not_selected_by_a_name_of_a_file(form: str, house: House) -> None:
    answer = house.product("extract", "--file", "*", form, "--to", "/root/odd")
    assert answer.code == 2 and not house.lab.path("/root/odd").exists(), answer


def test_a_damaged_files_part_gives_what_comes_before_the_damage(house: House) -> None:
    path = f"/var/opt/gitlab/backups/mattermost/{house.newest}/files.tar.zst"
    size = house.lab.path(path).stat().st_size
    house.lab.run("cp", path, "/srv/files.kept")
    house.lab.run("truncate", f"--size={size - 100}", path)
    try:
        answer = house.product("extract", house.newest, "--to", "/root/damaged")
        assert answer.code == 4 and answer.document["files"], answer
        assert any("could not be read to their end" in text for text in answer.document["warnings"])
        live = house.uploads()
        for file in answer.document["files"]:
            assert house.sha256(f"/root/damaged/{file['file']}") == live[file["id"]]
        written = {file["file"] for file in answer.document["files"]}
        assert set(os.listdir(house.lab.path("/root/damaged"))) == written, "a part of a file"
    finally:
        house.lab.run("cp", "/srv/files.kept", path)


def test_the_page_is_as_written(house: House) -> None:
    text = (CHECKOUT / "docs/one-file.md").read_text(encoding="utf-8")
    lines = re.findall(r"^gitlab-mm .*", text, re.MULTILINE)
    lines = [line.replace("nas:backups", "nas:copies") for line in lines]
    lines = [line.replace("/root/backup-key", KEY) for line in lines]
    assert len(lines) > 10
    channel = house.seed.channels["releases"]
    file, post = house.rows(
        "f.id, f.postid",
        f"FROM fileinfo f JOIN posts p ON p.id = f.postid WHERE p.channelid = '{channel}'"
        " AND f.deleteat = 0 AND f.name <> 'gone.txt' LIMIT 1",
    )[0]
    before = house.uploads(f"id = '{file}'")
    deletions.remove_files(house.gitlab, f"id = '{file}'")
    deletions.delete_channel(house.gitlab, channel)
    for line in lines:
        line = re.sub(r"(?<=--post )\w+", post, re.sub(r"(?<=--file )\w{26}", file, line))
        if "--undo" in line:
            undo = house.lab.run("sh", "-c", f"ls {STATE}/recovery-*.jsonl").stdout.splitlines()[0]
            line = re.sub(r"(?<=--undo )\S+", undo, line)
        if "--from" in line and "--identity" not in line:  # of a copy that is not encrypted
            line += f" --identity {KEY}"
        if line.startswith("gitlab-mm open"):  # it is closed when nobody reads on
            line = f"{line.partition('#')[0]} | grep -m1 -o 'Ctrl-C closes it'"
        done = house.lab.run("sh", "-c", line, check=False)
        assert done.returncode in (0, 4) and len(done.stdout.splitlines()) > 0, (line, done)
        if "--as engineering" in line:
            assert house.uploads(f"id = '{file}'") == before, done
