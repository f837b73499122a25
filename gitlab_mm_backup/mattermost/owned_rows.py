"""The tables of Mattermost whose rows belong to a team, channel, post, user or upload.

A reviewed list, from the server's own sources: the tables of 5.37, the migrations up to 144 (10.11),
and the code that deletes and restores such things (PermanentDeleteTeam, PermanentDeleteChannel,
PermanentDeletePost, PermanentDeleteUser, DeletePost, DeleteChannel). A table that is in neither
list is never brought back, and a recovery says so where the set has rows in it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..version import numbers

TEAM, CHANNEL, POST, USER, FILE = "team", "channel", "post", "user", "file"
_GROUP, _CATEGORY, _POLICY, _FIELD = "group", "category", "policy", "field"
KINDS = (TEAM, CHANNEL, POST, USER, FILE)
#: The versions of Mattermost for which the lists were reviewed: the first, and the last of all.
REVIEWED = ("5.37", "10.11")
#: The table in which things of a kind have their row, by their id.
HOMES = {
    TEAM: "teams",
    CHANNEL: "channels",
    POST: "posts",
    USER: "users",
    FILE: "fileinfo",
    _GROUP: "usergroups",
    _CATEGORY: "sidebarcategories",
    _POLICY: "retentionpolicies",
    _FIELD: "propertyfields",
}
#: Kinds whose rows belong to a thing and have rows of their own: a team's channels, a channel's posts.
NESTED = (CHANNEL, POST, FILE)


class Comes(enum.Enum):
    """When a missing row is inserted."""

    ALWAYS = "always"  # it is content
    WITH_DELETED = "deleted"  # Mattermost removes it also where a thing is only marked as deleted
    # Rights, and choices of people: where the thing still has its row, they were withdrawn since.
    WITH_ROW = "row"


@dataclass(frozen=True)
class OwnedTable:
    """A table with rows that belong to things.

    ``key`` identifies a row; ``belongs`` has the columns with the id of a thing that the row belongs
    to, and the kinds of that; ``refers`` those that must lead to an existing row besides.
    """

    name: str
    key: tuple[str, ...]
    belongs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refers: Mapping[str, str] = field(default_factory=dict)
    comes: Comes = Comes.WITH_ROW
    mark: str = ""  # column with the time of a deletion, "" where none is marked
    loose: tuple[str, ...] = ()  # columns of what it belongs to that may be gone
    since: str = REVIEWED[0]

    @property
    def kind(self) -> str:
        """The kind of thing that has its row here, "" for none."""
        return next((kind for kind, home in HOMES.items() if home == self.name), "")

    @property
    def needed(self) -> dict[str, str]:
        """The columns that must lead to an existing row -> the kind of that."""
        own = {
            column: kinds[0]
            for column, kinds in self.belongs.items()
            if len(kinds) == 1 and column not in self.loose
        }
        return {**own, **self.refers}


def _of(**columns: str) -> dict[str, tuple[str, ...]]:
    return {column: tuple(kinds.split("|")) for column, kinds in columns.items()}


_ALWAYS, _DELETED = Comes.ALWAYS, Comes.WITH_DELETED
#: In the order in which their rows are inserted.
TABLES = (
    OwnedTable("teams", ("id",), comes=_ALWAYS, mark="deleteat"),
    OwnedTable("users", ("id",), comes=_ALWAYS, mark="deleteat"),
    OwnedTable("bots", ("userid",), _of(userid="user"), comes=_ALWAYS, mark="deleteat"),
    OwnedTable("channels", ("id",), _of(teamid="team"), comes=_ALWAYS, mark="deleteat"),
    OwnedTable("publicchannels", ("id",), _of(id="channel"), comes=_ALWAYS, mark="deleteat"),
    OwnedTable(
        "posts",
        ("id",),
        _of(channelid="channel", rootid="post", originalid="post", userid="user"),
        comes=_ALWAYS,
        mark="deleteat",
    ),
    OwnedTable(
        "threads",
        ("postid",),
        _of(postid="post", channelid="channel"),
        comes=_ALWAYS,
        mark="threaddeleteat",
    ),
    OwnedTable(
        "reactions",
        ("userid", "postid", "emojiname"),
        _of(postid="post", userid="user"),
        comes=_ALWAYS,
    ),
    OwnedTable(
        "fileinfo",
        ("id",),
        _of(postid="post", channelid="channel", creatorid="user"),
        comes=_ALWAYS,
        mark="deleteat",
        loose=("channelid", "creatorid"),  # of bookmarks and plugins, which are no users
    ),
    OwnedTable("postspriority", ("postid",), _of(postid="post"), comes=_ALWAYS, since="7.0"),
    OwnedTable(
        "postacknowledgements",
        ("postid", "userid"),
        _of(postid="post", userid="user"),
        comes=_ALWAYS,
        since="7.0",
    ),
    OwnedTable("threadmemberships", ("postid", "userid"), _of(postid="post", userid="user")),
    OwnedTable("teammembers", ("teamid", "userid"), _of(teamid="team", userid="user")),
    OwnedTable("channelmembers", ("channelid", "userid"), _of(channelid="channel", userid="user")),
    OwnedTable(
        "channelmemberhistory",
        ("channelid", "userid", "jointime"),
        _of(channelid="channel", userid="user"),
    ),
    OwnedTable(
        "groupmembers", ("groupid", "userid"), _of(userid="user"), refers={"groupid": _GROUP}
    ),
    OwnedTable("groupteams", ("groupid", "teamid"), _of(teamid="team"), {"groupid": _GROUP}),
    OwnedTable(
        "groupchannels", ("groupid", "channelid"), _of(channelid="channel"), {"groupid": _GROUP}
    ),
    OwnedTable("retentionpoliciesteams", ("teamid",), _of(teamid="team"), {"policyid": _POLICY}),
    OwnedTable(
        "retentionpolicieschannels", ("channelid",), _of(channelid="channel"), {"policyid": _POLICY}
    ),
    OwnedTable(
        "accesscontrolpolicies", ("id",), _of(id="channel|team"), comes=_ALWAYS, since="10.6"
    ),
    OwnedTable("sidebarcategories", ("id",), _of(userid="user", teamid="team")),
    OwnedTable(
        "sidebarchannels",
        ("channelid", "userid"),  # in one category: whoever moved it since is right
        _of(channelid="channel", userid="user"),
        {"categoryid": _CATEGORY},
    ),
    OwnedTable(
        "preferences",  # the name is a post that is saved for later, a favourite channel
        ("userid", "category", "name"),
        _of(userid="user", name="post|channel|team"),
        comes=_DELETED,
    ),
    OwnedTable(
        "drafts",
        ("userid", "channelid", "rootid"),
        _of(userid="user", channelid="channel", rootid="post"),
        comes=_DELETED,
        since="7.0",
    ),
    OwnedTable(
        "channelbookmarks",
        ("id",),
        _of(channelid="channel"),
        {"fileinfoid": FILE},
        mark="deleteat",
        since="9.5",
    ),
    OwnedTable(
        "incomingwebhooks",
        ("id",),
        _of(channelid="channel", teamid="team", userid="user"),
        mark="deleteat",
    ),
    OwnedTable(
        "outgoingwebhooks",
        ("id",),
        _of(channelid="channel", teamid="team", creatorid="user"),
        mark="deleteat",
    ),
    OwnedTable("commands", ("id",), _of(teamid="team", creatorid="user"), mark="deleteat"),
    OwnedTable("status", ("userid",), _of(userid="user")),
    OwnedTable("usertermsofservice", ("userid",), _of(userid="user")),
    OwnedTable("productnoticeviewstate", ("userid", "noticeid"), _of(userid="user")),
    OwnedTable("recentsearches", ("userid", "searchpointer"), _of(userid="user"), since="7.0"),
    OwnedTable("audits", ("id",), _of(userid="user")),
    OwnedTable(
        "propertyvalues",
        ("id",),
        _of(targetid="user|post|channel|team"),
        {"fieldid": _FIELD},
        mark="deleteat",
        since="10.0",
    ),
)

_SIGN_IN = "people sign in again, and programs get new tokens"
_SERVER = "belongs to the whole server"
_WORK = "work of the server, and what it remembers for a while"
_SHARED = "a connection with another server, to be set up again"
_AGAIN = "it would be sent again"
#: Tables that are not brought back, and why.
LEFT_OUT = {
    **dict.fromkeys(
        (
            "sessions",
            "useraccesstokens",
            "oauthaccessdata",
            "oauthauthdata",
            "desktoptokens",
            "tokens",
        ),
        _SIGN_IN,
    ),
    **dict.fromkeys(
        (
            "accesscontrolpolicyhistory",
            "compliances",
            "configurationfiles",
            "configurations",
            "emoji",
            "licenses",
            "oauthapps",
            "outgoingoauthconnections",
            "propertyfields",
            "propertygroups",
            "retentionpolicies",
            "roles",
            "schemes",
            "systems",
            "termsofservice",
            "usergroups",
        ),
        _SERVER,
    ),
    **dict.fromkeys(
        (
            "clusterdiscovery",
            "commandwebhooks",
            "db_config_migrations",
            "db_lock",
            "db_migrations",
            "jobs",
            "linkmetadata",
            "notifyadmin",
            "pluginkeyvaluestore",
            "retentionidsfordeletion",
            "schema_migrations",
            "trueupreviewhistory",
            "uploadsessions",
        ),
        _WORK,
    ),
    **dict.fromkeys(
        (
            "remoteclusters",
            "sharedchannelattachments",
            "sharedchannelremotes",
            "sharedchannels",
            "sharedchannelusers",
        ),
        _SHARED,
    ),
    **dict.fromkeys(("persistentnotifications", "postreminders", "scheduledposts"), _AGAIN),
}
#: Tables that are left out, and whose rows people may miss: the output has their number.
MISSED = ("useraccesstokens", "postreminders", "scheduledposts", "sharedchannels")
#: Files of a thing below the data directory that have no row: pictures of users and teams.
PICTURES = {USER: "users/{id}/profile.png", TEAM: "teams/{id}/teamIcon.png"}


def reviewed(version: str) -> bool:
    """Tell whether the lists were reviewed for this version of Mattermost."""
    first, last = map(numbers, REVIEWED)
    return first <= numbers(version) and numbers(version)[: len(last)] <= last


def tables(version: str) -> list[OwnedTable]:
    """Return the tables that a Mattermost of this version has."""
    own = numbers(version)
    return [table for table in TABLES if numbers(table.since) <= own]
