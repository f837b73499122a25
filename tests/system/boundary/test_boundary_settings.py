"""Settings that a database's owner gives it and its role: a backup and a restore work, or say why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.installed_package import Product
from tests.lab.omnibus import Omnibus
from tests.lab.sandbox import Lab
from tests.system.helpers.attacks import Attacks, target

ROLE, DATABASE = "gitlab_mattermost", "mattermost_production"
# What the owner may set. Times are as short as the way of a statement to the server lets us bear.
SETTINGS = {
    "client_encoding": "LATIN1",
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "3s",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "local_preload_libraries": "not_there",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Tokyo",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "extra_float_digits": "-15",
    "xmloption": "document",
    "default_tablespace": "not_there",
    "temp_tablespaces": "not_there",
    "check_function_bodies": "on",
    "transform_null_equals": "on",
    "client_min_messages": "debug5",
    "work_mem": "64kB",
    "enable_seqscan": "off",
    "force_parallel_mode": "regress",
    "search_path": "pg_catalog",
}
# With these Mattermost itself does not start, so no restore could end well.
BREAKING = (
    *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
    *("idle_session_timeout", "default_transaction_read_only", "local_preload_libraries"),
    "search_path",
)
TABLE = (
    "CREATE TABLE odd (text text, bytes bytea, moment timestamptz, span interval, number float8)"
)
ROW = r"""INSERT INTO odd VALUES (E'\\x \'日本語\' 🎉', '\x00ff5c', '2026-11-29 04:17:00+00', '1 day 2:03', 0.1)"""


@pytest.fixture(scope="module")
def host(base: Path, deb: Path) -> Iterator[tuple[Lab, Omnibus, Product]]:
    with target(base, deb) as (lab, gitlab, product):
        gitlab.sql(f"SET ROLE {ROLE}; {TABLE}; {ROW}")
        # An index whose definition has what such settings change.
        gitlab.sql(rf"SET ROLE {ROLE}; CREATE INDEX odd_text ON odd (text) WHERE text LIKE '%\\%'")
        yield lab, gitlab, product


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("settings")


_BEYOND = "is not put back by a restore"  # of settings that a set must not bring along


def altered(gitlab: Omnibus, values: dict[str, str]) -> None:
    """Have the owner set these for the database and for its role, and nothing else."""
    for what in (f"ROLE {ROLE}", f"DATABASE {DATABASE}"):
        statements = [f"ALTER {what} RESET ALL"]
        statements += [
            f"ALTER {what} SET {name} = {_literal(value)}" for name, value in values.items()
        ]
        gitlab.sql("; ".join(statements), "postgres")


def _literal(value: str) -> str:
    return ", ".join(f"'{word}'" for word in value.split(", "))


def rows(gitlab: Omnibus) -> list[str]:
    return gitlab.sql(
        "SELECT md5(o::text) FROM (SELECT text, bytes, moment, span, number FROM odd) o"
    )


def test_a_backup_with_each(host: tuple[Lab, Omnibus, Product], attacks: Attacks) -> None:
    _, gitlab, product = host
    failed = []
    for name, value in SETTINGS.items():
        altered(gitlab, {name: value})
        try:
            with attacks.row(f"the owner sets {name} = {value}: a backup is made"):
                answer = product("backup")
                told = [
                    warning for warning in answer.document["warnings"] if _BEYOND not in warning
                ]
                assert answer.code in (0, 4) and not told, answer
        except AssertionError as error:
            failed.append(f"{name}: {error}")
    altered(gitlab, {})
    assert not failed, "\n".join(failed)


def test_a_restore_with_all(host: tuple[Lab, Omnibus, Product], attacks: Attacks) -> None:
    """The new database has none of these by itself, but its role still has."""
    _, gitlab, product = host
    product("backup")
    before = rows(gitlab)
    gitlab.sql("DELETE FROM odd")
    altered(gitlab, {name: value for name, value in SETTINGS.items() if name not in BREAKING})
    with attacks.row("the owner sets all that Mattermost bears: a restore is made, byte for byte"):
        answer = product.restore("--no-safety-backup")
        altered(gitlab, {})
        assert answer.code in (0, 4), answer
        assert rows(gitlab) == before
