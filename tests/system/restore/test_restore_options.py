"""What a restore can be told to do, and every reason it has to refuse before anything changes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.helpers.faults import HOME, QUICK, Fault, Server, differences
from tests.system.helpers.faults_forge import forged
from tests.system.helpers.faults_rows import FILL, filling
from tests.system.helpers.faults_server import server as boot
from tests.system.helpers.terminals import on_a_terminal

ENVIRONMENT = "/opt/gitlab/etc/mattermost/env"


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with boot(base, deb) as made:
        yield made


@pytest.fixture(autouse=True)
def one_whole_state(server: Server) -> Iterator[None]:
    """Each test ends in a state that is exactly one of both."""
    yield
    try:
        server.expect(server.live)
    except AssertionError:
        server.heal()
        raise


def unchanged(server: Server, *arguments: str, code: int = 1) -> str:
    """Run a restore that must be refused with nothing changed; gives all that was said."""
    before = server.observe()
    answer = server.run("restore", *arguments)
    assert answer.code == code, answer
    assert not differences(before, server.observe())
    return " ".join(str(answer.error[key]) for key in ("message", "detail", "hint"))


def only(
    part: str, states: dict[str, dict[str, object]], live: str, other: str
) -> dict[str, object]:
    """The state to expect after --only of a part, without what the API says."""
    mixed = json.loads(json.dumps(states[live]))
    new = json.loads(json.dumps(states[other]))
    if part == "database":
        mixed["tables"] = new["tables"]
    if part == "files":
        mixed["files"] = {
            **new["files"],
            f"{HOME}/config.json": mixed["files"][f"{HOME}/config.json"],
        }
    if part == "config":
        mixed["files"][f"{HOME}/config.json"] = new["files"][f"{HOME}/config.json"]
    mixed["api"] = None
    return dict(mixed)


@pytest.mark.parametrize("part", ["database", "files", "config", "sso"])
def test_only_one_part(server: Server, part: str) -> None:
    live, other = server.live, server.other
    words = ("restore", "--yes", "--no-safety-backup", "--only", part, server.sets[other])
    answer = server.run(*words)
    assert (answer.code, answer.document.get("parts")) == (0, [part]), answer
    seen = {**server.observe(), "api": None}
    back = ("restore", "--yes", *QUICK, server.sets[live])
    assert server.run(*back).code == 0
    assert not differences(only(part, server.states, live, other), seen)


def test_in_place(server: Server) -> None:
    answer = server.restore("--in-place")
    assert answer.code == 0, answer
    server.expect(server.other)


def test_in_place_that_fails_is_said_and_the_safety_set_is_the_way_back(server: Server) -> None:
    old, fault = server.live, Fault("postgresql.clients:load", act="fail")
    answer = server.run("restore", "--yes", "--in-place", server.sets[server.other], fault=fault)
    assert answer.code == 5, answer
    assert server.service() == "down"
    checks = {check["name"]: check for check in server.run("doctor").document["checks"]}
    assert checks["restore journal"]["result"] == "failed"
    backup = server.run("backup")
    assert "gitlab-mm restore " in answer.error["detail"]
    safety = answer.error["detail"].partition("gitlab-mm restore ")[2].split()[0].strip(";,")
    answer = server.run("restore", "--yes", "--no-safety-backup", safety)
    assert answer.code == 0, answer
    server.expect(old)
    assert backup.code == 5, backup


def test_the_previous_state_can_be_kept_and_removed(server: Server) -> None:
    new = server.other
    assert server.restore("--keep-previous").code == 0
    names = server.gitlab.sql("SELECT datname FROM pg_database", "postgres")
    assert [name for name in names if name.startswith("gitlab_mm_old_")][1:] != []
    assert any("-home" in folder for folder in server.observe()["left"]["folders"])
    assert server.run("prune").code == 0
    assert any("-home" in folder for folder in server.observe()["left"]["folders"])
    assert server.run("prune", "--previous").code == 0
    server.expect(new)


def test_a_safety_set_is_made_and_never_the_latest(server: Server) -> None:
    old, new = server.live, server.other
    answer = server.run("restore", "--yes", server.sets[new])
    assert answer.code == 0, answer
    safety = answer.document["safety_set"]
    server.expect(new)
    assert server.run("restore", "--dry-run").document["set"] == server.sets["B"].rpartition("/")[2]
    assert server.run("restore", "--yes", "--no-safety-backup", safety).code == 0
    server.expect(old)


def test_at_a_day(server: Server) -> None:
    listed = server.run("list").document["sets"]
    day = listed[0]["made"][:10]
    newest = next(set_["name"] for set_ in listed if set_["purpose"] == "backup")
    for words in (("--at", day), ("--at", "latest"), ("latest",), ()):
        assert server.run("restore", "--dry-run", *words).document["set"] == newest
    first = server.run("restore", "--dry-run", "--at", listed[-1]["made"].replace("Z", "+00:00"))
    assert first.code == 1
    unchanged(server, "--yes", "--at", "2001-01-01")
    unchanged(server, "--yes", "--at", "yesterday")
    unchanged(server, "--yes", "--at", "someday", code=2)


def test_a_dry_run_changes_nothing(server: Server) -> None:
    before = server.observe()
    answer = server.run("restore", "--dry-run", "--in-place", server.sets[server.other])
    assert answer.code == 0
    assert "TeamSettings.SiteName" in answer.document["settings_changed"]
    assert any("REMOVE" in step for step in answer.document["steps"])
    assert answer.document["room"] and answer.document["expected_seconds"] > 0
    assert not differences(before, server.observe())


def test_nobody_to_ask(server: Server) -> None:
    assert "--yes" in unchanged(server, server.sets[server.other], code=2)


@pytest.mark.parametrize("in_place", [False, True])
def test_somebody_says_no(server: Server, in_place: bool) -> None:
    words = [
        "gitlab-mm",
        "restore",
        server.sets[server.other],
        *(["--in-place"] if in_place else []),
    ]
    done = on_a_terminal(server.lab, *words, answers=("n",))
    assert done.returncode == 2, done
    assert ("IN PLACE" in done.stdout) == in_place
    assert "rows" in done.stdout


def test_no_room(server: Server) -> None:
    server.lab.run(*filling("/var", 20 << 20))
    try:
        said = unchanged(server, "--yes", *QUICK, server.sets[server.other])
        answer = server.run("restore", "--dry-run", server.sets[server.other])
        assert answer.code == 1 and "Not enough disk space" in answer.document["obstacle"]
    finally:
        server.lab.run("rm", FILL)
    assert "Not enough disk space" in said and "--in-place" in said


REFUSED = {
    "newer Mattermost": ({"mattermost": "10.11.99", "gitlab": "18.11.99"}, "18.11.99 or newer"),
    "newer PostgreSQL": ({"server": "99.1"}, "pg-upgrade"),
    "newer format": ({"format": 4}, "newer gitlab-mm-backup"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_set_that_this_host_cannot_take(server: Server, name: str) -> None:
    values, reason = REFUSED[name]
    assert reason in unchanged(server, "--yes", *QUICK, forged(server, manifest=values))


def test_an_older_mattermost_is_taken(server: Server) -> None:
    new = server.other
    path = forged(server, manifest={"mattermost": "4.6.0"})
    assert server.run("restore", "--yes", *QUICK, path).code == 0
    server.expect(new)


@pytest.mark.parametrize("file", ["manifest.json", "SHA256SUMS", "files.tar.zst"])
def test_a_file_is_missing(server: Server, file: str) -> None:
    path = forged(server)
    server.lab.run("rm", f"{path}/{file}")
    unchanged(server, "--yes", *QUICK, path)


def test_a_set_that_is_not_there(server: Server) -> None:
    unchanged(server, "--yes", "/root/nothing/1795348432_2026_11_22_10.11.20")
    unchanged(server, "--yes", "nonsense", code=2)


@contextlib.contextmanager
def variable(server: Server, name: str, value: str) -> Iterator[None]:
    """Have one more variable in Mattermost's environment folder."""
    path = f"{ENVIRONMENT}/{name}"
    before = server.lab.read(path) if server.lab.path(path).exists() else None
    server.lab.write(path, value)
    try:
        yield
    finally:
        if before is None:
            server.lab.run("rm", path)
        else:
            server.lab.path(path).write_text(before)


def test_object_storage_is_told(server: Server) -> None:
    bucket = variable(server, "MM_FILESETTINGS_AMAZONS3BUCKET", "our-bucket")
    with variable(server, "MM_FILESETTINGS_DRIVERNAME", "amazons3"), bucket:
        answer = server.run("backup")
        server.lab.run("rm", "-r", str(answer.document["path"]))
    assert answer.code == 4
    assert "our-bucket" in " ".join(answer.document["warnings"])


def test_mysql_is_told(server: Server) -> None:
    with variable(server, "MM_SQLSETTINGS_DRIVERNAME", "mysql"):
        said = unchanged(server, "--yes", *QUICK, server.sets[server.other])
        assert server.run("backup").code == 1
    assert "MySQL" in said and "migration-assist" in said


def test_a_replica_is_refused(server: Server) -> None:
    data = "/var/opt/gitlab/postgresql/data"
    server.gitlab.gitlab_ctl("stop", "postgresql")
    server.lab.run(
        "sh", "-ec", f"touch {data}/standby.signal; chown gitlab-psql {data}/standby.signal"
    )
    server.gitlab.gitlab_ctl("start", "postgresql")
    server.wait_for_postgresql()
    try:
        answer = server.run("restore", "--yes", *QUICK, server.sets[server.other])
    finally:
        server.gitlab.gitlab_ctl("stop", "postgresql")
        server.lab.run("rm", f"{data}/standby.signal")
        server.gitlab.gitlab_ctl("start", "postgresql")
        server.wait_for_postgresql()
        server.gitlab.restart_mattermost()
    assert answer.code == 1 and "replica" in answer.error["message"]
