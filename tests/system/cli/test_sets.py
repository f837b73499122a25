"""What an administrator does with single sets: a note, a pin, a look, and the removal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab

CONFIG = "/etc/gitlab-mm-backup/config.yml"
COPIES = "/srv/copies"
LOCK = "/run/gitlab-mm-backup.lock"
RULES = """follow_gitlab: false
rehearse: off
keep:
  last: 1
offsite:
  - remote: nas:copies
"""
RCLONE = "[nas]\ntype = alias\nremote = /srv\n"


@dataclass(frozen=True)
class Host:
    """A server with a copy of each set in another folder."""

    lab: Lab
    product: Product

    def backup(self, *words: str) -> str:
        answer = self.product("backup", *words)
        assert answer.code == 0, answer
        return str(answer.document["set"])

    def sets(self) -> list[str]:
        return [set_["name"] for set_ in self.product("list").document["sets"]]

    def copies(self) -> list[str]:
        return sorted(name for name in os.listdir(self.lab.path(COPIES)) if name[0] != ".")


@pytest.fixture(scope="module")
def host(base: Path, deb: Path) -> Iterator[Host]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.run("mkdir", "-p", "/root/.config/rclone")
        lab.write("/root/.config/rclone/rclone.conf", RCLONE, mode=0o600)
        lab.run("mkdir", "-p", COPIES)
        lab.write(CONFIG, RULES, mode=0o600)
        yield Host(lab, product)


def test_a_pinned_set_and_its_copy_outlive_the_rules(host: Host) -> None:
    pinned = host.backup("--note", "before the move to the new disks")
    assert host.product("pin", pinned).code == 0
    between, newest = host.backup(), host.backup()
    assert host.sets() == [newest, pinned]
    assert host.copies() == sorted([newest, pinned])
    told = host.product.run("list").stdout
    assert f"{pinned}  " in told and "  pinned\n  note: before the move to the new disks\n" in told
    shown = host.product("info", pinned).document
    assert (shown["pinned"], shown["note"]) == (True, "before the move to the new disks")
    assert shown["copies"] == ["nas"]
    planned = {set_["name"]: set_ for set_ in host.product("prune", "-n").document["sets"]}
    assert planned[pinned]["reason"] == "pinned"

    assert host.product("unpin", pinned).code == 0
    newest = host.backup()
    assert host.sets() == [newest] and host.copies() == [newest]
    assert between not in host.sets()


def test_a_set_is_removed_and_its_copy_stays(host: Host) -> None:
    host.lab.write(CONFIG, RULES.replace("last: 1", "last: 2"), mode=0o600)
    name = host.backup()
    (*_, old) = host.sets()
    assert old != name
    answer = host.product("delete", old, "--yes")
    assert (answer.code, answer.document["removed"]) == (0, [old])
    assert host.sets() == [name]
    assert old in host.copies()
    assert host.product.leftovers() == []
    host.lab.write(CONFIG, RULES, mode=0o600)


def test_a_run_waits_for_another_where_it_is_told_to(host: Host) -> None:
    held = host.lab.popen("flock", LOCK, "sh", "-c", "echo held; read go", stdin=subprocess.PIPE)
    assert held.stdout is not None and held.stdin is not None
    held.stdout.readline()
    assert host.product("backup").code == 3
    waiting = host.lab.popen("gitlab-mm", "backup", "--wait", "--verbose")
    assert waiting.stderr is not None
    next(line for line in waiting.stderr if "Waiting for the end of another run" in line)
    held.stdin.write("\n")
    held.stdin.close()
    assert (held.wait(30), waiting.wait(120)) == (0, 0)


def test_a_damaged_set_is_answered_with_what_is_next_best(host: Host) -> None:
    host.lab.write(CONFIG, RULES.replace("last: 1", "last: 2"), mode=0o600)
    sound, damaged = host.backup(), host.backup()
    path = host.product("info", damaged).document["path"]
    host.lab.run("truncate", "--size=-1", f"{path}/files.tar.zst")
    wanted = [
        f"A copy of it: gitlab-mm restore --from nas {damaged}",
        f"The newest sound set: gitlab-mm restore {sound}",
    ]
    for verb in (("restore", "--yes", damaged), ("verify", damaged)):
        answer = host.product(*verb)
        assert (answer.code, answer.error["hint"].splitlines()) == (1, wanted), answer
    for number, line in enumerate(wanted):  # as printed, but without a question
        words = line.partition(": gitlab-mm restore ")[2].split()
        done = host.product("restore", "--dry-run" if number else "--yes", *words)
        assert done.code == 0, done


def test_an_empty_host_is_told_the_ways_and_a_wrong_place_what_is_there(host: Host) -> None:
    host.lab.run("mv", "/var/opt/gitlab/backups/mattermost", "/mnt/away")
    host.lab.run("rm", "-r", "/var/lib/gitlab-mm-backup/places.json")
    try:
        answer = host.product("restore", "--yes")
        assert answer.code == 1 and "There is no set in" in answer.error["message"]
        for way in ("--from gitlab", "--from nas:", "--from restic:", "/path/of/a/set"):
            assert way in answer.error["hint"]
        assert "gitlab-mm backup" not in answer.error["hint"]
        older = "/srv/another/1000000000_2001_09_09_10.11.20-d2ff35"
        host.lab.run("mkdir", "-p", older)
        host.lab.write(f"{older}/manifest.json", "{}")
        answer = host.product("restore", "--yes", "--from", "nas:")
        assert answer.error["hint"] == "Give that: --from nas:copies", answer
        host.lab.run("mkdir", "-p", "/srv/photos/holiday")
        host.lab.write("/srv/photos/holiday/1.jpg", "")
        answer = host.product("restore", "--yes", "--from", "nas:photos")
        assert answer.error["detail"] == "nas:photos has: holiday", answer
        answer = host.product("restore", "--yes", "/mnt/away/")
        assert "/mnt/away has" in answer.error["detail"]
        assert host.product("restore", "--dry-run", answer.error["hint"].split()[-1]).code == 0
    finally:
        host.lab.run("rm", "-rf", "/var/opt/gitlab/backups/mattermost")
        host.lab.run("mv", "/mnt/away", "/var/opt/gitlab/backups/mattermost")
