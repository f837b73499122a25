"""Hosts without a working bundled Mattermost: plain words, the right code, no set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.installed_package import DEB, install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab


def test_a_host_without_gitlab(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        product = install_product(lab, deb)
        answer = product("backup")
        assert answer.code == 1
        assert "Omnibus GitLab is not installed" in answer.error["detail"]
        assert product("restore", "--yes").code == 1
        assert product("doctor").code == 1
        answer = product("report", "/root/report.html")
        assert (answer.code, answer.document["verdict"]) == (0, "not proven")
        assert "is not known" in answer.document["not_covered"][0]
        assert '<h2 id="verdict">Not proven</h2>' in lab.read("/root/report.html")
        assert "Omnibus GitLab is not installed" in installing_again(lab)
        quiet = lab.run("gitlab-mm-backup", "--if-present", "--quiet")
        assert (quiet.stdout, quiet.stderr) == ("", "")


@pytest.mark.parametrize(("state", "words"), [("disabled", "disabled"), ("never", "never set up")])
def test_a_gitlab_whose_mattermost_is_not_on(base: Path, deb: Path, state: str, words: str) -> None:
    with Lab(base=base) as lab:
        install(lab, Spec(mattermost=state))
        product = install_product(lab, deb)
        answer = product("backup")
        assert answer.code == 1
        assert words in answer.error["detail"]
        assert "gitlab.rb" in answer.error["hint"]
        quiet = lab.run("gitlab-mm-backup", "--if-present", "--quiet")
        assert (quiet.stdout, quiet.stderr) == ("", "")
        checks = {check["name"]: check for check in product("doctor").document["checks"]}
        assert checks["Mattermost"]["result"] == "warning"
        assert words in checks["Mattermost"]["detail"]
        assert words in installing_again(lab)


def installing_again(lab: Lab) -> str:
    """Install the package once more, and return what it says; it must not fail."""
    return lab.run("dpkg", "--install", DEB).stdout
