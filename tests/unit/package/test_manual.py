"""What debian/manual makes of the command line, without building the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gitlab_mm_backup.cli import main
from gitlab_mm_backup.errors import ExitCode
from tests.unit.helpers.builders import ROOT

# A verb that nobody knows yet, with one of everything that a value can be; then the generator.
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
    pages = {name.rpartition("/")[2] for name in files if name.startswith("man/")}
    verbs = {f"gitlab-mm-{name}.1" for name in main.COMMANDS}
    assert pages == {"gitlab-mm.1", *verbs, "gitlab-mm-backup.yml.5", "gitlab-mm-hooks.7"}


def test_the_same_bytes_on_any_day_in_any_place(files: dict[str, str], tmp_path: Path) -> None:
    again = generate(tmp_path, TZ="Pacific/Kiritimati", LC_ALL="C", SOURCE_DATE_EPOCH="1")
    assert again == files
    entry = (ROOT / "debian/changelog").read_text(encoding="utf-8")
    day = re.search(r"^ -- .*>\s+\w+, (\d+) \w+ (\d+)", entry, re.MULTILINE)
    assert day
    assert re.search(rf'^\.TH \S+ 1 "{day[2]}-\d\d-{day[1]}"', files["man/man1/gitlab-mm.1"], re.M)


def test_the_pages_have_every_exit_code(files: dict[str, str]) -> None:
    for name in (one for one in files if one.startswith("man/man1/")):
        table = files[name].partition(".SH EXIT STATUS\n")[2].partition(".SH")[0]
        found = re.findall(r"\\fB(\d+)\\fR\n(.+)", table)
        assert found == [(str(int(code)), code.meaning) for code in ExitCode]


def test_the_readme_has_the_same_exit_codes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", readme, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in ExitCode]


def test_a_new_verb_has_a_page_without_an_edit(more: dict[str, str]) -> None:
    page = more["man/man1/gitlab-mm-rehearse-it.1"]
    assert r"gitlab\-mm\-rehearse\-it \- prove a set - .all of it" in page
    assert r"\fB\-o\fR, \fB\-\-output\fR" in page
    assert "It\\(aqs where \\(aqit\\(aq goes." in page
    assert "\n" + r"\&.A \(ti\(ha\(gachoice\e." in page
    assert "covert" not in page
    assert r"\fBgitlab\-mm rehearse\-it\fR" in more["man/man1/gitlab-mm.1"]
    assert r"\fBgitlab\-mm\-rehearse\-it\fR(1)" in more["man/man1/gitlab-mm-restore.1"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_new_verb_is_completed_without_an_edit(shell: str, more: dict[str, str]) -> None:
    (name,) = (
        one for one in more if one.startswith(shell) and re.search(r"/_?gitlab-mm(\.|$)", one)
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
