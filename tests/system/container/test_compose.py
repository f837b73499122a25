"""Mattermost's compose project in podman: a move to it, and all that an administrator does with it.

Two containers in a network of their own, a real PostgreSQL in one; GitLab is on another host. This host has no
PostgreSQL, so its programs run inside only. The tests stand in the order of a move.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab import compose
from tests.lab.compose import DATABASE, GATEWAY, NETWORK, SERVER, VOLUMES, Project, Server, Spec
from tests.lab.containers import Podman, host
from tests.lab.disks import CHECKOUT
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.sandbox import Bind, Lab, wait_until
from tests.lab.signed_in_user import Session
from tests.system.helpers.faults import Fault, differences, environment
from tests.system.helpers.faults_server import DIST, LOADER
from tests.system.helpers.moves import DERIVED, PASSING, Origin, data_files, origin

SETS = "/var/backups/gitlab/mattermost"
PAGE = CHECKOUT / "docs/containers.md"
CONFIG = "/etc/gitlab-mm-backup/config.yml"


@dataclass
class Host:
    """A host with the project, our package, and the set of the old host."""

    lab: Lab
    project: Project
    product: Product
    old: Origin

    @property
    def podman(self) -> Podman:
        return self.project.podman

    def run(self, *arguments: str, fault: Fault | None = None) -> Answer:
        """Run `gitlab-mm ARGUMENTS --json`, with a fault."""
        words = ("gitlab-mm", *arguments, "--json")
        done = self.lab.run(*words, check=False, env=environment(fault), timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        for secret in ("p:w/d", "p%3Aw"):
            assert secret not in done.stdout + done.stderr
        return Answer(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)

    def move(self, *arguments: str, fault: Fault | None = None) -> Answer:
        """Restore the old host's set onto the project."""
        words = ("restore", "--yes", "--to", "standalone", "--container", "mattermost")
        return self.run(*words, "--no-safety-backup", *arguments, self.old.set, fault=fault)

    def server(self) -> Server:
        return Server(self.project)

    def look(self) -> dict[str, Any]:
        """Everything that a failed restore must leave as it was."""
        find = (
            "find",
            VOLUMES,
            "-path",
            f"{VOLUMES}/db",
            "-prune",
            "-o",
            "-path",
            "*/logs",
            "-prune",
        )
        listed = self.lab.run(*find, "-o", "-printf", "%p %y %U %G %m %l\\n").stdout.splitlines()
        sums = self.lab.run(*find, "-o", "-type", "f", "-exec", "sha256sum", "{}", "+").stdout
        tables = self.server().tables()
        roles = "SELECT datname, datdba::regrole, datallowconn FROM pg_database ORDER BY 1"
        state = "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}"
        return {
            "files": sorted(listed),
            "sums": sorted(sums.splitlines()),
            "tables": {
                name: rows for name, rows in tables.items() if name not in DERIVED + PASSING
            },
            "databases": self.project.sql(roles),
            "state": self.podman("inspect", "--format", state, SERVER),
            "left": self.product.leftovers(),
            "kept": self.lab.path("/var/lib/gitlab-mm-backup/standalone-config.json").exists(),
        }

    def sign_in(self, username: str = "alice") -> Session:
        """Sign in through GitLab, by a browser on this network."""
        return self.old.gitlab.sign_in(username)

    def checks(self, *arguments: str) -> dict[str, tuple[str, str]]:
        """Result and detail of each check of a command."""
        checks = self.run(*arguments).document["checks"]
        return {check["name"]: (check["result"], check["detail"]) for check in checks}


@pytest.fixture(scope="module")
def site(base: Path, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    bind = Bind(tmp_path_factory.mktemp("sets"), "/mnt/sets", writable=True)
    spec = Spec(neighbours=("gitlab.example.test",))
    with contextlib.ExitStack() as labs:
        old = labs.enter_context(origin(base, deb, bind))
        made = labs.enter_context(compose.image(base, spec))
        lab = labs.enter_context(host(base, made, [bind], old.gitlab.lab))
        podman = Podman(lab, made)
        podman.prepare()
        product = install_product(lab, deb)
        lab.write(f"{DIST}/gitlab-mm-faults.pth", LOADER)
        found = Host(lab, Project(podman, spec), product, old)
        found.project.up(fresh=True)
        yield found


def told(answer: Answer) -> str:
    return " ".join(answer.error[key] for key in ("message", "detail", "hint"))


# What is found, and what is refused.


def test_doctor_names_both_containers(site: Host) -> None:
    found = site.checks("doctor")
    assert found["Mattermost"] == ("passed", "a standalone Mattermost, run by podman")
    result, detail = found["container"]
    assert result == "passed" and detail.startswith(f"{SERVER}, run by podman, of image ")
    assert f"/mattermost/data = {VOLUMES}/app/mattermost/data" in detail
    assert found["database"][1].endswith(f"in the container {DATABASE}")
    assert found["service"] == ("passed", "Mattermost runs, and answers at http://127.0.0.1:8065")


def test_postgresql_is_stopped(site: Host) -> None:
    site.podman.stop(DATABASE)
    refused = site.move()
    assert refused.code == 1
    assert refused.error["message"] == (
        f"The container {DATABASE} with Mattermost's PostgreSQL is not running"
    )
    assert f"podman start {DATABASE}" in refused.error["hint"]
    assert site.run("backup").code == 1
    assert site.run("list").code == 0
    site.podman("start", DATABASE)
    site.server().wait_until_ready(60)


def test_two_servers(site: Host) -> None:
    site.project.server("other", volumes="/srv/other", port=8066)
    site.lab.run("rm", "-f", "/var/lib/gitlab-mm-backup/container.json")
    refused = site.run("backup")
    assert refused.code == 2
    assert refused.error["message"] == "There are several Mattermost containers on this host"
    assert "--container NAME" in refused.error["hint"]
    assert site.run("backup", "--container", SERVER).code in (0, 4)
    site.podman.remove("other")
    refused = site.run("backup", "--container", "other")
    assert f"there are: {SERVER} (podman, running)" in refused.error["detail"]


# The move: what fails is taken back.

STEPS = (
    ("mattermost.standalone:keep_config", "after"),
    ("container.service:ContainerService.stop", "after"),
    ("postgresql.clients:load", "after"),
    ("postgresql.swap:exchange", "after"),
    ("restore.folder_swap:exchange", "after"),
    ("container.service:ContainerService.start", "after"),
)


@pytest.mark.parametrize(("point", "when"), STEPS, ids=[point for point, _ in STEPS])
def test_a_failure_leaves_everything_as_it_was(site: Host, point: str, when: str) -> None:
    before = site.look()
    answer = site.move(fault=Fault(point, when, 1, "fail"))
    assert answer.code == 1, answer
    assert "On purpose" in told(answer)
    assert not differences(before, site.look())


def test_a_restore_that_is_killed_is_taken_back_later(site: Host) -> None:
    before = site.look()
    assert site.move(fault=Fault("restore.folder_swap:_move_all", "after")).code == -9
    assert site.podman("inspect", "--format", "{{.State.Status}}", SERVER).strip() == "exited"
    assert site.run("backup").code == 5
    answer = site.run("restore", "--rollback")
    assert answer.code == 0, answer
    assert not differences(before, site.look())


def commands(title: str) -> list[list[str]]:
    """The commands of ours in a section of the page."""
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", section, re.S | re.M))
    return [line.split()[1:] for line in blocks.splitlines() if line.startswith("sudo gitlab-mm")]


def test_the_move_as_the_page_has_it(site: Host) -> None:
    restore, check = commands("Move from the bundled Mattermost to it")
    answer = site.run(*restore[1:-1], site.old.set)
    assert answer.code == 0, answer
    assert answer.document["sign_in"] == "accepted", answer.document
    assert site.run(*check[1:]).code == 0


def test_every_row_and_file_is_there(site: Host) -> None:
    after = site.server().tables()
    for name, (rows, digest) in site.old.tables.items():
        if name not in DERIVED + PASSING:
            assert after[name] == f"{rows}|{digest}", name
    assert data_files(site.lab, f"{VOLUMES}/app/mattermost/data/") == site.old.files
    app = f"{VOLUMES}/app/mattermost"
    owners = site.lab.run("find", app, "-printf", "%U:%G\\n").stdout.split()
    assert set(owners) == {"2000:2000"}
    config = site.server().config()
    assert config["GitLabSettings"]["Enable"] is True
    assert "/var/opt/gitlab" not in json.dumps(config)


def test_people_sign_in_and_read_on(site: Host) -> None:
    session = site.sign_in()
    for identifier, text in site.old.seed.posts.items():
        assert session.read_post(identifier) == text
    for identifier, facts in site.old.seed.files.items():
        assert hashlib.sha256(session.download(identifier)).hexdigest() == facts["sha256"]


# The project as what is backed up.


def test_the_page_as_written(site: Host) -> None:
    done = commands("A standalone Mattermost in containers")
    assert [words[1] for words in done] == ["doctor", "backup", "verify", "rehearse", "restore"]
    for words in done:
        assert site.run(*words[1:]).code in (0, 4), words


def test_backup_verify_rehearse_and_sign_in(site: Host) -> None:
    made = site.run("backup", "--verbose")
    assert made.code == 0, made
    assert made.document["path"].startswith(f"{SETS}/")
    manifest = json.loads(site.lab.read(f"{made.document['path']}/manifest.json"))
    assert manifest["kind"] == "standalone"
    assert site.run("verify").code == 0
    rehearsed = site.checks("rehearse")
    assert {result for result, _ in rehearsed.values()} == {"passed"}, rehearsed
    assert site.run("sso", "check").code == 0
    assert site.run("status").code in (0, 4)
    listed = site.run("list").document["sets"]
    assert made.document["set"] in [entry["name"] for entry in listed]


def test_a_backup_while_the_server_is_stopped(site: Host) -> None:
    site.podman.stop(SERVER)
    made = site.run("backup")
    site.podman("start", SERVER)
    site.server().wait_until_ready(60)
    assert made.code in (0, 4), made
    manifest = json.loads(site.lab.read(f"{made.document['path']}/manifest.json"))
    assert manifest["mattermost"] == site.project.spec.version


def test_restore_over_the_live_state(site: Host) -> None:
    made = site.run("backup")
    before = site.look()
    late = site.sign_in().post("written after the set")
    site.lab.run("sh", "-c", f"rm -r {VOLUMES}/app/mattermost/data/2*")
    done = site.run("restore", "--yes", "--no-safety-backup", made.document["set"])
    assert done.code == 0, done
    assert not differences(before, site.look())
    assert site.project.sql(f"SELECT count(*) FROM posts WHERE id = '{late}'") == ["0"]
    assert site.sign_in().username == "alice"


def test_uploads_that_come_later_and_one_message_recovered(site: Host) -> None:
    data = f"{VOLUMES}/app/mattermost/data"
    place = f"{data}/20240101/teams/noteam/channels/c/users/u/f"
    site.lab.run("mkdir", "-p", place)
    site.lab.write(f"{place}/report.bin", "x" * 70000)
    site.lab.run("chown", "--recursive", "2000:2000", f"{data}/20240101")
    made = site.run("backup").document["set"]
    before = site.look()
    site.lab.run("rm", "-r", f"{data}/20240101")
    done = site.run("restore", "--yes", "--no-safety-backup", "--uploads-later", made)
    assert done.code == 0, done
    assert not differences(before, site.look())
    post = next(iter(site.old.seed.posts))
    site.project.sql(f"DELETE FROM posts WHERE id = '{post}'")
    done = site.run("recover", made, "--post", post)
    assert done.code in (0, 4), done
    assert site.project.sql(f"SELECT count(*) FROM posts WHERE id = '{post}'") == ["1"]


def test_the_gate_before_19_wants_the_name_of_gitlabs_container(site: Host) -> None:
    stopped = site.run("gate", "--image", "gitlab/gitlab-ce:19.0.0-ce.0")
    assert stopped.code == 10, stopped
    assert f"{SERVER} is a standalone Mattermost" in stopped.error["detail"]


def test_nothing_of_it_is_left(site: Host) -> None:
    mounts = site.lab.run("cat", "/proc/self/mountinfo").stdout
    assert "gitlab-mm" not in mounts and "/mattermost" not in mounts
    assert not site.lab.path("/mattermost").exists()
    assert sorted(site.podman("ps", "--all", "--format", "{{.Names}}").split()) == [
        SERVER,
        DATABASE,
    ]
    assert site.podman("network", "ls", "--format", "{{.Name}}").split() == [NETWORK, "podman"]
    assert site.product.leftovers() == []


# Other shapes of a project.


def test_a_renamed_project(site: Host) -> None:
    before = site.look()["tables"]
    site.project.down()
    site.project.database("chat-postgres-1")
    site.project.server("chat-mattermost-1")
    wait_until(lambda: site.checks("doctor")["service"][0] == "passed", 60, "the server")
    refused = site.run("backup", "--container", SERVER)
    assert "chat-mattermost-1 (podman, running)" in refused.error["detail"]
    assert site.run("backup").code == 0
    site.project.down()
    site.project.up()
    assert not differences(before, site.look()["tables"])


def test_one_network_namespace_for_both(site: Host) -> None:
    """As containers of a pod, or network_mode: service:postgres."""
    site.project.down()
    project = Project(site.podman, replace(site.project.spec, host="localhost"))
    project.database()
    project.server(SERVER, "--network", f"container:{DATABASE}")
    project.up()
    made = site.run("backup")
    assert made.code == 0, made
    done = site.run("restore", "--yes", "--no-safety-backup", made.document["set"])
    assert done.code in (0, 4), done


def test_postgresql_in_no_container_of_the_networks(site: Host) -> None:
    site.podman.remove(SERVER)
    Project(site.podman, replace(site.project.spec, host="db.example.test")).server()
    refused = site.run("backup")
    assert refused.code == 1
    assert "PostgreSQL's client programs are missing" in told(refused)
    assert "in no container of its networks" in told(refused)


def test_postgresql_that_the_host_reaches_itself(site: Host) -> None:
    """As one on another machine; this host then needs PostgreSQL's client programs."""
    site.podman.remove(SERVER)
    site.podman.remove(DATABASE)
    project = Project(site.podman, replace(site.project.spec, host=GATEWAY))
    project.database(DATABASE, "--publish", f"{GATEWAY}:5432:5432")
    project.server()
    site.server().wait_until_ready(60)
    root = json.loads(site.podman("inspect", DATABASE))[0]["Rootfs"]
    script = f"cp -a {root}/usr/lib/postgresql /usr/lib; cp -a {root}/usr/lib/*-gnu/libicu* /usr/lib/*-gnu"
    site.lab.run("sh", "-ec", script)
    made = site.run("backup")
    assert made.code == 0, made
    done = site.run("restore", "--yes", "--no-safety-backup", made.document["set"])
    assert done.code in (0, 4), done
    site.lab.run("rm", "-r", "/usr/lib/postgresql")
    site.podman.remove(SERVER)
    site.podman.remove(DATABASE)
    site.project.up()


def test_a_restart_policy_that_this_engine_cannot_change(site: Host) -> None:
    """Podman before 5.1; with docker it is taken back, and given again."""
    site.podman.remove(SERVER)
    Project(site.podman, replace(site.project.spec, restart="always")).server()
    site.server().wait_until_ready(60)
    before = site.look()
    refused = site.run("restore", "--yes", "--no-safety-backup")
    assert refused.code == 1
    assert "cannot be kept down during the restore" in refused.error["message"]
    assert "unless-stopped" in refused.error["hint"]
    assert not differences(before, site.look())
