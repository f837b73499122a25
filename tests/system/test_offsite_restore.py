"""A host is lost with its sets; an empty one fetches them back from each kind of place, and people sign in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import remotes
from tests.lab.omnibus import Omnibus, Seed, Spec, install
from tests.lab.product import Product, install_product
from tests.lab.sandbox import Lab
from tests.system.faults_rows import FILL, filling
from tests.system.test_offsite import CONFIG, UPLOADS

SETS = "/var/opt/gitlab/backups/mattermost"
DAV, KEY = "/srv/dav", "/srv/key"


@dataclass
class Lost:
    """A host as it was, and where its set is now."""

    lab: Lab
    seed: Seed
    deb: Path
    set: str

    def empty_host(self) -> tuple[Omnibus, Product]:
        """The host is lost, and built anew: nothing of ours is on it but the package."""
        self.lab.run("dpkg", "--purge", "gitlab-mm-backup", check=False)
        Omnibus(self.lab, Spec()).lose_everything()
        self.lab.run("rm", "-rf", "/etc/gitlab-mm-backup", "/var/lib/gitlab-mm-backup")
        gitlab = install(self.lab, Spec(seed="second", first_uid=1480, gitlab_rb=UPLOADS))
        return gitlab, install_product(self.lab, self.deb)


@pytest.fixture(scope="module")
def lost(base: Path, deb: Path) -> Iterator[Lost]:
    with Lab(base=base, disk_size="1g") as lab:
        remotes.start_s3(lab)
        remotes.make_bucket(lab)
        remotes.start_webdav(lab, DAV)
        remotes.start_sftp(lab, "/srv/nas")
        remotes.write_rclone_conf(lab)
        gitlab = install(lab, Spec(gitlab_rb=UPLOADS))
        product = install_product(lab, deb)
        seed = gitlab.seed()
        lab.run("age-keygen", "-o", KEY)
        public = lab.run("age-keygen", "-y", KEY).stdout.strip()
        lab.write(
            CONFIG,
            "offsite:\n  - remote: dav:mattermost\n"
            f"  - remote: nas:mattermost\n    recipients: [{public}]\n",
        )
        made = product.backup()
        yield Lost(lab, seed, deb, Path(made).name)


PLACES = {
    "S3, as gitlab.yml has it": ("gitlab",),
    "WebDAV": ("dav:mattermost",),
    "SFTP, encrypted": ("nas:mattermost", "--identity", KEY),
}


@pytest.mark.parametrize("name", PLACES)
def test_an_empty_host_takes_its_set_from_elsewhere(lost: Lost, name: str) -> None:
    gitlab, product = lost.empty_host()
    assert not lost.lab.path(SETS).exists()
    place, *key = PLACES[name]
    listed = product("list", "--from", place)
    assert [one["name"] for one in listed.document["sets"]] == [lost.set], listed

    answer = product.restore("--no-safety-backup", "--from", place, *key)

    assert answer.code == 0, answer
    assert (answer.document["set"], answer.document["sign_in"]) == (lost.set, "accepted")
    session = gitlab.sign_in("alice")
    for identifier, text in lost.seed.posts.items():
        assert session.read_post(identifier) == text
    assert product("verify", lost.set).code == 0, "it is a set of this host now"
    assert product.leftovers() == []


def test_what_is_refused_before_anything_is_fetched(lost: Lost) -> None:
    _, product = lost.empty_host()
    lost.lab.run("mkdir", "-p", "/var/opt/gitlab/backups")
    lost.lab.run(*filling("/var", 20 << 20))
    try:
        answer = product.restore("--from", "gitlab")
    finally:
        lost.lab.run("rm", FILL)
    assert answer.code == 1 and "no room for the copy" in answer.error["message"], answer
    for words, code, told in (
        (("--from", "nowhere"), 2, "is no place for copies"),
        (("--from", "absent:x"), 1, "does not know the remote"),
        (("--from", "gitlab", "1795310000_2026_11_22_10.11.4"), 1, "There is no copy of"),
        (("--from", "gitlab", "--at", "2001-01-01"), 1, "There is no copy of a set"),
    ):
        answer = product.restore(*words)
        assert answer.code == code and told in answer.error["message"], answer
    assert not lost.lab.path(SETS).exists()


def test_a_copy_that_was_damaged_there_changes_nothing_here(lost: Lost) -> None:
    product = Product(lost.lab)
    path = lost.lab.path(f"{DAV}/mattermost/{lost.set}/files.tar.zst")
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-100] + bytes(100))
        answer = product.restore("--from", "dav:mattermost")
    finally:
        path.write_bytes(content)
    assert answer.code == 1 and "is damaged" in answer.error["message"], answer
    assert [path.name for path in lost.lab.path(SETS).iterdir()] == []
    assert product.leftovers() == []
