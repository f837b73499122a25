"""What debian/manual makes of the command line, without building the package."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from gitlab_mm_backup.cli import config, main
from gitlab_mm_backup.config import settings
from gitlab_mm_backup.errors import ExitCode
from tests.unit.helpers.builders import ROOT

# A new verb with a value of each kind; then the generator.
WITH_A_NEW_VERB = """
import runpy, sys
import click
from gitlab_mm_backup.cli import main as cli

@cli.group.command("rehearse-it")
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option("-o", "--output", type=click.Path(), help="It's where 'it' goes.")
@click.option("--pick", type=click.Choice(["one", "two"]), help=".A ~^`choice\\\\.")
@click.option("--covert", is_flag=True, hidden=True)
def new(**options):
    '''Prove a set - .all of it.'''

sys.argv = ["debian/manual", sys.argv[1]]
runpy.run_path("debian/manual", run_name="__main__")
"""


def generate(folder: Path, code: str = "", **environment: str) -> dict[str, str]:
    """Run the generator as debian/rules does; return every file's text by its path."""
    command = ["-c", code] if code else ["debian/manual"]
    done = subprocess.run(
        [sys.executable, "-B", *command, str(folder)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return generate(tmp_path_factory.mktemp("share"))


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return generate(tmp_path_factory.mktemp("more"), WITH_A_NEW_VERB)


def test_every_verb_has_a_page(files: dict[str, str]) -> None:
    pages = {name for name in files if name.startswith("man/")}
    verbs = {f"man/man8/gitlab-mm-{name}.8.md" for name in main.COMMANDS}
    others = {"man/man5/gitlab-mm-backup.yml.5.md", "man/man7/gitlab-mm-hooks.7.md"}
    assert pages == {"man/man8/gitlab-mm.8.md", *verbs, *others}


def part(page: str, title: str) -> str:
    """A section of a page's Markdown, without its heading; code keeps lines that begin with #."""
    outside = re.split(r"(^```.*?^```$)", page, flags=re.MULTILINE | re.DOTALL)
    outside[::2] = (re.sub(r"^# ", "\0", piece, flags=re.MULTILINE) for piece in outside[::2])
    sections = dict(piece.partition("\n")[::2] for piece in "".join(outside).split("\0"))
    return sections.get(title, "")


def test_every_page_has_examples(files: dict[str, str]) -> None:
    without = [
        name
        for name, page in files.items()
        if name.startswith("man/") and "```" not in part(page, "EXAMPLES")
    ]
    assert without == []


def test_every_example_is_understood(files: dict[str, str]) -> None:
    """Options and verbs of examples exist, arguments are as many as asked for."""
    tried = 0
    for name, page in files.items():
        if not name.startswith("man/man8/"):
            continue
        for block in re.findall(r"```sh\n(.*?)```", part(page, "EXAMPLES"), re.DOTALL):
            for line in re.findall(r"^(?:sudo )?gitlab-mm (.*)$", block, re.MULTILINE):
                words = shlex.split(re.split(r"\s(?:\||\|\||&&)\s", line)[0], comments=True)
                understand(main.group, words)
                tried += 1
    assert tried > 40
    with pytest.raises(click.UsageError):
        understand(main.group, ["sso", "check", "--fix"])


def understand(command: click.Command, words: list[str]) -> None:
    """Parse a command line, without running it; raises click.UsageError."""
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        verb = command.get_command(click.Context(command), words[0])
        assert verb is not None, words
        understand(verb, words[1:])
    else:
        command.make_context(command.name, list(words))


def test_the_settings_of_the_example_are_valid(files: dict[str, str], tmp_path: Path) -> None:
    examples = part(files["man/man5/gitlab-mm-backup.yml.5.md"], "EXAMPLES")
    (text,) = re.findall(r"```yaml\n(.*?)```", examples, re.DOTALL)
    (tmp_path / "config.yml").write_text(text, encoding="utf-8")
    ours = settings.load(tmp_path / "config.yml", required=True)
    assert (ours.keep.daily, len(ours.notifications)) == (30, 1)


def test_the_commands_are_in_the_order_of_use(files: dict[str, str]) -> None:
    """Of the first minutes, not of the alphabet; and all pages are for administrators (man(1))."""
    commands = part(files["man/man8/gitlab-mm.8.md"], "COMMANDS")
    found = re.findall(r"^`gitlab-mm ([a-z-]+)`$", commands, re.MULTILINE)
    assert found[:2] == ["backup", "list"]
    assert found == [name for name, (_, _, text) in main.COMMANDS.items() if text]


def test_the_same_bytes_on_any_day_in_any_place(files: dict[str, str], tmp_path: Path) -> None:
    again = generate(tmp_path, TZ="Pacific/Kiritimati", LC_ALL="C", SOURCE_DATE_EPOCH="1")
    assert again == files
    entry = (ROOT / "debian/changelog").read_text(encoding="utf-8")
    day = re.search(r"^ -- .*>\s+\w+, (\d+) \w+ (\d+)", entry, re.MULTILINE)
    assert day
    page = files["man/man8/gitlab-mm.8.md"]
    assert re.search(rf'^date: "{day[2]}-\d\d-{day[1]}"$', page, re.MULTILINE)


def test_the_pages_have_every_exit_code(files: dict[str, str]) -> None:
    for name in (file for file in files if file.startswith("man/man8/")):
        table = part(files[name], "EXIT STATUS").replace("\\", "")
        found = re.findall(r"`(\d+)`\n\n:   (.+)", table)
        assert found == [(str(int(code)), code.meaning) for code in ExitCode]


def test_the_readme_has_the_same_exit_codes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", readme, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in ExitCode]


def test_a_new_verb_has_a_page_without_an_edit(more: dict[str, str]) -> None:
    page = more["man/man8/gitlab-mm-rehearse-it.8.md"]
    assert r"gitlab-mm-rehearse-it `\-`{=man} prove a set \- \.all of it" in page
    assert "`-o`, `--output` *PATH*" in page
    assert r"It\'s where \'it\' goes\." in page
    assert r"\.A \~\^\`choice\\\." in page
    assert "covert" not in page
    assert "`gitlab-mm rehearse-it`" in more["man/man8/gitlab-mm.8.md"]
    assert "`gitlab-mm-rehearse-it`(8)" in more["man/man8/gitlab-mm.8.md"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_new_verb_is_completed_without_an_edit(shell: str, more: dict[str, str]) -> None:
    (name,) = (
        path for path in more if path.startswith(shell) and re.search(r"/_?gitlab-mm(\.|$)", path)
    )
    script = more[name]
    assert "'gitlab-mm rehearse-it'" in script
    assert "one two" in script
    assert "output" in script and "covert" not in script


@pytest.mark.parametrize("name", ["gitlab-mm", "gitlab-mm-backup", "gitlab-mm-restore"])
def test_odd_help_does_not_break_a_script(name: str, more: dict[str, str]) -> None:
    script = more[f"bash-completion/completions/{name}"]
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


REMOTES = """\
offsite:
  - remote: nas:backups/in a place
  - remote: "/mnt/usb:1/copies/"
    name: usb
    keep_time: 7d
  - remote: /mnt/disk/mattermost
  - remote: gitlab
"""
COMPLETE = """
compopt() { :; }; . "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_gitlab_mm; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def typed(
    files: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[str]]:
    """What bash offers for the last of some words, in a directory that has files."""
    home = tmp_path_factory.mktemp("typed")
    (home / "bin/here").mkdir(parents=True)
    (home / "bin/script").write_text(files["bash-completion/completions/gitlab-mm"])
    (home / "config.yml").write_text(REMOTES)
    shown = config.show_result(settings.look(home / "config.yml", required=True)).lines
    (home / "shown").write_text("\n".join(shown) + "\n", encoding="utf-8")
    (home / "listed").write_text("SET  AGE\n1795310000_2026_11_22_10.11.4  1 d\n")
    program = (
        '#!/bin/sh\ncase $1 in config) cat "$HOME/shown" ;; list) cat "$HOME/listed" ;; esac\n'
    )
    (home / "bin/gitlab-mm").write_text(program)
    (home / "bin/gitlab-mm").chmod(0o755)
    given = {"PATH": f"{home}/bin:{os.environ['PATH']}", "HOME": str(home)}

    def complete(*words: str) -> list[str]:
        command = ["bash", "-c", COMPLETE, "bash", "bin/script", "gitlab-mm", *words]
        done = subprocess.run(
            command, cwd=home, env=given, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return complete


def test_remotes_and_begun_paths_are_completed(typed: Callable[..., list[str]]) -> None:
    assert sorted(typed("restore", "--from", "")) == ["gitlab", "mattermost", "nas", "usb"]
    assert typed("list", "--from", "n") == ["nas"]
    assert typed("restore", "--from", "./bi") == ["./bin"]
    assert typed("restore", "--from", "=", "us") == ["usb"]


def test_sets_are_completed_without_the_files_of_the_directory(
    typed: Callable[..., list[str]],
) -> None:
    assert typed("restore", "") == ["latest", "1795310000_2026_11_22_10.11.4"]
    assert typed("delete", "") == ["1795310000_2026_11_22_10.11.4"]
    assert typed("verify", "./b") == ["./bin"]
    assert typed("verify", "--config", "b") == ["bin"]


def test_keys_of_the_settings_are_completed(typed: Callable[..., list[str]]) -> None:
    keys = typed("config", "explain", "compression")
    assert keys == [
        "compression",
        *("compression.database_level", "compression.files_level", "compression.threads"),
    ]
    assert typed("config", "explain", "b") == ["backup_path"]
    assert typed("host", "trust", "c") == []
