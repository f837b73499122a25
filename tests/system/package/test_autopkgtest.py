"""debian/tests, run by autopkgtest(1) on the installed package."""

from __future__ import annotations

from pathlib import Path

from tests.lab.base import copy_source, source_files
from tests.lab.disks import CHECKOUT
from tests.lab.sandbox import Lab


def test_the_story_on_the_installed_package(base: Path, deb: Path) -> None:
    """The lab is the testbed: it has the packages already, and apt finds no network in it."""
    with Lab(base=base) as lab:
        lab.path("/root").joinpath(deb.name).write_bytes(deb.read_bytes())
        copy_source(lab, "/build/source", CHECKOUT, source_files(CHECKOUT))
        lab.run("sh", "-ec", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
        command = ("autopkgtest", "-B", f"/root/{deb.name}", "/build/source/", "--", "null")
        done = lab.run(*command, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backup-reinstall-restore PASS" in done.stdout
    assert "sign-in also survives gitlab-ctl reconfigure" in done.stdout
