"""What was said, in the order of its threads, and its Mattermost Markdown as HTML that is safe to open.

No tag of a message gets into a page, and no request leaves it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Failure, reason
from ..postgresql import scratch
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
_PREFIX = ".gitlab-mm-messages-"
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


class Detail(NamedTuple):
    """What of a message only an import needs."""

    edited: int = 0  # milliseconds since 1970; 0 for never
    pinned: bool = False
    props: str = ""  # JSON


@dataclass(frozen=True)
class Post:
    """A message with all that belongs to it."""

    message: Message
    author: str  # name
    at: datetime | None  # in local time; None for a moment that no clock has
    uploads: Sequence[Upload]
    reactions: Sequence[Reaction]  # in the order of the dump
    replies: Iterable[Post] = ()  # true where there are any
    orphan: bool = False  # a reply whose thread begins elsewhere
    detail: Detail = field(default_factory=Detail)

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
    posts: Iterable[Post]  # to be read before the next day


@dataclass(frozen=True)
class Conversation:
    """Everything that was found in one channel, or between people."""

    id: str  # of the channel
    channel: str  # as people know it
    title: str
    days: Iterable[Day]  # as often as it is read
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


@dataclass(frozen=True)
class _Rows(Iterable[Post]):
    """Posts that are read from the file each time; true where there are any."""

    read: Callable[[], Iterator[Post]]

    def __iter__(self) -> Iterator[Post]:
        return self.read()

    def __bool__(self) -> bool:
        return next(self.read(), None) is not None


@dataclass(frozen=True)
class _Days(Iterable[Day]):
    posts: Iterable[Post]

    def __iter__(self) -> Iterator[Day]:
        return (Day(date, some) for date, some in groupby(self.posts, key=_date))


_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -2048;
    CREATE TABLE posts (id, text, channel, user, made, deleted, root, kind, edited, pinned, props);
    CREATE INDEX ids ON posts (id);
    CREATE INDEX places ON posts (channel, made, id);
    CREATE INDEX roots ON posts (root, made, id);
    CREATE TABLE reactions (post, user, emoji, made);
    CREATE INDEX reacted ON reactions (post);
    BEGIN
"""
# Only a message that begins a thread has replies: of any other, they would be in no place.
_IS_REPLY = (
    "p.root <> x'' AND EXISTS (SELECT 1 FROM posts r WHERE r.id = p.root AND r.root = x''"
    " AND r.channel = p.channel)"
)
_POSTS = "SELECT p.* FROM posts p WHERE"
_LARGEST = (1 << 63) - 1  # of SQLite's integers


class Messages:
    """Messages with their reactions, in a file without a name, so that memory does not grow with them."""

    def __init__(self, folder: Path, *, deleted: bool) -> None:
        """Open it in ``folder``; ``deleted`` messages are kept only where they are asked for."""
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        os.close(descriptor)
        self._session = sqlite3.connect(name, isolation_level=None)
        try:
            self._session.executescript(_TABLES)
        finally:
            os.unlink(name)
        self._deleted = deleted
        self.directory = Directory()
        self._uploads: dict[str, list[Upload]] = defaultdict(list)

    def add(self, message: Message, detail: Row) -> None:
        """Keep a message; not a version of one that was edited later."""
        if message.replaced or (message.deleted and not self._deleted):
            return
        edited, pinned, props = detail
        values = (
            *map(_bytes, (message.id, message.text, message.channel, message.user)),
            *(_number(message.made), message.deleted, _bytes(message.root), _bytes(message.kind)),
            *(_number(search.number(edited)), pinned == "t", _bytes(props or "")),
        )
        self._session.execute(f"INSERT INTO posts VALUES ({', '.join('?' * len(values))})", values)

    def complete(self, set_: BackupSet, found: SearchResult) -> None:
        """Add what belongs to the messages: uploads, reactions, and the names of people."""
        self.directory = found.directory
        for upload in found.uploads:
            if self._deleted or not upload.deleted:
                self._uploads[upload.post].append(upload)
        columns = ("postid", "userid", "emojiname", "createat", "deleteat")
        dump_rows.read(set_, [Table("reactions", columns, self._react)])

    def _react(self, row: Row) -> None:
        post, user, emoji, at, deleted = (value or "" for value in row)
        if search.deleted(deleted) or not self._ask("SELECT 1 FROM posts WHERE id = ?", post):
            return
        values = (*map(_bytes, (post, user, emoji)), _number(search.number(at)))
        self._session.execute("INSERT INTO reactions VALUES (?, ?, ?, ?)", values)

    def _ask(self, query: str, *texts: str) -> list[Any]:
        return self._session.execute(query, [*map(_bytes, texts)]).fetchall()

    def conversations(self) -> list[Conversation]:
        """Return the conversations that messages were found in, by the channels' names."""
        counted = self._ask("SELECT channel, count(*) FROM posts GROUP BY channel")
        made = [self._conversation(_text(channel), posts) for channel, posts in counted]
        return sorted(made, key=lambda conversation: conversation.channel)

    def _conversation(self, id_: str, posts: int) -> Conversation:
        channel = self.directory.channels.get(id_)
        users = self._ask("SELECT DISTINCT user FROM posts WHERE channel = ?", id_)
        people = {_text(user): self.directory.name_of_user(_text(user)) for (user,) in users}
        title = channel.title if channel else ""
        name = self.directory.name_of_channel(id_)
        query = f"{_POSTS} p.channel = ? AND NOT ({_IS_REPLY}) ORDER BY p.made, p.id"
        days = _Days(_Rows(lambda: self._posts(query, id_)))
        return Conversation(id_, name, title, days, posts, sorted(people.items()))

    def _posts(self, query: str, *texts: str) -> Iterator[Post]:
        for row in self._session.execute(query, [*map(_bytes, texts)]):
            yield self._post(row)

    def _post(self, row: Sequence[Any]) -> Post:
        id_, text, channel, user = map(_text, row[:4])
        made, deleted, root, kind = row[4], bool(row[5]), _text(row[6]), _text(row[7])
        message = Message(id_, text, channel, user, made, deleted, False, root, kind)
        moment = search.moment(made)
        reactions = self._ask(
            "SELECT user, emoji, made FROM reactions WHERE post = ? ORDER BY rowid", id_
        )
        of_root = f"{_POSTS} p.root = ? AND p.channel = ? ORDER BY p.made, p.id"
        return Post(
            message,
            self.directory.name_of_user(user),
            moment.astimezone() if moment else None,
            self._uploads.get(id_, ()),
            [self._reaction(_text(user), _text(emoji), at) for user, emoji, at in reactions],
            () if root or not id_ else _Rows(lambda: self._posts(of_root, id_, channel)),
            orphan=bool(root),
            detail=Detail(row[8], bool(row[9]), _text(row[10])),
        )

    def _reaction(self, user: str, emoji: str, made: int) -> Reaction:
        return Reaction(user, self.directory.name_of_user(user), emoji, made)


@contextlib.contextmanager
def kept(folder: Path, *, deleted: bool) -> Iterator[Messages]:
    """Yield a place for messages in ``folder``; raises Failure where its disk is full."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        messages = Messages(folder, deleted=deleted)
        with contextlib.closing(messages._session):
            yield messages
    except (OSError, sqlite3.OperationalError) as error:
        raise Failure(f"{folder} cannot be written", reason(error), scratch.WAYS) from error


def _bytes(text: str) -> bytes:
    """Return a text as SQLite can keep it: a set may have letters that UTF-8 has not."""
    return text.encode(errors="surrogatepass")


def _text(value: bytes) -> str:
    return value.decode(errors="surrogatepass")


def _number(value: int) -> int:
    return max(-_LARGEST, min(value, _LARGEST))


def _date(post: Post) -> str:
    return f"{post.at:%Y-%m-%d}" if post.at else "unknown"


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
