"""Completion in real shells with the package installed: bash and zsh on a terminal, fish by asking it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitlab_mm_backup.cli.main import commands_of, group
from tests.lab.installed_package import install_product
from tests.lab.sandbox import Lab
from tests.unit.helpers.builders import NAME, make_set

STORE = "/var/opt/gitlab/backups/mattermost"
REMOTES = """\
offsite:
  - remote: nas:backups/mattermost
  - remote: /mnt/usb disk/copies
    name: usb
  - remote: /mnt/disk/mattermost
  - remote: gitlab
"""
DAMAGED = "1795396400_2026_11_23_10.11.4"
VERBS = tuple(sorted(name for name, verb in commands_of(group).items() if not verb.hidden))
PROMPT = "ready> "
KILL_LINE = "\x15"
SECONDS = 20
CONTROLS = r"\x1b\[[0-9;?]*[A-Za-z]|[\x07\r]"
BASH = ("bash", "--noprofile", "--norc", "-i")
ZSH = ("zsh", "-f", "-i")
START = {
    BASH: "bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'; "
    ". /usr/share/bash-completion/bash_completion",
    ZSH: "autoload -U compinit && compinit -u -D",
}


@pytest.fixture(scope="module")
def lab(base: Path, deb: Path) -> Iterator[Lab]:
    """A host with our package, one complete set and one that is not."""
    with Lab(base=base) as lab:
        install_product(lab, deb)
        lab.run("mkdir", "-p", f"{STORE}/{DAMAGED}", "/root/a/folder")
        make_set(lab.path(STORE))
        lab.write("/etc/gitlab-mm-backup/config.yml", REMOTES, mode=0o640)
        yield lab


class Terminal:
    """Somebody who types into a shell."""

    def __init__(self, lab: Lab, shell: tuple[str, ...], user: str = "root") -> None:
        self._master, slave = pty.openpty()
        environment = {"TERM": "dumb", "PS1": PROMPT, "PROMPT": PROMPT, "COLUMNS": "200"}
        self._process = lab.popen(
            "setsid", "--ctty", "--wait", *shell, user=user, env=environment, cwd="/root/a"
            if user == "root" else "/", stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        self._seen = ""
        self.type(f"{START[shell]}; echo up=$((1 + 1))\r", "up=2")

    def type(self, keys: str, until: str) -> str:
        """Type, wait until the text is shown, and return what was shown meanwhile."""
        os.write(self._master, keys.encode())
        self._seen, end = "", time.monotonic() + SECONDS
        while until not in re.sub(CONTROLS, "", self._seen):
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{until!r} did not appear: {self._seen!r}")
            self._seen += os.read(self._master, 65536).decode(errors="replace")
        return self._seen

    def complete(self, line: str, until: str = "") -> list[str]:
        """Press TAB after a line, wait for a word, and return all that was shown."""
        shown = self.type(f"{line}\t", until)
        shown += self.type(f"{KILL_LINE}echo done=$((1 + 1))\r", "done=2")
        return re.sub(CONTROLS, " ", shown.partition("echo done")[0]).split()

    def close(self) -> None:
        os.close(self._master)
        self._process.wait(SECONDS)


@pytest.fixture(scope="module", params=[BASH, ZSH], ids=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Terminal]:
    terminal = Terminal(lab, request.param)
    yield terminal
    terminal.close()


def test_verbs(terminal: Terminal) -> None:
    words = terminal.complete("gitlab-mm ", "verify")
    assert set(VERBS) <= set(words)
    assert "take-over" not in words, "a command of host"


def test_verbs_of_a_group(terminal: Terminal) -> None:
    words = terminal.complete("gitlab-mm sso ", "repair")
    assert {"check", "repair"} <= set(words)
    assert "restore" not in words


def test_options_of_the_verb(terminal: Terminal) -> None:
    words = terminal.complete("gitlab-mm restore --", "--with-etc")
    assert {"--at", "--only", "--json", "--config", "--help"} <= set(words)
    assert "--rotate" not in words
    assert "--rotate" in terminal.complete("gitlab-mm sso repair --", "--rotate")


def test_values_of_an_option(terminal: Terminal) -> None:
    words = terminal.complete("gitlab-mm-restore --only ", "sso")
    assert {"config", "database", "files", "sso"} <= set(words)
    assert NAME not in words


@pytest.mark.parametrize(
    "line", ["gitlab-mm restore ", "gitlab-mm verify --json ", "gitlab-mm-restore --yes "]
)
def test_names_of_complete_sets(line: str, terminal: Terminal) -> None:
    words = terminal.complete(line, NAME)
    assert DAMAGED not in words


def test_a_set_may_be_the_latest_or_a_path_that_is_begun(terminal: Terminal) -> None:
    words = terminal.complete("gitlab-mm restore ", NAME)
    assert "latest" in words and "folder/" not in words
    assert "latest" not in terminal.complete("gitlab-mm pin ", NAME), "which takes a name only"
    terminal.type("cd /; echo moved=$((1 + 1))\r", "moved=2")
    try:
        assert not {"bin", "etc/", "root/"} & set(terminal.complete("gitlab-mm restore ", NAME))
    finally:
        terminal.type("cd /root/a; echo back=$((1 + 1))\r", "back=2")


@pytest.mark.parametrize("line", ["gitlab-mm restore --from ", "gitlab-mm-restore -n --from "])
def test_remotes_of_the_settings(line: str, terminal: Terminal) -> None:
    words = terminal.complete(line, "usb")
    assert {"gitlab", "nas", "usb", "mattermost"} <= set(words)
    assert not {NAME, "folder/", "--json", "null"} & set(words)
    assert "./folder/" in terminal.complete(f"{line}./fol", "./folder/")
    assert "--from=nas" in "".join(terminal.complete(f"{line.rstrip()}=na", "=nas"))


def test_options_of_the_settings(terminal: Terminal) -> None:
    words = terminal.complete("gitlab-mm config explain compression.", "threads")
    assert {"compression.files_level", "compression.threads"} <= set(words)
    assert "folder/" not in terminal.complete("gitlab-mm config explain ", "offsite")
    assert "compression" not in terminal.complete("gitlab-mm host trust ", "")


def test_a_started_name_is_finished(terminal: Terminal) -> None:
    words = terminal.complete(f"gitlab-mm restore {NAME[:12]}", NAME[12:])
    assert any(word.endswith(NAME[12:]) for word in words)


def test_files_where_a_file_is_wanted(terminal: Terminal) -> None:
    assert "folder/" in terminal.complete("gitlab-mm list --config fol", "folder/")
    assert "./folder/" in terminal.complete("gitlab-mm verify ./fol", "./folder/")
    assert "--config=folder/" in terminal.complete("gitlab-mm list --config=fol", "folder/")


@pytest.mark.parametrize("shell", [BASH, ZSH], ids=["bash", "zsh"])
def test_it_is_silent_for_who_may_not_see_sets(shell: tuple[str, ...], lab: Lab) -> None:
    terminal = Terminal(lab, shell, user="nobody")
    shown = " ".join(terminal.complete("gitlab-mm restore 1795", "1795"))
    terminal.close()
    assert NAME not in shown
    assert not re.search("error|root|denied", shown, re.IGNORECASE)


def ask_fish(lab: Lab, line: str) -> list[str]:
    """What fish offers for a line, one word each, without the descriptions."""
    shown = lab.run("fish", "-c", f"complete -C '{line}'", cwd="/root/a").stdout
    return [line.split("\t")[0] for line in shown.splitlines()]


def test_fish(lab: Lab) -> None:
    assert ask_fish(lab, "gitlab-mm ") == list(VERBS)
    assert ask_fish(lab, "gitlab-mm sso ") == ["check", "repair"]
    options = ask_fish(lab, "gitlab-mm restore --")
    assert {"--at", "--only", "--json", "--config", "--help"} <= set(options)
    assert "--rotate" not in options and "--rotate" in ask_fish(lab, "gitlab-mm sso repair --")
    assert ask_fish(lab, "gitlab-mm-restore --only ") == ["config", "database", "files", "sso"]
    offered = ask_fish(lab, "gitlab-mm verify ")
    assert NAME in offered and DAMAGED not in offered
    assert "latest" in offered and "folder/" not in offered
    assert ask_fish(lab, "gitlab-mm verify ./fol") == ["./folder/"]
    assert ask_fish(lab, "gitlab-mm list --config fol") == ["folder/"]
    assert set(ask_fish(lab, "gitlab-mm restore --from ")) == {"gitlab", "nas", "usb", "mattermost"}
    assert "compression.threads" in ask_fish(lab, "gitlab-mm config explain comp")


def test_the_scripts_pass_shellcheck(lab: Lab) -> None:
    scripts = sorted(lab.path("/usr/share/bash-completion/completions").glob("gitlab-mm*"))
    assert len(scripts) == 3
    done = subprocess.run(
        ["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
