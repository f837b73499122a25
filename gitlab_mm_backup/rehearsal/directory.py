"""Teams, channels and users of a set, found by their names."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..errors import ExitCode, Failure
from ..mattermost.owned_rows import CHANNEL, TEAM, USER
from ..store.sets import BackupSet
from ..system import humanize, process
from . import dump_rows
from .dump_rows import Row, Table

DIRECT, GROUP = "D", "G"  # kinds of channels between people, which belong to no team
_BETWEEN = "__"  # the ids of two users, in the name of a direct channel


@dataclass(frozen=True)
class Team:
    """A team."""

    id: str
    name: str  # in addresses
    title: str
    deleted: bool


@dataclass(frozen=True)
class Channel:
    """A channel, or a conversation between people."""

    id: str
    team: str  # id; "" between people
    kind: str  # O open, P private, D direct, G group
    name: str
    title: str
    deleted: bool

    @property
    def people(self) -> tuple[str, ...]:
        """The ids of the two users of a direct channel, which are one for notes to oneself."""
        return tuple(self.name.split(_BETWEEN)) if self.kind == DIRECT else ()


@dataclass(frozen=True)
class User:
    """An account of Mattermost."""

    id: str
    name: str
    deleted: bool


class Unknown(Failure):
    """A set has no team, channel or user of that name."""


_Named = TypeVar("_Named", Team, Channel, User)


@dataclass
class Directory:
    """Everybody and every place, by id; a bot is a user too."""

    teams: dict[str, Team] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    bots: set[str] = field(default_factory=set)

    def tables(self) -> list[Table]:
        """Return the tables that fill this, for a pass that reads others too."""
        return [
            Table("teams", ("id", "name", "displayname", "deleteat"), self._team),
            Table(
                "channels",
                ("id", "teamid", "type", "name", "displayname", "deleteat"),
                self._channel,
            ),
            Table("users", ("id", "username", "deleteat"), self._user),
            Table("bots", ("userid",), lambda row: self.bots.add(row[0] or "")),
        ]

    def _team(self, row: Row) -> None:
        id_, name, title, deleted = (value or "" for value in row)
        self.teams[id_] = Team(id_, name, title, deleted not in ("", "0"))

    def _channel(self, row: Row) -> None:
        id_, team, kind, name, title, deleted = (value or "" for value in row)
        self.channels[id_] = Channel(id_, team, kind, name, title, deleted not in ("", "0"))

    def _user(self, row: Row) -> None:
        id_, name, deleted = (value or "" for value in row)
        self.users[id_] = User(id_, name, deleted not in ("", "0"))

    def name_of_user(self, id_: str) -> str:
        """Return a user's name; the id where the row is gone."""
        user = self.users.get(id_)
        return user.name if user else id_

    def name_of_channel(self, id_: str) -> str:
        """Return team/channel, or the names of the people in a conversation as @a,@b."""
        channel = self.channels.get(id_)
        if channel is None:
            return id_
        if channel.kind == DIRECT:
            people = {self.name_of_user(person) for person in channel.people}
            return ",".join(f"@{name}" for name in sorted(people))
        if channel.kind == GROUP:  # its title has the names, in order
            return ",".join(f"@{name.strip()}" for name in channel.title.split(","))
        team = self.teams.get(channel.team)
        return f"{team.name if team else channel.team}/{channel.name}"

    def name_of(self, kind: str, id_: str) -> str:
        """Return the name of a thing as its kind is named; the id of one that has no name."""
        if kind == TEAM:
            return self.teams[id_].name
        if kind == CHANNEL:
            return self.name_of_channel(id_)
        return f"@{self.name_of_user(id_)}" if kind == USER else id_

    def id_of(self, kind: str, wanted: str) -> str:
        """Return the id of a team, channel or user; raises Failure for none or several."""
        if kind == TEAM:
            return self.team(wanted).id
        return (self.channel(wanted) if kind == CHANNEL else self.user(wanted)).id

    def channel(self, wanted: str) -> Channel:
        """Return the channel team/channel, @a,@b, or of an id; raises Failure for none or several."""
        if wanted in self.channels:
            return self.channels[wanted]
        people = ",".join(sorted(name.strip() for name in wanted.split(",")))
        return _only(
            "channel",
            wanted,
            [
                channel
                for channel in self.channels.values()
                if wanted.lower() in self._spellings(channel)
                or (wanted.startswith("@") and people == self._people(channel))
            ],
            {id_: self.name_of_channel(id_) for id_ in self.channels},
        )

    def _spellings(self, channel: Channel) -> Sequence[str]:
        if channel.kind in (DIRECT, GROUP):
            return ()
        return self.name_of_channel(channel.id).lower(), channel.name.lower()

    def _people(self, channel: Channel) -> str:
        if channel.kind not in (DIRECT, GROUP):
            return ""
        return ",".join(sorted(self.name_of_channel(channel.id).split(",")))

    def user(self, wanted: str) -> User:
        """Return the user of a name or id, with or without @; raises Failure for none or several."""
        name = wanted.lstrip("@")
        if name in self.users:
            return self.users[name]
        found = [user for user in self.users.values() if user.name.lower() == name.lower()]
        return _only("user", wanted, found, {user.id: user.name for user in found})

    def team(self, wanted: str) -> Team:
        """Return the team of a name or id; raises Failure for none or several."""
        if wanted in self.teams:
            return self.teams[wanted]
        found = [team for team in self.teams.values() if team.name.lower() == wanted.lower()]
        return _only("team", wanted, found, {team.id: team.name for team in found})


def read(set_: BackupSet) -> Directory:
    """Read the directory of a set."""
    directory = Directory()
    dump_rows.read(set_, directory.tables())
    return directory


def within(set_: BackupSet, seconds: float) -> Directory | None:
    """Read the directory of a set; None where that takes longer."""
    timer = threading.Timer(seconds, process.stop_all)
    timer.start()
    try:
        return read(set_)
    except process.Stopped:
        return None
    finally:
        timer.cancel()


def _only(what: str, wanted: str, found: Sequence[_Named], names: Mapping[str, str]) -> _Named:
    """Return the only one that was found; of several, the only one that is not deleted."""
    live = [thing for thing in found if not thing.deleted]
    for few in (live, found):
        if len(few) == 1:
            return few[0]
    shown = humanize.plain(wanted)
    if not found:
        raise Unknown(
            f"The set has no {what} {shown}",
            hint="gitlab-mm ls SET lists the teams, channels and users of a set.",
            exit_code=ExitCode.USAGE,
        )
    raise Failure(
        f"The set has several of the name {shown}",
        "; ".join(_described(thing, names) for thing in found),
        f"Give the id of the {what} instead.",
        ExitCode.USAGE,
    )


def _described(thing: Team | Channel | User, names: Mapping[str, str]) -> str:
    deleted = ", deleted" if thing.deleted else ""
    return f"{humanize.plain(names.get(thing.id, thing.name))} (id {humanize.plain(thing.id)}{deleted})"
