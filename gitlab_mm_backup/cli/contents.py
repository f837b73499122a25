"""gitlab-mm ls, find and diff: what people had in Mattermost, shown from a set."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import clock
from ..errors import Failure
from ..restore.plan import LATEST
from ..result import CommandResult
from ..system import humanize
from . import offsite
from .common import SET_HELP, filled, settings_and_store, verb

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..rehearsal.described import Described, Listing
    from ..rehearsal.difference import Change, Difference
    from ..rehearsal.directory import Directory
    from ..rehearsal.search import Query
    from ..store.inventory import Store
    from ..store.sets import BackupSet
    from .output import Context

_MOST_SHOWN = 20  # changes of a kind, in the text
_PATIENCE = 2  # seconds that somebody who pressed TAB waits
# A shell expands what it completes with: other names are not offered.
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?")
_WIDEST = 40  # columns of a cell; what is wider moves the rest of its line


@dataclass(frozen=True)
class Options:
    """The options of ls, find and extract, by the names that click gives them."""

    wanted: str
    place: str | None
    identity: Path | None
    channel: str | None = None
    user: str | None = None
    file: str | None = None
    text: str | None = None
    since: str | None = None
    until: str | None = None
    deleted: bool = False
    every: bool = False
    page: bool = False
    bulk_import: bool = False
    to: Path | None = None

    def query(self, *, deleted: bool) -> Query:
        """Return what to look for; raises Failure for a date that is none."""
        from ..rehearsal.search import Query

        now = clock.now().astimezone()
        return Query(
            file=self.file or "",
            words=tuple((self.text or "").split()),
            channel=self.channel or "",
            user=self.user or "",
            since=clock.start_of(self.since, now) if self.since else None,
            until=clock.end_of(self.until, now) if self.until else None,
            deleted=deleted,
        )

    @property
    def finds(self) -> tuple[bool, bool]:
        """Whether uploads are looked for, and messages."""
        return bool(self.file) or not self.text, bool(self.text) or not self.file

    def look(
        self, settings: Settings, store: Store, name: str = "", *, messages: bool
    ) -> AbstractContextManager[BackupSet]:
        """Make set ``name``, or the wanted one, available; its dump only for ``messages``."""
        return offsite.looked_at(
            *(settings, store, self.place, name or self.wanted, self.identity),
            files=False,
            messages=messages,
        )

    def refuse_odd_search(self) -> None:
        """Raise UsageError for a search that would find everything, or in a set and in all."""
        times = (self.since, self.until)
        if not any((self.file, self.text, self.channel, self.user, *times)):
            raise click.UsageError("Give --file, --text, --channel, --user, --since or --until.")
        if self.every and self.wanted != LATEST:
            raise click.UsageError("SET and --all exclude each other.")


def whose_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a channel or a user."""
    channel = click.option(
        "--channel",
        metavar="TEAM/CHANNEL",
        help="Of this channel; a conversation is @alice,@bob.",
    )
    user = click.option("--user", metavar="NAME", help="Of this user.")
    return channel(user(function))


def time_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select by the time of a row."""
    since = click.option("--since", metavar="DATE", help="From this day or time on.")
    until = click.option("--until", metavar="DATE", help="Up to this day or time, included.")
    return since(until(function))


def file_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add the option that selects by the name of a file."""
    text = "Uploads with this original name; * and ? stand for any letters, as in '*.pdf'."
    return click.option("--file", metavar="GLOB", help=text)(function)


@click.command(epilog=SET_HELP)
@click.argument("wanted", metavar="[SET]", default=LATEST)
@whose_options
@click.option("--deleted", is_flag=True, help="Include what is deleted.")
@offsite.from_elsewhere
@verb
@filled(Options)
def ls(context: Context, options: Options) -> CommandResult:
    """List the teams, channels, users and uploads of a set.

    The uploads are those of a channel or of a user.
    """
    from ..rehearsal import counts, described, search

    ours, store = settings_and_store(context)
    query = options.query(deleted=options.deleted)
    whose = options.channel or options.user
    with options.look(ours, store, messages=not whose) as set_:
        if not whose:
            counted = counts.count(set_)
            return listing_result(set_.name, described.listing(counted, deleted=options.deleted))
        found = search.look(set_, query)
    rows = [described.upload(row, found.directory) for row in found.uploads]
    return uploads_result(set_.name, rows, sum(row.size for row in found.uploads))


@click.command(epilog=SET_HELP)
@click.argument("wanted", metavar="[SET]", default=LATEST)
@click.option("--all", "every", is_flag=True, help="In all sets, the newest first.")
@file_option
@click.option("--text", metavar="WORDS", help="Messages that have all of these words.")
@whose_options
@time_options
@offsite.from_elsewhere
@verb
@filled(Options)
def find(context: Context, options: Options) -> CommandResult:
    """Find uploads by name and messages by text, in one set or in all.

    Deleted ones are found too. Without --file and --text, both are found.
    """
    from ..rehearsal.directory import Unknown

    options.refuse_odd_search()
    ours, store = settings_and_store(context)
    query, finds = options.query(deleted=True), Finds()
    wanted = offsite.names(ours, store, options.place) if options.every else [options.wanted]
    for name in wanted:
        try:
            with options.look(ours, store, name, messages=options.finds[1]) as set_:
                finds.add(set_, query, options)
        except Unknown as failure:
            finds.unknown.append(failure)
            finds.searched.append(name)
        except Failure as failure:
            if not options.every:
                raise
            finds.warnings.append(f"Set {name} was not searched: {failure}")
    if len(finds.unknown) == len(wanted) and finds.unknown:
        raise finds.unknown[0]  # in no set is such a channel or user
    return finds.result()


@click.command(epilog=SET_HELP)
@click.argument("wanted", metavar="SET")
@click.argument("other", metavar="[SET|live]", default="live")
@offsite.from_elsewhere
@verb
def diff(
    context: Context, wanted: str, other: str, place: str | None, identity: Path | None
) -> CommandResult:
    """Compare a set with another one, or with the live Mattermost.

    Shows teams, channels, users, messages and uploads that were added, changed or removed, rows of
    all tables, and the names of settings that differ. What is marked as deleted counts as removed.
    """
    from ..rehearsal.difference import LIVE

    if wanted == LIVE:
        raise click.UsageError("The first is a set; the second can be the live Mattermost.")
    ours, store = settings_and_store(context)
    with ExitStack() as opened:
        looks = (
            offsite.looked_at(ours, store, place, name, identity, files=False)
            for name in (wanted, other)
            if name != LIVE
        )
        return _difference([opened.enter_context(look) for look in looks], ours.scratch_dir)


def _difference(sets: Sequence[BackupSet], scratch: Path) -> CommandResult:
    """Compare two sets, or one with the live Mattermost."""
    from ..mattermost import detect, effective_config
    from ..rehearsal import difference

    first = sets[0]
    site = detect.find() if len(sets) == 1 else None
    before = difference.of_set(first)
    after = difference.of_live(site, first) if site else difference.of_set(sets[1])
    warnings = [
        f"{table.schema}.{table.name} is not compared: {table.why}" for table in after.unread
    ]
    found = difference.compare(before, after, difference.keys(first), scratch)
    settings: list[str] | None = None
    try:
        now = site.settings if site else effective_config.of_set(sets[1]).effective
        settings = effective_config.of_set(first).effective.differences(now)
    except Failure as failure:
        warnings.append(f"The settings were not compared: {failure}")
    things = difference.described_changes(found, before, after)
    return diff_result(before.name, after.name, found, things, settings, warnings)


@click.command(hidden=True)  # the completion of a shell calls it, no administrator
@click.argument("kind", metavar="KIND", type=click.Choice(("teams", "channels", "users")))
@click.argument("wanted", metavar="[SET]", default=LATEST)
@verb
def names(context: Context, kind: str, wanted: str) -> CommandResult:
    """Print the names in a set that an option takes, one a line, for a shell.

    Nothing where reading them takes longer than two seconds.
    """
    from ..rehearsal import directory

    ours, store = settings_and_store(context)
    with offsite.looked_at(ours, store, None, wanted, None, files=False, messages=False) as set_:
        found = directory.within(set_, _PATIENCE)
    printed = sorted(filter(_WORD.fullmatch, names_of(found, kind))) if found else []
    return CommandResult({"set": set_.name, "names": printed}, printed, answer=True)


def names_of(found: Directory, kind: str) -> list[str]:
    """Return the names of a kind that are not deleted; without conversations."""
    if kind == "channels":
        channels = (channel for channel in found.channels.values() if channel.team)
        return [found.name_of_channel(channel.id) for channel in channels if not channel.deleted]
    rows = found.teams if kind == "teams" else found.users
    return [row.name for row in rows.values() if not row.deleted]


@dataclass
class Held:
    """An upload or message, and the sets that hold it, newest first."""

    described: Described
    sets: list[str]

    @property
    def fields(self) -> dict[str, object]:
        return {**self.described.fields, "sets": self.sets}


@dataclass
class Finds:
    """What was found in one set after the other, newest first, by ids."""

    searched: list[str] = field(default_factory=list)
    uploads: dict[str, Held] = field(default_factory=dict)
    messages: dict[str, Held] = field(default_factory=dict)
    unknown: list[Failure] = field(default_factory=list)  # sets without the channel or user
    warnings: list[str] = field(default_factory=list)

    def add(self, set_: BackupSet, query: Query, options: Options) -> None:
        """Search one more set; what a newer one holds is described as it was there."""
        from ..rehearsal import described, search

        uploads, messages = options.finds
        found = search.look(set_, query, uploads=uploads, messages=messages)
        for upload in found.uploads:
            _note(self.uploads, described.upload(upload, found.directory), set_.name)
        for message in found.messages:
            _note(self.messages, described.message(message, found.directory), set_.name)
        self.searched.append(set_.name)

    def result(self) -> CommandResult:
        """Return what was found, and in which sets."""
        lines, held = [], [*self.uploads.values(), *self.messages.values()]
        for line, thing in zip(aligned([thing.described for thing in held]), held):
            lines += [line, f"  in {', '.join(thing.sets)}"] if len(self.searched) > 1 else [line]
        fields = {
            "sets": self.searched,
            "uploads": [thing.fields for thing in self.uploads.values()],
            "messages": [thing.fields for thing in self.messages.values()],
        }
        return CommandResult(fields, lines or ["Nothing was found"], self.warnings, answer=True)


def _note(known: dict[str, Held], thing: Described, name: str) -> None:
    known.setdefault(thing.id, Held(thing, [])).sets.append(name)


def aligned(rows: Sequence[Described]) -> list[str]:
    """Return a line for each row, its cells below those of the row before."""
    widths = [
        min(max(map(humanize.width, column)), _WIDEST)
        for column in zip(*(row.cells for row in rows))
    ]
    return [
        "  ".join(humanize.padded(cell, width) for cell, width in zip(row.cells, widths)).rstrip()
        for row in rows
    ]


_SIGNS = {"added": "+", "changed": "~", "removed": "-"}


def diff_result(
    before: str,
    after: str,
    found: Difference,
    things: Mapping[str, Sequence[Change]],
    settings: Sequence[str] | None,
    warnings: list[str],
) -> CommandResult:
    """Return what differs between the states ``before`` and ``after``."""
    from ..rehearsal.difference import THINGS

    lines, fields = [], {}
    for table, title in THINGS.items():
        counts = {way: len(keys) for way, keys in vars(found.things[table]).items()}
        named = [{"change": change.way, **change.thing.fields} for change in things[table]]
        fields[title] = {**counts, "named": named}
        if any(counts.values()):
            lines += [f"{title}: {_amounts(counts)}", *_change_lines(things[table])]
    for name, rows in found.tables.items():
        if name not in THINGS or rows.columns:
            lines.append(f"rows of {humanize.plain(name)}: {_amounts(vars(rows), rows.columns)}")
    if settings:
        lines.append(f"settings that differ: {humanize.plain(', '.join(settings))}")
    tables = {name: vars(rows) for name, rows in found.tables.items()}
    shown = {"set": before, "against": after, **fields, "tables": tables}
    head = f"From {before} to {after}:" if lines else f"{before} and {after}: nothing differs"
    text = [head, *(f"  {line}" for line in lines)]
    return CommandResult({**shown, "settings_differ": settings}, text, warnings, answer=True)


def _amounts(counts: Mapping[str, object], columns: Sequence[str] = ()) -> str:
    words = [f"{counts[way]} {way}" for way in _SIGNS if counts[way]]
    if columns:
        names = humanize.plain(", ".join(columns))
        words.append(f"only one has {names}, so changes are not counted")
    return ", ".join(words)


def _change_lines(changes: Sequence[Change]) -> list[str]:
    """Return a line for each change, up to as many as can be read."""
    shown = changes[:_MOST_SHOWN]
    lines = [
        f"  {_SIGNS[change.way]} {line}"
        for change, line in zip(shown, aligned([change.thing for change in shown]))
    ]
    left = len(changes) - len(shown)
    return [*lines, f"  and {left} more; --json lists them"] if left else lines


def listing_result(name: str, found: Listing) -> CommandResult:
    """Return the teams, channels and users of a set."""
    groups = {"Teams": found.teams, "Channels": found.channels, "Users": found.users}
    lines = []
    for title, rows in groups.items():
        lines += [f"{title}:", *(f"  {line}" for line in aligned(rows) or ["none"])]
    fields = {
        "set": name,
        **{title.lower(): [row.fields for row in rows] for title, rows in groups.items()},
        "uploads": None,
    }
    return CommandResult(fields, lines, answer=True)


def uploads_result(name: str, rows: Sequence[Described], size: int) -> CommandResult:
    """Return the uploads of a channel or user, ``size`` bytes together."""
    total = f"{humanize.number(len(rows), 'upload')}, {humanize.size(size)}"
    fields = {
        "set": name,
        **dict.fromkeys(("teams", "channels", "users")),
        "uploads": [row.fields for row in rows],
    }
    return CommandResult(fields, [*aligned(rows), total], answer=True)
