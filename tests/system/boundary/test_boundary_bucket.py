"""Who may write to the place of the copies: nothing that they put there has us remove or lose a copy of ours."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import Answer, Product
from tests.lab.sandbox import Lab
from tests.system.helpers.attacks import Attacks, target

BUCKET, SETS = "/srv/bucket", "/var/opt/gitlab/backups/mattermost"
NOTES = "/var/lib/gitlab-mm-backup/offsite.json"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
OFFSITE = f"keep:\n  last: 2\noffsite:\n  - name: nas\n    remote: {BUCKET}\n    keep_last: 2\n"


@dataclass
class House:
    """A server with two copies, which are all that its rules keep, in a bucket that others write to."""

    lab: Lab
    product: Product
    copies: list[str]  # names, the newest last

    def there(self) -> set[str]:
        return {path.name for path in self.lab.path(BUCKET).iterdir() if path.name[0].isdigit()}

    def sums(self, *names: str) -> str:
        script = 'cd "$0"; find "$@" -type f -print0 | sort -z | xargs -0 sha256sum'
        return str(self.lab.run("sh", "-ec", script, BUCKET, *names).stdout)

    def noted(self) -> set[str]:
        return set(json.loads(self.lab.read(NOTES))["nas"]["sets"])

    def forge(self, name: str, folder: str = "", **changes: Any) -> str:
        """Put a copy there that claims to be of this host; gives the folder's name."""
        place = folder or name
        source = f"{BUCKET}/{self.copies[-1]}"
        if not self.lab.path(f"{BUCKET}/{place}").exists():
            self.lab.run("cp", "-a", source, f"{BUCKET}/{place}")
        manifest = json.loads(self.lab.read(f"{source}/manifest.json")) | {"name": name} | changes
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        self.lab.write(f"{BUCKET}/{place}/manifest.json", text)
        copy = json.loads(self.lab.read(f"{source}/copy.json")) | {"set": name}
        self.lab.write(f"{BUCKET}/{place}/copy.json", json.dumps(copy, indent=2) + "\n")
        sums = {part["file"]: part["sha256"] for part in manifest["parts"].values()}
        sums["manifest.json"] = hashlib.sha256(text.encode()).hexdigest()
        lines = "".join(f"{value}  {file}\n" for file, value in sums.items())
        self.lab.write(f"{BUCKET}/{place}/SHA256SUMS", lines)
        return place

    @contextlib.contextmanager
    def forged(self) -> Iterator[None]:
        """Remove afterwards what the block has put there."""
        before = self.there()
        try:
            yield
        finally:
            for name in self.there() - before:
                self.lab.run("rm", "-r", f"{BUCKET}/{name}")

    def offsite(self) -> Answer:
        answer = self.product("offsite")
        assert answer.code in (0, 4), answer
        return answer


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with target(base, deb) as (lab, _, product):
        lab.run("mkdir", BUCKET)
        lab.write(CONFIG, OFFSITE, mode=0o640)
        made = [product.backup().rpartition("/")[2] for _ in range(2)]
        yield House(lab, product, made)


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("bucket")


def later(house: House, number: int) -> str:
    """A name that is newer than all of ours; the last digits are this host's."""
    newest = house.copies[-1]
    return f"{int(newest[:10]) + number:010d}{newest[10:]}"


def test_newer_copies_that_claim_to_be_ours_push_none_of_ours_out(
    house: House, attacks: Attacks
) -> None:
    with attacks.row("a bucket's writer adds ten newer copies in this host's name"), house.forged():
        forged = {house.forge(later(house, number), seconds=1.0) for number in range(1, 11)}
        before = house.sums(*house.copies)
        answer = house.offsite()
        assert [copy_["removed"] for copy_ in answer.document["copies"]] == [[]]
        assert house.there() == {*house.copies, *forged} and house.sums(*house.copies) == before
        assert house.noted() == set(house.copies)


def test_a_duplicate_of_ours_is_none(house: House, attacks: Attacks) -> None:
    with attacks.row("a bucket's writer adds our own set again under a later name"), house.forged():
        house.forge(later(house, 5))
        house.offsite()
        assert house.noted() == set(house.copies)


@pytest.mark.parametrize("folder", ["1799999999_2027_01_15_10.11.20", "zz-not-a-set"])
@pytest.mark.parametrize(
    "changes",
    [{"purpose": "safety"}, {"mattermost": "9.9.9"}, {"seconds": 2.0}],
    ids=["a safety set", "another version", "another length"],
)
def test_a_manifest_speaks_for_its_own_folder_alone(
    house: House, attacks: Attacks, folder: str, changes: dict[str, Any]
) -> None:
    victim = house.copies[-1]
    row = attacks.row(f"the manifest in folder {folder} speaks for our newest set: {changes}")
    with row, house.forged():
        house.forge(victim, folder, **changes)
        listed = {
            set_["name"]: set_ for set_ in house.product("list", "--from", "nas").document["sets"]
        }
        assert listed[victim]["complete"] and listed[victim]["mattermost"] == "10.11.20"
        assert house.product("verify", "--from", "nas", victim).code == 0
        answer = house.product("verify", "--from", "nas", "latest")
        assert (answer.code, answer.document["set"]) == (0, victim), answer
        house.offsite()
        assert house.noted() == set(house.copies)


def test_what_is_hidden_there_is_sent_again(house: House, attacks: Attacks) -> None:
    victim = house.copies[-1]
    before = house.sums(victim)
    for name in ("manifest.json", "files.tar.zst"):
        with attacks.row(f"a bucket's writer hides {name} of our newest copy"):
            house.lab.run("rm", f"{BUCKET}/{victim}/{name}")
            answer = house.offsite()
            assert list(answer.document["copies"][0]["copied"]) == [victim]
            assert house.sums(victim) == before


def test_a_copy_of_ours_that_was_rolled_back_to_another_is_none(
    house: House, attacks: Attacks
) -> None:
    """Both may have the same size, which is all that a night looks at."""
    old, new = house.copies
    before = house.sums(new)
    swap = 'rm "$2"/*; cp -a "$1"/* "$2"'
    with attacks.row("a bucket's writer puts our old set's files into the folder of the new one"):
        house.lab.run("sh", "-ec", swap, "x", f"{BUCKET}/{old}", f"{BUCKET}/{new}")
        try:
            for verb in (("verify",), ("restore", "--yes", "--no-safety-backup")):
                answer = house.product(*verb, "--from", "nas", new)
                assert answer.code == 1, answer
        finally:
            house.lab.run("rm", "-r", f"{BUCKET}/{new}")
            house.offsite()
    assert house.sums(new) == before


# Copies of another host's sets beside one of ours: as many as it would make in half a year.
MANY = """
import json, pathlib, shutil, sys
ours = pathlib.Path(sys.argv[1])
for number in range(220):
    name = f"{1780000000 + number * 86400}_2026_06_01_10.11.20-ffffff"
    place = ours.with_name(name)
    place.mkdir()
    for file in ours.iterdir():
        (place / file.name).write_bytes(b"x" if file.suffix == ".zst" else file.read_bytes())
    for file, changes in (("manifest.json", {"name": name, "host_id": "f" * 32}), ("copy.json", {"set": name})):
        path = place / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2) + "\\n")
"""


def test_very_many_copies_of_another_host(house: House, attacks: Attacks) -> None:
    row = attacks.row("another host has 220 copies at the same place, of 1,700 files")
    with row, house.forged():
        house.lab.run("python3", "-c", MANY, f"{BUCKET}/{house.copies[-1]}")
        assert len(house.lab.run("find", BUCKET, "-type", "f").stdout.splitlines()) > 1700
        before = house.sums(*house.there())
        listed = house.product("list", "--from", "nas")
        assert listed.code == 0 and len(listed.document["sets"]) == 222
        (copies,) = house.offsite().document["copies"]
        assert not copies["copied"] and not copies["removed"]
        assert house.sums(*house.there()) == before


def test_a_huge_manifest_is_not_read(house: House, attacks: Attacks) -> None:
    with attacks.row("a bucket's writer adds a manifest of 180 MB"), house.forged():
        name = house.forge(later(house, 7))
        fill = "print('{\\n  \"name\": \"%s\",\\n  \"parts\": [' % n + '{},' * 60000000 + '1]}')"
        script = f"import sys; n = sys.argv[1]; {fill}"
        target = f"{BUCKET}/{name}/manifest.json"
        house.lab.run("sh", "-ec", 'python3 -c "$0" "$1" >"$2"', script, name, target)
        assert house.lab.path(target).stat().st_size > 170_000_000
        for verb in (
            ("list", "--from", "nas"),
            ("offsite",),
            ("verify", "--from", "nas", "latest"),
        ):
            limited = ("sh", "-c", 'ulimit -v 3000000; exec gitlab-mm "$@"', "x", *verb)
            done = house.lab.run(*limited, check=False)
            assert done.returncode in (0, 4) and "Traceback" not in done.stderr, (verb, done)
        listed = {
            set_["name"]: set_ for set_ in house.product("list", "--from", "nas").document["sets"]
        }
        assert not listed[name]["complete"] and "larger than 16 MiB" in listed[name]["problem"]
        assert house.noted() == set(house.copies)


def test_a_plain_copy_does_not_count_where_copies_are_encrypted(
    house: House, attacks: Attacks
) -> None:
    """Our notes are lost, and the bucket has our sets in the clear."""
    house.lab.run("age-keygen", "-o", "/root/identity")
    key = house.lab.run("age-keygen", "-y", "/root/identity").stdout.strip()
    with attacks.row("a bucket's writer has our sets there in the clear, and our notes are lost"):
        house.lab.write(CONFIG, f"{OFFSITE}    recipients: [{key}]\n", mode=0o640)
        house.lab.run("rm", NOTES)
        answer = house.offsite()
        assert set(answer.document["copies"][0]["copied"]) == set(house.copies)
        for name in house.copies:
            assert house.lab.path(f"{BUCKET}/{name}/database.dump.zst.age").exists()
