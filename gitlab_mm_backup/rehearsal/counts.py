"""What a set holds in people's terms, counted in its dump; no server is needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .. import clock
from ..store.sets import BackupSet
from . import dump_rows, search
from .directory import DIRECT, GROUP, Directory
from .dump_rows import Row, Table
from .search import deleted, number

_LAST_MOMENT = 253402300799_999  # milliseconds since 1970: 9999-12-31; a bot may write any number


@dataclass
class Counts:
    """Counts of what is not deleted; the counters go by id."""

    directory: Directory = field(default_factory=Directory)
    posts_in: Counter[str] = field(default_factory=Counter)  # channel
    posts_by: Counter[str] = field(default_factory=Counter)  # user
    uploads_in: Counter[str] = field(default_factory=Counter)
    uploads_by: Counter[str] = field(default_factory=Counter)
    upload_bytes: int = 0
    first_post: int = 0  # milliseconds since 1970; 0 without any
    last_post: int = 0
    _of_posts: Counter[str] = field(default_factory=Counter)  # uploads whose rows have no channel

    def tables(self) -> list[Table]:
        """Return the tables that fill this."""
        posts = ("id", "createat", "deleteat", "userid", "channelid")
        uploads = ("creatorid", "postid", "channelid", "deleteat", "size")
        return [
            *self.directory.tables(),
            Table("posts", posts, self._post),
            Table("fileinfo", uploads, self._upload),
        ]

    def _post(self, row: Row) -> None:
        id_, made, deleteat, user, channel = row
        if self._of_posts and id_ in self._of_posts:
            self.uploads_in[channel or ""] += self._of_posts.pop(id_ or "")
        if deleted(deleteat):
            return
        self.posts_in[channel or ""] += 1
        self.posts_by[user or ""] += 1
        moment = min(max(number(made), 0), _LAST_MOMENT)
        self.first_post = min(self.first_post or moment, moment)
        self.last_post = max(self.last_post, moment)

    def _upload(self, row: Row) -> None:
        user, post, channel, deleteat, size = row
        if deleted(deleteat):
            return
        self.uploads_by[user or ""] += 1
        self.upload_bytes += max(number(size), 0)
        if channel:
            self.uploads_in[channel] += 1
        elif post:
            self._of_posts[post] += 1

    def people(self) -> dict[str, Any]:
        """Return the totals by the names that the JSON of info has; moments are RFC 3339 or None."""
        directory = self.directory
        channels = [channel for channel in directory.channels.values() if not channel.deleted]
        users = [user.id for user in directory.users.values() if not user.deleted]
        bots = len(directory.bots.intersection(users))
        moments = (
            search.moment(time) if time else None for time in (self.first_post, self.last_post)
        )
        first, last = (clock.utc(time) if time else None for time in moments)
        return {
            "teams": sum(not team.deleted for team in directory.teams.values()),
            "open_channels": sum(channel.kind == "O" for channel in channels),
            "private_channels": sum(channel.kind == "P" for channel in channels),
            "conversations": sum(channel.kind in (DIRECT, GROUP) for channel in channels),
            "users": len(users) - bots,
            "bots": bots,
            "posts": sum(self.posts_in.values()),
            "first_post": first,
            "last_post": last,
            "uploads": sum(self.uploads_by.values()),
            "upload_bytes": self.upload_bytes,
        }

    def look_up(self, set_: BackupSet) -> None:
        """Count the uploads whose posts came before them in the dump."""
        if self._of_posts:
            channels = search.channels_of(set_, self._of_posts)
            for post, count in self._of_posts.items():
                self.uploads_in[channels.get(post, "")] += count


def count(set_: BackupSet) -> Counts:
    """Count what a set holds; raises Failure where its dump cannot be read."""
    made = Counts()
    dump_rows.read(set_, made.tables())
    made.look_up(set_)
    return made
