"""The command line from outside: exit codes, one JSON object, no more imports than needed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.cli import listing, main, output
from gitlab_mm_backup.config.settings import Rules
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.result import CommandResult
from gitlab_mm_backup.store import prune
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.system.log import SystemLog
from tests.answers import validate
from tests.unit.helpers.builders import NAME, OWNER, ROOT, make_set

# In a fresh interpreter, as the installed program; prints afterwards what was imported.
FRESH = """
import json, sys
from gitlab_mm_backup.cli import main as cli

sys.argv = ["gitlab-mm", *sys.argv[1:]]
try:
    cli.main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@dataclass(frozen=True)
class Done:
    """How the program ended."""

    returncode: int
    stdout: str
    stderr: str


class Cli:
    """Run the command line in a separate process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yml"
        self.config.write_text(f"backup_path: {folder}/backups\n", encoding="utf-8")

    def run(self, *arguments: str, uid: int = 0, entry: str = "main") -> Done:
        """Run a program's entry point in a child of this process."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                self._become(uid, out.fileno(), err.fileno(), ["gitlab-mm", *arguments], entry)
            _, status = os.waitpid(child, 0)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return Done(os.waitstatus_to_exitcode(status), *texts)

    def _become(self, uid: int, out: int, err: int, argv: list[str], entry: str) -> None:
        """Be the program to its end; never returns."""
        code: object = 1
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            sys.stdin = io.TextIOWrapper(io.FileIO(0))
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), "utf-8")
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), "utf-8", "replace")
            sys.argv = argv
            if uid:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            try:
                getattr(main, entry)()
                code = 0
            except SystemExit as leaving:
                code = leaving.code or 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code if isinstance(code, int) else 1)

    def json(self, *arguments: str, code: int, **how: Any) -> dict[str, Any]:
        """Run with --json; return the one object, once its common keys are as promised."""
        done = self.run(*arguments, "--json", **how)
        assert "Traceback" not in done.stderr, done.stderr
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        assert done.stdout.count("\n") == 1
        assert done.returncode == code == document["exit_code"]
        assert document["ok"] is (code in (0, 4))
        assert (document["error"] is None) is (code in (0, 4)) or "checks" in document
        validate(document)
        return document


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


# usage


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-verb",),
        ("backup", "--no-such-option"),
        ("backup", "argument"),
        ("list", "--config"),
        ("restore", "a", "b"),
        ("sso", "no-such-verb"),
        ("sso", "repair", "--from"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], cli: Cli) -> None:
    done = cli.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("no-such-verb",), ("backup", "--no-such-option"), ("restore", "a", "b"), ("sso", "x")],
)
def test_bad_usage_gives_one_json_object_too(arguments: tuple[str, ...], cli: Cli) -> None:
    assert cli.json(*arguments, code=2)["error"]["message"]


@pytest.mark.parametrize("entry", ["main", "main_backup", "main_restore"])
def test_every_program_keeps_the_promise(entry: str, cli: Cli) -> None:
    cli.json("--no-such-option", code=2, entry=entry)


def test_bad_settings(cli: Cli) -> None:
    cli.config.write_text("keep_tiem: 7d\n", encoding="utf-8")
    document = cli.json("list", "--config", str(cli.config), code=2)
    assert "line 1: keep_tiem" in document["error"]["detail"]


def test_a_settings_file_that_was_asked_for_must_be_there(cli: Cli) -> None:
    cli.json("list", "--config", str(cli.folder / "no-such.yml"), code=2)


# not root


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup",),
        ("backup", "--if-present"),
        ("restore", "--yes"),
        ("list",),
        ("verify",),
        ("prune",),
        ("doctor",),
        ("sso", "check"),
        ("sso", "repair"),
    ],
)
def test_only_root_may(arguments: tuple[str, ...], cli: Cli) -> None:
    document = cli.json(*arguments, code=2, uid=65534)
    assert document["error"]["message"] == "This must be run by root"


def test_everybody_may_ask_for_the_status(cli: Cli) -> None:
    """There is no summary on this machine."""
    document = cli.json("status", code=2, uid=65534)
    assert document["error"]["hint"] == "sudo gitlab-mm status"
    assert cli.run("status", "--nagios", uid=65534).returncode == 3


def test_what_is_not_root_s_is_said_in_words_too(cli: Cli) -> None:
    done = cli.run("list", uid=65534)
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be run by root" in done.stderr


# help and version


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("sso", "repair", "--help")])
def test_help_is_for_everybody(arguments: tuple[str, ...], cli: Cli) -> None:
    done = cli.run(*arguments, uid=65534)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: gitlab-mm")


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("backup", "--help")])
def test_help_and_version_import_little(arguments: tuple[str, ...], cli: Cli) -> None:
    metadata = cli.folder / "gitlab_mm_backup-7.8.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Name: gitlab-mm-backup\nVersion: 7.8.9\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-B", "-c", FRESH, *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(cli.folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "gitlab-mm, version 7.8.9\n" or arguments != ("--version",)
    modules = json.loads(done.stderr)
    assert "click" in modules
    assert [
        module for module in modules if module.split(".")[0] in ("psycopg", "rich", "yaml")
    ] == []


def test_every_command_is_where_the_table_says() -> None:
    names = {name: main.command(name).name for name in main.COMMANDS}
    assert names == {name: name for name in main.COMMANDS} | {"recovery-kit": "kit"}


def test_an_old_name_is_read_and_not_shown(cli: Cli) -> None:
    told = cli.run("--help").stdout
    assert "  recovery-kit " in told and "  kit " not in told and "  gate " not in told
    for name in ("kit", "recovery-kit"):
        assert f"Usage: gitlab-mm {name} [OPTIONS] [FILE]" in cli.run(name, "--help").stdout


def test_the_table_has_the_first_words_of_each_command() -> None:
    for name, (_, _, line) in main.COMMANDS.items():
        command = main.command(name)
        first = " ".join((command.help or "").split("\n\n")[0].split())
        assert line == ("" if command.hidden else first), name


def test_help_tells_the_exit_codes(cli: Cli) -> None:
    told = " ".join(cli.run("--help").stdout.split())
    for text in ("0 done", "1 failed", "2 bad usage", "3 another run", "4 done, with", "5 failed"):
        assert text in told


# verbs that need no Mattermost


def test_no_sets(cli: Cli) -> None:
    assert cli.json("list", "--config", str(cli.config), code=0)["sets"] == []
    document = cli.json("verify", "--config", str(cli.config), code=1)
    assert document["error"]["message"].startswith("There is no set")


def test_the_list_of_sets(cli: Cli) -> None:
    folder = cli.folder / "backups" / "mattermost"
    make_set(folder)
    (folder / "1795396400_2026_11_23_10.11.4").mkdir()
    newest, oldest = cli.json("list", "--config", str(cli.config), code=0)["sets"]
    assert (newest["complete"], oldest["complete"]) == (False, True)
    assert "no manifest.json" in newest["problem"]
    assert (oldest["name"], oldest["rows"], oldest["path"]) == (NAME, 44, str(folder / NAME))
    done = cli.run("list", "--config", str(cli.config))
    headings, *heads = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert headings.split() == list(listing.HEADINGS)
    assert [line.split()[0] for line in heads] == [newest["name"], NAME]
    assert heads[1].split()[-3:] == ["never", "never", "0"]
    assert (oldest["verified"], oldest["rehearsed"]) == (None, None)


@pytest.mark.parametrize(
    ("part", "key", "value"), [("files", "files", "many"), ("", "started", "2026-11-21T01:13:20")]
)
def test_one_odd_set_does_not_hide_the_others(part: str, key: str, value: str, cli: Cli) -> None:
    folder = cli.folder / "backups" / "mattermost"
    make_set(folder)
    odd = make_set(folder, "1795223600_2026_11_21_10.11.4").path / "manifest.json"
    document = json.loads(odd.read_text())
    (document[part] if part else document)[key] = value
    odd.write_text(json.dumps(document), encoding="utf-8")
    assert len(cli.json("list", "--config", str(cli.config), code=0)["sets"]) == 2
    planned = prune.plan(LocalStore(folder), Rules(timedelta(days=7)), OWNER)
    assert NAME in [decision.name for decision in planned.decisions]


def test_a_store_that_cannot_be_trusted(cli: Cli) -> None:
    folder = cli.folder / "backups" / "mattermost"
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    document = cli.json("list", "--config", str(cli.config), code=1)
    assert "cannot be trusted" in document["error"]["message"]


def test_a_name_that_is_no_set(cli: Cli) -> None:
    document = cli.json("verify", "yesterday", "--config", str(cli.config), code=2)
    assert "'yesterday'" in document["error"]["message"]


def test_a_path_of_any_bytes_is_told_and_no_crash(cli: Cli) -> None:
    cli.json("verify", "/nowhere/caf\udce9", "--config", str(cli.config), code=1)


def test_a_host_without_gitlab(cli: Cli) -> None:
    if Path("/opt/gitlab").exists():
        raise AssertionError("these tests do not run on a GitLab server")
    assert cli.json("backup", "--if-present", code=0)["set"] is None
    done = cli.run("backup", "--if-present", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    document = cli.json("doctor", code=1)
    assert document["checks"][0] == {
        "name": "GitLab",
        "result": "failed",
        "detail": "Omnibus GitLab is not installed on this host",
    }


def test_the_log_is_not_told_that_nothing_was_due(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    log = SystemLog("backup", tmp_path / "none")
    monkeypatch.setattr(log, "write", lambda text, *more, **fields: told.append(text))
    output._keep(log, CommandResult({"set": None}, []), None, ExitCode.DONE, 0)
    output._keep(
        log, CommandResult({}, ["There is an answer"], answer=True), None, ExitCode.DONE, 0
    )
    assert told == []
    output._keep(log, CommandResult({}, ["Made it"]), None, ExitCode.DONE, 3)
    assert told == ["Made it", "Ended with exit code 0, done, after 3 s"]
    output._keep(log, CommandResult({}, []), Failure("It broke"), ExitCode.FAILED, 0)
    assert told[2] == "It broke" and told[3].startswith("Ended with exit code 1, failed")


# what people type


def test_a_misspelt_command_is_answered_with_what_may_have_been_meant(cli: Cli) -> None:
    done = cli.run("bakcup")
    assert (done.returncode, "Did you mean backup?" in done.stderr) == (2, True)
    done = cli.run("sso", "chekc")
    assert (done.returncode, "Did you mean check?" in done.stderr) == (2, True)
    done = cli.run("list", "--jsno")
    assert done.returncode == 2 and "Did you mean" in done.stderr and "--json" in done.stderr
    assert "Did you mean" not in cli.run("zzzz").stderr


def test_help_and_version_are_words_too(cli: Cli) -> None:
    assert cli.run("help").stdout == cli.run("--help").stdout
    assert cli.run("help", "sso", "repair").stdout == cli.run("sso", "repair", "--help").stdout
    assert cli.run("version").stdout == cli.run("-V").stdout == cli.run("--version").stdout


def test_common_options_may_come_before_the_command(cli: Cli) -> None:
    make_set(cli.folder / "backups" / "mattermost")
    done = cli.run("--json", "-c", str(cli.config), "list")
    assert [set_["name"] for set_ in json.loads(done.stdout)["sets"]] == [NAME]
    assert cli.run("-q", "-c", str(cli.config), "list").stdout == ""


def test_a_set_that_is_pinned_is_not_deleted(cli: Cli) -> None:
    folder, options = cli.folder / "backups" / "mattermost", ("--config", str(cli.config))
    make_set(folder)
    assert cli.json("pin", *options, NAME, code=0)["pinned"] is True
    assert cli.json("info", *options, NAME, code=0)["pinned"] is True
    refused = cli.json("delete", *options, NAME, "-y", code=2)
    assert refused["error"]["hint"] == f"First: gitlab-mm unpin {NAME}"
    assert cli.json("unpin", *options, NAME, code=0)["pinned"] is False
    assert "not pinned" in cli.json("unpin", *options, NAME, code=2)["error"]["message"]
    assert (folder / NAME).is_dir()
    assert "no terminal" in cli.json("delete", *options, NAME, code=2)["error"]["message"]
    for other in ("latest", str(folder / NAME)):
        refused = cli.json("delete", *options, other, "-y", code=2)
        assert refused["error"]["message"] == "Give the name of a set"
    assert cli.json("delete", *options, NAME, "-y", code=0)["removed"] == [NAME]
    assert not (folder / NAME).exists()


def test_what_is_known_of_a_set(cli: Cli) -> None:
    make_set(cli.folder / "backups" / "mattermost")
    told = cli.run("info", "--config", str(cli.config)).stdout
    for words in (
        f"Set:                 {NAME}",
        "Rows:                44",
        "Rehearsed:           never",
    ):
        assert words in told
