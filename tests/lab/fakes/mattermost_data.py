"""What the server keeps in its database: rows of Mattermost's tables."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any

from .pool import Connection

ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"
SESSION_DAYS = 30
Row = dict[str, Any]


def new_id() -> str:
    """An id as Mattermost makes them: 26 characters."""
    return "".join(secrets.choice(ALPHABET) for _ in range(26))


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def insert(connection: Connection, table: str, row: Row) -> Row:
    """Insert a row and return it."""
    columns = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(row.values()))
    return row


def select(connection: Connection, table: str, **where: Any) -> list[Row]:
    """Rows whose columns have these values."""
    condition = " AND ".join(f'"{name}" = %s' for name in where)
    return connection.execute(
        f"SELECT * FROM {table} WHERE {condition}", list(where.values())
    ).fetchall()


def first(connection: Connection, table: str, **where: Any) -> Row | None:
    """The first such row."""
    rows = select(connection, table, **where)
    return rows[0] if rows else None


def times() -> Row:
    """The three times that most tables have."""
    moment = now()
    return {"createat": moment, "updateat": moment, "deleteat": 0}


def create_user(
    connection: Connection,
    username: str,
    email: str,
    name: str,
    gitlab_id: str | None = None,
    password: str = "",
) -> Row:
    """A new account: GitLab's (its user id as text), or a local one with a password; the first account rules."""
    anyone = connection.execute("SELECT 1 AS found FROM users LIMIT 1").fetchone()
    given, _, family = name.partition(" ")
    return insert(
        connection,
        "users",
        {
            "id": new_id(),
            **times(),
            "username": username,
            "password": hashed(password) if password else "",
            "authdata": gitlab_id,
            "authservice": "" if gitlab_id is None else "gitlab",
            "email": email,
            "emailverified": True,
            "nickname": "",
            "firstname": given,
            "lastname": family,
            "position": "",
            "roles": "system_user" if anyone else "system_admin system_user",
            "allowmarketing": False,
            "props": "{}",
            "notifyprops": json.dumps({"channel": "true", "desktop": "mention", "email": "true"}),
            "lastpasswordupdate": now(),
            "lastpictureupdate": 0,
            "failedattempts": 0,
            "locale": "en",
            "timezone": json.dumps({"automaticTimezone": "", "useAutomaticTimezone": "true"}),
            "mfaactive": False,
            "mfasecret": "",
        },
    )


def hashed(password: str) -> str:
    """A password as recent servers keep it (with fewer rounds than they take)."""
    salt = secrets.token_bytes(16)
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1000)
    encoded = [base64.b64encode(part).decode().rstrip("=") for part in (salt, key)]
    return "$pbkdf2$f=SHA256,w=1000,l=32$" + "$".join(encoded)


def password_fits(password: str, stored: str) -> bool:
    """Whether a password is the one of such a text; an empty text fits none."""
    if not stored:
        return False
    salt, key = (base64.b64decode(part + "==") for part in stored.split("$")[-2:])
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1000) == key


def create_session(connection: Connection, user: Row) -> Row:
    """A session; its token is the browser's cookie."""
    moment = now()
    return insert(
        connection,
        "sessions",
        {
            "id": new_id(),
            "token": new_id(),
            "createat": moment,
            "expiresat": moment + SESSION_DAYS * 24 * 3600 * 1000,
            "lastactivityat": moment,
            "userid": user["id"],
            "deviceid": "",
            "roles": user["roles"],
            "isoauth": False,
            "expirednotify": False,
            "props": json.dumps({"csrf": new_id(), "browser": "lab"}),
        },
    )


def session_user(connection: Connection, token: str) -> Row | None:
    """The user of a session that has not expired, with the roles of the session; 0 is no end (IsExpired)."""
    session = first(connection, "sessions", token=token) if token else None
    if session is None or 0 < session["expiresat"] < now():
        return None
    user = first(connection, "users", id=session["userid"])
    return user and {**user, "roles": session["roles"]}


def create_team(connection: Connection, creator: Row, name: str, display_name: str) -> Row:
    """A team that everybody may join, with its two usual channels and its creator as administrator."""
    team = insert(
        connection,
        "teams",
        {
            "id": new_id(),
            **times(),
            "displayname": display_name,
            "name": name,
            "description": "",
            "email": creator["email"],
            "type": "O",
            "companyname": "",
            "alloweddomains": "",
            "inviteid": new_id(),
            "allowopeninvite": True,
            "lastteamiconupdate": 0,
            "groupconstrained": False,
        },
    )
    for channel, title in (("town-square", "Town Square"), ("off-topic", "Off-Topic")):
        create_channel(connection, creator, team["id"], channel, title)
    join_team(connection, team["id"], creator["id"], admin=True)
    return team


def join_team(connection: Connection, team: str, user: str, admin: bool = False) -> Row:
    """Make a user a member of a team and of its channels."""
    schemes = {"schemeuser": True, "schemeadmin": admin, "schemeguest": False}
    member = insert(
        connection,
        "teammembers",
        {"teamid": team, "userid": user, "roles": "", "deleteat": 0, **schemes},
    )
    for channel in select(connection, "channels", teamid=team):
        if channel["type"] == "O":
            join_channel(connection, channel["id"], user)
    return member


def create_channel(
    connection: Connection, creator: Row, team: str, name: str, display_name: str
) -> Row:
    """A public channel."""
    row = {
        "teamid": team,
        "type": "O",
        "displayname": display_name,
        "name": name,
        "header": "",
        "purpose": "",
    }
    counts = {"lastpostat": 0, "totalmsgcount": 0, "extraupdateat": 0, "totalmsgcountroot": 0}
    channel = insert(
        connection,
        "channels",
        {"id": new_id(), **times(), **row, **counts, "creatorid": creator["id"]},
    )
    insert(
        connection,
        "publicchannels",
        {
            "id": channel["id"],
            "deleteat": 0,
            **{name: row[name] for name in ("teamid", "displayname", "name", "header", "purpose")},
        },
    )
    return channel


def join_channel(connection: Connection, channel: str, user: str) -> Row:
    """Make a user a member of a channel."""
    counts = dict.fromkeys(
        ("lastviewedat", "msgcount", "mentioncount", "mentioncountroot", "msgcountroot"), 0
    )
    schemes = {"schemeuser": True, "schemeadmin": False, "schemeguest": False}
    notify = json.dumps({"desktop": "default", "email": "default", "mark_unread": "all"})
    insert(
        connection,
        "channelmemberhistory",
        {"channelid": channel, "userid": user, "jointime": now()},
    )
    keys = {
        "channelid": channel,
        "userid": user,
        "roles": "",
        "notifyprops": notify,
        "lastupdateat": now(),
    }
    return insert(connection, "channelmembers", {**keys, **counts, **schemes})


def create_post(
    connection: Connection, user: str, channel: str, message: str, files: list[str], root: str = ""
) -> Row:
    """A message, or a reply to ``root``, with uploads of the same user; counted as Mattermost does."""
    post = insert(
        connection,
        "posts",
        {
            "id": new_id(),
            **times(),
            "editat": 0,
            "ispinned": False,
            "userid": user,
            "channelid": channel,
            "rootid": root,
            "originalid": "",
            "message": message,
            "type": "",
            "props": "{}",
            "hashtags": " ".join(word for word in message.split() if word.startswith("#")),
            "filenames": "[]",
            "fileids": json.dumps(files),
            "hasreactions": False,
        },
    )
    connection.execute(
        "UPDATE channels SET lastpostat = %s, totalmsgcount = totalmsgcount + 1,"
        " totalmsgcountroot = totalmsgcountroot + %s WHERE id = %s",
        [post["createat"], 0 if root else 1, channel],
    )
    if root:
        count_reply(connection, post, root)
    elif has_column(connection, "channels", "lastrootpostat"):
        connection.execute(
            "UPDATE channels SET lastrootpostat = %s WHERE id = %s", [post["createat"], channel]
        )
    connection.execute("UPDATE fileinfo SET postid = %s WHERE id = ANY(%s)", [post["id"], files])
    if has_column(connection, "fileinfo", "channelid"):
        connection.execute(
            "UPDATE fileinfo SET channelid = %s WHERE id = ANY(%s)", [channel, files]
        )
    return post


def has_column(connection: Connection, table: str, column: str) -> bool:
    """Whether this version's table has the column."""
    query = "SELECT 1 FROM information_schema.columns WHERE table_name = %s AND column_name = %s"
    return connection.execute(query, [table, column]).fetchone() is not None


def count_reply(connection: Connection, post: Row, root: str) -> None:
    """Count a reply in its thread, which is made where it is the first (post_store.go, updateThreadsFromPosts)."""
    thread = first(connection, "threads", postid=root)
    kept = thread["participants"] if thread else None
    people = json.loads(kept or "[]") if isinstance(kept, str) else list(kept or [])
    people = [*(person for person in people if person != post["userid"]), post["userid"]]
    connection.execute(
        "INSERT INTO threads (postid, channelid, replycount, lastreplyat, participants)"
        " VALUES (%s, %s, 1, %s, %s) ON CONFLICT (postid) DO UPDATE SET participants = excluded.participants,"
        " replycount = threads.replycount + 1, lastreplyat = excluded.lastreplyat",
        [root, post["channelid"], post["createat"], json.dumps(people)],
    )
    connection.execute(
        "INSERT INTO threadmemberships (postid, userid, following, lastviewed, lastupdated, unreadmentions)"
        " VALUES (%s, %s, true, %s, %s, 0) ON CONFLICT DO NOTHING",
        [root, post["userid"], post["createat"], post["createat"]],
    )
    connection.execute("UPDATE posts SET updateat = %s WHERE id = %s", [post["createat"], root])
