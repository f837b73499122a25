"""What was said, in the order of its threads, and its Mattermost Markdown as HTML that is safe to open.

No tag of a message gets into a page, and no request leaves it.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Failure
from ..store.sets import BackupSet
from ..system import humanize
from . import dump_rows, search
from .directory import Directory
from .dump_rows import Row, Table
from .search import Message, SearchResult, Upload

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markupsafe import Markup

_ABOVE = 2  # levels of headings in a page
_LONGEST = 65536  # letters; Mattermost has no longer messages

#: Paths of avatars below the data directory (Mattermost's app/user.go, 4.6 to 11).
AVATAR = "users/{}/profile.png"
_PICTURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}


class Reaction(NamedTuple):
    """An emoji that somebody put to a message."""

    user: str  # id
    name: str  # of the user
    emoji: str  # its name, without colons
    made: int  # milliseconds since 1970


@dataclass(frozen=True)
class Post:
    """A message with all that belongs to it."""

    message: Message
    author: str  # name
    at: datetime | None  # in local time; None for a moment that no clock has
    uploads: Sequence[Upload]
    reactions: Sequence[Reaction]  # in the order of the dump
    replies: Sequence[Post] = ()
    orphan: bool = False  # a reply whose thread begins elsewhere

    @property
    def names_by_emoji(self) -> Mapping[str, Sequence[str]]:
        """The names of those who reacted, by the emoji's name."""
        names: dict[str, list[str]] = {}
        for reaction in self.reactions:
            names.setdefault(reaction.emoji, []).append(reaction.name)
        return names


@dataclass(frozen=True)
class Day:
    """The posts of one day, in local time."""

    date: str  # YYYY-MM-DD, or "unknown"
    posts: Sequence[Post]


@dataclass(frozen=True)
class Conversation:
    """Everything that was found in one channel, or between people."""

    id: str  # of the channel
    channel: str  # as people know it
    title: str
    days: Sequence[Day]
    posts: int
    people: Sequence[tuple[str, str]]  # id and name of each author

    @property
    def threads(self) -> Iterator[Post]:
        """The posts that begin threads, oldest first."""
        return (post for day in self.days for post in day.posts)


@dataclass(frozen=True)
class Page:
    """A conversation that was written."""

    channel: str
    title: str
    messages: int
    file: str  # its name in the directory


def of(set_: BackupSet, found: SearchResult, *, deleted: bool = False) -> list[Conversation]:
    """Return the conversations that ``found`` messages and uploads are of, by the channels' names.

    ``deleted`` messages and uploads are left out unless they are asked for, and versions of a
    message that was edited later always.
    """
    messages = [
        message
        for message in found.messages
        if not message.replaced and (deleted or not message.deleted)
    ]
    reactions = _reactions(set_, {message.id for message in messages}, found.directory)
    uploads = defaultdict(list)
    for upload in found.uploads:
        if deleted or not upload.deleted:
            uploads[upload.post].append(upload)
    posts: dict[str, list[Post]] = defaultdict(list)
    for message in messages:
        posts[message.channel].append(
            _post(message, found.directory, uploads[message.id], reactions.get(message.id, ()))
        )
    made = [_conversation(id_, some, found.directory) for id_, some in posts.items()]
    return sorted(made, key=lambda conversation: conversation.channel)


def _post(
    message: Message,
    directory: Directory,
    uploads: Sequence[Upload],
    reactions: Sequence[Reaction],
) -> Post:
    moment = search.moment(message.made)
    at = moment.astimezone() if moment else None
    return Post(message, directory.name_of_user(message.user), at, uploads, reactions)


def _conversation(id_: str, posts: Sequence[Post], directory: Directory) -> Conversation:
    channel = directory.channels.get(id_)
    threads = _threads(posts)
    days = [Day(date, list(some)) for date, some in groupby(threads, key=_date)]
    people = {post.message.user: post.author for post in posts}
    title = channel.title if channel else ""
    name = directory.name_of_channel(id_)
    return Conversation(id_, name, title, days, len(posts), sorted(people.items()))


def _threads(posts: Sequence[Post]) -> list[Post]:
    """Return the posts that begin threads, with their replies; the order stays."""
    known = {post.message.id for post in posts}
    replies: dict[str, list[Post]] = defaultdict(list)
    for post in posts:
        if post.message.root in known:
            replies[post.message.root].append(post)
    return [
        replace(post, replies=replies[post.message.id], orphan=bool(post.message.root))
        for post in posts
        if post.message.root not in known
    ]


def _date(post: Post) -> str:
    return f"{post.at:%Y-%m-%d}" if post.at else "unknown"


def _reactions(
    set_: BackupSet, posts: Collection[str], directory: Directory
) -> dict[str, list[Reaction]]:
    """Return the reactions to ``posts``, by their ids, in the order of the dump."""
    made: dict[str, list[Reaction]] = defaultdict(list)

    def take(row: Row) -> None:
        user, post, emoji, at, deleted = (value or "" for value in row)
        if post in posts and not search.deleted(deleted):
            name = directory.name_of_user(user)
            made[post].append(Reaction(user, name, emoji, search.number(at)))

    columns = ("userid", "postid", "emojiname", "createat", "deleteat")
    dump_rows.read(set_, [Table("reactions", columns, take)])
    return made


def avatars(conversations: Sequence[Conversation]) -> dict[str, str]:
    """Return the paths, below the data directory, of the authors' avatars, and whose they are."""
    people = {person for made in conversations for person, _ in made.people}
    return {AVATAR.format(person): person for person in sorted(people)}


def as_data(picture: bytes) -> str:
    """Return a picture as a data: URL; "" for one of another kind."""
    for begin, kind in _PICTURES.items():
        if picture.startswith(begin):
            return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    return ""


def to_html(text: str) -> Markup:
    """Return ``text`` as HTML.

    HTML in it is shown as it was typed. A picture from elsewhere is a link to it, and only links to
    web and mail addresses are ones. Its headings are below those of a page with two levels.
    """
    from markupsafe import Markup

    made = renderer()
    tokens = made.parse(_visible(text[:_LONGEST]))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + _ABOVE, 6)}"
    # The renderer escapes what is no Markdown.
    return Markup(made.renderer.render(tokens, made.options, {}))


@lru_cache(None)
def renderer() -> MarkdownIt:
    """Return what renders all messages; raises Failure where its library is not installed."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise Failure(
            "Pages need a library that is not installed",
            "python3-markdown-it renders the messages",
            "apt install python3-markdown-it (Debian 12 and later), or leave out --page.",
        ) from None
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "typographer": False})
    made.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    made.validateLink = _is_plain_link  # type: ignore[method-assign]
    return made


def _is_plain_link(url: str) -> bool:
    return url.strip().lower().startswith(("http://", "https://", "mailto:"))


def _visible(text: str) -> str:
    """Escape what reverses a line or is no letter; lines stay, and tabs become blanks."""
    return "\n".join(humanize.plain(line.expandtabs(4)) for line in re.split("\r?\n", text))
