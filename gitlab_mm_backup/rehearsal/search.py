"""Uploads and messages of a set, found in its dump; no server is needed."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from .. import clock
from ..store.sets import BackupSet
from . import dump_rows
from .directory import Directory
from .dump_rows import Row, Table

# Text that COPY prints as it is, whatever the encoding: printable ASCII without the backslash.
_VERBATIM = re.compile(r"[ -\[\]-~]+")
_LONGEST = 20  # digits of a number in a row
_SYSTEM = (
    "system_"  # begins the type of a message of Mattermost's own: a user joined, a title changed
)


@dataclass(frozen=True)
class Query:
    """What to look for; an empty field leaves nothing out."""

    file: str = ""  # glob of original names, upper or lower case
    words: tuple[str, ...] = ()  # of a message, all of them, upper or lower case
    channel: str = ""  # as Directory.channel takes it
    user: str = ""
    since: datetime | None = None
    until: datetime | None = None  # excluded
    deleted: bool = True  # include what is deleted


class Upload(NamedTuple):
    """A file that somebody uploaded."""

    id: str
    name: str  # the original one
    path: str  # below the data directory
    channel: str  # id; "" where neither its row nor its post has one
    user: str  # id
    post: str  # id; "" before it was posted
    made: int  # milliseconds since 1970
    size: int  # bytes
    deleted: bool


class Message(NamedTuple):
    """What somebody wrote."""

    id: str
    text: str
    channel: str  # id
    user: str  # id
    made: int  # milliseconds since 1970
    deleted: bool
    replaced: bool  # an earlier version of a message that was edited
    root: str = ""  # id of the message that it replies to
    kind: str = ""  # "" for what people write


#: Columns of which an Upload and a Message are made.
UPLOAD = ("id", "creatorid", "postid", "channelid", "createat", "deleteat", "size", "name", "path")
MESSAGE = (
    *("id", "userid", "channelid", "createat", "deleteat", "originalid", "rootid"),
    *("type", "message"),
)


#: Columns of a message that only an import needs; they come after MESSAGE.
DETAIL = ("editat", "ispinned", "props")
#: Takes a message, and its values of DETAIL.
TakeMessage = Callable[[Message, Row], object]


@dataclass
class SearchResult:
    """What was found in one set, oldest first, and the names of the ids in it."""

    directory: Directory = field(default_factory=Directory)
    uploads: list[Upload] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)


def look(
    set_: BackupSet,
    query: Query,
    *,
    uploads: bool = True,
    messages: bool = False,
    take: TakeMessage | None = None,
) -> SearchResult:
    """Return the ``uploads`` and ``messages`` of a set that ``query`` describes.

    With ``take`` the messages go there instead, in the order of the dump. Raises Failure where the
    dump cannot be read, and for a channel or user that the set has not, or has several of.
    """
    found = SearchResult()
    names = found.directory.tables()
    channel = user = ""
    if query.channel or query.user:  # their ids are needed before the rows come
        dump_rows.read(set_, names)
        names = []
        channel = found.directory.channel(query.channel).id if query.channel else ""
        user = found.directory.user(query.user).id if query.user else ""
    search = _Search(query, channel, user, found, take)
    rows = [*([search.uploads()] if uploads else []), *([search.messages()] if messages else [])]
    dump_rows.read(set_, [*names, *rows])
    found.uploads = _with_channels(set_, found.uploads)
    if channel:
        found.uploads = [upload for upload in found.uploads if upload.channel == channel]
    found.uploads.sort(key=lambda upload: (upload.made, upload.id))
    found.messages.sort(key=lambda message: (message.made, message.id))
    return found


def number(value: str | None) -> int:
    """Return a number of a row; 0 for NULL, and for what is none: a set may have anything."""
    try:
        return int(value) if value and len(value) <= _LONGEST else 0
    except ValueError:
        return 0


def moment(milliseconds: int) -> datetime | None:
    """Return the moment of a row in UTC; None for one outside of the years 2 to 9998.

    So it is in any time zone.
    """
    try:
        when = clock.moment_of(milliseconds / 1000)
    except (ValueError, OverflowError, OSError):
        return None
    return when if 1 < when.year < 9999 else None


def deleted(value: str | None) -> bool:
    """Tell what a row's deleteat says."""
    return value not in (None, "", "0")


def literal(text: str) -> bytes:
    """Return the longest part of ``text`` that a dump has verbatim, in lower case; b"" for none."""
    return max(_VERBATIM.findall(text), key=len, default="").lower().encode()


def upload_of(row: Row) -> Upload:
    """Return the upload of a row with the columns UPLOAD."""
    id_, user, post, channel, made, deleteat, size, name, path = row
    return Upload(
        *(id_ or "", name or "", path or "", channel or "", user or "", post or ""),
        *(number(made), number(size), deleted(deleteat)),
    )


def message_of(row: Row) -> Message:
    """Return the message of a row with the columns MESSAGE."""
    id_, user, channel, made, deleteat, original, root, kind, text = row
    return Message(
        *(id_ or "", text or "", channel or "", user or ""),
        *(number(made), deleted(deleteat), bool(original)),
        *(root or "", kind or ""),
    )


class _Search:
    """Takes the rows that a query describes."""

    def __init__(
        self,
        query: Query,
        channel: str,
        user: str,
        found: SearchResult,
        take: TakeMessage | None = None,
    ) -> None:
        self._query, self._channel, self._user, self._found = query, channel, user, found
        self._name = re.compile(fnmatch.translate(query.file or "*"), re.I)
        self._words = [word.lower() for word in query.words]
        self._since = _milliseconds(query.since)
        self._until = _milliseconds(query.until)
        self._columns = MESSAGE + DETAIL if take else MESSAGE
        self._take: TakeMessage = take or (lambda message, _: found.messages.append(message))

    def uploads(self) -> Table:
        # The pattern ends at the first bracket: what stands in one is a choice of letters.
        fixed = max(re.split(r"[*?]", self._query.file.partition("[")[0]), key=len)
        return Table("fileinfo", UPLOAD, self._upload, self._keeps([fixed]))

    def messages(self) -> Table:
        return Table("posts", self._columns, self._message, self._keeps(self._words))

    def _keeps(self, texts: Iterable[str]) -> Callable[[bytes], object] | None:
        """Return a test for a line that has all of ``texts``, and the user's id."""
        parts = list(filter(None, map(literal, (*texts, self._user))))
        if not parts:
            return None

        def keeps(line: bytes) -> bool:
            lower = line.lower()  # several times as fast as a pattern without case
            for part in parts:  # noqa: SIM110, all() would take twice as long
                if part not in lower:
                    return False
            return True

        return keeps

    def _upload(self, row: Row) -> None:
        upload = upload_of(row)
        # The channel of a row without one is its post's, which is looked up later.
        if self._passes(upload, upload.channel or self._channel) and self._name.match(upload.name):
            self._found.uploads.append(upload)

    def _message(self, row: Row) -> None:
        message = message_of(row[: len(MESSAGE)])
        if not self._passes(message, message.channel) or message.kind.startswith(_SYSTEM):
            return
        lower = message.text.lower()
        if all(word in lower for word in self._words):
            self._take(message, row[len(MESSAGE) :])

    def _passes(self, thing: Upload | Message, channel: str) -> bool:
        return (
            (not self._channel or channel == self._channel)
            and (not self._user or thing.user == self._user)
            and (self._since is None or thing.made >= self._since)
            and (self._until is None or thing.made < self._until)
            and (self._query.deleted or not thing.deleted)
        )


def _milliseconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp() * 1000


def _with_channels(set_: BackupSet, uploads: list[Upload]) -> list[Upload]:
    """Return ``uploads`` with the channels of their posts where their rows have none.

    fileinfo has a channel since Mattermost 7.
    """
    posts = {upload.post for upload in uploads if not upload.channel and upload.post}
    if not posts:
        return uploads
    channels = channels_of(set_, posts)
    return [
        upload if upload.channel else upload._replace(channel=channels.get(upload.post, ""))
        for upload in uploads
    ]


def channels_of(set_: BackupSet, posts: Collection[str]) -> dict[str, str]:
    """Return the channels of ``posts`` with uploads whose rows have none; all are ids.

    In the names of a set such a row has its post's channel already, unless the post is gone.
    """
    channels: dict[str, str] = {}
    if dump_rows.has_names(set_):
        return channels
    first = {post.encode(errors="replace") for post in posts}  # the id is the first column

    def keeps(line: bytes) -> bool:
        return line[: line.find(b"\t")] in first

    def take(row: Row) -> None:
        if row[0] in posts:
            channels[row[0] or ""] = row[1] or ""

    dump_rows.read(set_, [Table("posts", ("id", "channelid"), take, keeps)])
    return channels
