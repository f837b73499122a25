"""Rows for the tables that Mattermost made: people and rooms once, posts and files every night."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.data.plan import DAY, SESSIONS, TEAMS, Plan, Upload
from tests.bench.data.text import EMOJI, Text, new_ids, random_bytes

PSQL = ("/opt/gitlab/bin/gitlab-psql", "-X", "-q", "-v", "ON_ERROR_STOP=1")
MONTHS = 900 * DAY
# What Mattermost 10 has and the lab's, made from 5.37, has not.
COLUMNS = """
ALTER TABLE reactions ADD COLUMN IF NOT EXISTS channelid varchar(26);
ALTER TABLE threads ADD COLUMN IF NOT EXISTS threaddeleteat bigint;
"""
# Indexes that are made after the rows, as a load makes them. Types and columns are Mattermost 10's.
INDEXES = {
    "idx_channels_team_id_type": "channels (teamid, type)",
    "idx_channelmembers_user_id_channel_id": "channelmembers (userid, channelid)",
    "idx_posts_create_at": "posts (createat)",
    "idx_posts_create_at_id": "posts (createat, id)",
    "idx_posts_update_at": "posts (updateat)",
    "idx_posts_delete_at": "posts (deleteat)",
    "idx_posts_user_id": "posts (userid)",
    "idx_posts_original_id": "posts (originalid)",
    "idx_posts_is_pinned": "posts (ispinned)",
    "idx_posts_root_id": None,
    "idx_posts_root_id_delete_at": "posts (rootid, deleteat)",
    "idx_posts_channel_id_update_at": "posts (channelid, updateat)",
    "idx_posts_channel_id_delete_at_create_at": "posts (channelid, deleteat, createat)",
    "idx_posts_hashtags_txt": "posts USING gin (to_tsvector('english', hashtags))",
    "idx_posts_message_txt": "posts USING gin (to_tsvector('english', message))",
    "idx_threads_channel_id_last_reply_at": "threads (channelid, lastreplyat)",
    "idx_reactions_channel_id": "reactions (channelid)",
    "idx_fileinfo_create_at": "fileinfo (createat)",
    "idx_fileinfo_name_txt": "fileinfo USING gin (to_tsvector('english', name))",
}
TABLES = (
    *("users", "teams", "channels", "teammembers", "channelmembers", "publicchannels"),
    *("sessions", "preferences", "posts", "threads", "reactions", "fileinfo", "status"),
)
MIME = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "mp4": "video/mp4",
    "zip": "application/zip",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "json": "application/json",
}
Row = Sequence[Any]


def fill(database: str, plan: Plan) -> None:
    """Put the plan's rows into Mattermost's database; the first time in place of what is there."""
    rng = plan.chance("rows")
    text = Text(rng)
    if not plan.night:
        dropped = "".join(f"DROP INDEX IF EXISTS {name};" for name in INDEXES)
        _run(database, f"TRUNCATE {', '.join(TABLES)}; {COLUMNS} {dropped}")
        for table, columns, rows in _people(plan, rng, text):
            _copy(database, table, columns, rows)
    talk = Talk(plan, rng, text)
    _copy(database, "posts", POST_COLUMNS, talk.posts())
    _copy(database, "reactions", REACTION_COLUMNS, talk.reactions)
    _copy(database, "threads", THREAD_COLUMNS, talk.thread_rows())
    _copy(database, "fileinfo", FILE_COLUMNS, _files(plan, rng, text))
    if not plan.night:
        made = "".join(
            f"CREATE INDEX {name} ON {what};" for name, what in INDEXES.items() if what is not None
        )
        _run(database, f"SET maintenance_work_mem = '512MB'; SET ROLE gitlab_mattermost; {made}")
    for view in ("poststats", "posts_by_team_day", "file_stats"):
        _run(database, f"REFRESH MATERIALIZED VIEW {view}")
    _run(database, "VACUUM ANALYZE")


def _run(database: str, sql: str) -> None:
    settings = "SET statement_timeout = 0; SET client_min_messages = warning"
    program = [*PSQL, "-d", database, "-c", settings, "-c", sql]
    subprocess.run(program, check=True, stdin=subprocess.DEVNULL)


def _copy(database: str, table: str, columns: str, rows: Iterable[Row]) -> None:
    copy = f"COPY {table} ({columns}) FROM STDIN"
    settings = "SET statement_timeout = 0"
    program = [*PSQL, "-d", database, "-c", settings, "-c", copy]
    with subprocess.Popen(program, stdin=subprocess.PIPE, encoding="utf-8") as client:
        assert client.stdin is not None
        client.stdin.writelines(_line(row) for row in rows)
        client.stdin.close()
        if client.wait() != 0:
            raise SystemExit(f"psql failed at {table}")


def _line(row: Row) -> str:
    return "\t".join(_field(value) for value in row) + "\n"


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _people(plan: Plan, rng: random.Random, text: Text) -> Iterator[tuple[str, str, Iterable[Row]]]:
    start = plan.start
    yield (
        "teams",
        "id, createat, updateat, deleteat, displayname, name, type",
        (
            (team, start, start, 0, f"Team {place}", f"team-{place}", "OI"[place % 2])
            for place, team in enumerate(plan.teams)
        ),
    )
    yield (
        "users",
        "id, createat, updateat, deleteat, username, password, authdata, authservice, email,"
        " emailverified, nickname, firstname, lastname, roles, props, notifyprops, locale, timezone",
        _users(plan, rng, text),
    )
    yield (
        "channels",
        "id, createat, updateat, deleteat, teamid, type, displayname, name, header, purpose,"
        " lastpostat, totalmsgcount, creatorid",
        _channels(plan, rng, text),
    )
    memberships = (
        (team, user, "", 0)
        for place, user in enumerate(plan.users)
        for team in sorted({plan.teams[0], plan.teams[place % TEAMS]})
    )
    yield "teammembers", "teamid, userid, roles, deleteat", memberships
    yield (
        "channelmembers",
        "channelid, userid, roles, lastviewedat, msgcount, mentioncount, notifyprops,"
        " lastupdateat, schemeuser, schemeadmin",
        _members(plan, rng),
    )
    yield (
        "sessions",
        "id, token, createat, expiresat, lastactivityat, userid, deviceid, roles, isoauth, props",
        _sessions(plan, rng),
    )
    preferences = (
        (user, "direct_channel_show", new_ids(rng, 1)[0], "true")
        for user in plan.users
        for _ in range(rng.randrange(3, 14))
    )
    yield "preferences", "userid, category, name, value", preferences


def _users(plan: Plan, rng: random.Random, text: Text) -> Iterator[Row]:
    """Two in three sign in through GitLab."""
    zone = {"automaticTimezone": "Europe/Berlin", "useAutomaticTimezone": "true"}
    for place, user in enumerate(plan.users):
        first = text.words[rng.randrange(400, 2400)].split()[0]
        last = text.words[rng.randrange(400, 5400)].split()[0]
        name = f"{first}.{last}{place}"[:60]
        gitlab = place % 3 != 0
        notify = {"push": "mention", "email": "true", "desktop": "mention", "mention_keys": name}
        yield (
            *(user, plan.start, plan.start + rng.randrange(9**10), 0, name),
            "" if gitlab else f"$2a$10${new_ids(rng, 3)[0]}{new_ids(rng, 1)[0]}.",
            *(str(1000 + place) if gitlab else None, "gitlab" if gitlab else ""),
            *(f"{name}@example.com", True, "", first.title(), last.title(), "system_user"),
            *("{}", json.dumps(notify), "en", json.dumps(zone)),
        )


def _channels(plan: Plan, rng: random.Random, text: Text) -> Iterator[Row]:
    """Every second one is a direct channel."""
    for place, channel in enumerate(plan.channels):
        direct = place % 2 == 1
        yield (
            *(channel, plan.start, plan.start, 0, "" if direct else plan.teams[place % TEAMS]),
            *("D" if direct else "OOP"[place % 3], text.take(1)[0], f"channel-{place}"),
            *("" if direct else text.sentence(8), "", plan.start, rng.randrange(9999)),
            plan.someone(rng),
        )


def _members(plan: Plan, rng: random.Random) -> Iterator[Row]:
    words = ("push", "email", "desktop", "ignore_channel_mentions")
    notify = json.dumps({"mark_unread": "all", **dict.fromkeys(words, "default")})
    for place, channel in enumerate(plan.channels):
        wanted = 2 if place % 2 else 3 + int(rng.lognormvariate(3, 1.1))
        for user in rng.sample(plan.users, min(len(plan.users), wanted)):
            seen, updated = rng.randrange(MONTHS), rng.randrange(MONTHS)
            counts = (rng.randrange(9999), 0)
            moments = plan.start + seen, plan.start + updated
            yield channel, user, "", moments[0], *counts, notify, moments[1], True, False


def _sessions(plan: Plan, rng: random.Random) -> Iterator[Row]:
    for _ in range(int(SESSIONS * plan.scale) + 1):
        identifier, token = new_ids(rng, 2)
        at = plan.start + rng.randrange(MONTHS)
        props = {"os": "Windows 10", "csrf": new_ids(rng, 1)[0], "browser": "Chrome/120.0"}
        times = (at, at + 30 * DAY, at + rng.randrange(10**9))
        user = plan.someone(rng)
        yield identifier, token, *times, user, "", "system_user", False, json.dumps(props)


POST_COLUMNS = (
    "id, createat, updateat, editat, deleteat, ispinned, userid, channelid, rootid, originalid,"
    " message, type, props, hashtags, filenames, fileids, hasreactions, remoteid"
)
REACTION_COLUMNS = "userid, postid, emojiname, createat, updateat, deleteat, channelid"
THREAD_COLUMNS = "postid, replycount, lastreplyat, participants, channelid, threaddeleteat"
FILE_COLUMNS = (
    "id, creatorid, postid, createat, updateat, deleteat, path, thumbnailpath, previewpath, name,"
    " extension, size, mimetype, width, height, haspreviewimage, minipreview, content, channelid"
)


@dataclass
class Thread:
    """Replies to one post."""

    channel: str
    replies: int = 0
    last: int = 0
    people: set[str] = field(default_factory=set)


class Talk:
    """Posts one after the other, and what follows from them: reactions and threads."""

    def __init__(self, plan: Plan, rng: random.Random, text: Text) -> None:
        self.plan, self.rng, self.text = plan, rng, text
        self.reactions: list[Row] = []
        self.threads: dict[str, Thread] = {}
        self._recent: dict[str, str] = {}  # channel -> a post that may be replied to

    def posts(self) -> Iterator[Row]:
        """Rows of posts, one for every upload among them."""
        plan, rng = self.plan, self.rng
        step, uploads, left = (plan.end - plan.start) / plan.posts, list(plan.uploads), plan.posts
        uploads.reverse()
        while left:
            for identifier in new_ids(rng, min(20000, left)):
                at = int(plan.start + (plan.posts - left + rng.random()) * step)
                due = uploads and (uploads[-1].at <= at or len(uploads) >= left)
                yield self._post(identifier, at, uploads.pop() if due else None)
                left -= 1

    def _post(self, identifier: str, at: int, upload: Upload | None) -> Row:
        rng, chance = self.rng, self.rng.random()
        files = "[]"
        if upload is not None:
            identifier, channel, user = upload.post, upload.channel, upload.user
            files = f'["{upload.id}"]'
        else:
            channel, user = self.plan.somewhere(rng), self.plan.someone(rng)
        kind, message, props = self._content(user, chance)
        tags = f"#{self.text.words[rng.randrange(300, 3000)]}" if chance > 0.99 else ""
        root = "" if kind else self._reply(identifier, channel, user, at, chance)
        reacted = 0.45 < chance < 0.55
        if reacted:
            self._react(identifier, channel, at)
        updated = at + (rng.randrange(9**6) if chance > 0.9 else 0)
        edited, deleted = at if chance > 0.95 else 0, at + 60000 if chance > 0.975 else 0
        return (
            *(identifier, at, updated, edited, deleted, False, user, channel, root, ""),
            *(f"{message} {tags}".rstrip(), kind, props, tags, "[]", files, reacted, ""),
        )

    def _content(self, user: str, chance: float) -> tuple[str, str, str]:
        """Type, message and props."""
        if chance < 0.03:
            name = user[:9]
            props = json.dumps({"username": name})
            return "system_join_channel", f"{name} joined the channel.", props
        props = "{}"
        if chance < 0.07:
            fields = [{"short": True, "title": "Build", "value": str(self.rng.randrange(10**6))}]
            attachment = {
                "color": f"#{self.rng.getrandbits(24):06x}",
                "title": self.text.sentence(5),
                "text": self.text.sentence(14),
                "fields": fields,
            }
            props = json.dumps({"from_webhook": "true", "attachments": [attachment]})
        elif chance < 0.45:
            props = '{"disable_group_highlight": true}'
        return "", self.text.message(), props

    def _reply(self, identifier: str, channel: str, user: str, at: int, chance: float) -> str:
        """The post that this one answers; "" where it begins something."""
        if chance > 0.66 and channel in self._recent:
            root = self._recent[channel]
            thread = self.threads.setdefault(root, Thread(channel))
            thread.replies, thread.last = thread.replies + 1, at
            thread.people.add(user)
            return root
        if chance > 0.4:
            self._recent[channel] = identifier
        return ""

    def _react(self, identifier: str, channel: str, at: int) -> None:
        rng, plan = self.rng, self.plan
        people = {plan.someone(rng) for _ in range(1 + int(rng.expovariate(1.2)))}
        for user in sorted(people):
            emoji = rng.choice(EMOJI)
            self.reactions.append((user, identifier, emoji, at + 5000, at + 5000, 0, channel))

    def thread_rows(self) -> Iterator[Row]:
        """Rows of threads, once all posts are made."""
        for root, thread in self.threads.items():
            people = json.dumps(sorted(thread.people))
            yield root, thread.replies, thread.last, people, thread.channel, None


def _files(plan: Plan, rng: random.Random, text: Text) -> Iterator[Row]:
    for upload in plan.uploads:
        picture = upload.is_picture
        preview = f"\\x{random_bytes(rng, 280).hex()}" if picture else None
        content = text.prose(200) if upload.extension in ("txt", "pdf") else ""
        yield (
            *(upload.id, upload.user, upload.post, upload.at, upload.at, 0, upload.path),
            *(f"{upload.stem}_{kind}.jpg" if picture else "" for kind in ("thumb", "preview")),
            *(upload.name, upload.extension, upload.size),
            MIME.get(upload.extension, "text/plain"),
            *(1600 if picture else 0, 1200 if picture else 0, picture, preview, content),
            upload.channel,
        )
