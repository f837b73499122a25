"""Backups that break: no set then, nothing left after the next run, the newest good set untouched."""

from __future__ import annotations

import pytest

from tests.system.helpers.faults import SETS, Fault, Server
from tests.system.helpers.faults_rows import FILL, Table, filling

STORE = "store.local"


def sets(server: Server) -> dict[str, str]:
    """The complete sets by name, each with the checksums of its files as they are on disk."""
    entries = server.run("list").document["sets"]
    assert all(entry["complete"] for entry in entries), entries
    digest = "find . -type f -exec sha256sum {} + | sort"
    return {
        entry["name"]: server.lab.run("sh", "-c", digest, cwd=entry["path"]).stdout
        for entry in entries
    }


def check(server: Server, before: dict[str, str], more: int = 0) -> None:
    """The sets are as before, the live state is, and the next run cleans up and makes a set."""
    now = sets(server)
    assert {name: now.get(name) for name in before} == before
    assert len(now) == len(before) + more
    answer = server.run("backup")
    assert answer.code == 0, answer
    assert server.lab.run("find", SETS, "-name", ".incomplete-*").stdout == ""
    server.lab.run("rm", "-r", str(answer.document["path"]))
    server.expect(server.live)


KILLS = {
    "kill -9 while the first bytes are written": Fault(f"{STORE}:PartWriter.write"),
    "kill -9 while a part is ended": Fault(f"{STORE}:PartWriter.finish", nth=2),
    "kill -9 before checksums and manifest": Fault(f"{STORE}:LocalStore.complete"),
    "kill -9 between checksums and manifest": Fault(f"{STORE}:replace_file", nth=2),
    "kill -9 between manifest and the set's name": Fault(f"{STORE}:replace_file", "after", 2),
}
ENDS = {
    "kill -9 of pg_dump": Fault("child:pg_dump", target="pg_dump"),
    "kill -9 of zstd": Fault("child:zstd", target="zstd"),
    "kill -9 of tar": Fault("child:tar", target="tar"),
    "failure while a part is written": Fault(f"{STORE}:PartWriter.write", act="fail"),
    "I/O error between checksums and manifest": Fault(f"{STORE}:replace_file", nth=2, act="EIO"),
    "I/O error after the manifest": Fault(f"{STORE}:replace_file", "after", 2, "EIO"),
}


@pytest.mark.parametrize("name", KILLS)
def test_a_backup_that_is_killed(server: Server, table: Table, name: str) -> None:
    before = sets(server)
    with table.row(f"backup: {name}", "old"):
        assert server.run("backup", fault=KILLS[name]).code == -9
        check(server, before)


@pytest.mark.parametrize("name", ENDS)
def test_a_backup_in_which_something_breaks(server: Server, table: Table, name: str) -> None:
    before = sets(server)
    with table.row(f"backup: {name}", "old"):
        answer = server.run("backup", fault=ENDS[name])
        assert answer.code == 1, answer
        check(server, before)


def test_a_backup_killed_after_its_set_has_its_name(server: Server, table: Table) -> None:
    before = sets(server)
    with table.row("backup: kill -9 after the set has its name", "old"):
        assert server.run("backup", fault=Fault("store.prune:prune")).code == -9
        check(server, before, more=1)


@pytest.mark.parametrize("point", ["store.prune:prune", f"{STORE}:replace_file"])
def test_a_backup_is_told_to_stop(server: Server, table: Table, point: str) -> None:
    """Where the set is complete the signal comes too late to be told as a failure."""
    before = sets(server)
    with table.row(f"backup: SIGTERM at {point.partition(':')[2]}", "old"):
        answer = server.run("backup", fault=Fault(point, act="SIGTERM"))
        assert answer.code == 0, answer
        check(server, before, more=1)


def test_the_disk_of_the_sets_is_full(server: Server, table: Table) -> None:
    before = sets(server)
    fault = Fault("backup.job:_write_parts", act="run", argv=filling("/var", 100_000))
    with table.row("backup: disk full", "old"):
        answer = server.run("backup", fault=fault)
        server.lab.run("rm", "-f", FILL)
        assert answer.code == 1, answer
        assert "stopped before the disk is full" in answer.error["message"], answer
        server.wait_for_postgresql()
        check(server, before)


@pytest.mark.parametrize(
    ("place", "fault"),
    {
        "in the dump": Fault(f"{STORE}:PartWriter.write", act="hold"),
        "between manifest and name": Fault(f"{STORE}:replace_file", "after", 2, "hold"),
    }.items(),
)
def test_the_power_is_cut(server: Server, table: Table, place: str, fault: Fault) -> None:
    before = sets(server)
    with table.row(f"backup: power cut {place}", "old"):
        with server.held("backup", fault=fault):
            server.power_cut()
        check(server, before)
