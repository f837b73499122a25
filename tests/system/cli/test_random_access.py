"""One upload out of a large set: only the frames that hold it are read, here, from a remote and by restic.

Programs in place of rclone and restic note what they are asked for; sha256sum and the live database say what is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

CONFIG = "/etc/gitlab-mm-backup/config.yml"
RESTIC_YML, WORD = "/srv/restic.yml", "/srv/restic-password"
RCLONE = "[nas]\ntype = alias\nremote = /srv\n"
ASKED = "/srv/asked"
NOTING = f'#!/bin/sh\necho "$@" >>{ASKED}\nexec /usr/bin/${{0##*/}} "$@"\n'
TO = "/root/found"
SETS = "/var/opt/gitlab/backups/mattermost"
DATA = "/var/opt/gitlab/mattermost/data"
BALLAST = 3  # files of 50 MB that cannot be compressed: a frame each


@dataclass(frozen=True)
class House:
    """A server with sets of several frames."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    full: str  # name of the first set
    night: str  # of the one that builds on it
    kept: str  # of the one in the repository

    def extract(self, *words: str, code: int = 0) -> tuple[list[str], list[str]]:
        """Extract the report; gives the checksums of what was written, and the warnings."""
        self.lab.run("rm", "-rf", TO, ASKED)
        answer = self.product("extract", *words, "--file", "report*", "--to", TO)
        assert answer.code == code, answer
        paths = [f"{TO}/{file['file']}" for file in answer.document["files"]]
        sums = [self.lab.run("sha256sum", path).stdout.partition(" ")[0] for path in paths]
        return sorted(sums), answer.document["warnings"]

    def live(self) -> list[str]:
        paths = self.gitlab.sql("SELECT path FROM fileinfo WHERE name LIKE 'report%'")
        sums = [self.lab.run("sha256sum", f"{DATA}/{path}").stdout for path in paths]
        return sorted(line.partition(" ")[0] for line in sums)

    def size(self, name: str) -> int:
        return self.lab.path(f"{SETS}/{name}/files.tar.zst").stat().st_size

    def asked(self, word: str) -> list[str]:
        """What rclone and restic were asked for, where ``word`` is in it."""
        return [line for line in self.lab.read(ASKED).splitlines() if word in line]


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        seed = gitlab.seed()
        for number in range(BALLAST):
            lab.run("sh", "-ec", f"head -c 50000000 /dev/urandom >{DATA}/ballast-{number}")
        lab.run("mkdir", "-p", "/root/.config/rclone", "/srv/copies")
        lab.write("/root/.config/rclone/rclone.conf", RCLONE, mode=0o600)
        lab.write(
            CONFIG,
            "files: incremental\nrehearse: off\nfollow_gitlab: false\nkeep: {last: 9}\n"
            "offsite:\n  - remote: nas:copies\n",
            mode=0o600,
        )
        full = str(product("backup").document["set"])
        session = gitlab.sign_in("bob")
        session._channels["releases"] = seed.channels["releases"]
        upload = session.upload("report of the night.txt", b"new" * 100, "releases")
        session.post("one more", "releases", [upload])
        night = str(product("backup").document["set"])
        lab.write(WORD, "of the repository\n", mode=0o600)
        lab.run("restic", "init", "-r", "/srv/restic", "-p", WORD)
        settings = f"store: restic\nrestic: {{repository: /srv/restic, password_file: {WORD}}}\n"
        lab.write(RESTIC_YML, settings, mode=0o600)
        kept = str(product("backup", "--config", RESTIC_YML).document["set"])
        for program in ("rclone", "restic"):
            lab.write(f"/usr/local/bin/{program}", NOTING, mode=0o755)
        yield House(lab, gitlab, product, full, night, kept)


def test_uploads_of_a_chain_come_from_their_frames(house: House) -> None:
    assert house.extract(house.night) == (house.live(), [])
    assert len(house.live()) == 2, "one of each set"


def test_of_a_remote_only_frames_are_fetched(house: House) -> None:
    assert house.extract(house.night, "--from", "nas:copies") == (house.live(), [])
    assert house.asked("names.copy") and not house.asked("database.dump"), "by their names alone"
    asked = house.asked("files.tar.zst")
    assert len(asked) == 2 and all("--offset=" in line and "--count=" in line for line in asked)
    counts = [int(found) for line in asked for found in re.findall(r"--count=(\d+)", line)]
    assert 0 < max(counts) < house.size(house.full) / 2
    assert house.product.leftovers() == []


def test_restic_prints_only_the_directories_of_the_uploads(house: House) -> None:
    for words in (
        ("--config", RESTIC_YML),
        ("--from", "restic:/srv/restic", "--config", RESTIC_YML),
    ):
        assert house.extract(house.kept, *words) == (house.live(), [])
        dumped = [line.split()[-1] for line in house.asked("dump --no-lock") if DATA in line]
        assert len(dumped) == 2 and all(re.search(r"/[a-z0-9]{26}$", path) for path in dumped)
        assert not any(line.endswith(" /") for line in house.asked("dump --no-lock"))
        assert not house.asked("/database.dump"), "they are found by their names"


def test_a_set_whose_index_is_damaged_is_read_from_end_to_end(house: House) -> None:
    path = house.lab.path(f"{SETS}/{house.full}/files.index.zst")
    kept = path.read_bytes()
    path.write_bytes(kept[:-9])
    try:
        found, warnings = house.extract(house.full, code=4)
        assert len(found) == 1 and set(found) < set(house.live())
        assert len(warnings) == 1 and "cannot be used, so all of them are read" in warnings[0]
        assert house.product("verify", house.full).code != 0
    finally:
        path.write_bytes(kept)
    assert house.product("verify", house.night).code == 0


def test_a_set_without_an_index_is_read_from_end_to_end(house: House) -> None:
    folder = f"{SETS}/{house.full}"
    manifest = json.loads(house.lab.read(f"{folder}/manifest.json"))
    del manifest["parts"]["index"]
    house.lab.run("cp", "-a", folder, "/root/old-set")
    house.lab.run("mv", "/root/old-set", f"/root/{house.full}")
    house.lab.write(f"/root/{house.full}/manifest.json", json.dumps(manifest), mode=0o600)
    house.lab.run("rm", f"/root/{house.full}/files.index.zst")
    found, warnings = house.extract(f"/root/{house.full}")
    assert len(found) == 1 and set(found) < set(house.live()) and warnings == []
