"""Ten odd hosts, the same ones each time, that have every kind of oddity once: `make fuzz` has many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import cycle
from tests.fuzz.databases import DATABASE
from tests.fuzz.hosts import CATALOGUE, ENDING, Host, dealt
from tests.fuzz.oracle import lines
from tests.lab.omnibus import Omnibus
from tests.lab.sandbox import Lab

HOSTS = dealt(19, 10, of=(10 - len(ENDING),))
HOME = "/var/opt/gitlab/mattermost"
# What a bad restore could have done, and how the reader then calls what it finds.
PLANTED = (
    ("rm {home}/data/gone", "file data/gone: is gone"),
    ("chmod 666 {home}/data/open", "file data/open: mode"),
    ("chown root {home}/data/open", "file data/open: owner"),
    ("touch -d 2001-01-01 {home}/data/open", "file data/open: time"),
    ("echo more >>{home}/data/changed", "file data/changed: content"),
    (
        '/usr/bin/python3 -c \'import os; os.setxattr("{home}/data/open", "user.x", b"1")\'',
        "file data/open: attributes",
    ),
    ("rm {home}/data/twin; echo twin >{home}/data/twin", "file data/first: names"),
    ("ln -sfn nowhere {home}/data/link", "file data/link: target"),
    ("echo >{home}/data/more", "file data/more: is new"),
)
PLANTED_ROWS = (
    ("UPDATE planted SET t = 'y'", "rows of public.planted: digest"),
    ("DELETE FROM planted_too", "rows of public.planted_too: count"),
    ("DROP INDEX planted_t", "relation i public.planted_t: is gone"),
    ("ALTER TABLE planted ALTER t SET DEFAULT 'x'", "dump TABLE public planted: text"),
    ("REVOKE ALL ON planted FROM PUBLIC", "dump ACL public TABLE planted: is gone"),
    ("SELECT setval('planted_i_seq', 77)", "sequence public.planted_i_seq: last"),
    ("ALTER DATABASE mattermost_production RESET work_mem", "setting  here work_mem: is gone"),
    ("ALTER DATABASE mattermost_production CONNECTION LIMIT 9", "database itself: limit"),
    ("COMMENT ON DATABASE mattermost_production IS 'other'", "database itself: comment"),
    ("SELECT lo_unlink(77777)", "large object 77777: is gone"),
)
BEFORE = """
    SET ROLE gitlab_mattermost;
    CREATE TABLE planted (i serial, t text); INSERT INTO planted (t) VALUES ('x');
    CREATE INDEX planted_t ON planted (t);
    GRANT SELECT ON planted TO PUBLIC; CREATE TABLE planted_too AS SELECT 1; SELECT lo_from_bytea(77777, 'x');
    RESET ROLE; ALTER DATABASE mattermost_production SET work_mem TO '8MB';
"""
FILES = "cd {home}/data; touch gone open changed first; ln first twin; ln -s gone link; chown -h mattermost: *"


def test_every_kind_of_oddity_is_there() -> None:
    assert sorted(oddity.kind for host in HOSTS for oddity in host.oddities) == sorted(CATALOGUE)


@pytest.mark.parametrize("number", range(len(HOSTS)))
def test_what_is_not_told_comes_back(base: Path, deb: Path, number: int) -> None:
    outcome = cycle.run(HOSTS[number], base, deb)
    assert not outcome.problems, f"{lines(outcome.problems)}\n{HOSTS[number]}"


def test_what_a_bad_restore_would_do_is_found(base: Path, deb: Path) -> None:
    """The reader and the judge can fail: each of these is planted after a good restore."""

    def before(lab: Lab, gitlab: Omnibus) -> None:
        lab.run("sh", "-ec", FILES.format(home=HOME))
        cycle.execute(lab, DATABASE, BEFORE)

    def after(lab: Lab, gitlab: Omnibus) -> None:
        for command, _ in PLANTED:
            lab.run("sh", "-ec", command.format(home=HOME))
        for statement, _ in PLANTED_ROWS:
            cycle.execute(lab, DATABASE, statement)

    outcome = cycle.run(Host(True, ()), base, deb, before=before, harm=after)

    assert outcome.codes == {"backup": 0, "rehearse": 0, "restore": 0}
    for _, words in (*PLANTED, *PLANTED_ROWS):
        found = [
            problem for problem in outcome.problems if problem.startswith(f"not told: {words}")
        ]
        assert found, f"{words} among\n{lines(outcome.problems)}"
