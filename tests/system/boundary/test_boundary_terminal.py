"""What comes from settings, databases and sets is shown, and does nothing where it is shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product
from tests.lab.sandbox import Lab
from tests.system.helpers.attacks import Attacks, target

CONFIG = "/var/opt/gitlab/mattermost/config.json"
SETS = "/var/opt/gitlab/backups/mattermost"
TEXTFILES = "/var/opt/gitlab/node-exporter/textfile_collector"
# A window title, a bell, a cleared screen, an 8-bit introducer, a word from right to left, a forged line.
EVIL = "\x1b]0;PWN\x07\x1b[2J\x9b31m\u202e\nError: forged"
SQL = """
UPDATE users SET username = E'al{evil}' WHERE username = 'alice';
UPDATE users SET email = E'x{evil}' WHERE username = 'bob';
CREATE TABLE "t{evil}" (a int);
CREATE TABLE "u{evil}" (a int);
ALTER TABLE "u{evil}" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
"""
VERBS = (
    ("backup", "--verbose"),
    ("list",),
    ("verify",),
    ("rehearse", "--verbose"),
    ("status",),
    ("doctor",),
    ("doctor", "--to", "19"),
    ("sso", "check"),
    ("accounts", "convert", "--from", "gitlab", "--to", "email", "--dry-run"),
    ("restore", "--dry-run", "latest"),
    ("prune", "--dry-run"),
    ("report", "/tmp/report.html"),
    ("kit", "/tmp/kit.html"),
    ("host",),
)


@dataclass
class House:
    """A server whose settings, database and a set beside it hold what a terminal acts on."""

    lab: Lab
    product: Product
    forged: str


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with target(base, deb) as (lab, gitlab, product):
        made = product.backup()
        lab.run("mkdir", "-p", TEXTFILES)
        forged = forge(lab, made)
        gitlab.sql(SQL.replace("{evil}", EVIL.replace("'", "''")))
        config = json.loads(lab.read(CONFIG))
        config["FileSettings"] |= {"DriverName": f"amazons3{EVIL}", "AmazonS3Bucket": f"b{EVIL}"}
        lab.write(CONFIG, json.dumps(config), mode=0o600, owner="mattermost")
        yield House(lab, product, forged)


def forge(lab: Lab, made: str) -> str:
    """Make a set beside whose manifest names a table and tells words of the attacker's."""
    path = f"/srv/forged/{made.rpartition('/')[2]}"
    lab.run("sh", "-ec", f"install -d -m 700 /srv/forged; cp -a {made} {path}")
    manifest = json.loads(lab.read(f"{path}/manifest.json"))
    manifest["database"]["rows"][f"public.z{EVIL}"] = 5
    manifest["told"] = [f"lost{EVIL}"]
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    lab.write(f"{path}/manifest.json", text, mode=0o600)
    sums = {part["file"]: part["sha256"] for part in manifest["parts"].values()}
    sums["manifest.json"] = hashlib.sha256(text.encode()).hexdigest()
    lines = "".join(f"{value}  {name}\n" for name, value in sums.items())
    lab.write(f"{path}/SHA256SUMS", lines, mode=0o600)
    lab.run("rm", f"{path}/signature.json")  # which would give it away at once
    return path


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("terminal")


def harmless(shown: str, where: object) -> None:
    """Nothing in it is acted on, and no line of it looks like one of ours."""
    assert shown.replace("\n", "").isprintable(), (where, ascii(shown))
    assert not [line for line in shown.splitlines() if line.startswith("Error: forged")], where


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_what_a_verb_prints(house: House, attacks: Attacks, verb: tuple[str, ...]) -> None:
    with attacks.row(
        f"settings and names in the database have escapes: gitlab-mm {' '.join(verb)}"
    ):
        done = house.product.run(*verb)
        assert done.stdout or done.stderr
        harmless(done.stdout + done.stderr, verb)
        document = house.product(*verb).document  # one line of JSON, whatever is in it
        assert document["exit_code"] == done.returncode


@pytest.mark.parametrize(
    "verb", [("verify",), ("rehearse",), ("restore", "--dry-run")], ids=" ".join
)
def test_a_set_that_somebody_made(house: House, attacks: Attacks, verb: tuple[str, ...]) -> None:
    with attacks.row(f"the manifest of a set has escapes: gitlab-mm {' '.join(verb)}"):
        done = house.product.run(*verb, house.forged)
        harmless(done.stdout + done.stderr, verb)


def test_what_is_kept_of_it(house: House, attacks: Attacks) -> None:
    with attacks.row("settings and names in the database have escapes: metrics, report and kit"):
        harmless(house.lab.read(f"{TEXTFILES}/gitlab_mm_backup.prom"), "metrics")
        for name in ("/tmp/report.html", "/tmp/kit.html"):  # where a line break is a blank
            assert house.lab.read(name).replace("\n", "").isprintable(), name
