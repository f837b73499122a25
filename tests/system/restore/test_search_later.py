"""The search's indexes, built after a restore: while people talk, and by the next run if cut short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.helpers.faults import QUICK, Fault, Server
from tests.system.helpers.faults_server import server as boot

NOTED = "/var/lib/gitlab-mm-backup/indexes.json"
INDEX = "idx_posts_message_txt"
LATER = (*QUICK, "--search-later")
DEFINITIONS = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
INDEXES = """
    SELECT i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisvalid,
        i.indimmediate, i.indisclustered, i.indisreplident,
        (SELECT format('%s %s', c.conname, pg_get_constraintdef(c.oid)) FROM pg_constraint c
         WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x'))
    FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = 'public'::regnamespace ORDER BY 2"""
# All of tables with an index of the search: plain keys, and such as pg_restore alone can make.
ODD_KEYS = """
    ALTER TABLE posts ADD CONSTRAINT "Posts, odd" UNIQUE (id, createat);
    ALTER TABLE posts ADD CONSTRAINT posts_late_key UNIQUE (id, editat) DEFERRABLE;
    ALTER TABLE posts ADD CONSTRAINT posts_wide_key UNIQUE (id, deleteat) INCLUDE (userid);
    ALTER TABLE posts ADD CONSTRAINT posts_packed_key UNIQUE (id, userid) WITH (fillfactor = 70);
    ALTER TABLE posts ADD CONSTRAINT posts_sorted_key UNIQUE (id, channelid);
    ALTER TABLE posts CLUSTER ON posts_sorted_key;
    ALTER TABLE posts ADD CONSTRAINT posts_copied_key UNIQUE (id, updateat);
    ALTER TABLE posts ALTER updateat SET NOT NULL, REPLICA IDENTITY USING INDEX posts_copied_key;
    COMMENT ON CONSTRAINT posts_pkey ON posts IS 'odd';
    CREATE TABLE odd (id int PRIMARY KEY, message text) PARTITION BY RANGE (id);
    CREATE TABLE odd_low PARTITION OF odd FOR VALUES FROM (0) TO (9);
    CREATE INDEX odd_message_txt ON odd USING gin (to_tsvector('english'::regconfig, message));
    INSERT INTO odd VALUES (1, 'odd')"""
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{}')"


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with boot(base, deb) as made:
        yield made


@pytest.fixture(scope="module")
def definitions(server: Server) -> list[str]:
    """Every index of the live database, as PostgreSQL tells it."""
    found = server.gitlab.sql(DEFINITIONS)
    assert any(INDEX in line for line in found)
    return found


def valid(server: Server, index: str = INDEX) -> list[str]:
    """What PostgreSQL says of an index: t, f, or nothing where there is none."""
    return server.gitlab.sql(VALID.format(index))


def checks(server: Server) -> dict[str, str]:
    return {check["name"]: check["result"] for check in server.run("doctor").document["checks"]}


def swap(server: Server) -> None:
    server.live = server.other


def test_mattermost_is_back_before_the_search_is(server: Server, definitions: list[str]) -> None:
    """Held before the first index: people read and write, nothing shuts them out."""
    words = ("restore", "--yes", *LATER, server.sets[server.other])
    with server.held(*words, fault=Fault("restore.search_index:_execute", act="hold")) as run:
        swap(server)
        assert server.observe()["api"] == server.states[server.live]["api"]
        assert valid(server) == []
        assert server.lab.path(NOTED).exists()
        answer = server.go(run)
    assert answer.code == 0, answer
    built = answer.document["search"]["indexes"]
    assert f"public.{INDEX}" in built
    assert 0 < answer.document["exchange_seconds"] < answer.document["downtime_seconds"]
    assert answer.document["downtime_seconds"] < answer.document["seconds"]
    assert server.gitlab.sql(DEFINITIONS) == definitions
    assert valid(server) == ["t"]
    assert not server.lab.path(NOTED).exists()
    server.expect(server.live)


def test_a_small_database_does_not_wait(server: Server, definitions: list[str]) -> None:
    answer = server.restore()
    assert (answer.code, answer.document["search"]) == (0, None)
    assert server.gitlab.sql(DEFINITIONS) == definitions
    server.expect(server.other)


def test_a_dry_run_tells_of_it(server: Server) -> None:
    steps = server.run("restore", "--dry-run", *LATER, "latest").document["steps"]
    assert "build the search indexes while Mattermost runs" in steps
    steps = server.run("restore", "--dry-run", *QUICK, "latest").document["steps"]
    assert not any("search" in step for step in steps)


@pytest.mark.parametrize("act", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("finish", [("backup",), ("restore", "--continue")], ids=" ".join)
def test_the_next_run_builds_what_was_cut_short(
    server: Server, definitions: list[str], act: str, finish: tuple[str, ...]
) -> None:
    answer = server.restore("--search-later", fault=Fault("restore.search_index:_execute", act=act))
    assert answer.code == (4 if act == "SIGTERM" else -9), answer
    if act == "SIGTERM":
        assert any(INDEX in warning for warning in answer.document["warnings"])
    assert not server.journal, "the restore itself is done"
    swap(server)
    assert checks(server)["search"] == "warning"
    assert server.run(*finish).code == 0
    assert server.gitlab.sql(DEFINITIONS) == definitions
    assert checks(server)["search"] == "passed"
    server.expect(server.live)


def test_an_index_that_was_half_built_is_built_anew(server: Server, definitions: list[str]) -> None:
    """What CREATE INDEX CONCURRENTLY leaves where it is cut short is there, but not valid."""
    fault = Fault("restore.search_index:_execute", "after")
    assert server.restore("--search-later", fault=fault).code == -9
    swap(server)
    first = json.loads(server.lab.read(NOTED))[0]["name"]
    assert valid(server, first) == ["t"], "built, but not yet noted as such"
    server.gitlab.sql(
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('{first}')"
    )
    assert server.run("restore", "--continue").code == 0
    assert valid(server, first) == ["t"]
    assert server.gitlab.sql(DEFINITIONS) == definitions
    server.expect(server.live)


def test_a_restore_that_is_taken_back_leaves_nothing_to_build(
    server: Server, definitions: list[str]
) -> None:
    """What was noted for the new database is not built into the old one a second time."""
    answer = server.restore(
        "--search-later", fault=Fault("restore.search_index:note", "after", act="fail")
    )
    assert answer.code == 1, answer
    assert server.run("backup").code == 0
    assert server.gitlab.sql(DEFINITIONS) == definitions
    assert checks(server)["search"] == "passed"
    server.expect(server.live)


def test_indexes_and_keys_come_back_as_they_were(server: Server) -> None:
    """Those of a table that the search has an index of are made beside it, and become keys later."""
    server.gitlab.sql(f"SET ROLE gitlab_mattermost; {ODD_KEYS}")
    before = server.gitlab.sql(INDEXES)
    told = "\n".join(before)
    assert all(
        word in told for word in ("posts_pkey PRIMARY", "DEFERRABLE", "INCLUDE", "fillfactor")
    )
    assert server.run("backup").code == 0
    answer = server.run("restore", "--yes", *QUICK, "latest")
    assert answer.code == 0, answer
    assert server.gitlab.sql(INDEXES) == before
    comment = "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = '{}'"
    assert server.gitlab.sql(comment.format("posts_pkey")) == ["odd"]
