"""Conversations of a set as Mattermost's bulk-import file: JSON Lines that its own importer loads.

The format is version 1 of "Bulk loading data" in Mattermost's documentation. Paths are relative to
the directory ``data`` beside the file, as the importer takes them since Mattermost 6.0, and before
with --import-path (app/import.go).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..store.sets import BackupSet
from ..system import humanize, validation
from . import conversation, dump_rows, search
from .conversation import Conversation, Post
from .directory import DIRECT, GROUP, Directory
from .dump_rows import Row, Table
from .extraction import Extraction
from .search import Upload

FILE = "import.jsonl"
DATA = "data"  # the importer's name for the directory of attachments
#: Paths of custom emoji below the data directory (Mattermost's app/emoji.go, 4.6 to 11).
EMOJI = "emoji/{}/image"
_LONGEST_LINE = 16 << 20  # bytes; the importer stops at a longer one (maxScanTokenSize)
# People in a conversation, as many as the importer takes.
_PAIR, _GROUP = (2,), range(3, 9)
# Why messages are left out.
_NOBODY = "of users whose accounts are gone"
_NOWHERE = "of channels that are gone, or have too many or too few people"
_NAMED = re.compile(r":([a-z0-9_+-]+):")
_PRIVATE, _INVITE = "P", "I"

Fields = dict[str, Any]  # of one JSON object


@dataclass(frozen=True)
class ImportFile:
    """A bulk-import file that was written."""

    file: str  # its name in the directory
    messages: int
    users: int


@dataclass
class ImportMaterial:
    """The rows, beside the messages, of which the lines are made; all keys are ids."""

    conversations: Sequence[Conversation]
    directory: Directory
    teams: dict[str, Fields] = field(default_factory=dict)
    channels: dict[str, Fields] = field(default_factory=dict)
    users: dict[str, Fields] = field(default_factory=dict)
    team_members: dict[tuple[str, str], str] = field(default_factory=dict)  # (user, team) -> roles
    members: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    emoji: dict[str, str] = field(default_factory=dict)  # name -> id
    left_out: Counter[str] = field(default_factory=Counter)  # why -> how many

    def __post_init__(self) -> None:
        self._channels = {made.id for made in self.conversations}

    @property
    def small_files(self) -> list[str]:
        """Paths of avatars and custom emoji, below the data directory."""
        named = self._named_emoji()
        return [
            *conversation.avatars(self.conversations),
            *(EMOJI.format(id_) for name, id_ in self.emoji.items() if name in named),
        ]

    def _named_emoji(self) -> set[str]:
        names: set[str] = set()
        for post in _every(self.conversations):
            names.update(reaction.emoji for reaction in post.reactions)
            names.update(_NAMED.findall(post.message.text))
        return names

    def tables(self) -> list[Table]:
        """Return the tables that fill this."""
        team = ("id", "name", "displayname", "type", "description", "allowopeninvite")
        names = ("nickname", "firstname", "lastname", "position", "locale")
        user = ("id", "username", "email", "authservice", "authdata", *names, "roles", "deleteat")
        roles = ("roles", "schemeadmin", "schemeguest")
        return [
            Table("teams", team, self._team),
            Table("channels", ("id", "displayname", "header", "purpose"), self._channel),
            Table("users", user, self._user),
            Table("teammembers", ("userid", "teamid", *roles, "deleteat"), self._team_member),
            Table("channelmembers", ("userid", "channelid", *roles), self._member),
            Table("emoji", ("id", "name", "deleteat"), self._emoji),
        ]

    def _team(self, row: Row) -> None:
        id_, name, title, kind, description, is_open = (value or "" for value in row)
        self.teams[id_] = {
            "name": name,
            "display_name": title or name,
            "type": kind if kind == _INVITE else "O",
            **_given(description=description),
            "allow_open_invite": is_open == "t",
        }

    def _channel(self, row: Row) -> None:
        id_, title, header, purpose = (value or "" for value in row)
        self.channels[id_] = _given(display_name=title, header=header, purpose=purpose)

    def _user(self, row: Row) -> None:
        id_, name, email, service, data, *names, roles, deleteat = (value or "" for value in row)
        given = dict(zip(("nickname", "first_name", "last_name", "position", "locale"), names))
        self.users[id_] = {
            "username": name,
            "email": email or f"{name}@localhost",
            # The importer takes both or neither, and not "email".
            **(_given(auth_service=service, auth_data=data) if service and data else {}),
            **_given(**given),
            **({"roles": "system_guest"} if "system_guest" in roles.split() else {}),
            **({"delete_at": search.number(deleteat)} if search.deleted(deleteat) else {}),
        }

    def _team_member(self, row: Row) -> None:
        user, team, *rest, deleteat = (value or "" for value in row)
        if not search.deleted(deleteat):
            self.team_members[user, team] = _roles("team", *rest)

    def _member(self, row: Row) -> None:
        user, channel, *rest = (value or "" for value in row)
        if channel in self._channels:
            self.members[channel][user] = _roles("channel", *rest)

    def _emoji(self, row: Row) -> None:
        id_, name, deleteat = (value or "" for value in row)
        if not search.deleted(deleteat):
            self.emoji[name] = id_


def collect(
    set_: BackupSet, conversations: Sequence[Conversation], directory: Directory
) -> ImportMaterial:
    """Read the rows that the lines of ``conversations`` need; raises Failure."""
    material = ImportMaterial(conversations, directory)
    dump_rows.read(set_, material.tables())
    return material


def place(upload: Upload) -> Sequence[str]:
    """Return the directories of an upload: one for each, so that all keep their names."""
    return DATA, "files", upload.id


def write(material: ImportMaterial, done: Extraction) -> tuple[ImportFile, list[str]]:
    """Write the file beside the uploads; return it, and what is not in it, in words."""
    lines = _Lines(material, done)
    longest = 0

    def encoded() -> Iterator[bytes]:
        nonlocal longest
        for line in lines.all():
            text = json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n"
            longest = max(longest, len(text))
            yield text

    file = done.folder.write(FILE, encoded())
    warnings = [
        f"Not in {file}: {humanize.number(number, 'message')} {why}"
        for why, number in material.left_out.items()
    ]
    if longest > _LONGEST_LINE:
        warnings.append(
            f"A line of {file} has {humanize.size(longest)}; the importer takes "
            f"{humanize.size(_LONGEST_LINE)}. Extract a shorter time: --since, --until"
        )
    return ImportFile(file, lines.messages, len(lines.people)), warnings


class _Lines:
    """Makes the lines, in the order that the importer asks for."""

    def __init__(self, material: ImportMaterial, done: Extraction) -> None:
        self._material, self._done = material, done
        self._files = {
            written.upload.id: written.file.removeprefix(f"{DATA}/") for written in done.written
        }
        self.people = self._everybody()  # id -> name, of all who have an account and a part
        self._members = {made.id: self._people(made) for made in material.conversations}
        self.messages = 0

    def all(self) -> Iterator[Fields]:
        of_teams, between = self._sorted()
        yield {"type": "version", "version": 1}
        yield from self._emoji()
        for id_ in sorted({self._team(made) for made in of_teams}):
            yield {"type": "team", "team": self._material.teams[id_]}
        for made in of_teams:
            yield {"type": "channel", "channel": self._channel(made)}
        for person in self.people:
            yield {"type": "user", "user": self._user(person, of_teams)}
        for made in of_teams:
            where: Fields = {"team": self._name_of_team(made), "channel": self._name(made)}
            yield from ({"type": "post", "post": post} for post in self._threads(made, where))
        for made in between:
            header = _given(header=self._material.channels[made.id].get("header"))
            where = {"members": self._members[made.id], **header}
            yield {"type": "direct_channel", "direct_channel": where}
        for made in between:
            where = {"channel_members": self._members[made.id]}
            for post in self._threads(made, where):
                yield {"type": "direct_post", "direct_post": post}

    def _sorted(self) -> tuple[list[Conversation], list[Conversation]]:
        """Return the conversations of teams, and those between people; count the others' messages."""
        of_teams, between = [], []
        for made in self._material.conversations:
            if self._team(made):
                of_teams.append(made)
            elif self._members[made.id]:
                between.append(made)
            else:
                self._material.left_out[_NOWHERE] += made.posts
        return of_teams, between

    def _emoji(self) -> Iterator[Fields]:
        for name, id_ in sorted(self._material.emoji.items()):
            content = self._done.small.get(EMOJI.format(id_))
            if content is not None:
                file = self._done.folder.write(f"{name}.image", [content], (DATA, "emoji"))
                image = file.removeprefix(f"{DATA}/")
                yield {"type": "emoji", "emoji": {"name": name, "image": image}}

    def _channel(self, made: Conversation) -> Fields:
        private = self._material.directory.channels[made.id].kind == _PRIVATE
        return {
            "team": self._name_of_team(made),
            "name": self._name(made),
            "type": _PRIVATE if private else "O",
            **self._material.channels[made.id],
        }

    def _user(self, person: str, of_teams: Iterable[Conversation]) -> Fields:
        """Return a user with the memberships in the channels that are in the file."""
        teams: dict[str, Fields] = {}
        for made in of_teams:
            team = self._team(made)
            roles = self._material.team_members.get((person, team))
            if roles is None:
                continue
            membership = teams.setdefault(
                team, {"name": self._name_of_team(made), "roles": roles, "channels": []}
            )
            if person in self._material.members[made.id]:
                channel = {
                    "name": self._name(made),
                    "roles": self._material.members[made.id][person],
                }
                membership["channels"].append(channel)
        user = {**self._material.users[person], **self._picture(person)}
        return {**user, "teams": list(teams.values())} if teams else user

    def _picture(self, person: str) -> Fields:
        content = self._done.small.get(conversation.AVATAR.format(person))
        if content is None:
            return {}
        name = f"{self._material.users[person]['username']}.png"
        file = self._done.folder.write(name, [content], (DATA, "avatars"))
        return {"profile_image": file.removeprefix(f"{DATA}/")}

    def _threads(self, made: Conversation, where: Fields) -> Iterator[Fields]:
        for post in made.threads:
            if post.message.user not in self.people:
                self._leave_out(post, *post.replies)
                continue
            replies = [reply for reply in post.replies if reply.message.user in self.people]
            self._leave_out(*(reply for reply in post.replies if reply not in replies))
            self.messages += 1 + len(replies)
            answers = [self._post(reply, post.message.made) for reply in replies]
            yield {**where, **self._post(post, 1), **_given(replies=answers)}

    def _leave_out(self, *posts: Post) -> None:
        if posts:
            self._material.left_out[_NOBODY] += len(posts)

    def _post(self, post: Post, first: int) -> Fields:
        """Return the fields that posts and replies have; none may be older than ``first``."""
        made = max(post.message.made, first)
        reactions = [
            {
                "user": self.people[reaction.user],
                "emoji_name": reaction.emoji,
                "create_at": max(reaction.made, made),
            }
            for reaction in post.reactions
            if reaction.user in self.people
        ]
        files = [self._files[upload.id] for upload in post.uploads if upload.id in self._files]
        return {
            "user": self.people[post.message.user],
            "message": post.message.text,
            "create_at": made,
            **_given(edit_at=post.detail.edited, is_pinned=post.detail.pinned),
            **_given(type=post.message.kind, props=_object(post.detail.props)),
            **_given(reactions=reactions),
            **_given(attachments=[{"path": path} for path in files]),
        }

    def _everybody(self) -> dict[str, str]:
        ids = {user for made in self._material.conversations for user in self._ids(made)}
        users = self._material.users
        names = {id_: str(users[id_]["username"]) for id_ in ids if id_ in users}
        return dict(sorted(names.items(), key=lambda item: item[1]))

    def _ids(self, made: Conversation) -> set[str]:
        ids = {id_ for id_, _ in made.people} | set(self._material.members[made.id])
        channel = self._material.directory.channels.get(made.id)
        if channel is not None and channel.kind == DIRECT:
            ids |= set(channel.people)
        for post in _every([made]):
            ids |= {reaction.user for reaction in post.reactions}
        return ids

    def _people(self, made: Conversation) -> list[str]:
        """Return the names of the people in a conversation; [] for one that is not importable."""
        channel = self._material.directory.channels.get(made.id)
        if channel is None or channel.kind not in (DIRECT, GROUP):
            return []
        ids = sorted(self._material.members[made.id]) if channel.kind == GROUP else channel.people
        fits = len(ids) in (_GROUP if channel.kind == GROUP else _PAIR)
        known = [self.people[id_] for id_ in ids if id_ in self.people]
        return known if fits and len(known) == len(ids) else []

    def _team(self, made: Conversation) -> str:
        """Return the id of a channel's team; "" where it has none, or its row is gone."""
        channel = self._material.directory.channels.get(made.id)
        return channel.team if channel and channel.team in self._material.teams else ""

    def _name_of_team(self, made: Conversation) -> str:
        return str(self._material.teams[self._team(made)]["name"])

    def _name(self, made: Conversation) -> str:
        return self._material.directory.channels[made.id].name


def _every(conversations: Iterable[Conversation]) -> Iterator[Post]:
    for made in conversations:
        for post in made.threads:
            yield post
            yield from post.replies


def _given(**values: Any) -> Fields:
    """Return the fields that have a value."""
    return {name: value for name, value in values.items() if value}


def _roles(of: str, roles: str, admin: str, guest: str) -> str:
    """Return the roles of a member as the importer takes them; before 5.0 all stand in ``roles``."""
    if guest == "t" or f"{of}_guest" in roles.split():
        return f"{of}_guest"
    is_admin = admin == "t" or f"{of}_admin" in roles.split()
    return f"{of}_user {of}_admin" if is_admin else f"{of}_user"


def _object(text: str) -> Mapping[str, Any]:
    """Return the props of a message; none where they are not a JSON object."""
    try:
        found = validation.from_json(text.encode(errors="replace")) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
