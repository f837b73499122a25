"""docs/by-hand.md is what somebody types whose program is broken: so it is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab

DOCUMENT = Path(__file__).parents[3] / "docs/by-hand.md"
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
# What the second night removes, renames, and makes another kind of thing.
MADE = "mkdir a b 'c d'; echo 1 >a/file; echo 2 >b/file; echo 3 >'c d/file'; echo 4 >kind; echo 5 >gone"
CHANGED = "rm -r a kind gone; echo 6 >a; mkdir kind; echo 7 >kind/file; mv b 'new\nname'; echo 8 >'c d/file'"


def commands() -> list[str]:
    """The shell blocks of the document."""
    return re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_commands_restore_a_set(base: Path, deb: Path) -> None:
    """A set that builds on another by its own commands, then that other one."""
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.run("sh", "-ec", f"head -c 999999 /dev/urandom >{gitlab.home}/data/ballast")
        lab.run("sh", "-ec", MADE, cwd=f"{gitlab.home}/data")
        lab.write("/etc/gitlab-mm-backup/config.yml", "files: incremental\n", mode=0o640)
        before, full = gitlab.state(), product.backup()
        lab.run("sh", "-ec", CHANGED, cwd=f"{gitlab.home}/data")
        gitlab.sign_in("alice").post("of the second night")
        night_before, night = gitlab.state(), product.backup()
        assert '"increment"' in lab.read(f"{night}/manifest.json")
        lab.run("dpkg", "--purge", "gitlab-mm-backup")
        gitlab.sign_in("alice").post("written after the set was made")

        restoring, increment, looking, frame = commands()
        assert re.search(r"cd (/path/to/\S+)", restoring)
        chained = re.sub(r"# 2\. .*?(?=# 3\.)", lambda _: increment, restoring, flags=re.DOTALL)
        for script, path, state in ((chained, night, night_before), (restoring, full, before)):
            lab.run("sh", "-eu", "-c", re.sub(r"cd /path/to/\S+", f"cd {path}", script))
            gitlab.wait_until_ready()
            moved = ("mattermost_before", "/var/opt/gitlab/mattermost.before")
            assert state.differences(gitlab.state(), ignore=(*DERIVED, *moved)) == []
            gitlab.sign_in("bob")
            gitlab.sql("DROP DATABASE mattermost_before", "postgres")
            lab.run("rm", "-r", "/var/opt/gitlab/mattermost.before")
        assert "external_url" in lab.run("sh", "-eu", "-c", looking, cwd=full).stdout
        assert "SiteURL" in lab.run("sh", "-eu", "-c", frame, cwd=full).stdout
