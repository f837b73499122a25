"""The database."""

from __future__ import annotations

import re

from gitlab_mm_backup.mattermost import owned_rows
from tests.conformance.subject import Subject
from tests.lab import real_schema
from tests.lab.errors import wait_until
from tests.lab.fakes import mattermost_schema
from tests.lab.fakes.generation import version_tuple

ID = re.compile("[a-z0-9]{26}")
# Columns of the product's lists that came later than their tables.
LATER = {("threads", "threaddeleteat"): (7,), ("fileinfo", "channelid"): (9,)}
SEARCH = "idx_posts_message_txt"


def database_that_is_missing_is_waited_for(subject: Subject) -> None:
    """It goes on trying, and says so as an error."""
    with subject.started(database="of_nothing") as server:

        def tried() -> bool:
            return any(line["msg"].startswith("Failed to ping DB") for line in server.lines)

        wait_until(tried, 60, "an attempt")
        found = next(line for line in server.lines if line["msg"].startswith("Failed to ping DB"))
        assert found["level"] == "error"
        reason = found.get("error") or found.get("err")
        assert reason and "of_nothing" in str(reason), found
        assert server.process.poll() is None


def database_has_its_migrations(subject: Subject) -> None:
    """db_migrations has a row for each migration; before 6.0 the table systems has the version."""
    assert subject.usual.config
    if subject.numbers < (6,):
        assert subject.sql("SELECT to_regclass('db_migrations')") == [""]
        version = subject.sql("SELECT value FROM systems WHERE name = 'Version'")
        assert version == [subject.version]
    else:
        rows = subject.sql("SELECT version, name FROM db_migrations ORDER BY version")
        expected = mattermost_schema.migrations(subject.version)
        assert rows == [f"{number}|{name}" for number, name in expected]


def database_tells_which_installation_it_is(subject: Subject) -> None:
    """The installation's id is in systems, and stays."""
    assert subject.usual.config
    found = subject.sql("SELECT value FROM systems WHERE name = 'DiagnosticId'")
    assert [bool(ID.fullmatch(text)) for text in found] == [True]


def database_of_a_later_version(subject: Subject) -> None:
    """Refused before 6.0 by the version in it; later by more migrations than there are scripts, up and down.

    So a server of 6 or later starts on the database of many a later version.
    """
    assert subject.usual.config
    more = "INSERT INTO db_migrations SELECT 90000 + n, 'later' FROM generate_series(1, {}) n"
    if subject.numbers < (6,):
        words = "Database schema version 6.0.0 is not supported"
        later = "UPDATE systems SET value = '6.0.0' WHERE name = 'Version'"
        back = f"UPDATE systems SET value = '{subject.version}' WHERE name = 'Version'"
    else:
        words = "migration mismatch, there are more migrations applied"
        later, back = more.format(999), "DELETE FROM db_migrations WHERE version > 90000"
        subject.sql(more.format(9))
        with subject.running():
            subject.sql(back)
    subject.sql(later)
    try:
        ended = subject.ended()
    finally:
        subject.sql(back)
    assert ended.code == 1, ended
    assert words in ended.said, ended


def indexes_may_be_missing(subject: Subject) -> None:
    """It starts without a search index; before 6.0 it makes that, later it does not."""
    assert subject.usual.config
    (made,) = subject.sql(f"SELECT indexdef FROM pg_indexes WHERE indexname = '{SEARCH}'")
    subject.sql(f"DROP INDEX {SEARCH}")
    there = f"SELECT count(*) FROM pg_indexes WHERE indexname = '{SEARCH}'"
    with subject.running():
        found = subject.sql(there)
    if found == ["0"]:
        subject.sql(made)
    assert found == ["1" if subject.numbers < (6,) else "0"]


def tables_of_the_lists(subject: Subject) -> None:
    """Each table and column by which rows are recovered is there."""
    assert subject.usual.config
    rows = subject.sql(
        "SELECT table_name || ' ' || column_name FROM information_schema.columns"
        " WHERE table_schema = 'public'"
    )
    there: dict[str, set[str]] = {}
    for table, column in (row.split() for row in rows):
        there.setdefault(table, set()).add(column)
    for owned in owned_rows.tables(subject.version):
        named = {*owned.key, *owned.belongs, *owned.refers, *filter(None, [owned.mark])}
        later = {
            column
            for (table, column), since in LATER.items()
            if table == owned.name and subject.numbers < since
        }
        assert named - there.get(owned.name, set()) == later, owned.name


def tables_are_those_of_real_servers(subject: Subject) -> None:
    """Each column has the kind that it has in the schema of the same version, or of one of its neighbours."""
    assert subject.usual.config
    rows = subject.sql(
        "SELECT c.relname, a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind = 'r' AND a.attnum > 0"
        " AND NOT a.attisdropped AND c.relnamespace = 'public'::regnamespace"
    )
    known = _neighbours(subject.numbers[:2])
    unlike = [
        f"{table}.{column} {kind}"
        for table, column, kind in (row.split("|") for row in rows)
        if real_schema.short(kind) not in {_kind(schema, table, column) for schema in known}
    ]
    assert unlike == []


def _neighbours(numbers: tuple[int, ...]) -> list[real_schema.Columns]:
    """The schema of this minor version, or those before and after it; before 6.0 that of 5.37."""
    there = {version_tuple(version): version for version in real_schema.versions()}
    if numbers in there:
        return [real_schema.columns(there[numbers])]
    before = [version for version in there if version <= numbers][-1:]
    after = [version for version in there if version > numbers][:1]
    return [real_schema.columns(there[version]) for version in (*before, *after)]


def _kind(schema: real_schema.Columns, table: str, column: str) -> str:
    """The type of a column without its length."""
    return re.sub(r"\(\d+\)", "", schema.get(table, {}).get(column, ""))
