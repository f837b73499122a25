"""Our commands in gitlab-ctl: the file in hooks/gitlab-ctl, run by Ruby behind omnibus-ctl's interface.

The loader is a stand-in (tests/lab/fakes/omnibus_ctl.rb) with the original's habits.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.disks import CHECKOUT
from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab, wait_until

SOURCE = CHECKOUT / "hooks/gitlab-ctl/mattermost_backup.rb"
FOLDER = "/opt/gitlab/embedded/service/omnibus-ctl-mm-backup"
PROGRAM = "/usr/bin/gitlab-mm"
LOADER = (
    "ruby",
    "/lab/src/tests/lab/fakes/omnibus_ctl.rb",
    "gitlab",
    "/opt/gitlab/embedded/service/omnibus-ctl*",
)
COMMANDS = {
    "mattermost-backup": "backup",
    "mattermost-restore": "restore",
    "mattermost-sso": "sso",
    "mattermost-doctor": "doctor",
}
# Prints its process and its arguments, each ended by a null; exits with the given code.
RECORDER = """\
#!/bin/sh
printf '%s\\0' "$$" "$@" >/tmp/called
exit "${CODE:-0}"
"""


@pytest.fixture(scope="module")
def lab(base: Path) -> Iterator[Lab]:
    """A host with our command file and a gitlab-mm that only records how it was called."""
    with Lab(base=base) as lab:
        lab.write(f"{FOLDER}/{SOURCE.name}", SOURCE.read_bytes())
        lab.write(PROGRAM, RECORDER, mode=0o755)
        yield lab


def called(lab: Lab) -> tuple[int, list[str]]:
    process, *arguments = lab.read("/tmp/called").split("\0")[:-1]
    return int(process), arguments


def under_backup(help_: str) -> list[str]:
    """The commands that the help lists in its section for backups."""
    section = re.search(r"^Backup Commands:\n((?:  .*\n)+)", help_, re.MULTILINE)
    assert section, help_
    return re.findall(r"^  (\S+)\n    \S", section[1], re.MULTILINE)


def test_help_lists_the_commands_under_backup(lab: Lab) -> None:
    assert under_backup(lab.run(*LOADER, "help").stdout) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_calls_its_verb(command: str, lab: Lab) -> None:
    lab.run(*LOADER, command)
    assert called(lab)[1] == [COMMANDS[command]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["latest"],
        ["--json", "-v", "-q", "--help"],
        ["a b", "", "'", '"', "$HOME", "`id`", "*", "\\", "\n", "é", "--", "-", "help"],
        ["", "second"],
    ],
    ids=["one word", "options", "odd ones", "an empty one first"],
)
def test_arguments_arrive_as_they_were_given(arguments: list[str], lab: Lab) -> None:
    done = lab.run(*LOADER, "mattermost-restore", *arguments)
    assert (done.stdout, done.stderr) == ("", "")
    assert called(lab)[1] == ["restore", *arguments]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5])
def test_the_exit_code_is_the_program_s(code: int, lab: Lab) -> None:
    done = lab.run(*LOADER, "mattermost-doctor", env={"CODE": str(code)}, check=False)
    assert done.returncode == code


def test_signals_reach_the_program(lab: Lab) -> None:
    lab.write(PROGRAM, RECORDER.replace("exit", "exec sleep 60 #"), mode=0o755)
    lab.path("/tmp/called").unlink(missing_ok=True)
    running = lab.popen(*LOADER, "mattermost-backup")
    wait_until(lambda: lab.path("/tmp/called").exists(), 10, "the program to start")
    lab.send_signal(running, signal.SIGTERM)
    assert running.wait(10) == -signal.SIGTERM
    gone = lab.run("kill", "-0", str(called(lab)[0]), check=False)
    lab.write(PROGRAM, RECORDER, mode=0o755)
    assert gone.returncode != 0


@pytest.mark.parametrize("state", ["missing", "not executable"])
def test_without_the_program_only_our_commands_fail_and_say_why(state: str, lab: Lab) -> None:
    program = lab.path(PROGRAM)
    try:
        program.unlink() if state == "missing" else program.chmod(0o644)
        done = lab.run(*LOADER, "mattermost-backup", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "gitlab-ctl mattermost-backup: " in done.stderr and PROGRAM in done.stderr
        assert "install that again" in done.stderr
        assert under_backup(lab.run(*LOADER, "help").stdout) == sorted(COMMANDS)
    finally:
        lab.write(PROGRAM, RECORDER, mode=0o755)


def test_a_gitlab_ctl_without_the_interface_goes_on_working(lab: Lab) -> None:
    loader = lab.read(LOADER[1]).replace("def add_command_under_category", "def another")
    lab.write("/tmp/loader.rb", loader)
    done = lab.run("ruby", "/tmp/loader.rb", *LOADER[2:], "help")
    assert "General Commands:" in done.stdout and "mattermost" not in done.stdout


def test_the_file_is_read_in_any_locale_and_without_a_warning(lab: Lab) -> None:
    checked = lab.run("ruby", "-wc", f"{FOLDER}/{SOURCE.name}", env={"LANG": "C", "LC_ALL": "C"})
    assert (checked.stdout, checked.stderr) == ("Syntax OK\n", "")
    assert SOURCE.read_bytes().isascii()


def test_the_installed_package_answers_through_gitlab_ctl(base: Path, deb: Path) -> None:
    with Lab(base=base) as host:
        install(host, Spec())
        install_product(host, deb)
        assert host.read(f"{FOLDER}/{SOURCE.name}") == SOURCE.read_text()
        help_ = host.run("gitlab-ctl", "help").stdout
        assert under_backup(help_) == ["backup-etc", *sorted(COMMANDS)]
        made = json.loads(host.run("gitlab-ctl", "mattermost-backup", "--json").stdout)
        listed = json.loads(host.run("gitlab-mm", "list", "--json").stdout)["sets"]
        assert [set_["name"] for set_ in listed] == [made["set"]]
        checked = host.run("gitlab-ctl", "mattermost-sso", "check", "--json", check=False)
        assert json.loads(checked.stdout)["command"] == "sso check"
        wrong = host.run("gitlab-ctl", "mattermost-restore", "--at", "a b", "--yes", check=False)
        assert wrong.returncode == 2
        assert "'a b' is not a date" in wrong.stderr
        unknown = host.run("gitlab-ctl", "mattermost-unknown", check=False)
        assert unknown.returncode == 1
