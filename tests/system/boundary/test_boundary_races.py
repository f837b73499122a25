"""Whoever owns files or a database and keeps changing them while we work gains nothing by it.

`make races` runs these with a thousand changes of each kind instead of a hundred.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import standalone
from tests.system.helpers.attacks import Attacks, target
from tests.system.helpers.moves import moving
from tests.system.helpers.races import CANARY, SECRET, House, witness

HOME = "/var/opt/gitlab/mattermost"
IN_PLACE_OF_A_DIRECTORY = "link,pipe,directory"
IN_PLACE_OF_A_FILE = "link to a file,link,pipe"
FILES_ALONE = ("restore", "--yes", "--only", "files", "--no-safety-backup", "latest")
RACES = [
    ("data", IN_PLACE_OF_A_DIRECTORY, ("backup",)),
    ("plugins", IN_PLACE_OF_A_DIRECTORY, ("backup",)),
    ("data", IN_PLACE_OF_A_DIRECTORY, ("rehearse",)),
    ("data", IN_PLACE_OF_A_DIRECTORY, ("restore", "--yes", "latest")),
    ("plugins", IN_PLACE_OF_A_DIRECTORY, FILES_ALONE),
    ("config.json", IN_PLACE_OF_A_FILE, ("sso", "repair")),
    ("config.json", IN_PLACE_OF_A_FILE, ("backup",)),
    ("data", "mount", ("backup",)),
    ("data", "mount", FILES_ALONE),
]
SECRETS = f"""
for set in /var/opt/gitlab/backups/mattermost/[0-9]*/files.tar.zst; do
    if zstd -dc "$set" | grep -qF {SECRET}; then exit 1; fi
done
"""
UNMOUNT = """
awk '$5 ~ /\\.gitlab-mm-/ {print $5}' /proc/self/mountinfo | sort -r | xargs -r -n 1 umount
"""
CONFIG = "/etc/gitlab-mm-backup/config.yml"


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with target(base, deb) as (lab, _, product):
        yield House(lab, product, HOME, product.backup().rpartition("/")[2])


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("races")


def test_the_witness_tells_what_somebody_does(house: House) -> None:
    with witness(house.lab) as seen:
        assert seen() == []
        house.shell(f"ls {CANARY}/keys >/dev/null")
        house.shell(f"cat {CANARY}/keys/key >/dev/null")
        house.shell(f"chown root:root {CANARY}/run.sh")
        told = set(seen())
    assert f"OPEN,ISDIR {CANARY}/keys/" in told
    assert f"ACCESS {CANARY}/keys/key" in told and f"ATTRIB {CANARY}/run.sh" in told


@pytest.mark.parametrize(("name", "kinds", "verb"), RACES)
def test_what_is_swapped_all_the_time(
    house: House, attacks: Attacks, name: str, kinds: str, verb: tuple[str, ...]
) -> None:
    """Whatever the result, no file of root's is read, written or chowned."""
    who = "a disk comes and goes at" if kinds == "mount" else f"mattermost swaps ({kinds})"
    with attacks.row(f"{who} {name} all the time: {' '.join(verb)}"):
        house.race(name, kinds, *verb)


@pytest.mark.parametrize("name", ["data", "plugins"])
def test_what_is_swapped_while_changes_alone_are_packed(
    house: House, attacks: Attacks, name: str
) -> None:
    """Tar is given each path then; where the canary has such a one, it must not lead there."""
    kept = house.lab.read(CONFIG)
    house.lab.path(CONFIG).write_text(f"{kept}\nfiles: incremental\n")
    try:
        with attacks.row(f"mattermost swaps {name} all the time: backup with files: incremental"):
            house.race(name, IN_PLACE_OF_A_DIRECTORY, "backup")
    finally:
        house.lab.path(CONFIG).write_text(kept)


def test_after_all_that_no_set_holds_what_is_not_mattermost_s(house: House) -> None:
    house.shell(SECRETS)
    for set_ in house.product("list").document["sets"]:
        answer = house.product("verify", str(set_["name"]))
        assert answer.code in (0, 4), answer
    assert house.ended["backup", 0] + house.ended["backup", 4] and house.ended["rehearse", 0]
    # Some hold little by now, and say so: what the account takes away cannot be packed.
    assert house.product.restore(house.good).code in (0, 4)
    house.product.backup()
    # A disk that was mounted on what was live before went with it, was told of, and is kept.
    house.shell(UNMOUNT)
    assert house.product("prune", "--previous").code == 0
    assert house.product.leftovers() == []


def test_a_move_to_a_standalone_mattermost(
    base: Path, deb: Path, attacks: Attacks, tmp_path: Path
) -> None:
    with moving(base, deb, tmp_path, standalone.Spec()) as move:
        move.new.start()
        house = House(move.new.lab, move.product, move.new.spec.folder)
        assert move.restore().code in (0, 4)
        words = ("restore", "--yes", "--to", "standalone", "--replace", "--no-safety-backup")
        for name in ("data", "plugins"):
            with attacks.row(f"mattermost swaps {name} during a move: restore --to standalone"):
                house.race(name, IN_PLACE_OF_A_DIRECTORY, *words, move.set)
        with attacks.row("a disk comes and goes at data during a move: restore --to standalone"):
            house.race("data", "mount", *words, move.set)
        assert move.restore("--replace").code in (0, 4)
        assert json.loads(move.new.lab.read(move.new.config_file))
