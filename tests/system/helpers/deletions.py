"""Deletions as Mattermost does them, in SQL: softly, and for good; and all rows and files, to compare.

The statements follow the server's code of 10.x, in its order: DeleteChannel, PermanentDeleteChannel, DeletePost,
PermanentDeletePost, UpdateActive, PermanentDeleteUser, SoftDeleteTeam and PermanentDeleteTeam.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.omnibus import Omnibus

DATA = "/var/opt/gitlab/mattermost/data"
KEPT = "/root/kept"
NOW = 1900000000000  # milliseconds since 1970, of a deletion
# Derived by Mattermost's own jobs; nothing of a recovery.
_IGNORED = ("poststats", "posts_by_team_day", "file_stats", "sessions")


@dataclass(frozen=True)
class Everything:
    """Each row of each table, and each file with owner, mode and time."""

    rows: dict[str, list[str]]
    files: dict[str, str]


def look(gitlab: Omnibus) -> Everything:
    """Read every row as text by psql, and every file below the data directory."""
    tables = gitlab.sql(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    rows = _rows(gitlab, sorted(set(tables) - set(_IGNORED)))
    listed = gitlab.lab.run("find", DATA, "-printf", "%y %P\\t%u:%g %m %T@\\n").stdout
    files = {}
    for line in listed.splitlines():
        name, _, facts = line.partition("\t")
        kind, _, path = name.partition(" ")
        if kind == "f":
            content = gitlab.lab.path(f"{DATA}/{path}").read_bytes()
            files[path] = f"{facts} {hashlib.sha256(content).hexdigest()}"
        else:
            files[path] = " ".join(facts.split()[:2])
    return Everything(rows, files)


def keep(gitlab: Omnibus) -> None:
    """Keep all rows and files of now for ``reset``."""
    gitlab.lab.run("mkdir", "-p", KEPT)
    dump = gitlab.lab.run_bytes(
        *gitlab._as_superuser("pg_dump"), "-Fc", "--data-only", gitlab.database
    )
    gitlab.lab.path(f"{KEPT}/rows").write_bytes(dump.stdout)
    gitlab.lab.run("cp", "-a", DATA, f"{KEPT}/data")


def reset(gitlab: Omnibus) -> None:
    """Bring back what ``keep`` has kept; Mattermost keeps running."""
    tables = gitlab.sql(
        "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public'"
    )[0]
    gitlab.sql(f"TRUNCATE {tables}")
    rows = gitlab.lab.path(f"{KEPT}/rows").read_bytes()
    load = ("--data-only", "--exit-on-error", "-d", gitlab.database)
    gitlab.lab.run_bytes(*gitlab._as_superuser("pg_restore"), *load, input=rows)
    gitlab.lab.run("find", DATA, "-mindepth", "1", "-delete")
    gitlab.lab.run("cp", "-a", f"{KEPT}/data/.", DATA)


def _rows(gitlab: Omnibus, tables: Sequence[str]) -> dict[str, list[str]]:
    """All rows of tables; in base64, for a text may have what ends a line elsewhere."""
    listed = " UNION ALL ".join(
        f"SELECT '{table}' AS name, (SELECT coalesce(json_agg(t::text ORDER BY t::text), '[]')::text"
        f" FROM {table} t) AS rows"
        for table in tables
    )
    answer = gitlab.sql(
        f"SELECT name, translate(encode(convert_to(rows, 'UTF8'), 'base64'), E'\\n', '') FROM ({listed}) l"
    )
    found = (line.partition("|") for line in answer)
    return {name: list(json.loads(base64.b64decode(rows))) for name, _, rows in found}


def differences(before: Everything, after: Everything) -> dict[str, list[str]]:
    """What is different, by table and file: rows with - were before, with + are now."""
    found = {}
    for table in {*before.rows, *after.rows}:
        was, now = before.rows.get(table, []), after.rows.get(table, [])
        lines = [f"-{row}" for row in was if row not in now]
        lines += [f"+{row}" for row in now if row not in was]
        if lines:
            found[table] = lines
    for path in {*before.files, *after.files}:
        if before.files.get(path) != after.files.get(path):
            found[path] = [f"-{before.files.get(path)}", f"+{after.files.get(path)}"]
    return found


def archive_channel(gitlab: Omnibus, channel: str) -> None:
    """DeleteChannel, without the message that it writes."""
    gitlab.sql(
        f"UPDATE incomingwebhooks SET deleteat = {NOW - 3}, updateat = {NOW - 3}"
        f" WHERE channelid = '{channel}' AND deleteat = 0;"
        f"UPDATE outgoingwebhooks SET deleteat = {NOW - 3}, updateat = {NOW - 3}"
        f" WHERE channelid = '{channel}' AND deleteat = 0;"
        f"UPDATE channels SET deleteat = {NOW}, updateat = {NOW} WHERE id = '{channel}';"
        f"UPDATE publicchannels SET deleteat = {NOW} WHERE id = '{channel}'"
    )


def _posts_for_good(condition: str) -> str:
    return (
        f"DELETE FROM threads WHERE postid IN (SELECT id FROM posts WHERE {condition});"
        f"DELETE FROM threadmemberships WHERE postid IN (SELECT id FROM posts WHERE {condition});"
        f"DELETE FROM reactions WHERE postid IN (SELECT id FROM posts WHERE {condition});"
        f"DELETE FROM posts WHERE {condition};"
    )


def delete_channel(gitlab: Omnibus, channel: str) -> None:
    """PermanentDeleteChannel: uploads, their files and what people set for themselves stay."""
    gitlab.sql(
        _posts_for_good(f"channelid = '{channel}'")
        + "".join(
            f"DELETE FROM {table} WHERE channelid = '{channel}';"
            for table in ("channelmembers", "incomingwebhooks", "outgoingwebhooks")
        )
        + f"DELETE FROM channels WHERE id = '{channel}'; DELETE FROM publicchannels WHERE id = '{channel}'"
    )


def delete_channel_with_files(gitlab: Omnibus, channel: str) -> None:
    """PermanentDeleteChannel of a server that removes the uploads too, with their files."""
    where = f"postid IN (SELECT id FROM posts WHERE channelid = '{channel}')"
    remove_files(gitlab, where)
    gitlab.sql(f"DELETE FROM fileinfo WHERE {where}")
    delete_channel(gitlab, channel)


def remove_files(gitlab: Omnibus, condition: str) -> None:
    """RemoveFilesFromFileStore: the files; their directories stay."""
    for row in gitlab.sql(
        f"SELECT json_build_array(path, thumbnailpath, previewpath) FROM fileinfo WHERE {condition}"
    ):
        for path in filter(None, json.loads(row)):
            gitlab.lab.run("rm", "-f", "--", f"{DATA}/{path}")


def delete_post_softly(gitlab: Omnibus, post: str, by: str) -> None:
    """DeletePost, of the first message of a thread."""
    gitlab.sql(
        f"UPDATE posts SET deleteat = {NOW}, updateat = {NOW},"
        f" props = jsonb_set(props::jsonb, '{{deleteBy}}', '\"{by}\"')"
        f" WHERE id = '{post}' OR rootid = '{post}';"
        f"UPDATE threads SET threaddeleteat = {NOW} WHERE postid = '{post}';"
        f"UPDATE fileinfo SET deleteat = {NOW} FROM posts"
        f" WHERE fileinfo.postid = posts.id AND posts.rootid = '{post}';"
        f"UPDATE fileinfo SET deleteat = {NOW + 40} WHERE postid = '{post}';"
        f"DELETE FROM preferences WHERE category = 'flagged_post' AND name = '{post}';"
        f"DELETE FROM drafts WHERE rootid = '{post}'"
    )


def delete_post(gitlab: Omnibus, post: str) -> None:
    """PermanentDeletePost: the replies' reactions and uploads stay."""
    remove_files(gitlab, f"postid = '{post}'")
    gitlab.sql(
        f"DELETE FROM fileinfo WHERE postid = '{post}';"
        f"DELETE FROM threads WHERE postid = '{post}';"
        f"DELETE FROM threadmemberships WHERE postid = '{post}';"
        f"DELETE FROM reactions WHERE postid = '{post}';"
        f"DELETE FROM posts WHERE id = '{post}' OR rootid = '{post}';"
        f"DELETE FROM preferences WHERE category = 'flagged_post' AND name = '{post}';"
        f"DELETE FROM drafts WHERE rootid = '{post}'"
    )


def delete_reply(gitlab: Omnibus, reply: str) -> None:
    """PermanentDeletePost, of a reply."""
    root, user = gitlab.sql(f"SELECT rootid, userid FROM posts WHERE id = '{reply}'")[0].split("|")
    remove_files(gitlab, f"postid = '{reply}'")
    gitlab.sql(
        f"DELETE FROM fileinfo WHERE postid = '{reply}'; DELETE FROM reactions WHERE postid = '{reply}';"
        f"DELETE FROM posts WHERE id = '{reply}';" + _without_reply(root, user)
    )


def deactivate(gitlab: Omnibus, user: str) -> None:
    """UpdateActive; the sessions go too."""
    gitlab.sql(
        f"UPDATE users SET deleteat = {NOW}, updateat = {NOW} WHERE id = '{user}';"
        f"DELETE FROM sessions WHERE userid = '{user}'"
    )


def delete_user(gitlab: Omnibus, user: str) -> None:
    """PermanentDeleteUser: threads that the user began go with all replies."""
    mine = f"userid = '{user}'"
    tables = ("preferences", "channelmembers", "groupmembers")
    roots = f"rootid IN (SELECT id FROM posts WHERE {mine} AND rootid = '')"
    replied = gitlab.sql(f"SELECT DISTINCT rootid FROM posts WHERE {mine} AND rootid <> ''")
    reacted = gitlab.sql(f"SELECT postid FROM reactions WHERE {mine}")
    remove_files(gitlab, f"creatorid = '{user}'")
    gitlab.lab.run("rm", "-rf", f"{DATA}/users/{user}")
    gitlab.sql(
        f"DELETE FROM sessions WHERE {mine}; DELETE FROM useraccesstokens WHERE {mine};"
        f"DELETE FROM incomingwebhooks WHERE {mine}; DELETE FROM outgoingwebhooks WHERE creatorid = '{user}';"
        f"DELETE FROM commands WHERE creatorid = '{user}';"
        + "".join(f"DELETE FROM {table} WHERE {mine};" for table in tables)
        + f"DELETE FROM reactions WHERE postid IN (SELECT id FROM posts WHERE {mine} AND rootid <> '');"
        + f"DELETE FROM posts WHERE {mine} AND rootid <> '';"
        + "".join(_without_reply(root, user) for root in replied)
        + _posts_for_good(f"({mine} OR {roots})")
        + f"DELETE FROM reactions WHERE {mine};"
        + "".join(
            f"UPDATE posts SET updateat = {NOW}, hasreactions ="
            f" EXISTS (SELECT 1 FROM reactions WHERE postid = '{post}') WHERE id = '{post}';"
            for post in reacted
        )
        + f"DELETE FROM scheduledposts WHERE {mine}; DELETE FROM drafts WHERE {mine}; DELETE FROM bots WHERE {mine};"
        f"DELETE FROM fileinfo WHERE creatorid = '{user}'; DELETE FROM users WHERE id = '{user}';"
        f"DELETE FROM audits WHERE {mine}; DELETE FROM teammembers WHERE {mine}"
    )


def _without_reply(root: str, user: str) -> str:
    """What updateThreadAfterReplyDeletion does, after the last reply of a user."""
    return (
        f"UPDATE threads SET participants = participants - '{user}',"
        f" replycount = (SELECT count(*) FROM posts WHERE rootid = '{root}' AND deleteat = 0),"
        f" lastreplyat = (SELECT coalesce(max(createat), 0) FROM posts WHERE rootid = '{root}' AND deleteat = 0)"
        f" WHERE postid = '{root}' AND replycount > 0;"
    )


def archive_team(gitlab: Omnibus, team: str) -> None:
    """SoftDeleteTeam."""
    gitlab.sql(f"UPDATE teams SET deleteat = {NOW}, updateat = {NOW + 7} WHERE id = '{team}'")


def delete_team(gitlab: Omnibus, team: str) -> None:
    """PermanentDeleteTeam: GetTeamChannels has all of its channels."""
    for channel in gitlab.sql(f"SELECT id FROM channels WHERE teamid = '{team}'"):
        delete_channel(gitlab, channel)
    gitlab.sql(
        f"DELETE FROM teammembers WHERE teamid = '{team}'; DELETE FROM commands WHERE teamid = '{team}';"
        f"DELETE FROM teams WHERE id = '{team}'"
    )
