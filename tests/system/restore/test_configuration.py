"""Our own configuration is in a set, comes back to a host that has none, and replaces nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab

CONFIG = "/etc/gitlab-mm-backup/config.yml"
CONSENT = "/etc/gitlab-mm-backup/config.d/secrets.yml"
RCLONE = "/root/.config/rclone/rclone.conf"
KEPT = "/var/lib/gitlab-mm-backup/configuration-of-set"
SETS = "/srv/backups/mattermost"
TEXT = "backup_path: /srv/backups\nkeep_time: 4w\noffsite:\n  - remote: disk:/srv/copies\n"
SECRET = "[disk]\ntype = local\npass = 0bscured-w0rd\n"


@dataclass
class House:
    lab: Lab
    deb: Path
    product: Product
    plain: str  # names of sets: without secrets, and with them
    whole: str

    def new(self) -> Product:
        """A host on which this program was never used; the sets are on another disk."""
        self.lab.run("dpkg", "--purge", "gitlab-mm-backup")
        self.lab.run("rm", "-rf", "/etc/gitlab-mm-backup", "/var/lib/gitlab-mm-backup", RCLONE)
        return install_product(self.lab, self.deb)


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.write(CONFIG, TEXT, mode=0o640)
        lab.write(RCLONE, SECRET, mode=0o600)
        made = product("backup")
        assert made.code == 0, made
        [note] = [text for text in made.document["notes"] if RCLONE in text]
        assert "secrets_in_sets" in note
        lab.write(CONSENT, "secrets_in_sets: true\n", mode=0o640)
        again = product("backup")
        assert again.code == 0 and not any(RCLONE in text for text in again.document["notes"])
        yield House(lab, deb, product, made.document["set"], again.document["set"])


def test_secrets_are_in_a_set_only_with_consent(house: House) -> None:
    lab, product = house.lab, house.product
    for name, files, left in (
        (house.plain, [CONFIG], {RCLONE: "it has secrets"}),
        (house.whole, [CONFIG, CONSENT, RCLONE], {}),
    ):
        told = product("info", name).document
        assert (told["configuration"], told["left_out"]) == (files, left)
        listed = lab.run("sh", "-c", f"zstd -dc {SETS}/{name}/configuration.tar.zst | tar t").stdout
        assert listed.split() == [path.lstrip("/") for path in files]
        assert product("verify", name).code == 0
    everything = f"cat {SETS}/{house.plain}/* /srv/copies/{house.plain}/*"
    assert "0bscured" not in lab.run("sh", "-c", f"({everything}) | strings").stdout


def test_a_new_host_has_it_again(house: House) -> None:
    lab, product = house.lab, house.new()
    assert "keep_time: 4w" not in lab.read(CONFIG)
    planned = product("restore", "--dry-run", f"{SETS}/{house.whole}")
    assert any("configuration of gitlab-mm-backup" in step for step in planned.document["steps"])

    answer = product.restore("--no-safety-backup", f"{SETS}/{house.whole}")

    assert answer.code == 0, answer
    for path in (CONFIG, CONSENT, RCLONE):
        assert f"Put back {path}: this host had none" in answer.document["notes"]
    assert (lab.read(CONFIG), lab.read(RCLONE)) == (TEXT, SECRET)
    assert lab.path(RCLONE).stat().st_mode & 0o777 == 0o600
    assert not [path for path in lab.path(KEPT).rglob("*") if path.is_file()]
    made = product("backup")
    assert made.code == 0 and made.document["path"].startswith(SETS)
    assert made.document["copies"][0]["remote"] == "disk", "with the remote of before"


def test_what_a_host_has_stays_and_the_set_s_can_be_read(house: House) -> None:
    lab, product = house.lab, house.product
    lab.write(CONFIG, "backup_path: /srv/backups\n", mode=0o640)
    answer = product.restore("--no-safety-backup", f"{SETS}/{house.plain}")
    assert answer.code == 0, answer
    [note] = [text for text in answer.document["notes"] if CONFIG in text]
    assert "this host has its own settings" in note
    assert lab.read(CONFIG) == "backup_path: /srv/backups\n"
    assert lab.read(note.rpartition(" ")[2]) == TEXT


def test_a_set_without_proof_brings_none(house: House) -> None:
    """It is at a place that others can write to; the operator wants its messages all the same."""
    lab, product = house.lab, house.product
    lab.run("rm", CONFIG, CONSENT)
    lab.run("cp", "-a", f"{SETS}/{house.plain}", "/srv/found")
    lab.run("rm", "/srv/found/signature.json")
    lab.run("sh", "-c", f"mkdir -m 0777 /srv/open && mv /srv/found /srv/open/{house.plain}")
    path = f"/srv/open/{house.plain}"
    assert product.restore("--no-safety-backup", path).code == 2
    answer = product.restore("--no-safety-backup", "--trust-unsigned", house.plain, path)
    assert answer.code == 4, "its origin is a warning"
    assert any("nothing proves who made the set" in text for text in answer.document["notes"])
    assert not lab.path(CONFIG).exists()


def test_a_damaged_part_is_found(house: House) -> None:
    part = house.lab.path(f"{SETS}/{house.whole}/configuration.tar.zst")
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert house.product("verify", f"{SETS}/{house.whole}").code == 1
