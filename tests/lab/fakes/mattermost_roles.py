"""Roles and their permissions, since 4.9 in a table (before, the program had them).

Names and defaults as in model/role.go, of those that every version since 5.12 has; an administrator's role has all.
"""

from __future__ import annotations

from typing import Any

from . import mattermost_data as data
from .generation import version_tuple
from .pool import Connection

SINCE = (4, 9)
DONE = "AdvancedPermissionsMigrationComplete"
DEFAULTS = {
    "channel_guest": "read_channel add_reaction remove_reaction upload_file edit_post create_post use_channel_mentions",
    "channel_user": "read_channel add_reaction remove_reaction manage_public_channel_members upload_file"
    " get_public_link create_post use_channel_mentions manage_public_channel_properties delete_public_channel"
    " manage_private_channel_properties delete_private_channel manage_private_channel_members delete_post edit_post",
    "channel_admin": "manage_channel_roles use_group_mentions",
    "team_guest": "view_team",
    "team_user": "list_team_channels join_public_channels read_public_channel view_team create_public_channel"
    " create_private_channel invite_user add_user_to_team",
    "team_admin": "remove_user_from_team manage_team import_team manage_team_roles manage_channel_roles"
    " manage_incoming_webhooks manage_outgoing_webhooks manage_slash_commands delete_post delete_others_posts",
    "system_guest": "create_direct_channel create_group_channel",
    "system_user": "list_public_teams join_public_teams create_direct_channel create_group_channel view_members"
    " create_team",
    "system_post_all": "create_post use_channel_mentions",
}
ADMIN = "system_admin"


def migrate(connection: Connection, version: str) -> None:
    """Fill the table at the first start with it, and never again."""
    if version_tuple(version) < SINCE or data.first(connection, "systems", name=DONE) is not None:
        return
    everything = dict.fromkeys(word for text in DEFAULTS.values() for word in text.split())
    whole = " ".join([*everything, "manage_system", "edit_other_users"])
    for name, permissions in {**DEFAULTS, ADMIN: whole}.items():
        row = {
            "id": data.new_id(),
            "name": name,
            "displayname": f"authentication.roles.{name}.name",
            "description": f"authentication.roles.{name}.description",
            **data.times(),
            "permissions": f" {permissions} ",
            "schememanaged": name != "system_post_all",
            "builtin": True,
        }
        data.insert(connection, "roles", row)
    data.insert(connection, "systems", {"name": DONE, "value": "true"})


def grants(
    connection: Connection, version: str, user: dict[str, Any], permission: str, **place: str
) -> bool:
    """Whether a user has a permission by the roles in the channel, the team and the system."""
    if version_tuple(version) < SINCE:
        return True
    roles = user["roles"].split()
    channel = (
        data.first(connection, "channels", id=place["channel"]) if "channel" in place else None
    )
    team = channel["teamid"] if channel else place.get("team", "")
    for kind, table, where in (
        ("channel", "channelmembers", {"channelid": place.get("channel", "")}),
        ("team", "teammembers", {"teamid": team}),
    ):
        member = data.first(connection, table, userid=user["id"], **where)
        if member is not None:
            roles += [
                f"{kind}_{who}" for who in ("guest", "user", "admin") if member[f"scheme{who}"]
            ]
    rows = connection.execute(
        "SELECT permissions FROM roles WHERE name = ANY(%s) AND deleteat = 0", [roles]
    )
    return any(permission in row["permissions"].split() for row in rows)
