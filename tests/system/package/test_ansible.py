"""The Ansible role of the examples, run by ansible-core from PyPI on a host that has our repository or a package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.publisher import PUBLISHED, URL, Publisher, forget_debian
from tests.lab.sandbox import Lab

PLAYBOOK = "/lab/src/debian/examples/ansible/site.yml"
ANSIBLE = "/lab/src/build/venv/bin"
SETTINGS = "/etc/gitlab-mm-backup/config.d"
RCLONE = "/root/.config/rclone/rclone.conf"
CANARY = "c4n4ryOfTheFleet"
VAULT_PASSWORD = "/root/vault-password"
HOSTS = """\
[gitlab]
lab ansible_connection=local ansible_python_interpreter=/usr/bin/python3
"""
HOOK = f"https://mm.example.org/hooks/{CANARY}"
NOTIFIED = {"type": "mattermost", "to": "{{ hook }}", "on": "always"}
CONFIG = {"10-fleet": {"keep_time": "4w"}, "50-group": {"notifications": [NOTIFIED]}}
FROM_REPOSITORY = {
    "gitlab_mm_backup_repository": URL,
    "gitlab_mm_backup_key": f"{PUBLISHED}/gitlab-mm-backup.asc",
    "gitlab_mm_backup_config": CONFIG,
}


@dataclass(frozen=True)
class Run:
    """What a run of the playbook came to."""

    code: int
    said: str

    @property
    def changed(self) -> int:
        return self._counted("changed")

    def _counted(self, what: str) -> int:
        (number,) = re.findall(rf"^lab +: .*\b{what}=(\d+)", self.said, re.MULTILINE)
        return int(number)


@dataclass(frozen=True)
class Fleet:
    """A host that Ansible configures, which is its own controller."""

    lab: Lab

    def play(self, variables: Mapping[str, Any], *options: str) -> Run:
        """Run site.yml with these variables, and those of vaults if there are any."""
        self.lab.write("/root/variables/plain.yml", yaml.safe_dump(dict(variables)))
        names = self.lab.run("ls", "/root/variables").stdout.split()
        words = [word for name in names for word in ("-e", f"@/root/variables/{name}")]
        done = self.ansible("ansible-playbook", PLAYBOOK, "-i", "/root/hosts", *words, *options)
        assert "Traceback" not in done.said, done.said
        return done

    def ansible(self, program: str, *words: str) -> Run:
        command = (f"{ANSIBLE}/python", f"{ANSIBLE}/{program}", *words)
        settings = {"NOCOLOR": "1", "PIPELINING": "1", "VAULT_PASSWORD_FILE": VAULT_PASSWORD}
        environment = {f"ANSIBLE_{name}": value for name, value in settings.items()}
        done = self.lab.run(*command, env=environment, check=False)
        return Run(done.returncode, done.stdout + done.stderr)

    def mode(self, path: str) -> str:
        return self.lab.run("stat", "-c", "%a %U:%G", path).stdout.strip()


def prepare(lab: Lab) -> Fleet:
    forget_debian(lab)
    lab.write("/root/hosts", HOSTS)
    lab.write(VAULT_PASSWORD, "word\n", mode=0o600)
    return Fleet(lab)


@pytest.fixture(scope="module")
def fleet(base: Path, deb: Path) -> Iterator[Fleet]:
    """A host with our repository, and two vaults: a file, and a string in a file."""
    with Lab(base=base) as lab:
        Publisher(lab, deb).serve()
        made = prepare(lab)
        secret = {"gitlab_mm_backup_rclone_conf": f"[nas]\ntype = sftp\npass = {CANARY}\n"}
        lab.write("/root/variables/rclone.yml", yaml.safe_dump(secret), mode=0o600)
        for words in (
            ("encrypt", "/root/variables/rclone.yml"),
            ("encrypt_string", "--output", "/root/variables/hook.yml", "--name", "hook", HOOK),
        ):
            done = made.ansible("ansible-vault", *words)
            assert done.code == 0, done
        assert "!vault" in lab.read("/root/variables/hook.yml")
        yield made


def test_check_mode_before_the_first_run_changes_nothing(fleet: Fleet) -> None:
    done = fleet.play(FROM_REPOSITORY, "--check", "--diff")
    assert (done.code, done.changed > 0) == (0, True), done.said
    for path in (SETTINGS, RCLONE, "/etc/apt/keyrings/gitlab-mm-backup.asc"):
        assert not fleet.lab.path(path).exists()


def test_the_first_run_changes_and_the_second_nothing(fleet: Fleet) -> None:
    first = fleet.play(FROM_REPOSITORY, "-vvv", "--diff")
    assert (first.code, first.changed) == (0, 6), first.said
    assert CANARY not in first.said, "a secret was shown"
    assert "config.yml is valid. Changed from default: keep_time, notifications" in first.said
    assert fleet.mode(f"{SETTINGS}/10-fleet.yml") == "640 root:root"
    assert fleet.mode(RCLONE) == "600 root:root"
    assert HOOK in fleet.lab.read(f"{SETTINGS}/50-group.yml")
    shown = fleet.lab.run("gitlab-mm", "config", "show").stdout
    assert re.search(r"^keep_time +4w +10-fleet\.yml, line 2$", shown, re.MULTILINE), shown
    again = fleet.play(FROM_REPOSITORY)
    assert (again.code, again.changed) == (0, 0), again.said


def test_wrong_settings_stop_it_before_anything_is_written(fleet: Fleet) -> None:
    before = fleet.lab.read(f"{SETTINGS}/10-fleet.yml")
    wrong = {"10-fleet": {"keep_time": "5w"}, "50-group": {"keep_tiem": CANARY}}
    for options in ((), ("--check",)):
        done = fleet.play({**FROM_REPOSITORY, "gitlab_mm_backup_config": wrong}, *options)
        assert done.code == 2
        assert "50-group: " in done.said and "did you mean keep_time?" in done.said, done.said
        assert CANARY not in done.said
        assert fleet.lab.read(f"{SETTINGS}/10-fleet.yml") == before


def test_a_package_file_is_installed_where_there_is_no_repository(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        lab.path("/root/ours.deb").write_bytes(deb.read_bytes())
        fleet, file = prepare(lab), {"gitlab_mm_backup_deb": "/root/ours.deb"}
        variables = {**file, "gitlab_mm_backup_repository": "", "gitlab_mm_backup_config": {}}
        for options, changes in ((("--check",), 1), ((), 2), ((), 0)):
            done = fleet.play(variables, *options)
            assert (done.code, done.changed) == (0, changes), done.said
        assert "config.yml is valid. Changed from default: nothing" in done.said
