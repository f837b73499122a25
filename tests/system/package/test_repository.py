"""The signed apt repository: hosts of both releases install from it and upgrade, and refuse what was changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.disks import CHECKOUT
from tests.lab.publisher import NEWER, PUBLISHED, URL, Publisher, forget_debian
from tests.lab.releases import build_root
from tests.lab.sandbox import Lab

CONFIG = "/etc/gitlab-mm-backup/config.yml"


@pytest.fixture(scope="module")
def publisher(base: Path, deb: Path) -> Iterator[Publisher]:
    with Lab(base=base) as lab:
        made = Publisher(lab, deb)
        made.serve()
        yield made


@pytest.fixture(scope="module")
def bookworm(base: Path, publisher: Publisher) -> Iterator[Lab]:
    """A host with all that our package depends on."""
    with Lab(base=base, network_of=publisher.lab) as lab:
        forget_debian(lab)
        yield lab


@pytest.fixture(scope="module")
def trixie(publisher: Publisher) -> Iterator[Lab]:
    """A host with hardly more than apt, which checks signatures by another program."""
    with Lab(root=build_root("trixie"), network_of=publisher.lab) as lab:
        forget_debian(lab)
        for name, place in (
            ("gitlab-mm-backup.asc", "/etc/apt/keyrings/gitlab-mm-backup.asc"),
            ("trixie.sources", "/etc/apt/sources.list.d/gitlab-mm-backup.sources"),
        ):
            lab.write(place, publisher.lab.read(f"{PUBLISHED}/{name}"))
        yield lab


def lines_of_readme() -> str:
    """The three lines of README.md, with the address of the lab."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(sudo curl .*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block.count("\n") == 3
    return str(block).replace("sudo ", "").replace("https://apt.example.org", URL)


def version(lab: Lab) -> str:
    return lab.run("dpkg-query", "-W", "-f", "${Version}", "gitlab-mm-backup").stdout


def test_the_three_lines_of_the_readme_install_it_and_apt_upgrades_it(
    bookworm: Lab, publisher: Publisher
) -> None:
    said = bookworm.run("sh", "-ec", lines_of_readme())
    assert bookworm.run("gitlab-mm", "config", "check").returncode == 0
    assert not re.search(r"^[NWE]: ", said.stdout + said.stderr, re.MULTILINE), said
    first = version(bookworm)
    bookworm.write(CONFIG, "keep_time: 9d\n", mode=0o640)
    publisher.add(publisher.newer)
    bookworm.run("apt-get", "update")
    bookworm.run("apt-get", "upgrade")
    assert (version(bookworm), bookworm.read(CONFIG)) == (NEWER, "keep_time: 9d\n")
    back = ("apt-get", "install", "--simulate", "--allow-downgrades", f"gitlab-mm-backup={first}")
    assert f"Inst gitlab-mm-backup [{NEWER}] ({first} " in bookworm.run(*back).stdout


def test_the_apt_of_trixie_takes_it_without_a_word(trixie: Lab) -> None:
    said = trixie.run("apt", "update")
    assert not re.search(r"^(N|W|E|Notice|Warning|Error): ", said.stdout + said.stderr, re.M), said
    trixie.run("apt-get", "download", "gitlab-mm-backup", cwd="/root")


BREAKS = {
    "list": ("dists/{}/main/binary-all/Packages.gz", "Hash Sum mismatch"),
    "signed list of lists": ("dists/{}/InRelease", "BADSIG|has been manipulated"),
    "package": (f"pool/gitlab-mm-backup_{NEWER}_all.deb", "Hash Sum mismatch"),
}
FETCH = """\
rm -rf /var/lib/apt/lists/* /tmp/*.deb
apt-get update && apt-get download gitlab-mm-backup
"""


def fetch(lab: Lab) -> tuple[bool, str]:
    """Fetch lists and package anew: whether apt took them, and what it said."""
    done = lab.run("sh", "-c", FETCH, cwd="/tmp", check=False)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("what", BREAKS)
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_apt_refuses_what_has_a_changed_byte(
    suite: str, what: str, publisher: Publisher, request: pytest.FixtureRequest
) -> None:
    lab: Lab = request.getfixturevalue(suite)
    publisher.add(publisher.newer)
    path, words = BREAKS[what]
    file = publisher.lab.path(f"{PUBLISHED}/{path.format(suite)}")
    kept = file.read_bytes()
    third = len(kept) // 3
    file.write_bytes(kept[:third] + bytes([kept[third] ^ 1]) + kept[third + 1 :])
    taken, said = fetch(lab)
    file.write_bytes(kept)
    assert not taken and re.search(words, said), said
    assert fetch(lab)[0]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_apt_refuses_another_key(
    suite: str, publisher: Publisher, request: pytest.FixtureRequest
) -> None:
    lab: Lab = request.getfixturevalue(suite)
    publisher.add(publisher.package, publisher.other)
    taken, said = fetch(lab)
    publisher.add(publisher.package)
    assert not taken and re.search("NO_PUBKEY|Missing key", said), said
    assert fetch(lab)[0]


# who builds it


def make(
    publisher: Publisher, *words: str, env: dict[str, str] | None = None, user: str = "root"
) -> tuple[int, str]:
    command = ("make", "-C", "/lab/src", "repo", f"URL={URL}", *words)
    done = publisher.lab.run(*command, env=env, user=user, check=False)
    return done.returncode, done.stdout + done.stderr


def test_make_repo_builds_it_with_a_key_that_was_named(publisher: Publisher) -> None:
    code, said = make(publisher, "REPO=/srv/made", "KEY=a throwaway key", env=publisher.key)
    assert (code, "is signed with" in said) == (0, True), said
    lab = publisher.lab
    assert lab.run("ls", "/srv/made").stdout.split() == [
        "bookworm.sources",
        "dists",
        "gitlab-mm-backup.asc",
        "pool",
        "trixie.sources",
    ]
    keys = lab.run("grep", "-rho", "--exclude-dir=pool", "BEGIN PGP .* KEY", "/srv/made").stdout
    assert keys == "BEGIN PGP PUBLIC KEY\n"
    assert f"URIs: {URL}\nSuites: trixie\n" in lab.read("/srv/made/trixie.sources")


def test_without_a_key_or_an_address_it_says_what_to_do(publisher: Publisher) -> None:
    code, said = make(publisher, "REPO=/srv/none")
    assert (code, "gpg --quick-generate-key" in said) == (2, True), said
    code, said = make(publisher, "REPO=/srv/none", "KEY=nobody", env=publisher.key)
    assert (code, "no secret key nobody" in said) == (2, True), said
    code, said = make(publisher, "REPO=/srv/none", "URL=", env=publisher.key)
    assert (code, "URL=https://apt.example.org" in said) == (2, True), said
    assert not publisher.lab.path("/srv/none").exists()


def test_any_account_builds_it_where_it_may_write(publisher: Publisher) -> None:
    lab, home = publisher.lab, {"GNUPGHOME": "/srv/key"}
    lab.run("cp", "-a", publisher.key["GNUPGHOME"], "/srv/key")
    lab.run("chown", "-R", "nobody", "/srv/key")
    code, said = make(publisher, "REPO=/srv/closed", env=home, user="nobody")
    assert (code, "nobody cannot write to /srv/closed" in said) == (2, True), said
    code, said = make(publisher, "REPO=/tmp/open", env=home, user="nobody")
    assert (code, "is signed with" in said) == (0, True), said


def test_a_version_is_not_replaced_by_another_package_of_that_version(publisher: Publisher) -> None:
    lab = publisher.lab
    before = lab.run("sha256sum", f"{PUBLISHED}/dists/trixie/InRelease").stdout
    lab.run("mkdir", "/root/changed")
    lab.run("cp", publisher.newer, f"/root/changed/{Path(publisher.package).name}")
    command = ("/lab/src/debian/repository/build.sh", PUBLISHED, URL, "")
    changed = f"/root/changed/{Path(publisher.package).name}"
    refused = lab.run(*command, changed, env=publisher.key, check=False)
    assert (refused.returncode, "debian/changelog" in refused.stderr) == (2, True), refused
    assert lab.run("sha256sum", f"{PUBLISHED}/dists/trixie/InRelease").stdout == before
