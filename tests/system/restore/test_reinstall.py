"""The main job: back up, lose the server, reinstall, restore, sign in through GitLab again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.lab.signed_in_user import SignInFailed

# Sets lie outside what a purge of GitLab takes away, as on a host with a backup disk.
BACKUPS = "/srv/backups"
# Mattermost derives these from posts and files, and refreshes them by itself; the restore does too.
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
GENERATIONS = ("10.5.8", "18.11.9")


def first_server(lab: Lab, deb: Path, version: str) -> tuple[Omnibus, Product]:
    gitlab = install(lab, Spec(version=version, backup_path=BACKUPS))
    return gitlab, install_product(lab, deb)


def reinstalled(lab: Lab, deb: Path, version: str) -> tuple[Omnibus, Product]:
    """The same server after a reinstall: other numeric ids, other credentials, salts and keys."""
    spec = Spec(version=version, backup_path=BACKUPS, seed="second", first_uid=1480)
    gitlab = install(lab, spec)
    return gitlab, install_product(lab, deb)


def lose(gitlab: Omnibus) -> None:
    gitlab.lab.run("dpkg", "--purge", "gitlab-mm-backup")
    gitlab.lose_everything()


def user_id(lab: Lab, name: str) -> str:
    return lab.run("id", "--user", name).stdout.strip()


@pytest.mark.parametrize("version", GENERATIONS)
def test_reinstall_with_gitlab_restored_from_its_own_backup(
    base: Path, deb: Path, version: str
) -> None:
    """GitLab's rows are the old ones, the host's credentials new: sign-in is dead until we mend it."""
    with Lab(base=base) as lab:
        gitlab, product = first_server(lab, deb, version)
        seed = gitlab.seed()
        before, rows = gitlab.state(), gitlab.gitlab_database_dump()
        old_ids = {name: user_id(lab, name) for name in ("mattermost", "git")}
        set_path = product.backup()
        lose(gitlab)
        assert not lab.path("/var/opt/gitlab").exists()

        gitlab, product = reinstalled(lab, deb, version)
        gitlab.gitlab_database_restore(rows)
        assert {name: user_id(lab, name) for name in old_ids} != old_ids
        with pytest.raises(SignInFailed):
            gitlab.sign_in("alice")

        answer = product.restore()

        assert answer.code == 0, answer
        assert answer.document["set"] == Path(set_path).name
        assert answer.document["sign_in"] == "accepted"
        assert before.differences(gitlab.state(), ignore=DERIVED) == []
        session = gitlab.sign_in("alice")
        for identifier, text in seed.posts.items():
            assert session.read_post(identifier) == text
        assert product.leftovers() == []
        gitlab.reconfigure()
        gitlab.sign_in("bob")


@pytest.mark.parametrize("version", GENERATIONS)
def test_reinstall_with_a_new_gitlab(base: Path, deb: Path, version: str) -> None:
    """GitLab has its own row for the new host: the set's credentials must not win."""
    with Lab(base=base) as lab:
        gitlab, product = first_server(lab, deb, version)
        gitlab.seed()
        before = gitlab.state()
        product.backup()
        lose(gitlab)

        gitlab, product = reinstalled(lab, deb, version)
        gitlab.sign_in("carol")
        answer = product.restore("latest")

        assert answer.code == 0, answer
        # On GitLab 10 the credentials stand in config.json, which is then rightly another one.
        own = ("/var/opt/gitlab/mattermost/config.json",) if version.startswith("10.") else ()
        assert before.differences(gitlab.state(), ignore=(*DERIVED, *own)) == []
        gitlab.sign_in("alice")
        gitlab.reconfigure()
        gitlab.sign_in("alice")


def test_etc_gitlab_comes_back_only_when_asked_for(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab, product = first_server(lab, deb, "18.11.9")
        gitlab.gitlab_ctl("backup-etc")
        product.backup()
        lab.write("/etc/gitlab/gitlab.rb", "# emptied\n")
        kept = sorted(path.name for path in lab.path("/etc/gitlab/config_backup").iterdir())
        assert kept

        assert product.restore().code == 0
        assert lab.read("/etc/gitlab/gitlab.rb") == "# emptied\n"

        answer = product.restore("--with-etc")
        assert answer.code == 4
        assert any("reconfigure" in warning for warning in answer.document["warnings"])
        assert "mattermost_external_url" in lab.read("/etc/gitlab/gitlab.rb")
        assert sorted(path.name for path in lab.path("/etc/gitlab/config_backup").iterdir()) == kept
        assert product.leftovers() == []
