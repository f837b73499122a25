"""The makers of odd hosts and their judge, without a lab; and that the page of what a backup contains is tried."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest

from tests.fuzz import databases, oracle
from tests.fuzz.__main__ import smaller
from tests.fuzz.hosts import CATALOGUE, Host, dealt, drawn, values
from tests.fuzz.oracle import Difference
from tests.unit.helpers.builders import ROOT

PAGE = ROOT / "docs/what-a-backup-contains.md"
# Rows of the page that say what is told, by how they begin: the oddities that try it, or the test.
TRIED = {
    "tables, rows, sequences, views": ("failing view",),
    "indexes that are not valid": ("invalid index",),
    "foreign keys and `CHECK`": ("broken reference", "check by lookup", "function changed"),
    "sequences that are behind": ("identity behind",),
    "tables and rows that Mattermost's role may not read": ("tables of others", "row policies"),
    "large objects, where": ("large objects of others",),
    "encoding, locale": "test_restore_locale.py",
    "settings:": ("settings of the database", "settings of the role", "settings of others"),
    "`CONNECT`": ("rights on the database", "rights", "default rights"),
    "default privileges of other roles": ("default rights of others", "rights on an extension"),
    "the owner of the database": ("owner of the database", "things of others"),
    "the tablespace of the database": "test_database_properties.py",
    "tablespaces of single tables": ("tablespaces",),
    "row policies": ("row policies of roles",),
    "extensions for superusers": ("extensions for superusers",),
    "other extensions": ("extensions for superusers",),
    "event triggers": ("event triggers", "publications", "foreign data", "operator classes"),
    "functions in C": ("functions in C", "casts"),
    "`config.json` and": "test_absence.py",
    "links in `/etc/gitlab`": "test_attributes.py",
    "`config.json` as a link": ("config_link",),
    "any other link": ("links_out",),
    "uploads that the database names": ("missing_upload",),
    "uploads in object storage": "test_backup.py",
    "devices and named pipes": ("specials",),
    "paths of more than": ("deep",),
    "files of an owner": ("owners",),
    "set-user-id": ("set_id_file",),
    "POSIX ACLs": ("acls",),
    "extended attributes `user": "test_attributes.py",
    "extended attributes `trusted": ("attributes",),
}


def rows() -> list[list[str]]:
    """The cells of the rows of the page that have a column for what is told."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == 4 and row[0] not in ("what", "---")]


def test_each_row_of_what_is_told_is_tried() -> None:
    told = [row[0] for row in rows() if row[2]]
    assert len(told) > 15
    for what in told:
        held = [by for begin, by in TRIED.items() if what.startswith(begin)]
        assert held, f"nothing tries that this is told: {what}"
    for begin, by in TRIED.items():
        assert [what for what in told if what.startswith(begin)], begin
        known = {by} if isinstance(by, str) else set(by)
        files = {path.name for path in (ROOT / "tests/system").rglob("test_*.py")}
        assert known <= files | set(CATALOGUE), known


@pytest.mark.parametrize("kind", databases.KINDS)
def test_all_that_statements_leave_open_is_drawn(kind: str) -> None:
    made = databases.KINDS[kind]
    text = f"{made.owner}{made.superuser}{made.server}"
    wanted = {name for _, name, _, _ in string.Formatter().parse(text) if name} - {"tag"}
    found = drawn(values(kind), 3, 5)
    assert found and all(set(difference) >= wanted for difference in found)


def test_a_seed_gives_the_same_hosts_which_can_be_written_down() -> None:
    hosts = dealt(7, 30)
    assert hosts == dealt(7, 30) and hosts[:5] == dealt(7, 5) and hosts != dealt(8, 30)
    assert [Host.from_json(host.to_json()) for host in hosts] == hosts
    kinds = [oddity.kind for host in hosts for oddity in host.oddities]
    assert set(kinds) == set(CATALOGUE)


def fact(**aspects: Any) -> dict[str, Any]:
    return aspects


def test_what_differs_is_found_in_both_directions() -> None:
    before = {"file a": fact(mode="0600"), "file b": fact(mode="0600"), "file c": fact(mode="0")}
    after = {"file b": fact(mode="0644"), "file c": fact(mode="0"), "file d": fact(mode="0600")}
    found = oracle.differences(before, after)
    assert [(difference.what, difference.aspect) for difference in found] == [
        ("file a", "is gone"),
        ("file b", "mode"),
        ("file d", "is new"),
    ]


def test_a_setting_of_the_role_everywhere_comes_back_for_the_database() -> None:
    before = {"setting mm everywhere jit": fact(value="jit=off")}
    assert oracle.differences(before, {"setting mm here jit": fact(value="jit=off")}) == []
    assert len(oracle.differences(before, {"setting mm here jit": fact(value="jit=on")})) == 2
    assert len(oracle.differences(before, {})) == 1


def test_what_the_page_does_not_cover_is_no_difference() -> None:
    gone = {"file data/x/a.sock": fact(kind="socket"), "rows of public.poststats": fact(count=1)}
    assert oracle.differences(gone, {}) == []
    assert len(oracle.differences({"rows of public.posts": fact(count=1)}, {})) == 1


@pytest.mark.parametrize(
    ("pair", "sentence", "is_told"),
    [
        (
            ("file data/odd3x/pipe", "is gone"),
            "'/x/odd3x/pipe' is a pipe, and is not in the set",
            True,
        ),
        (("file data/odd3x/pipe", "is gone"), "'/x/odd33x/pipe' is not in the set", False),
        (("file data/odd3x/f", "mode"), "'/x/odd3x/f' is not in the set", False),
        (
            ("file data/odd3x/f", "mode"),
            "'/x/odd3x/f' has the set-user-id or set-group-id bit",
            True,
        ),
        (
            ("file data/odd3x/f", "access lists"),
            "The access control lists of a, b and 3 more",
            True,
        ),
        (("file data/odd3x/f", "content"), "and 3 more: 'odd4x'", False),
        (
            ("setting  here work_mem", "is gone"),
            "Setting work_mem of the database is not put back",
            True,
        ),
        (("setting  here work_mem", "is gone"), "Setting log_statement is not put back", False),
        (("large object 7", "is gone"), "No large object of the database is in the set", True),
        (
            ("dump CAST - CAST (text AS inet)", "is gone"),
            "Cast (text AS inet) takes a superuser",
            True,
        ),
        (("rows of public.posts", "count"), "Extension x takes a superuser", False),
    ],
)
def test_a_warning_tells_of_what_it_names(
    pair: tuple[str, str], sentence: str, is_told: bool
) -> None:
    difference = Difference(*pair, {}, None)
    assert oracle.tells(sentence, difference) is is_told
    assert oracle.judge([difference], [sentence]) == (
        ([], []) if is_told else ([difference], [sentence])
    )


@pytest.mark.parametrize(
    ("sentence", "is_right"),
    [
        ("Sequence public.x is behind its column, so a new row gets a number that is taken", True),
        ("'/data/x' is a link to '../../..', which is not in the set: replace it", True),
        ("'/data/x' is a link to '/srv/x', which is not in the set: replace it", False),
        ("Setting work_mem of the database is not put back", False),
    ],
)
def test_a_warning_without_a_difference_is_a_false_alarm(sentence: str, is_right: bool) -> None:
    assert oracle.judge([], [sentence]) == ([], [] if is_right else [sentence])


def test_a_failing_host_becomes_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of eight oddities is the cause; few cycles find it."""
    host = next(host for host in dealt(7, 60) if len(host.oddities) >= 8)
    cause, cycles = host.oddities[5].tag, 0

    def attempt(candidate: Host, *_: object) -> Any:
        nonlocal cycles
        cycles += 1
        has = any(oddity.tag == cause for oddity in candidate.oddities)
        return type("Outcome", (), {"problems": ["bad"] if has else []})

    monkeypatch.setattr("tests.fuzz.__main__.attempt", attempt)
    found, _ = smaller(host, PAGE, PAGE)
    assert [oddity.tag for oddity in found.oddities] == [cause]
    assert cycles <= 12


def test_the_text_of_a_page_is_what_a_reader_sees() -> None:
    assert oracle.plain_html("<p>a  <b>&amp;</b>\n'x'</p>") == "a & 'x'"
    assert re.search(oracle.TAG, "public.odd12x_t")
