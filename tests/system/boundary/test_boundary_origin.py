"""Who made a set: what somebody else puts among the copies is not restored, unless by name."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lab import remotes
from tests.lab.installed_package import Answer, Product
from tests.lab.sandbox import Lab
from tests.system.helpers.attacks import Attacks, target

BUCKET, SETS = "/srv/bucket", "/var/opt/gitlab/backups/mattermost"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
OFFSITE = f"offsite:\n  - name: nas\n    remote: {BUCKET}\n"
RESTORE = ("restore", "--yes", "--no-safety-backup", "--from", "nas")


@dataclass
class House:
    """A server with one copy in a bucket that others write to, and the key that it signs with."""

    lab: Lab
    product: Product
    copy: str
    key: str

    def listed(self) -> dict[str, dict[str, Any]]:
        found = self.product("list", "--from", "nas").document["sets"]
        return {copy_["name"]: copy_ for copy_ in found}

    def teams(self) -> str:
        return database(self.lab, "SELECT count(*) FROM teams")


def database(lab: Lab, query: str) -> str:
    command = ["gitlab-psql", "-d", "mattermost_production", "-Atc", query]
    return str(lab.run(*command).stdout).strip()


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with target(base, deb) as (lab, _, product):
        lab.run("mkdir", BUCKET)
        lab.write(CONFIG, OFFSITE, mode=0o640)
        name = product.backup().rpartition("/")[2]
        yield House(lab, product, name, str(product("host").document["key"]))


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("origin")


@dataclass
class Forger:
    """Somebody who can write to the bucket, and has a key of their own."""

    lab: Lab
    real: str  # name of the copy that the forged one is made from

    def put(self, name: str, sign: bool, **changes: Any) -> None:
        """Put a copy there, with fitting sums; its manifest differs by ``changes``."""
        place, source = f"{BUCKET}/{name}", f"{BUCKET}/{self.real}"
        self.lab.run("cp", "-a", source, place)
        manifest = json.loads(self.lab.read(f"{source}/manifest.json")) | {"name": name} | changes
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        self.lab.write(f"{place}/manifest.json", text)
        copy = json.loads(self.lab.read(f"{source}/copy.json")) | {"set": name}
        record = json.dumps(copy, indent=2) + "\n"
        self.lab.write(f"{place}/copy.json", record)
        sums = {part["file"]: part["sha256"] for part in manifest["parts"].values()}
        sums["manifest.json"] = hashlib.sha256(text.encode()).hexdigest()
        lines = "".join(f"{value}  {file}\n" for file, value in sums.items())
        self.lab.write(f"{place}/SHA256SUMS", lines)
        self.lab.run("rm", f"{place}/signature.json")
        if sign:
            self.sign(name, text.encode(), record.encode())

    def sign(self, name: str, *documents: bytes) -> None:
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        text = [base64.b64encode(data).decode() for data in (public, *map(key.sign, documents))]
        document = dict(zip(("signed", "key", "manifest", "copy"), (name, *text)))
        path = f"{BUCKET}/{name}/signature.json"
        self.lab.write(path, json.dumps(document, indent=2) + "\n")


@pytest.fixture
def forger(house: House) -> Iterator[Forger]:
    house.lab.run("rm", "-rf", f"{SETS}/{house.copy}")  # or it would be taken from there
    there = {path.name for path in house.lab.path(BUCKET).iterdir()}
    house.lab.run("cp", "-a", f"{BUCKET}/{house.copy}", "/root/kept")
    yield Forger(house.lab, house.copy)
    for name in {path.name for path in house.lab.path(BUCKET).iterdir()} - there | {house.copy}:
        house.lab.run("rm", "-rf", f"{BUCKET}/{name}")
    house.lab.run("mv", "/root/kept", f"{BUCKET}/{house.copy}")


def later(name: str) -> str:
    return f"{int(name[:10]) + 5:010d}{name[10:]}"


def test_a_copy_of_ours_is_authentic(house: House) -> None:
    found = house.listed()[house.copy]
    assert (found["origin"], found["key"]) == ("authentic", house.key)
    answer = house.product("verify", "--from", "nas", house.copy)
    assert (answer.code, answer.document["origin"]) == (0, "authentic"), answer
    assert house.product("list").document["sets"][0]["origin"] == "authentic"
    kit = house.product("kit")
    assert kit.document["key"] == house.key
    assert house.lab.path("/var/lib/gitlab-mm-backup/signing-key.json").stat().st_mode & 0o077 == 0


Change = Callable[[Forger], str]  # returns the name of the copy that it is about


def newer_unsigned(forger: Forger) -> str:
    forger.put(name := later(forger.real), sign=False)
    return name


def newer_signed(forger: Forger) -> str:
    forger.put(name := later(forger.real), sign=True)
    return name


def stripped(forger: Forger) -> str:
    forger.lab.run("rm", f"{BUCKET}/{forger.real}/signature.json")
    return forger.real


def signed_anew(forger: Forger) -> str:
    place = f"{BUCKET}/{forger.real}"
    documents = (forger.lab.read(f"{place}/{file}") for file in ("manifest.json", "copy.json"))
    forger.sign(forger.real, *(document.encode() for document in documents))
    return forger.real


def manifest_changed(forger: Forger) -> str:
    path = f"{BUCKET}/{forger.real}/manifest.json"
    forger.lab.write(path, forger.lab.read(path).replace('"mattermost": "', '"mattermost": "1'))
    return forger.real


def record_changed(forger: Forger) -> str:
    path = f"{BUCKET}/{forger.real}/copy.json"
    forger.lab.write(path, forger.lab.read(path).replace('"sha256": "', '"sha256":  "'))
    return forger.real


def signature_torn(forger: Forger) -> str:
    path = f"{BUCKET}/{forger.real}/signature.json"
    forger.lab.write(path, forger.lab.read(path)[:100])
    return forger.real


@pytest.mark.parametrize(
    "change",
    [
        newer_unsigned,
        newer_signed,
        stripped,
        signed_anew,
        manifest_changed,
        record_changed,
        signature_torn,
    ],
)
def test_what_claims_to_be_ours_without_our_signature_is_forged(
    house: House, forger: Forger, attacks: Attacks, change: Change
) -> None:
    with attacks.row(f"a bucket's writer forges a copy of ours: {change.__name__}"):
        name = change(forger)
        assert house.listed()[name]["origin"] == "forged"
        assert house.product("verify", "--from", "nas", name).code == 1
        before = house.teams()
        answer = house.product(*RESTORE, name)
        assert answer.code == 2 and "is forged" in answer.document["error"]["message"], answer
        assert house.teams() == before
        if name != house.copy:  # nor is it taken if no set is named
            answer = house.product("verify", "--from", "nas", "latest")
            assert (answer.code, answer.document["set"]) == (0, house.copy), answer


def test_a_set_of_a_strangers_host_is_not_restored_unless_it_is_named(
    house: House, forger: Forger, attacks: Attacks
) -> None:
    other = {"host_id": "f" * 32, "host": "elsewhere"}
    for sign, kind in ((True, "unknown key"), (False, "unsigned")):
        name = f"{int(house.copy[:10]) + 9 - sign:010d}_2026_11_22_10.11.20-ffffff"
        with attacks.row(f"a bucket's writer adds a newer set of another host: {kind}"):
            forger.put(name, sign=sign, **other)
            assert house.listed()[name]["origin"] == kind
            answer = house.product(*RESTORE, "--host", "elsewhere")
            assert answer.code == 2 and "Nothing proves" in answer.document["error"]["message"]
            assert f"--trust-unsigned {name}" in answer.document["error"]["hint"]
            assert house.product(*RESTORE, name, "--trust-unsigned", house.copy).code == 2
            answer = house.product("rehearse", "--quick", "--from", "nas", name)
            assert answer.code == 4 and "not proven" in answer.document["warnings"][0], answer
    answer = house.product("rehearse", "--from", "nas", house.copy, "--quick")
    assert answer.document["checks"][0]["name"] == "origin", answer


def test_a_plain_copy_is_refused_where_copies_are_encrypted(house: House, attacks: Attacks) -> None:
    house.lab.run("age-keygen", "-o", "/root/identity")
    key = house.lab.run("age-keygen", "-y", "/root/identity").stdout.strip()
    with attacks.row("a bucket's writer has our sets there in the clear"):
        answer = house.product("verify", "--from", "nas", "--identity", "/root/identity")
        assert answer.code == 2 and "not encrypted" in answer.document["error"]["message"]
        house.lab.write(CONFIG, f"{OFFSITE}    recipients: [{key}]\n", mode=0o640)
        answer = house.product(*RESTORE, house.copy)
        assert answer.code == 2 and "not encrypted" in answer.document["error"]["message"]
        house.lab.write(CONFIG, OFFSITE, mode=0o640)


@pytest.fixture(scope="module")
def bare(base: Path, deb: Path, house: House) -> Iterator[tuple[Lab, Product]]:
    """Another machine that was installed anew: all it has is the bucket."""
    with target(base, deb) as (lab, _, product):
        content = house.lab.run_bytes("tar", "-C", "/srv", "-c", "bucket").stdout
        lab.run_bytes("tar", "-C", "/srv", "-x", input=content)
        lab.write(CONFIG, OFFSITE, mode=0o640)
        yield lab, product


def restore(product: Product, *options: str) -> Answer:
    return product(*RESTORE, *options)


def test_an_empty_machine_trusts_the_key_of_the_kit(
    house: House, bare: tuple[Lab, Product], attacks: Attacks
) -> None:
    lab, product = bare
    answer = restore(product, house.copy)
    assert answer.code == 2, answer
    assert f"gitlab-mm host trust {house.key}" in answer.document["error"]["hint"]
    asked = f"gitlab-mm restore --no-safety-backup --from nas {house.copy}"
    done = lab.run("script", "-qec", asked, "/dev/null", input="n\n", check=False)
    assert done.returncode == 2, done
    assert house.key in done.stdout and "Are the two fingerprints the same?" in done.stdout
    done = lab.run("script", "-qec", asked, "/dev/null", input="y\nn\n", check=False)
    assert done.returncode == 2 and "Cancelled; nothing changed" in done.stdout, done
    assert restore(product, house.copy).code == 2, "the key is not trusted after the second answer"
    answer = product("host", "trust", house.key.replace("-", " ").upper())
    assert (answer.code, answer.document["key"]) == (0, house.key)
    answer = restore(product, house.copy)
    assert answer.code in (0, 4), answer
    assert product("host", "distrust", house.key).code == 0
    with attacks.row("a bucket's writer changes a copy on an empty machine, which has no key"):
        lab.run("rm", "-rf", f"{SETS}/{house.copy}")
        path = f"{BUCKET}/{house.copy}/manifest.json"
        lab.write(path, lab.read(path).replace('"seconds": ', '"seconds": 1'))
        answer = restore(product, house.copy)
        assert answer.code == 2 and "is forged" in answer.document["error"]["message"], answer


def test_a_credential_that_may_not_remove_is_enough(house: House, attacks: Attacks) -> None:
    """As docs/authenticity.md describes for OpenSSH: root of this host cannot remove the copies."""
    lab, product = house.lab, house.product
    remotes.start_ssh(lab, "/srv/vault", "remove,rmdir,rename,posix-rename")
    remotes.write_ssh_conf(lab, "vault")
    vault = "keep:\n  last: 1\noffsite:\n  - remote: vault:/srv/vault\n    retries: 0\n"
    lab.write(CONFIG, f"{vault}    add_only: true\n", mode=0o640)
    for beyond in (0, 1):
        answer = product("backup")
        assert answer.code == 0, answer
        (there,) = answer.document["copies"]
        assert len(there["copied"]) == 1 and there["removed"] == []
        assert there["beyond_rules"] == beyond
    said = lab.run("gitlab-mm", "offsite", "-v")
    assert "1 copy beyond the rules" in said.stdout + said.stderr, said
    with attacks.row("root of a host that was taken over removes its copies (add_only)"):
        before = lab.run("find", "/srv/vault", "-type", "f").stdout
        done = lab.run("rclone", "purge", "vault:/srv/vault", check=False)
        assert done.returncode != 0 and lab.run("find", "/srv/vault", "-type", "f").stdout == before
    lab.write(CONFIG, vault, mode=0o640)
    answer = product("backup")
    assert answer.code == 4 and any(
        "add_only" in warning for warning in answer.document["warnings"]
    )


def test_a_repository_that_others_write_to(house: House, attacks: Attacks) -> None:
    """Whoever knows its password can change what a set says of itself, but not sign that."""
    lab, product = house.lab, house.product
    lab.write("/root/word", "of the repository\n", mode=0o600)
    restic = ("restic", "-r", "/srv/repository", "-p", "/root/word")
    lab.run(*restic, "init")
    place = "restic: {repository: /srv/repository, password_file: /root/word}"
    lab.write(CONFIG, f"store: restic\n{place}\nkeep:\n  last: 1\n", mode=0o640)
    good = str(product("backup").document["set"])
    assert product("list").document["sets"][0]["origin"] == "authentic"
    answer = product("verify", good)
    assert (answer.code, answer.document["origin"]) == (0, "authentic"), answer
    lab.write(CONFIG, f"store: restic\n{place}\n", mode=0o640)
    bad = str(product("backup").document["set"])
    with attacks.row("another host strips the signature from our newest set in a repository"):
        listed = lab.run(*restic, "snapshots", "--json", "--tag", f"{bad},manifest").stdout
        (snapshot,) = json.loads(listed)
        (signed,) = [tag for tag in snapshot["tags"] if tag.startswith("signed:")]
        lab.run(*restic, "tag", "--remove", signed, snapshot["id"])
        origins = {set_["name"]: set_["origin"] for set_ in product("list").document["sets"]}
        assert origins == {good: "authentic", bad: "forged"}
        answer = product("restore", "--dry-run")
        assert answer.document["set"] == good, answer
        answer = product("restore", "--yes", "--no-safety-backup", bad)
        assert answer.code == 2 and "is forged" in answer.document["error"]["message"], answer
        lab.write(CONFIG, f"store: restic\n{place}\nkeep:\n  last: 1\n", mode=0o640)
        assert good not in product("prune").document["removed"], "the forged one displaces nothing"
