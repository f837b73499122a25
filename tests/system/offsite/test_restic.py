"""Sets in a restic repository, with Debian's own restic and real servers: a folder and a REST server."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Spec, install
from tests.lab.sandbox import Lab, wait_until

REPOSITORY = "/srv/restic"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
PASSWORD = "/etc/gitlab-mm-backup/restic-password"
WORD = "correct horse battery staple"
SETTINGS = f"store: restic\nrestic:\n  repository: {REPOSITORY}\n  password_file: {PASSWORD}\n"
PG_DUMP = "/opt/gitlab/embedded/bin/pg_dump"
HOME = "/var/opt/gitlab/mattermost"
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day", "sessions")


@dataclass(frozen=True)
class Server:
    """A server whose sets go to a repository."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    seed: Seed

    def restic(self, *arguments: str) -> str:
        """What restic prints when an administrator calls it."""
        environment = {"RESTIC_REPOSITORY": REPOSITORY, "RESTIC_PASSWORD": WORD}
        return self.lab.run("restic", *arguments, env={**environment, "HOME": "/root"}).stdout

    def snapshots(self) -> list[dict[str, Any]]:
        return list(json.loads(self.restic("snapshots", "--json", "--no-lock")))

    def size(self) -> int:
        """Bytes of the repository on its disk."""
        return int(self.lab.run("du", "-sb", REPOSITORY).stdout.split()[0])

    def sets(self) -> list[str]:
        answer = self.product("list")
        assert answer.code == 0, answer
        assert all(set_["complete"] for set_ in answer.document["sets"])
        return [set_["name"] for set_ in answer.document["sets"]]

    def backup(self) -> str:
        answer = self.product("backup")
        assert answer.code == 0, answer
        return str(answer.document["set"])

    @contextlib.contextmanager
    def replaced(self, path: str, content: str) -> Iterator[None]:
        """Have another program or text in the place of a file for a while."""
        kept = f"{path}.kept"
        self.lab.run("mv", path, kept)
        self.lab.write(path, content, mode=0o755)
        try:
            yield
        finally:
            self.lab.run("mv", kept, path)

    def nothing_is_left(self) -> None:
        """No half set in the repository or on the disk, no lock, and no program."""
        found = self.lab.run("find", "/var/lib/gitlab-mm-backup", "-name", ".*").stdout
        assert found == ""
        tags: dict[str, set[str]] = {}
        for snapshot in self.snapshots():
            tags.setdefault(snapshot["tags"][1], set()).add(snapshot["tags"][2])
        assert {frozenset(kinds) for kinds in tags.values()} <= {
            frozenset({"database", "files", "manifest"})
        }
        assert self.restic("list", "locks", "--no-lock") == ""
        assert self.lab.run("pgrep", "-x", "restic", check=False).stdout == ""


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        lab.write(CONFIG, SETTINGS)
        lab.write(PASSWORD, f"{WORD}\n", mode=0o600)
        seed = gitlab.seed()
        made = Server(lab, gitlab, product, seed)
        answer = product("backup")
        assert (answer.code, "restic init" in answer.error["hint"]) == (1, True), answer
        made.restic("init")
        made.backup()
        yield made


def test_a_set_is_three_snapshots_and_goes_the_way_of_local_ones(server: Server) -> None:
    (name,) = server.sets()
    kept = {snapshot["tags"][2]: snapshot for snapshot in server.snapshots()}
    assert {tuple(snapshot["tags"][:2]) for snapshot in kept.values()} == {
        ("gitlab-mm-backup", name)
    }
    assert kept["files"]["paths"] == [HOME]
    dump = server.restic("dump", kept["database"]["id"], "database.dump")
    assert dump.startswith("PGDMP"), "the dump is not compressed"
    (entry,) = server.product("list").document["sets"]
    assert (entry["path"], entry["verified"], entry["rehearsed"]) == (name, None, None)
    checked = server.product("verify", name)
    assert checked.code == 0, checked
    assert {check["name"]: check["result"] for check in checked.document["checks"]} == {
        "origin": "passed",
        "checksums": "passed",
        "structure": "passed",
    }
    rehearsed = server.product("rehearse")
    assert rehearsed.code == 0, rehearsed
    assert {check["result"] for check in rehearsed.document["checks"]} == {"passed"}
    (entry,) = server.product("list").document["sets"]
    assert entry["verified"]["whole"] and entry["rehearsed"]["result"] == "passed"
    server.nothing_is_left()


def test_a_night_costs_what_changed(server: Server) -> None:
    """The measure on large data is tests/bench; here no byte of an upload may be kept twice."""
    server.lab.run("sh", "-c", f"head -c 20000000 /dev/urandom >{HOME}/data/large")
    server.backup()
    before = server.size()
    server.lab.run("sh", "-c", f"head -c 100000 /dev/urandom >{HOME}/data/small")
    server.backup()
    assert server.size() - before < 2_000_000
    server.lab.run("rm", f"{HOME}/data/large", f"{HOME}/data/small")


def test_a_restore_is_equal_to_what_was(server: Server) -> None:
    before, name = server.gitlab.state(), server.backup()
    server.lab.run("sh", "-c", f"rm -r {HOME}/data/*; echo lost >{HOME}/plugins/more")
    server.gitlab.sql("DELETE FROM posts")
    answer = server.product.restore("--no-safety-backup", name)
    assert answer.code == 0, answer
    assert before.differences(server.gitlab.state(), DERIVED) == []
    session = server.gitlab.sign_in("alice")
    for identifier, text in server.seed.posts.items():
        assert session.read_post(identifier) == text
    assert server.product.leftovers() == []
    server.nothing_is_left()


def test_a_safety_set_goes_there_too(server: Server) -> None:
    answer = server.product.restore("--only", "config")
    assert answer.code == 0, answer
    purposes = [set_["purpose"] for set_ in server.product("list").document["sets"]]
    assert purposes[0] == "safety"
    server.nothing_is_left()


def test_a_dump_that_fails_half_way_is_no_set(server: Server) -> None:
    before = server.sets()
    half = '#!/bin/sh\n/usr/lib/postgresql/*/bin/pg_dump "$@" | head -c 3000\nexit 1\n'
    with server.replaced(PG_DUMP, half):
        answer = server.product("backup")
    assert answer.code == 1
    assert "pg_dump" in answer.error["message"]
    assert server.sets() == before
    server.nothing_is_left()


def test_a_file_that_cannot_be_read_is_no_set(server: Server) -> None:
    before = server.sets()
    bad = f"{HOME}/data/bad"
    server.lab.run("sh", "-c", f"touch {bad}; mount --bind /proc/1/mem {bad}")  # reading it: EIO
    answer = server.product("backup")
    server.lab.run("sh", "-c", f"umount {bad}; rm {bad}")
    assert answer.code == 1
    assert "could not read all files" in answer.error["message"], answer
    assert server.sets() == before
    server.nothing_is_left()


def test_a_run_that_was_killed_leaves_no_set_and_the_next_goes_on(server: Server) -> None:
    """A lock and half of a set stay in the repository; the next run takes both away."""
    before = server.sets()
    slow = '#!/bin/sh\n/usr/lib/postgresql/*/bin/pg_dump "$@"\ntouch /tmp/dumped\nsleep 60\n'
    with server.replaced(PG_DUMP, slow):
        run = server.lab.popen("gitlab-mm", "backup", stderr=subprocess.DEVNULL)

        def is_half_kept() -> bool:
            parts = [snapshot["tags"][2] for snapshot in server.snapshots()]
            return parts.count("files") > len(before) and server.lab.path("/tmp/dumped").exists()

        wait_until(is_half_kept, 30, "the files to be kept")
        server.lab.run("pkill", "-9", "-f", "gitlab-mm backup")
        run.wait()
    assert server.sets() == before
    assert server.restic("list", "locks", "--no-lock") != ""
    name = server.backup()
    assert server.sets() == [name, *before]
    server.nothing_is_left()


def test_prune_forgets_sets_and_gives_back_their_room(server: Server) -> None:
    server.lab.run("sh", "-c", f"head -c 20000000 /dev/urandom >{HOME}/data/large")
    server.backup()
    server.lab.run("rm", f"{HOME}/data/large")
    newest, size = server.backup(), server.size()
    foreign = server.lab.run("mktemp", "-d").stdout.strip()
    server.restic("backup", "--host", "other", foreign)
    server.restic("backup", "--host", "other", "--tag", f"gitlab-mm-backup,{newest},files", foreign)
    server.lab.write(CONFIG, f"{SETTINGS}keep: {{last: 1}}\n")
    told = server.product("prune", "--dry-run").document["sets"]
    assert all(decision["reason"] for decision in told)
    assert len(server.sets()) == len(told)
    asked = server.product("prune")
    assert asked.code == 4 and asked.document["removed"] == [], asked
    answer = server.product("prune", "--yes")
    server.lab.write(CONFIG, SETTINGS)
    kept = [decision["name"] for decision in told if decision["keep"]]
    assert answer.code == 0, answer
    assert newest in kept and server.sets() == kept
    assert size - server.size() > 15_000_000
    assert [snapshot["hostname"] for snapshot in server.snapshots()].count("other") == 2
    server.restic(
        "forget",
        *[snapshot["id"] for snapshot in server.snapshots() if snapshot["hostname"] == "other"],
    )
    assert server.product("verify").code == 0
    server.nothing_is_left()


def test_secrets_show_up_nowhere(server: Server) -> None:
    """Not in a list of arguments, a message, the log, or in a file that others can read."""
    record = '#!/bin/sh\necho "$0 $*" >>/run/seen\nprintf "%s\\n" "$*" >>/run/seen\n'
    record += 'env | grep -v PASSWORD_FILE >>/run/environments\nexec /usr/bin/restic.kept "$@"\n'
    with server.replaced("/usr/bin/restic", record):
        server.backup()
        assert server.product("verify").code == 0
    server.lab.write("/run/word", f"{WORD}x\n", mode=0o600)
    server.lab.write(CONFIG, SETTINGS.replace(PASSWORD, "/run/word"))
    refused = server.product("backup", "-v")
    server.lab.write(CONFIG, SETTINGS)
    assert refused.code == 1 and "password" in refused.error["hint"], refused
    seen = server.lab.read("/run/seen") + server.lab.read("/run/environments")
    log = server.lab.run("sh", "-c", "cat /var/log/syslog /var/log/*.log 2>/dev/null; true").stdout
    assert "backup --json" in seen
    assert WORD not in seen + log + refused.stderr + str(refused.document)
    for folder in ("/var/cache/gitlab-mm-backup", "/var/lib/gitlab-mm-backup/restic"):
        assert server.lab.run("stat", "-c", "%U %a", folder).stdout == "root 700\n"


def test_a_password_file_that_others_can_read_is_refused(server: Server) -> None:
    server.lab.path(PASSWORD).chmod(0o644)
    answer = server.product("list")
    server.lab.path(PASSWORD).chmod(0o600)
    assert (answer.code, "root's alone" in answer.error["detail"]) == (2, True), answer


def test_restic_has_no_more_rights_than_to_read(server: Server) -> None:
    record = (
        '#!/bin/sh\ngrep -h Cap /proc/self/status >>/run/rights\nexec /usr/bin/restic.kept "$@"\n'
    )
    with server.replaced("/usr/bin/restic", record):
        server.backup()
    effective = {
        int(line.split()[1], 16)
        for line in server.lab.read("/run/rights").splitlines()
        if line.startswith("CapEff")
    }
    assert effective == {0, 1 << 2}, "none, or CAP_DAC_READ_SEARCH"


@contextlib.contextmanager
def rest_server(server: Server, *options: str) -> Iterator[None]:
    """The repository served by rclone, with a password file for restic's environment."""
    address = ("--addr", "127.0.0.1:8000", "--user", "us", "--pass", "er-secret")
    run = server.lab.popen(
        *("rclone", "serve", "restic", *options, *address, REPOSITORY),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server.lab.write(
        "/etc/gitlab-mm-backup/environment",
        "# where it is\nRESTIC_REPOSITORY='rest:http://us:er-secret@127.0.0.1:8000/'\n",
        mode=0o600,
    )
    server.lab.write(
        CONFIG,
        "store: restic\nkeep: {last: 1}\nrestic:\n"
        "  environment_file: /etc/gitlab-mm-backup/environment\n"
        f"  password_command: [cat, {PASSWORD}]\n",
    )
    ask = ("curl", "-s", "-o", "/dev/null", "-u", "us:er-secret", "http://127.0.0.1:8000/config")
    try:
        wait_until(lambda: server.lab.run(*ask, check=False).returncode == 0, 20, "the server")
        yield
    finally:
        # The process here only entered the lab; rclone itself is another one.
        server.lab.run("pkill", "-x", "rclone", check=False)
        run.wait()
        server.lab.write(CONFIG, SETTINGS)


def test_a_store_that_refuses_removals_is_told_and_not_asked_for_ever(server: Server) -> None:
    """As S3's object lock does; here a REST server that only lets append."""
    with rest_server(server, "--append-only"):
        before = server.sets()
        answer: Answer = server.product("backup", timeout=120)
        assert answer.code == 4, answer
        told = server.product("prune", "--yes", timeout=120)
        assert told.code == 4 and told.document["removed"] == [], told
        assert all("403" in warning for warning in told.document["warnings"]), told
        assert "er-secret" not in str(answer.document) + answer.stderr
        assert server.sets() == [answer.document["set"], *before]
    with rest_server(server):
        assert server.product("prune", "--yes").code == 0
    server.nothing_is_left()


def test_a_repository_on_another_machine_counts_as_off_site(server: Server) -> None:
    def off_site() -> list[dict[str, Any]]:
        lines = server.product("status").document["lines"]
        return [line for line in lines if line["name"] == "off-site"]

    (line,) = off_site()
    assert line["state"] == "warning", "it is on a disk of this host"
    with rest_server(server):
        (line,) = off_site()
    assert line["state"] == "good" and line["words"].startswith("restic: "), line
    assert 0 <= line["figures"]["offsite_age_restic"] < 3600


def test_a_server_that_is_gone_is_an_error_and_nothing_else(server: Server) -> None:
    before = server.sets()
    with rest_server(server):
        server.lab.run("pkill", "-x", "rclone")
        answer = server.product("backup", timeout=60)
    assert answer.code == 1
    assert "er-secret" not in str(answer.document) + answer.stderr
    assert server.sets() == before


def damage(server: Server, kind: str) -> None:
    """Flip a bit in the middle of each file of that kind."""
    flip = (
        "import pathlib, sys\n"
        "for path in pathlib.Path(sys.argv[1]).rglob('*'):\n"
        "    if path.is_file():\n"
        "        data = bytearray(path.read_bytes())\n"
        "        data[len(data) // 2] ^= 1\n"
        "        path.chmod(0o600)\n"
        "        path.write_bytes(data)\n"
    )
    server.lab.run("/usr/bin/python3", "-c", flip, f"{REPOSITORY}/{kind}")


def test_a_damaged_repository_is_noticed(server: Server) -> None:
    """Last of all: it is not whole afterwards."""
    assert server.product("verify").code == 0
    server.lab.run("cp", "-a", REPOSITORY, "/srv/whole")
    for kind in ("data", "index"):
        damage(server, kind)
        answer = server.product("verify")
        assert answer.code == 1, (kind, answer)
        assert "damaged" in answer.error["message"]
        server.lab.run("sh", "-c", f"rm -rf {REPOSITORY}; cp -a /srv/whole {REPOSITORY}")
    damage(server, "data")
    rehearsed = server.product("rehearse")
    assert rehearsed.code == 1
    assert {check["name"]: check["result"] for check in rehearsed.document["checks"]}[
        "checksums"
    ] == "failed"
    live = server.gitlab.state()
    restored = server.product.restore(server.sets()[0])
    assert restored.code == 1, restored
    assert live.differences(server.gitlab.state(), DERIVED) == []
    server.lab.run("sh", "-c", f"rm -rf {REPOSITORY}; cp -a /srv/whole {REPOSITORY}")
    newest = server.sets()[0]
    files = [
        snapshot["id"]
        for snapshot in server.snapshots()
        if {newest, "files"} <= {*snapshot["tags"]}
    ]
    server.restic("forget", *files)
    entry = server.product("list").document["sets"][0]
    assert (entry["name"], entry["complete"]) == (newest, False)
    assert "snapshot of the files is not in the repository" in entry["problem"]
