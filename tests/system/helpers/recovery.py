"""A server with a set that has rows of every table of a channel, post and user; and recoveries from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers import deletions
from tests.system.helpers.deletions import DATA, Everything

CONFIG = "/etc/gitlab-mm-backup/config.yml"
STATE = "/var/lib/gitlab-mm-backup"
MINE = ("install", "-o", "mattermost", "-g", "mattermost")
ODD = "it's {odd}\t\\N \\. \u2028 <b>“quoted”</b>"


@dataclass
class House:
    """A server with a set of it, and everything in it at the time of the set."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    seed: Seed
    set: str
    before: Everything
    root: str  # the first message of a thread
    people: dict[str, str]

    def recover(self, *words: str, code: int = 4) -> Answer:
        """Recover from the set; nobody agrees to a restart, which is a warning."""
        answer = self.product("recover", self.set, *words)
        assert answer.code == code, answer
        return answer

    def there_and_back(self, *words: str) -> Answer:
        """Recover; a second recovery changes nothing, and an undo is exact. Gives the first answer."""
        gone = deletions.look(self.gitlab)
        first = self.recover(*words)
        again = self.recover(*words, code=0)
        assert (again.document["rows"], again.document["undo"]) == (0, None), again
        assert again.document["files"] == []
        back = self.product("recover", "--undo", str(first.document["undo"]))
        assert back.code == 4, back
        assert deletions.differences(gone, deletions.look(self.gitlab)) == {}
        self.recover(*words)
        return first

    def differences(self) -> dict[str, list[str]]:
        return deletions.differences(self.before, deletions.look(self.gitlab))

    def one_of_set(self, name: str) -> str:
        """The path, below the data directory, of an upload at the time of the set."""
        (path,) = (path for path in self.before.files if path.endswith(f"/{name}"))
        return path

    def one(self, query: str) -> str:
        return self.gitlab.sql(query)[0]


def furnish(gitlab: Omnibus, seed: Seed, people: dict[str, str], large: bytes) -> str:
    """Rows of every table that belongs to a channel, post or user; gives the first message of a thread."""
    session = gitlab.sign_in("alice")
    session._channels["releases"] = releases = seed.channels["releases"]
    file = session.upload("plan.txt", b"the plan\n", "releases")
    files = [file, session.upload("large.bin", large, "releases")] if large else [file]
    root = session.post(ODD, "releases", files)
    bob = gitlab.sign_in("bob")
    bob._channels["releases"] = releases
    answer = bob.upload("answer.txt", b"an answer\n", "releases")
    replies = []
    for person, files in ((bob, [answer]), (session, [])):
        message = {
            "channel_id": releases,
            "message": "a reply",
            "root_id": root,
            "file_ids": files,
        }
        replies.append(json.loads(person.call("POST", "/posts", json=message))["id"])
    alice, robert = people["alice"], people["bob"]
    other = gitlab.sql(
        f"SELECT id FROM posts WHERE userid = '{alice}' AND channelid = '{seed.channels['coffee']}' LIMIT 1"
    )[0]
    gitlab.sql(
        "INSERT INTO reactions (userid, postid, emojiname, createat, updateat, deleteat, channelid) VALUES"
        f" ('{robert}', '{root}', 'tada', 1, 1, 0, '{releases}'),"
        f" ('{alice}', '{replies[0]}', 'heart', 2, 2, 0, '{releases}');"
        f"UPDATE threads SET threadteamid = '{seed.team}' WHERE postid = '{root}';"
        f"UPDATE posts SET hasreactions = true, ispinned = true WHERE id IN ('{root}', '{replies[0]}');"
        f'UPDATE posts SET props = \'{{"from_bot": "true", "n": 1.50}}\' WHERE id = \'{root}\';'
        "INSERT INTO posts (id, createat, updateat, deleteat, userid, channelid, rootid, originalid, message, type)"
        f" VALUES ('{'e' * 26}', 3, 3, 3, '{alice}', '{releases}', '', '{root}', 'before the edit', '');"
        f"INSERT INTO preferences VALUES ('{robert}', 'flagged_post', '{root}', 'true'),"
        f" ('{robert}', 'favorite_channel', '{releases}', 'true'), ('{robert}', 'theme', '', '{{}}');"
        "INSERT INTO sidebarcategories (id, userid, teamid, sortorder, type, displayname) VALUES"
        f" ('{'c' * 26}', '{robert}', '{seed.team}', 10, 'custom', 'Mine');"
        f"INSERT INTO sidebarchannels VALUES ('{releases}', '{robert}', '{'c' * 26}', 5);"
        f"INSERT INTO postspriority VALUES ('{root}', '{releases}', 'urgent', true, false);"
        f"INSERT INTO postacknowledgements VALUES ('{root}', '{robert}', 9);"
        "INSERT INTO drafts (createat, updateat, deleteat, userid, channelid, rootid, message, props, fileids)"
        f" VALUES (1, 1, 0, '{robert}', '{releases}', '{root}', 'not sent', '{{}}', '[]');"
        "INSERT INTO incomingwebhooks (id, createat, updateat, deleteat, userid, channelid, teamid, displayname)"
        f" VALUES ('{'i' * 26}', 1, 1, 0, '{alice}', '{releases}', '{seed.team}', 'in');"
        "INSERT INTO outgoingwebhooks (id, token, createat, updateat, deleteat, creatorid, channelid, teamid)"
        f" VALUES ('{'o' * 26}', 'w', 1, 1, 0, '{robert}', '{releases}', '{seed.team}');"
        "INSERT INTO commands (id, token, createat, updateat, deleteat, creatorid, teamid, trigger)"
        f" VALUES ('{'k' * 26}', 'w', 1, 1, 0, '{robert}', '{seed.team}', 'go');"
        "INSERT INTO channelbookmarks (id, ownerid, channelid, displayname)"
        f" VALUES ('{'b' * 26}', '{alice}', '{releases}', 'a link');"
        f"INSERT INTO audits (id, createat, userid, action) VALUES ('{'a' * 26}', 1, '{robert}', 'login');"
        f"INSERT INTO status (userid, status) VALUES ('{robert}', 'online') ON CONFLICT DO NOTHING;"
        f"INSERT INTO usertermsofservice VALUES ('{robert}', '{'t' * 26}', 1);"
        f"INSERT INTO reactions (userid, postid, emojiname, createat, updateat, deleteat, channelid) VALUES"
        f" ('{robert}', '{other}', 'smile', 4, 4, 0, '{seed.channels['coffee']}');"
        f"UPDATE posts SET hasreactions = true WHERE id = '{other}'"
    )
    for folder in (f"{DATA}/users", f"{DATA}/users/{robert}"):  # as Mattermost makes them
        gitlab.lab.run(*MINE, "-m", "0750", "-d", folder)
    picture = f"{DATA}/users/{robert}/profile.png"
    gitlab.lab.run(*MINE, "-m", "0600", "/dev/null", picture)
    gitlab.lab.path(picture).write_bytes(b"\x89PNG bob")
    return root


@contextmanager
def built_house(base: Path, deb: Path, large: bytes = b"") -> Iterator[House]:
    """Build it for the block; ``large`` is one more upload of the message that begins the thread."""
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        lab.write(CONFIG, "rehearse: off\nfollow_gitlab: false\nkeep: {last: 9}\n", mode=0o600)
        seed = gitlab.seed()
        people = dict(
            line.split("|") for line in gitlab.sql("SELECT username, id FROM users ORDER BY 1")
        )
        root = furnish(gitlab, seed, people, large)
        answer = product("backup")
        assert answer.code == 0, answer
        name = str(answer.document["set"])
        deletions.keep(gitlab)
        yield House(lab, gitlab, product, seed, name, deletions.look(gitlab), root, people)


def as_before(house: House) -> House:
    """The house as it was at the time of the set."""
    deletions.reset(house.gitlab)
    assert house.differences() == {}
    return house
