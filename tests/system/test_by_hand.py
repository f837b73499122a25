"""docs/by-hand.md is what somebody types whose program is broken: so it is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.omnibus import Spec, install
from tests.lab.product import install_product
from tests.lab.sandbox import Lab

DOCUMENT = Path(__file__).parents[2] / "docs/by-hand.md"
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")


def commands() -> list[str]:
    """The shell blocks of the document."""
    return re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_commands_restore_a_set(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        before = gitlab.state()
        path = product.backup()
        lab.run("dpkg", "--purge", "gitlab-mm-backup")
        gitlab.sign_in("alice").post("written after the set was made")

        restoring, looking = commands()
        assert re.search(r"cd (/path/to/\S+)", restoring)
        script = re.sub(r"cd /path/to/\S+", f"cd {path}", restoring)
        lab.run("sh", "-eu", "-c", script)
        gitlab.wait_until_ready()

        moved = ("mattermost_before", "/var/opt/gitlab/mattermost.before")
        assert before.differences(gitlab.state(), ignore=(*DERIVED, *moved)) == []
        gitlab.sign_in("bob")
        assert "external_url" in lab.run("sh", "-eu", "-c", looking, cwd=path).stdout
