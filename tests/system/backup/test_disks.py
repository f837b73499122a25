"""Disks that are not mounted, full, reached by a link, or of somebody else: sets, copies and GitLab itself."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers.faults_rows import FILL, filling

CONFIG = "/etc/gitlab-mm-backup/config.yml"
STATE = "/var/lib/gitlab-mm-backup"
COLLECTOR = "/var/opt/gitlab/node-exporter/textfile_collector"
UPLOAD = "/var/opt/gitlab/mattermost/data/large"
CALLS = "/srv/calls"
SPY = f'#!/bin/sh\nprintf "%s\\n" "$*" >>{CALLS}\nexec /usr/bin/rclone "$@"\n'
PASSWORD = "/etc/gitlab-mm-backup/restic-password"
MIB = 1 << 20


@dataclass
class Host:
    """A server with our package, and disks that come and go."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def config(self, text: str) -> None:
        self.lab.write(CONFIG, f"rehearse: off\n{text}", mode=0o640)

    def mount(self, path: str, size: str = "200m") -> None:
        """Mount a new disk."""
        self.lab.run("mkdir", "-p", path)
        self.lab.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", path)

    @contextlib.contextmanager
    def unmounted(self, path: str) -> Iterator[None]:
        """A disk that is not mounted for a while, with all that is on it."""
        aside = f"/srv/aside-{next(self.numbers)}"
        self.lab.run("mkdir", aside)
        self.lab.run("mount", "--move", path, aside)
        try:
            yield
        finally:
            self.lab.run("mount", "--move", aside, path)

    def files(self, path: str) -> list[str]:
        return self.lab.run("find", path, "-mindepth", "1", check=False).stdout.split()

    def free(self, path: str) -> int:
        told = self.lab.run("df", "--output=avail,size", "--block-size=1", path).stdout.split()
        return int(told[-2])

    def reserve(self, path: str) -> int:
        told = self.lab.run("df", "--output=avail,size", "--block-size=1", path).stdout.split()
        return int(told[-1]) * 5 // 100

    def upload(self, mebibytes: int) -> None:
        """Have an upload of that size, which nothing can pack."""
        self.lab.run("sh", "-c", f"head -c {mebibytes}M /dev/urandom >{UPLOAD}")

    def line(self, name: str) -> tuple[str, str]:
        """State and words of a line of the status."""
        lines = {line["name"]: line for line in self.product("status").document["lines"]}
        return lines[name]["state"], lines[name]["words"]


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Host]:
    with Lab(base=base, disk_size="2g") as lab:
        gitlab = install(lab, Spec())
        host = Host(lab, gitlab, install_product(lab, deb))
        gitlab.seed()
        lab.write("/usr/local/bin/rclone", SPY, mode=0o755)
        lab.write("/root/.config/rclone/rclone.conf", "[box]\ntype = alias\nremote = /mnt/box\n")
        lab.run("mkdir", "-p", COLLECTOR)
        lab.write(PASSWORD, "correct horse\n", mode=0o600)
        yield host


@pytest.fixture
def host(server: Host) -> Iterator[Host]:
    """The server, on which nothing was backed up yet."""
    server.lab.write(CALLS, "", mode=0o666)
    yield server
    server.lab.run(
        "sh", "-c", f"umount -l /mnt/*/mattermost /mnt/* 2>/dev/null; rm -rf /mnt/* {UPLOAD}"
    )
    server.lab.run(
        "sh", "-c", f"rm -rf {STATE}/*.json /var/opt/gitlab/backups/mattermost /srv/here*"
    )
    server.config("")


def said(answer: Answer) -> str:
    """All that a command says of what is wrong."""
    error = answer.document["error"] or {}
    return " ".join([*answer.document["warnings"], *map(str, error.values())])


# not mounted


def test_a_disk_that_fstab_names_is_wanted_before_it_was_ever_used(host: Host) -> None:
    """No mark is known yet: the host was set up, and the disk fails at its first boot."""
    table = host.lab.path("/etc/fstab")
    before = table.read_text() if table.exists() else ""
    host.lab.run("mkdir", "-p", "/mnt/never", "/mnt/neither")
    table.write_text("none /mnt/never tmpfs defaults 0 0\nnone /mnt/neither tmpfs defaults 0 0\n")
    try:
        host.config("backup_path: /mnt/never/backups\n")
        answer = host.product("backup")
        assert answer.code == 1 and "is not mounted" in said(answer), answer
        assert "mount /mnt/never" in answer.error["hint"]
        host.config("offsite:\n  - remote: /mnt/neither/copies\n    name: disk\n")
        answer = host.product("backup")
        assert answer.code == 4 and "mount /mnt/neither" in said(answer), answer
        assert host.files("/mnt/never") == host.files("/mnt/neither") == []
        host.lab.run("mount", "/mnt/never")
        host.config("backup_path: /mnt/never/backups\n")
        assert host.product("backup").code == 0
    finally:
        table.write_text(before)


REMOTES = {"an absolute path": "/mnt/box/mattermost", "a remote of rclone": "box:mattermost"}


@pytest.mark.parametrize("name", REMOTES)
def test_the_disk_of_the_copies_is_not_mounted(host: Host, name: str) -> None:
    remote = REMOTES[name]
    host.config(f"offsite:\n  - {{remote: '{remote}', name: disk}}\n")
    host.mount("/mnt/box")
    first = host.product("backup")
    assert first.code == 0, first
    with host.unmounted("/mnt/box"):
        missed = host.product("backup")
        assert missed.code == 4, missed
        assert f"gitlab-mm place forget {remote}" in said(missed)
        assert "disk" in said(missed) and "not mounted" in said(missed)
        for words in (
            ("offsite",),
            ("list", "--from", "disk"),
            ("restore", "--yes", "--from", "disk"),
        ):
            answer = host.product(*words)
            assert (answer.code, "not the place that was used" in said(answer)) == (1, True), answer
        if remote.startswith("/"):
            state, told = host.line("off-site")
            assert state == "bad" and "is its disk mounted?" in told
        assert host.files("/mnt/box") == [], "something was made on the disk below"
    host.lab.write(CALLS, "", mode=0o666)
    again = host.product("offsite")
    assert again.code == 0, again
    (copies,) = again.document["copies"]
    assert list(copies["copied"]) == [missed.document["set"]], "the first one is there already"
    calls = host.lab.read(CALLS)
    assert ".place-of" not in calls, "the mark is written once, and never read by itself"
    assert len([path for path in host.files("/mnt/box") if ".place-of" in path]) == 1


def test_the_disk_is_not_mounted_when_the_first_version_with_marks_comes(host: Host) -> None:
    host.config("offsite:\n  - {remote: /mnt/box/mattermost, name: disk}\n")
    host.mount("/mnt/box")
    assert host.product("backup").code == 0
    marks = "find /mnt/box /var/opt/gitlab/backups -name '.place-of-*' -delete"
    host.lab.run("sh", "-c", f"{marks}; rm {STATE}/places.json")
    with host.unmounted("/mnt/box"):
        answer = host.product("backup")
        assert answer.code == 4 and "none of 1 copies is in it" in said(answer), answer
        assert host.files("/mnt/box") == []
    assert host.product("backup").code == 0
    with host.unmounted("/mnt/box"):
        assert "the mark" in said(host.product("offsite"))


MOUNTS = {"at a folder above": "/mnt/own", "at the folder itself": "/mnt/own/mattermost"}


@pytest.mark.parametrize("name", MOUNTS)
def test_the_disk_of_the_sets_is_not_mounted(host: Host, name: str) -> None:
    host.config("backup_path: /mnt/own\n")
    host.mount(MOUNTS[name])
    made = host.product("backup")
    assert made.code == 0, made
    with host.unmounted(MOUNTS[name]):
        below = host.files("/mnt/own")
        for words in (("backup",), ("list",), ("status",), ("prune",), ("offsite",)):
            answer = host.product(*words)
            told = said(answer)
            if words != ("offsite",):  # which has nothing to do, and looks at nothing
                assert answer.code == 1 and "not the place that was used before" in told, answer
                assert "gitlab-mm place forget /mnt/own/mattermost" in told
        assert host.files("/mnt/own") == below
        metrics = host.lab.read(f"{COLLECTOR}/gitlab_mm_backup.prom")
        assert 'gitlab_mm_run_success{command="backup"} 0' in metrics
        assert "gitlab_mm_sets 0" in metrics and "set_newest" not in metrics, "what alerts look at"
    assert [set_["name"] for set_ in host.product("list").document["sets"]] == [
        made.document["set"]
    ]
    assert host.product.restore("--only", "config").code == 0
    with host.unmounted(MOUNTS[name]):
        host.gitlab.sql("UPDATE posts SET message = 'kept'")
        refused = host.product.restore(f"/srv/aside-{next(host.numbers) - 1}/x")
        assert refused.code == 1, refused
        assert set(host.gitlab.sql("SELECT message FROM posts")) == {"kept"}


def test_a_safety_set_goes_to_no_other_disk(host: Host) -> None:
    host.config("backup_path: /mnt/own\n")
    host.mount("/mnt/own")
    made = host.product.backup()
    host.lab.run("cp", "-a", made, "/srv/here-is-a-set")
    with host.unmounted("/mnt/own"):
        before = host.gitlab.state()
        answer = host.product.restore("/srv/here-is-a-set")
        assert (
            answer.code == 1
            and "safety set of the current state could not be made" in answer.error["message"]
        ), answer
        assert "place forget" in answer.error["hint"], answer
        assert host.files("/mnt/own") == []
        assert before.differences(host.gitlab.state()) == []


def test_a_place_that_was_replaced_on_purpose(host: Host) -> None:
    host.config("backup_path: /mnt/own\noffsite:\n  - {remote: /mnt/box/mattermost, name: disk}\n")
    host.mount("/mnt/own")
    host.mount("/mnt/box")
    assert host.product("backup").code == 0
    for disk in ("/mnt/own", "/mnt/box"):
        host.lab.run("umount", disk)
        host.mount(disk)
    assert host.product("backup").code == 1
    assert host.product("place", "forget", "/mnt/nowhere").code == 2
    answer = host.product("place", "forget", "/mnt/own/mattermost")
    assert (answer.code, answer.document["place"]) == (0, "/mnt/own/mattermost")
    assert host.product("backup").code == 4
    assert host.product("place", "forget", "disk").document["place"] == "/mnt/box/mattermost"
    done = host.product("backup")
    assert done.code == 0, done
    (copies,) = done.document["copies"]
    assert len(copies["copied"]) == 2, "all sets that are here"


# full


def test_a_set_that_cannot_fit_is_not_begun(host: Host) -> None:
    host.config("backup_path: /mnt/own\n")
    host.mount("/mnt/own", "60m")
    host.upload(70)
    answer = host.product("backup")
    assert answer.code == 1 and answer.error["message"] == "Not enough disk space for the next set"
    assert "must stay free (min_free)" in answer.error["detail"]
    assert "gitlab-mm prune" in answer.error["hint"] and "min_free" in answer.error["hint"]
    assert [path for path in host.files("/mnt/own") if "incomplete" in path] == []
    assert host.free("/mnt/own") > 55 * MIB
    host.lab.run("rm", UPLOAD)
    assert host.product("backup").code == 0


def test_a_set_that_grew_is_given_up_before_the_reserve_is_touched(host: Host) -> None:
    host.config("backup_path: /mnt/own\n")
    host.mount("/mnt/own", "120m")
    first = host.product("backup").document["set"]
    before = host.files("/mnt/own")
    host.upload(160)
    watch = "while [ ! -e /srv/here-stop ]; do df --output=avail -B1 /mnt/own | tail -n 1; sleep 0.02; done"
    with host.lab.popen("sh", "-c", watch) as watching:
        answer = host.product("backup")
        host.lab.write("/srv/here-stop", "")
        frees = [int(line) for line in watching.communicate()[0].split()]
    assert answer.code == 1 and "stopped before the disk is full" in answer.error["message"], answer
    assert min(frees) >= host.reserve("/mnt/own"), "the reserve was touched"
    assert host.files("/mnt/own") == before
    assert [set_["name"] for set_ in host.product("list").document["sets"]] == [first]
    host.config("backup_path: /mnt/own\nmin_free: 0\n")
    full = host.product("backup")
    assert full.code == 1 and "No space left" in full.error["detail"], full
    host.lab.run("rm", UPLOAD)
    assert host.product("backup").code == 0


def test_gitlab_on_the_same_disk_can_still_write(host: Host) -> None:
    """Its inserts failed when a backup had taken the last byte."""
    assert host.product("backup").code == 0
    host.upload(160)
    host.lab.run(*filling("/var", host.reserve("/var") + 80 * MIB))
    insert = "INSERT INTO ballast SELECT repeat(md5(n::text), 40) FROM generate_series(1, 20000) n"
    host.gitlab.sql("CREATE TABLE ballast (words text)", "gitlabhq_production")
    try:
        with host.lab.popen("gitlab-mm", "backup", "--json") as running:
            while running.poll() is None:
                host.gitlab.sql(insert.replace("20000", "100"), "gitlabhq_production")
        assert running.returncode == 1
        host.gitlab.sql(insert, "gitlabhq_production")
    finally:
        host.lab.run("rm", "-f", FILL)
        host.gitlab.sql("DROP TABLE ballast", "gitlabhq_production")
    assert len(host.product("list").document["sets"]) == 1


def test_a_copy_that_cannot_fit_on_a_disk_of_this_host_is_not_begun(host: Host) -> None:
    host.config("offsite:\n  - {remote: /mnt/box/mattermost, name: disk}\n")
    host.mount("/mnt/box", "60m")
    host.upload(70)
    answer = host.product("backup")
    assert answer.code == 4 and "Not enough disk space for the copy at disk" in said(answer), answer
    assert host.free("/mnt/box") > 55 * MIB
    assert len(host.product("list").document["sets"]) == 1


def test_a_repository_of_restic_is_stopped_before_the_reserve_is_touched(host: Host) -> None:
    where = f"repository: 'local:/mnt/own/restic', password_file: {PASSWORD}"
    host.config(f"store: restic\nrestic: {{{where}}}\n")
    host.mount("/mnt/own", "300m")
    with host.unmounted("/mnt/own"):
        nothing = host.product("backup")
        assert nothing.code == 1 and "restic" in said(nothing), nothing
        assert host.files("/mnt/own") == []
    environment = {"RESTIC_PASSWORD": "correct horse", "HOME": "/root"}
    host.lab.run("restic", "-r", "/mnt/own/restic", "init", env=environment)
    first = host.product("backup")
    assert first.code == 0, first
    host.upload(500)
    answer = host.product("backup", timeout=180)
    assert answer.code == 1 and "stopped before the disk is full" in answer.error["message"], answer
    assert host.free("/mnt/own") > host.reserve("/mnt/own") + 100 * MIB, "what it wrote is gone"
    assert [set_["name"] for set_ in host.product("list").document["sets"]] == [
        first.document["set"]
    ]
    host.lab.run("rm", UPLOAD)
    assert host.product("backup").code == 0
    assert host.product.leftovers() == []


# links and owners


def test_a_link_that_root_alone_can_change(host: Host) -> None:
    host.config("backup_path: /mnt/here\n")
    host.mount("/mnt/big")
    host.lab.run(
        "sh", "-c", "chmod 0755 /mnt; mkdir -p /mnt/here; install -d -m 0700 /mnt/big/sets"
    )
    host.lab.run("ln", "-s", "/mnt/big/sets", "/mnt/here/mattermost")
    for _ in range(2):
        assert host.product("backup").code == 0
    assert len(host.product("list").document["sets"]) == 2
    assert host.product("verify").code == 0
    assert len([path for path in host.files("/mnt/big") if path.endswith("manifest.json")]) == 2
    with host.unmounted("/mnt/big"):
        answer = host.product("backup")
        assert answer.code == 1 and "not the place that was used" in said(answer)
        assert host.files("/mnt/big") == []
    host.lab.run("chmod", "0777", "/mnt/big/sets")
    assert "cannot be trusted" in said(host.product("backup"))


def test_a_link_in_gitlabs_own_folder_and_its_hints(host: Host) -> None:
    sets = "/var/opt/gitlab/backups/mattermost"
    assert host.product("backup").code == 0
    host.mount("/mnt/big")
    host.lab.run("sh", "-c", f"mv {sets} /mnt/big/mattermost; ln -s /mnt/big/mattermost {sets}")
    answer = host.product("backup")
    assert answer.code == 1 and "others than root can change the link" in answer.error["detail"]
    (wanted,) = re.findall(r"backup_path: \S+", answer.error["hint"])
    host.lab.run("rm", sets)
    host.config(f"{wanted}\n")
    assert host.product("backup").code == 0
    assert len(host.product("list").document["sets"]) == 2

    host.config("")
    host.lab.run("sh", "-c", f"mv /mnt/big/mattermost /mnt/big/sets; ln -s /mnt/big/sets {sets}")
    answer = host.product("list")
    (commands,) = re.findall(r"(rm .*mount --bind \S+ \S+);", answer.error["hint"])
    host.lab.run("sh", "-ec", commands)
    try:
        assert host.product("backup").code == 0
        assert len(host.product("list").document["sets"]) == 3
    finally:
        host.lab.run("umount", sets)


def test_a_folder_where_root_is_nobody(host: Host) -> None:
    host.config("backup_path: /mnt/nfs\n")
    host.mount("/mnt/nfs")
    host.lab.run("install", "-d", "-o", "nobody", "-m", "0700", "/mnt/nfs/mattermost")
    answer = host.product("backup")
    assert answer.code == 1 and "no_root_squash" in answer.error["hint"], answer
    (wanted,) = re.findall(r"offsite: \[.*?\]", answer.error["hint"])
    host.config(f"{wanted}\n")
    made = host.product("backup")
    assert made.code == 0, made
    assert host.product("verify", "--from", "/mnt/nfs/mattermost").code == 0
    assert len(host.product("list").document["sets"]) == 1
