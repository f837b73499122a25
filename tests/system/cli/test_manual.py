"""The manual as the installed package has it: found, without a warning, and saying what --help says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitlab_mm_backup.cli import main
from gitlab_mm_backup.config.option_text import written
from gitlab_mm_backup.config.options import leaves
from gitlab_mm_backup.config.schema import OPTIONS
from gitlab_mm_backup.errors import ExitCode
from tests.lab.base import apt_install
from tests.lab.disks import CHECKOUT
from tests.lab.installed_package import install_product
from tests.lab.releases import build_root
from tests.lab.sandbox import Lab

PAGES = [("8", "gitlab-mm"), ("5", "gitlab-mm-backup.yml"), ("7", "gitlab-mm-hooks")]
PAGES += [("8", f"gitlab-mm-{verb}") for verb in sorted(main.COMMANDS)]


@pytest.fixture(scope="module")
def lab(base: Path, deb: Path) -> Iterator[Lab]:
    with Lab(base=base) as lab:
        install_product(lab, deb)
        yield lab


def read(lab: Lab, name: str) -> str:
    """A page as somebody reads it, its blanks and line ends as single blanks."""
    shown = lab.run("man", name, env={"MANWIDTH": "1000", "MAN_KEEP_FORMATTING": ""}).stdout
    return re.sub(r"\s+", " ", shown)


@pytest.mark.parametrize(("section", "name"), PAGES, ids=[name for _, name in PAGES])
def test_the_page_is_found_and_without_fault(section: str, name: str, lab: Lab) -> None:
    place = lab.run("man", "-w", section, name).stdout.strip()
    assert place == f"/usr/share/man/man{section}/{name}.{section}.gz"
    formatted = lab.run("man", "--warnings=w", "-E", "UTF-8", "-l", place)
    assert formatted.stderr == ""
    assert lab.run("mandoc", "-T", "lint", "-W", "warning", place, check=False).stdout == ""
    assert f"{name} - " in lab.run("lexgrog", place).stdout
    assert "\nEXAMPLES\n" in formatted.stdout


@pytest.mark.parametrize("verb", sorted(main.COMMANDS))
def test_the_page_says_what_help_says(verb: str, lab: Lab) -> None:
    page = read(lab, f"gitlab-mm-{verb}")
    group = main.command(verb)
    verbs = [f"{verb} {name}" for name in getattr(group, "commands", {})] or [verb]
    for words in verbs:
        told = lab.run("gitlab-mm", *words.split(), "--help").stdout
        options = re.findall(r"^  (-.+?)(?:  |$)", told, re.MULTILINE)
        assert "-h, --help" in options and len(options) > 4
        assert [option for option in options if option not in page] == []
        assert f"gitlab-mm {words} [OPTIONS]" in page


def test_each_link_of_the_documents_leads_to_another(lab: Lab) -> None:
    folder = "/usr/share/doc/gitlab-mm-backup"
    found = lab.run("find", folder, "-name", "*.md").stdout.split()
    assert f"{folder}/README.md" in found and len(found) > 10
    dead = [
        f"{path}: {link}"
        for path in found
        for link in re.findall(r"\]\(([^)#:]+)\)", lab.read(path))
        if not lab.path(f"{path.rpartition('/')[0]}/{link}").exists()
    ]
    assert dead == []
    for name in ("README.md", "README.ja.md"):
        assert "make bench" not in lab.read(f"{folder}/{name}"), "developers have the sources"


def test_the_pages_tell_files_codes_and_the_way_by_hand(lab: Lab) -> None:
    page = read(lab, "gitlab-mm-restore")
    for code in ExitCode:
        assert f"{int(code)} {code.meaning}" in page
    assert "/etc/gitlab-mm-backup/config.yml settings" in read(lab, "gitlab-mm")
    by_hand = (Path(__file__).parents[3] / "docs/by-hand.md").read_text()
    for block in re.findall(r"```sh\n(.*?)```", by_hand, re.DOTALL):
        assert re.sub(r"\s+", " ", block).strip() in page
    assert "gitlab-mm-restore(8) has the commands" in read(lab, "gitlab-mm-list")


def test_the_page_of_the_settings_has_every_option(lab: Lab) -> None:
    page = read(lab, "gitlab-mm-backup.yml")
    for name, option in leaves(OPTIONS):
        assert f"{name.rpartition('.')[2]}: {written(option)}".rstrip() in page


@pytest.mark.long  # pandoc has to be fetched
@pytest.mark.parametrize("suite", ["bullseye", "trixie"])
def test_other_pandocs_give_the_same_pages(suite: str, lab: Lab, tmp_path: Path) -> None:
    """As man(1) of this release shows them; bullseye has pandoc 2.9, trixie 3.1."""
    subprocess.run([sys.executable, "-B", "debian/manual", tmp_path], cwd=CHECKOUT, check=True)
    with Lab(root=build_root(suite), network=True) as other:
        apt_install(other, "pandoc")
        for name in ("man.lua", "render.sh"):
            text = (CHECKOUT / "debian/manual" / name).read_text(encoding="utf-8")
            other.write(f"/manual/{name}", text)
        for source in (tmp_path / "man").rglob("*.md"):
            other.write(f"/share/{source.name}", source.read_text(encoding="utf-8"))
        other.run("sh", "/manual/render.sh", "/share")
        for section, name in PAGES:
            lab.write(f"/{suite}/{name}", other.read(f"/share/{name}.{section}"))
    other_than_ours = [
        name for _, name in PAGES if read(lab, f"/{suite}/{name}") != read(lab, name)
    ]
    assert other_than_ours == []
