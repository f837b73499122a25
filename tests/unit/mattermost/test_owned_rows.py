"""The reviewed list, held against the tables of a real server and those that the stand-in adds."""

from __future__ import annotations

import json
import re

import pytest

from gitlab_mm_backup.mattermost import owned_rows
from gitlab_mm_backup.mattermost.owned_rows import HOMES, LEFT_OUT, MISSED, TABLES
from tests.lab.fakes import mattermost_schema

SCHEMA: dict[str, list[str]] = json.loads(
    (mattermost_schema.FIXTURES / "schema-5.37.json").read_text()
)
LATER = re.findall(r"CREATE TABLE (\w+)", "".join(mattermost_schema.ADDED.values()))


def test_each_table_of_a_real_server_is_in_one_of_the_lists() -> None:
    ours = [table.name for table in TABLES]
    assert len(set(ours)) == len(ours) and not set(ours) & set(LEFT_OUT)
    assert {*SCHEMA, *LATER} - {*ours, *LEFT_OUT} == set()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_column_is_one_of_a_real_server(table: owned_rows.OwnedTable) -> None:
    if table.name in SCHEMA:
        real = {column.split()[0] for column in SCHEMA[table.name]}
        later = set(re.findall(r"ADD COLUMN (\w+)", "".join(mattermost_schema.ADDED.values())))
        named = {*table.key, *table.belongs, *table.refers, *([table.mark] if table.mark else [])}
        assert named <= real | later
        key = mattermost_schema.KEYS.get(table.name, "id").split(", ")
        if table.name != "sidebarchannels":  # a channel is in one category
            assert list(table.key) == key or set(table.key) == set(key)


def test_a_table_comes_after_what_its_rows_must_refer_to() -> None:
    places = {table.name: place for place, table in enumerate(TABLES)}
    for table in TABLES:
        for kind in table.needed.values():
            if HOMES[kind] in places:
                assert places[HOMES[kind]] <= places[table.name], table.name
    assert set(MISSED) <= set(LEFT_OUT)


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("5.36.2", False),
        ("5.37.0", True),
        ("10.11.20", True),
        ("10.12.0", False),
        ("11.0.1", False),
        ("", False),
    ],
)
def test_only_reviewed_versions(version: str, known: bool) -> None:
    assert owned_rows.reviewed(version) is known


def test_a_version_has_the_tables_of_its_time() -> None:
    old, new = ({table.name for table in owned_rows.tables(v)} for v in ("5.37.0", "10.11.4"))
    assert {"drafts", "channelbookmarks", "propertyvalues"} & old == set()
    assert {"posts", "threads", "reactions"} <= old < new
