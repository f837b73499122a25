"""What a set holds, for the answers of commands: JSON fields, and cells of a line.

All of it comes from the set: the cells are escaped and shortened for a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import clock
from ..system import humanize
from . import search
from .counts import Counts
from .directory import Channel, Directory, Team, User
from .search import Message, Upload

if TYPE_CHECKING:
    from .recover import Recovery, Undone

_LONGEST = 200  # letters of a text that are shown
_KINDS = {"O": "open", "P": "private", "D": "direct", "G": "group"}


class Described(NamedTuple):
    """One thing of a set."""

    id: str
    fields: Mapping[str, Any]
    cells: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """The teams, channels and users of a set; conversations come after the channels of teams."""

    teams: Sequence[Described]
    channels: Sequence[Described]
    users: Sequence[Described]


def upload(row: Upload, directory: Directory) -> Described:
    """Describe an upload; names of users and channels are those that they had in the set."""
    fields = {
        "id": row.id,
        "name": row.name,
        **_origin(row, directory),
        "bytes": row.size,
        "deleted": row.deleted,
    }
    text = short(row.name) + (" (deleted)" if row.deleted else "")
    return Described(row.id, fields, (*_cells(row, directory), humanize.size(row.size), text))


def message(row: Message, directory: Directory) -> Described:
    """Describe a message; one that was edited later is not one that was deleted."""
    deleted = row.deleted and not row.replaced
    fields = {
        "id": row.id,
        "text": row.text,
        **_origin(row, directory),
        "deleted": deleted,
        "replaced": row.replaced,
    }
    mark = " (edited later)" if row.replaced else " (deleted)" if deleted else ""
    return Described(row.id, fields, (*_cells(row, directory), "", short(row.text) + mark))


def listing(found: Counts, *, deleted: bool) -> Listing:
    """Describe the places and people of a set; those that are ``deleted`` only where asked for."""
    directory = found.directory
    gone = {team.id for team in directory.teams.values() if team.deleted}
    teams = sorted(directory.teams.values(), key=lambda team: team.name)
    channels = [_channel(channel, found) for channel in directory.channels.values()]
    channels.sort(
        key=lambda channel: (channel.fields["kind"] in ("direct", "group"), channel.cells)
    )
    users = sorted(directory.users.values(), key=lambda user: user.name)
    return Listing(
        [
            Described(
                team.id, {**vars(team)}, (_marked(team.name, team.deleted), short(team.title))
            )
            for team in teams
            if deleted or not team.deleted
        ],
        [
            channel
            for channel in channels
            if deleted
            or not (channel.fields["deleted"] or directory.channels[channel.id].team in gone)
        ],
        [_user(user, found) for user in users if deleted or not user.deleted],
    )


def place(row: Team | Channel | User, directory: Directory) -> Described:
    """Describe a team, a channel or a user by its name."""
    name, title = row.name, ""
    if isinstance(row, Channel):
        name, title = directory.name_of_channel(row.id), row.title
    elif isinstance(row, Team):
        title = row.title
    fields = {"id": row.id, "name": name, "title": title, "deleted": row.deleted}
    shown = f"@{name}" if isinstance(row, User) else name
    return Described(row.id, fields, (_marked(shown, row.deleted), short(title)))


def _channel(channel: Channel, found: Counts) -> Described:
    name = found.directory.name_of_channel(channel.id)
    posts, uploads = found.posts_in[channel.id], found.uploads_in[channel.id]
    fields = {
        "id": channel.id,
        "name": name,
        "title": channel.title,
        "kind": _KINDS.get(channel.kind, "other"),
        "deleted": channel.deleted,
        "posts": posts,
        "uploads": uploads,
    }
    cells = (_marked(name, channel.deleted), str(fields["kind"]), *_counts(posts, uploads))
    return Described(channel.id, fields, cells)


def _user(user: User, found: Counts) -> Described:
    bot = user.id in found.directory.bots
    posts, uploads = found.posts_by[user.id], found.uploads_by[user.id]
    fields = {
        "id": user.id,
        "name": user.name,
        "bot": bot,
        "deleted": user.deleted,
        "posts": posts,
        "uploads": uploads,
    }
    cells = (_marked(f"@{user.name}", user.deleted), "bot" if bot else "", *_counts(posts, uploads))
    return Described(user.id, fields, cells)


def _counts(posts: int, uploads: int) -> tuple[str, str]:
    return humanize.number(posts, "post"), humanize.number(uploads, "upload")


def _marked(name: str, deleted: bool) -> str:
    return short(name) + (" (deleted)" if deleted else "")


def _origin(row: Upload | Message, directory: Directory) -> dict[str, Any]:
    moment = search.moment(row.made)
    return {
        "channel": directory.name_of_channel(row.channel),
        "channel_id": row.channel,
        "user": directory.name_of_user(row.user),
        "user_id": row.user,
        "at": clock.utc(moment) if moment else None,
    }


def _cells(row: Upload | Message, directory: Directory) -> tuple[str, str, str]:
    moment = search.moment(row.made)
    return (
        f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else "-",
        short(directory.name_of_channel(row.channel)),
        f"@{short(directory.name_of_user(row.user))}",
    )


def short(text: str) -> str:
    """Return ``text`` as one line for a terminal, escaped and not too long."""
    shown = humanize.plain(text[: _LONGEST + 1])
    return f"{shown[:_LONGEST]}..." if len(shown) > _LONGEST else shown


def recovered_tables(done: Recovery) -> list[dict[str, object]]:
    """Return the rows that were inserted and changed, by table."""
    rows = done.rows
    changed: dict[str, list[dict[str, object]]] = {}
    for change in rows.changes:
        entry: dict[str, object] = {"key": list(change.key), "columns": sorted(change.columns)}
        changed.setdefault(change.table, []).append(entry)
    return [
        {
            "table": name,
            "inserted": [list(key) for key in rows.inserted.get(name, [])],
            "changed": changed.get(name, []),
        }
        for name in sorted({*rows.inserted, *changed})
    ]


def recovered_fields(done: Recovery, files: Sequence[str]) -> dict[str, object]:
    """Return the JSON fields of what a recovery has brought back, or would."""
    return {
        "kind": done.kind,
        "id": done.id,
        "name": done.name,
        "tables": recovered_tables(done),
        "files": files,
        "missing": done.missing,
        "undo": str(done.undo) if done.undo else None,
        "rows": done.rows.rows,
        "undone": None,
    }


def undone_fields(done: Undone) -> dict[str, object]:
    """Return the JSON fields of what an undo has taken back."""
    return {
        **{name: done.about.get(name, "") for name in ("set", "kind", "id", "name")},
        "dry_run": False,
        **{name: [] for name in ("tables", "files", "missing")},
        "undo": None,
        "rows": 0,
        "undone": {"rows": done.rows, "files": done.files},
    }


def recovered_lines(done: Recovery, files: Sequence[str]) -> list[str]:
    """Return a line for each row and file."""
    lines = []
    for name in sorted({*done.rows.inserted, *(change.table for change in done.rows.changes)}):
        lines.append(f"{name}:")
        keys = done.rows.inserted.get(name, [])
        lines += [f"  insert  {humanize.plain('  '.join(key))}" for key in keys]
        for change in done.rows.changes:
            if change.table == name:
                what = ", ".join(sorted(change.columns))
                lines.append(f"  change  {humanize.plain('  '.join(change.key))}: {what}")
    return [
        *lines,
        *(["files:"] if files else []),
        *(f"  {humanize.plain(path)}" for path in files),
    ]


def recovery_notes(done: Recovery) -> list[str]:
    """Return what stays as it is."""
    notes = [
        f"  {name}: {humanize.number(rows, 'row')} deleted on their own since, and left so"
        for name, rows in done.rows.staying.items()
    ]
    notes += [
        f"  {name}: {humanize.plain('  '.join(key))} was changed since the set, and keeps that"
        for name, key in done.rows.differing
    ]
    return notes + [
        f"  {name}: {humanize.number(rows, 'row')} not brought back: {why}"
        for name, rows, why in done.missed
    ]
