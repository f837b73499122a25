"""Mattermost's schema: the tables, columns and types of a real 5.37, changed where later versions differ visibly.

Since 6.0 texts that hold JSON are jsonb and db_migrations counts; since 7.x some columns are enumerations; since 9.5
there are materialized views. Mattermost's own migrations (their names are fixtures) say so. Of later tables those are
modelled whose rows belong to a channel, post or user.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import mattermost_roles
from .generation import version_tuple
from .pool import Connection

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
KEYS = {
    "bots": "userid",
    "channelmemberhistory": "channelid, userid, jointime",
    "channelmembers": "channelid, userid",
    "commandwebhooks": "id",
    "groupchannels": "groupid, channelid",
    "groupmembers": "groupid, userid",
    "groupteams": "groupid, teamid",
    "linkmetadata": "hash",
    "oauthaccessdata": "token",
    "oauthauthdata": "code",
    "pluginkeyvaluestore": "pluginid, pkey",
    "preferences": "userid, category, name",
    "productnoticeviewstate": "userid, noticeid",
    "reactions": "userid, postid, emojiname",
    "remoteclusters": "remoteid, name",
    "retentionpolicieschannels": "channelid",
    "retentionpoliciesteams": "teamid",
    "schema_migrations": "version",
    "sharedchannels": "channelid",
    "sidebarchannels": "channelid, userid, categoryid",
    "status": "userid",
    "systems": "name",
    "teammembers": "teamid, userid",
    "threadmemberships": "postid, userid",
    "threads": "postid",
    "tokens": "token",
    "usertermsofservice": "userid",
}
INDEXES = """
CREATE UNIQUE INDEX users_username_key ON users (username);
CREATE UNIQUE INDEX users_email_key ON users (email);
CREATE UNIQUE INDEX users_authdata_key ON users (authdata);
CREATE UNIQUE INDEX teams_name_key ON teams (name);
CREATE UNIQUE INDEX channels_name_teamid_key ON channels (name, teamid);
CREATE INDEX idx_users_update_at ON users (updateat);
CREATE INDEX idx_channelmembers_user_id ON channelmembers (userid);
CREATE INDEX idx_teammembers_user_id ON teammembers (userid);
CREATE INDEX idx_posts_create_at ON posts (createat);
CREATE INDEX idx_posts_user_id ON posts (userid);
CREATE INDEX idx_posts_root_id ON posts (rootid);
CREATE INDEX idx_posts_channel_id_delete_at_create_at ON posts (channelid, deleteat, createat);
CREATE INDEX idx_posts_message_txt ON posts USING gin (to_tsvector('english', message));
CREATE INDEX idx_posts_hashtags_txt ON posts USING gin (to_tsvector('english', hashtags));
CREATE INDEX idx_fileinfo_postid_at ON fileinfo (postid);
CREATE INDEX idx_fileinfo_name_txt ON fileinfo USING gin (to_tsvector('english', name));
CREATE INDEX idx_sessions_token ON sessions (token);
CREATE INDEX idx_sessions_user_id ON sessions (userid);
"""
JSON_COLUMNS = {
    "users": ("props", "notifyprops", "timezone"),
    "channelmembers": ("notifyprops",),
    "posts": ("props",),
    "sessions": ("props",),
    "threads": ("participants",),
    "jobs": ("data",),
    "linkmetadata": ("data",),
}
ENUMERATIONS = {
    ("channels", "type"): ("channel_type", "'P', 'G', 'O', 'D'"),
    ("teams", "type"): ("team_type", "'I', 'O'"),
    ("uploadsessions", "type"): ("upload_session_type", "'attachment', 'import'"),
}
# Version -> what its migrations add to a new database; the numbers of these are in the fixtures' names.
ADDED = {
    "6.5": "ALTER TABLE channels ADD COLUMN lastrootpostat bigint DEFAULT 0;",  # 76
    # 83, 84, 85, 89
    "7.0": """
ALTER TABLE threads ADD COLUMN threaddeleteat bigint;
CREATE TABLE recentsearches (userid char(26), searchpointer int, query jsonb, createat bigint NOT NULL,
  PRIMARY KEY (userid, searchpointer));
ALTER TABLE fileinfo ADD COLUMN archived boolean NOT NULL DEFAULT false;
ALTER TABLE reactions ADD COLUMN channelid varchar(26) NOT NULL DEFAULT '';
""",
    # 91, 92, 95, 96, 97, 98, 99, 100
    "7.9": """
ALTER TABLE posts DROP COLUMN parentid;
ALTER TABLE commandwebhooks DROP COLUMN parentid;
CREATE TABLE postreminders (postid varchar(26) NOT NULL, userid varchar(26) NOT NULL, targettime bigint,
  PRIMARY KEY (postid, userid));
ALTER TABLE teammembers ADD COLUMN createat bigint DEFAULT 0;
ALTER TABLE threads ADD COLUMN threadteamid varchar(26);
CREATE TABLE postspriority (postid varchar(26) PRIMARY KEY, channelid varchar(26) NOT NULL,
  priority varchar(32) NOT NULL, requestedack boolean, persistentnotifications boolean);
ALTER TABLE channelmembers ADD COLUMN urgentmentioncount bigint;
CREATE TABLE postacknowledgements (postid varchar(26) NOT NULL, userid varchar(26) NOT NULL, acknowledgedat bigint,
  PRIMARY KEY (postid, userid));
CREATE TABLE drafts (createat bigint, updateat bigint, deleteat bigint, userid varchar(26), channelid varchar(26),
  rootid varchar(26) DEFAULT '', message varchar(65535), props varchar(8000), fileids varchar(300), priority text,
  PRIMARY KEY (userid, channelid, rootid));
""",
    # 106, 109
    "9.1": """
ALTER TABLE fileinfo ADD COLUMN channelid varchar(26);
CREATE TABLE persistentnotifications (postid varchar(26) PRIMARY KEY, createat bigint, lastsentat bigint,
  deleteat bigint, sentcount smallint);
""",
    "9.5": "ALTER TABLE users ADD COLUMN lastlogin bigint NOT NULL DEFAULT 0;",  # 115
    # 120, 122
    "9.11": """
ALTER TABLE preferences ALTER COLUMN value TYPE text;
CREATE TYPE channel_bookmark_type AS ENUM ('link', 'file');
CREATE TABLE channelbookmarks (id varchar(26) PRIMARY KEY, ownerid varchar(26) NOT NULL,
  channelid varchar(26) NOT NULL, fileinfoid varchar(26) DEFAULT NULL, createat bigint DEFAULT 0,
  updateat bigint DEFAULT 0, deleteat bigint DEFAULT 0, displayname text DEFAULT '', sortorder integer DEFAULT 0,
  linkurl text DEFAULT NULL, imageurl text DEFAULT NULL, emoji varchar(64) DEFAULT NULL,
  type channel_bookmark_type DEFAULT 'link', originalid varchar(26) DEFAULT NULL,
  parentid varchar(26) DEFAULT NULL);
""",
    # 128, 129
    "10.6": """
CREATE TABLE scheduledposts (id varchar(26) PRIMARY KEY, createat bigint, updateat bigint, userid varchar(26) NOT NULL,
  channelid varchar(26) NOT NULL, rootid varchar(26), message varchar(65535), props varchar(8000),
  fileids varchar(300), priority text, scheduledat bigint NOT NULL, processedat bigint, errorcode varchar(200));
CREATE TABLE propertygroups (id varchar(26) PRIMARY KEY, name varchar(64) NOT NULL UNIQUE);
CREATE TYPE property_field_type AS ENUM ('text', 'select', 'multiselect', 'date', 'user', 'multiuser');
CREATE TABLE propertyfields (id varchar(26) PRIMARY KEY, groupid varchar(26) NOT NULL, name varchar(255) NOT NULL,
  type property_field_type, attrs jsonb, targetid varchar(255), targettype varchar(255), createat bigint NOT NULL,
  updateat bigint NOT NULL, deleteat bigint NOT NULL);
CREATE TABLE propertyvalues (id varchar(26) PRIMARY KEY, targetid varchar(255) NOT NULL,
  targettype varchar(255) NOT NULL, groupid varchar(26) NOT NULL, fieldid varchar(26) NOT NULL, value jsonb NOT NULL,
  createat bigint NOT NULL, updateat bigint NOT NULL, deleteat bigint NOT NULL);
""",
    # 133, 134
    "10.9": """
ALTER TABLE channels ADD COLUMN bannerinfo jsonb;
CREATE TABLE accesscontrolpolicies (id varchar(26) PRIMARY KEY, name varchar(128) NOT NULL, type varchar(128) NOT NULL,
  active boolean NOT NULL, createat bigint NOT NULL, revision integer NOT NULL, version varchar(8) NOT NULL,
  data jsonb, props jsonb);
CREATE TABLE accesscontrolpolicyhistory (id varchar(26), name varchar(128) NOT NULL, type varchar(128) NOT NULL,
  createat bigint NOT NULL, revision integer NOT NULL, version varchar(8) NOT NULL, data jsonb, props jsonb,
  PRIMARY KEY (id, revision));
""",
    "10.11": "ALTER TABLE channels ADD COLUMN defaultcategoryname varchar(64) DEFAULT '';",  # 138
}
VIEWS = """
CREATE MATERIALIZED VIEW poststats AS SELECT userid, to_timestamp(createat / 1000)::date AS day,
  count(*) AS numposts, max(createat) AS lastpostdate FROM posts GROUP BY userid, day;
CREATE MATERIALIZED VIEW posts_by_team_day AS SELECT to_timestamp(p.createat / 1000)::date AS day,
  count(*) AS num, c.teamid FROM posts p JOIN channels c ON p.channelid = c.id GROUP BY 1, c.teamid;
CREATE MATERIALIZED VIEW file_stats AS SELECT count(*) AS num, coalesce(sum(size), 0) AS usage
  FROM fileinfo WHERE deleteat = 0;
CREATE UNIQUE INDEX idx_poststats_userid ON poststats (userid, day);
"""


# Tables that earlier versions lack (store/sqlstore/upgrade.go).
GONE = ("schema_migrations",)  # a new database since 6.0 has db_migrations in its place
LATER = {"roles": mattermost_roles.SINCE, "schemes": mattermost_roles.SINCE, "bots": (5, 10)}


class TooNew(Exception):
    """The database is of a later version, and the server ends."""


def statements(version: str) -> str:
    """SQL that makes an empty database one of this Mattermost version."""
    numbers = version_tuple(version)
    tables: dict[str, list[str]] = json.loads((FIXTURES / "schema-5.37.json").read_text())
    parts = []
    if numbers >= (7, 0):
        parts += [
            f"CREATE TYPE {name} AS ENUM ({values});" for name, values in ENUMERATIONS.values()
        ]
    parts += [
        table_statement(table, columns, numbers)
        for table, columns in tables.items()
        if numbers >= LATER.get(table, ()) and (numbers < (6, 0) or table not in GONE)
    ]
    parts.append(INDEXES)
    if numbers >= (6, 0):
        parts.append(
            "CREATE TABLE db_migrations (version bigint PRIMARY KEY, name varchar NOT NULL);"
        )
        parts.append("CREATE TABLE db_lock (id varchar(64) PRIMARY KEY, expireat bigint);")
    parts += [text for since, text in ADDED.items() if numbers >= version_tuple(since)]
    if numbers >= (9, 5):
        parts.append(VIEWS)
    return "\n".join(parts)


def table_statement(table: str, columns: list[str], numbers: tuple[int, ...]) -> str:
    """SQL that makes a table where it is missing."""
    listed = ", ".join(column(table, text, numbers) for text in columns)
    key = KEYS.get(table, "id")
    return f"CREATE TABLE IF NOT EXISTS {table} ({listed}, PRIMARY KEY ({key}));"


def column(table: str, text: str, numbers: tuple[int, ...]) -> str:
    """One column's definition in this version."""
    name, _, kind = text.partition(" ")
    if numbers >= (6, 0) and name in JSON_COLUMNS.get(table, ()):
        kind = "jsonb"
    if numbers >= (7, 0) and (table, name) in ENUMERATIONS:
        kind = ENUMERATIONS[table, name][0]
    return f'"{name}" {kind}'


def migrations(version: str) -> list[tuple[int, str]]:
    """The rows of db_migrations that this version has (none before 6.0).

    Rows since a patch release are of that minor version alone: later ones give their numbers to others.
    """
    listed: dict[str, list[list[Any]]] = json.loads((FIXTURES / "migrations.json").read_text())
    numbers = version_tuple(version)
    return [
        (row[0], row[1])
        for since, rows in listed.items()
        if version_tuple(since) <= numbers
        and (since.count(".") < 2 or version_tuple(since)[:2] == numbers[:2])
        for row in rows
    ]


def refuse_later(connection: Connection, version: str) -> None:
    """From 6.0 on by the count of migrations, as morph does; before by the major number of the schema's version.

    Morph compares with the number of its scripts, two for each migration: a database of a later version passes.
    """
    if version_tuple(version) >= (6, 0):
        table = connection.execute("SELECT to_regclass('db_migrations') AS name").fetchone()
        if table is None or table["name"] is None:
            return
        row = connection.execute("SELECT count(*) AS applied FROM db_migrations").fetchone()
        if row is not None and row["applied"] > 2 * len(migrations(version)):
            raise TooNew(
                "migration mismatch, there are more migrations applied than those were specified in source"
            )
        return
    row = connection.execute("SELECT value FROM systems WHERE name = 'Version'").fetchone()
    if row is not None and version_tuple(row["value"])[0] > version_tuple(version)[0]:
        raise TooNew(f"Database schema version {row['value']} is not supported by {version}")


def add_tables(connection: Connection, version: str) -> None:
    """Make the tables that an earlier version did not have."""
    tables: dict[str, list[str]] = json.loads((FIXTURES / "schema-5.37.json").read_text())
    for table, since in LATER.items():
        if version_tuple(version) >= since:
            connection.execute(table_statement(table, tables[table], version_tuple(version)))


def prepare(connection: Connection, version: str, identifier: str) -> None:
    """Make the schema in an empty database; in a filled one, note the version that runs now; raises TooNew."""
    found = connection.execute("SELECT to_regclass('systems') AS name").fetchone()
    if found is None or found["name"] is None:
        connection.execute(statements(version))
        connection.execute("INSERT INTO systems VALUES ('DiagnosticId', %s)", [identifier])
    refuse_later(connection, version)
    add_tables(connection, version)
    if version_tuple(version) < (6, 0):  # each start made what was missing
        connection.execute(INDEXES.replace("INDEX ", "INDEX IF NOT EXISTS "))
    mattermost_roles.migrate(connection, version)
    connection.execute(
        "INSERT INTO systems VALUES ('Version', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [version],
    )
    for row in migrations(version):
        connection.execute("INSERT INTO db_migrations VALUES (%s, %s) ON CONFLICT DO NOTHING", row)
