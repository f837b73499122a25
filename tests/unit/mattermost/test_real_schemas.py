"""The product's lists and statements, held against the schemas of real servers (make schema)."""

from __future__ import annotations

import pytest

from gitlab_mm_backup.mattermost.owned_rows import (
    HOMES,
    LEFT_OUT,
    TABLES,
    OwnedTable,
    reviewed,
    tables,
)
from gitlab_mm_backup.rehearsal import search
from gitlab_mm_backup.rehearsal.integrity import REFERENCES
from gitlab_mm_backup.version import numbers
from tests.lab import real_schema

SCHEMAS = {version: real_schema.columns(version) for version in real_schema.versions()}
ID = ("varchar(26)", "char(26)")
# Columns by which rows are found or told apart that are no ids.
OTHERS = {
    "channelmemberhistory.jointime": "bigint",
    "reactions.emojiname": "varchar(64)",
    "productnoticeviewstate.noticeid": "varchar(26)",
    "preferences.category": "varchar(32)",
    "preferences.name": "varchar(32)",
    "recentsearches.searchpointer": "integer",
    "sidebarcategories.id": "varchar(128)",
    "sidebarchannels.categoryid": "varchar(128)",
    "propertyvalues.targetid": "varchar(255)",
}
# Columns that came later than their tables; a recovery does without them.
LATER = {
    "5.37": {"threads.threaddeleteat", "fileinfo.channelid"},
}
_ROW_HAS_IT = "the row belongs to a post, which has it"
_ELSEWHERE = "of another server"
# Columns with an id by which no row is found, and why.
NOT_TAKEN = {
    "audits.sessionid": "sessions are not brought back",
    "bots.ownerid": "a user or a plugin, which may be gone",
    "channelbookmarks.originalid": "a former version of the bookmark",
    "channelbookmarks.ownerid": "who made it may be gone",
    "channelbookmarks.parentid": "of no use yet",
    "channels.creatorid": "who made it may be gone",
    "channels.schemeid": "schemes belong to the whole server",
    "commands.pluginid": "a plugin",
    "commands.token": "no id",
    "fileinfo.remoteid": _ELSEWHERE,
    "outgoingwebhooks.token": "no id",
    "postacknowledgements.channelid": _ROW_HAS_IT,
    "postacknowledgements.remoteid": _ELSEWHERE,
    "posts.parentid": "of no use; gone from 7.9 on",
    "posts.remoteid": _ELSEWHERE,
    "posts.type": "no id",
    "postspriority.channelid": _ROW_HAS_IT,
    "propertyvalues.groupid": "belongs to the field",
    "publicchannels.teamid": "the row belongs to a channel, which has it",
    "reactions.channelid": _ROW_HAS_IT,
    "reactions.remoteid": _ELSEWHERE,
    "teams.inviteid": "no id",
    "teams.schemeid": "schemes belong to the whole server",
    "threads.threadteamid": "the row belongs to a channel, which has it",
    "users.remoteid": _ELSEWHERE,
    "usertermsofservice.termsofserviceid": "terms belong to the whole server",
}
# What statements outside of the lists name.
USED = {
    "systems": {"name": "varchar", "value": "varchar"},
    "roles": {"id": "varchar", "name": "varchar", "permissions": "text"},
    "users": {
        **dict.fromkeys(("id", "username", "email", "roles", "authservice", "authdata"), "varchar"),
        **{"password": "varchar", "createat": "bigint", "updateat": "bigint", "deleteat": "bigint"},
    },
    "sessions": {
        **dict.fromkeys(("id", "token", "userid", "deviceid", "roles"), "varchar"),
        **dict.fromkeys(("createat", "expiresat", "lastactivityat"), "bigint"),
        **{"isoauth": "boolean", "expirednotify": "boolean", "props": "jsonb"},
    },
    "threads": {"replycount": "bigint", "lastreplyat": "bigint", "participants": "jsonb"},
    "channels": dict.fromkeys(("totalmsgcount", "totalmsgcountroot", "lastpostat"), "bigint"),
    "posts": dict.fromkeys(("createat", "deleteat", "editat"), "bigint"),
    "fileinfo": {
        **dict.fromkeys(("path", "thumbnailpath", "previewpath"), "varchar"),
        **dict.fromkeys(("size", "createat", "deleteat"), "bigint"),
    },
}
# 5.37 has JSON in text, and longer permissions there.
TEXT = ("varchar", "text")


def named(table: OwnedTable) -> set[str]:
    return {*table.key, *table.belongs, *table.refers, *([table.mark] if table.mark else [])}


@pytest.mark.parametrize("version", SCHEMAS)
def test_each_table_of_the_list_is_there_with_its_columns(version: str) -> None:
    schema = SCHEMAS[version]
    for table in tables(f"{version}.0"):
        assert table.name in schema, table.name
        lacking = {f"{table.name}.{column}" for column in named(table) - set(schema[table.name])}
        assert lacking <= LATER.get(version, set())
        for column in named(table) & set(schema[table.name]):
            wanted = ("bigint",) if column == table.mark else ID
            other = OTHERS.get(f"{table.name}.{column}")
            assert schema[table.name][column] in ((other,) if other else wanted), (
                table.name,
                column,
            )


@pytest.mark.parametrize("version", SCHEMAS)
def test_each_table_of_a_reviewed_version_is_in_one_of_the_lists(version: str) -> None:
    unknown = set(SCHEMAS[version]) - {table.name for table in TABLES} - set(LEFT_OUT)
    if reviewed(f"{version}.0"):
        assert unknown == set()
    else:
        assert all(name.startswith("contentflagging") for name in unknown), unknown


def test_each_id_is_taken_or_named() -> None:
    found = {
        f"{table.name}.{column}"
        for schema in SCHEMAS.values()
        for table in TABLES
        for column, type_ in schema.get(table.name, {}).items()
        if (type_ in ID or column.endswith("id")) and column not in named(table)
    }
    assert found == set(NOT_TAKEN)


@pytest.mark.parametrize("version", SCHEMAS)
def test_homes_and_references_are_there(version: str) -> None:
    schema = SCHEMAS[version]
    later = {"propertyfields"} if numbers(version) < (10,) else set()
    for table in set(HOMES.values()) - later:
        assert schema[table]["id"] in (*ID, "varchar(128)"), table
    for reference in REFERENCES:
        assert schema[reference.table][reference.column] in ID, reference
        assert schema[reference.target]["id"] in ID, reference


@pytest.mark.parametrize("version", SCHEMAS)
def test_statements_name_columns_that_are_there(version: str) -> None:
    schema = SCHEMAS[version]
    assert set(search.UPLOAD) - set(schema["fileinfo"]) <= {"channelid"}
    assert set(search.MESSAGE) <= set(schema["posts"])
    for table, columns in USED.items():
        for column, wanted in columns.items():
            type_ = schema[table][column].partition("(")[0]
            texts = wanted in TEXT or (wanted == "jsonb" and version == "5.37")
            assert type_ in (TEXT if texts else (wanted,)), (table, column, type_)


@pytest.mark.parametrize("version", list(SCHEMAS)[1:])
def test_a_session_by_hand_has_all_that_must_be_there(version: str) -> None:
    """Opening a set inserts a row of these columns; no other may be NOT NULL."""
    text = (real_schema.FIXTURES / f"schema-{version}.sql").read_text()
    (body,) = (body for table, body in real_schema.TABLE.findall(text) if table == "sessions")
    must = {line.split()[0] for line in body.splitlines() if line.rstrip(",").endswith("NOT NULL")}
    assert must <= set(USED["sessions"])
