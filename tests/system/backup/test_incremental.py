"""Nights that cost what changed: chains of sets on a server in use, restored, rehearsed, and broken."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, State, install
from tests.lab.sandbox import Lab, wait_until
from tests.system.backup.test_backup import CONFIG, SETS, Server
from tests.system.helpers.rehearsals import detail, results

# Made anew by the server, in its own time.
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
ODD = "data/odd"
# So that what a night changes is not half of all.
BALLAST = "head -c 3000000 /dev/urandom >{home}/data/ballast; chown mattermost {home}/data/ballast"
# Removed, renamed, other bytes of the same size and time, a folder for a file, a file for a folder.
CHANGES = """
cd {home}/data; umask 077; mkdir -p odd
case $0 in
1)  for name in 'gone ' odd/same odd/kind odd/folder/file odd/kept/file odd/renamed/file; do
        mkdir -p "$(dirname "$name")"; head -c 4000 /dev/urandom >"$name"
    done;;
2)  rm 'gone '; mv odd/renamed 'odd/its new name'; mv odd/kept/file odd/kept/other
    touch -r odd/same /tmp/time; head -c 4000 /dev/urandom >odd/same; touch -r /tmp/time odd/same
    rm odd/kind; mkdir odd/kind; echo inside >odd/kind/file
    rm -r odd/folder; echo a file >odd/folder;;
3)  rm -r odd/kind; echo a file again >odd/kind; rm odd/folder; ln -s same odd/folder
    echo back again >'gone '; chmod 640 odd/same;;
esac
chown -hR mattermost: odd
"""


@dataclass(frozen=True)
class Nights:
    """Sets by night, the states they were made of, and the server they come from."""

    server: Server
    sets: list[str]
    states: list[State]

    @property
    def product(self) -> Product:
        return self.server.product

    def listed(self, path: str) -> dict[str, object]:
        name = path.rpartition("/")[2]
        (found,) = [set_ for set_ in self.product("list").document["sets"] if set_["name"] == name]
        return dict(found)


@pytest.fixture(scope="module")
def nights(base: Path, deb: Path) -> Iterator[Nights]:
    with Lab(base=base, disk_size="1g") as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.run("sh", "-ec", BALLAST.format(home=gitlab.home))
        lab.write(CONFIG, "files: incremental\n", mode=0o640)
        made = Nights(Server(lab, gitlab, product), [], [])
        for night in (1, 2, 3):
            change(lab, gitlab, night)
            made.states.append(gitlab.state())
            made.sets.append(product.backup())
        yield made


def change(lab: Lab, gitlab: Omnibus, night: int) -> None:
    alice = gitlab.sign_in("alice")
    alice.post(f"night {night}", files=[alice.upload(f"night {night}.pdf", b"pdf" * 999)])
    lab.run("sh", "-ec", CHANGES.format(home=gitlab.home), str(night))


def manifest(nights: Nights, night: int) -> dict[str, object]:
    return dict(json.loads(nights.server.lab.read(f"{nights.sets[night]}/manifest.json")))


def test_a_night_names_its_base_and_holds_what_changed(nights: Nights) -> None:
    lab = nights.server.lab
    first, second, third = (manifest(nights, night) for night in range(3))
    assert (first["format"], "increment" in first) == (3, False)
    for above, below, path in ((second, first, nights.sets[0]), (third, second, nights.sets[1])):
        increment = above["increment"]
        assert isinstance(increment, dict)
        assert increment["base"] == below["name"]
        assert (
            lab.run("sha256sum", f"{path}/manifest.json").stdout.split()[0] == increment["manifest"]
        )
    sizes = [nights.server.lab.path(f"{set_}/files.tar.zst").stat().st_size for set_ in nights.sets]
    assert max(sizes[1:]) < sizes[0] / 10
    for path in nights.sets:
        modes = lab.run("find", path, "-printf", "%m %u:%g %y\n").stdout.splitlines()
        assert set(modes) == {"700 root:root d", "600 root:root f"}
        sums = lab.run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=path).stdout
        assert "files.list.zst: OK" in sums
    names = [path.rpartition("/")[2] for path in nights.sets]
    assert [nights.listed(path)["base"] for path in nights.sets] == [None, *names[:2]]
    assert f"builds on {names[1]}" in nights.product.run("list").stdout


def test_each_night_is_whole_and_passes_its_rehearsal(nights: Nights) -> None:
    """Uploads of all nights are found, though the last set's own archive holds the last night's."""
    for path in nights.sets:
        assert nights.product("verify", path).code == 0
    answer = nights.product("rehearse", "latest")
    assert answer.code == 0, answer
    assert set(results(answer).values()) == {"passed"}
    uploads = nights.server.gitlab.sql("SELECT count(*) FROM fileinfo WHERE deleteat = 0")[0]
    assert detail(answer, "uploads").startswith(f"{uploads} in the archive")
    files = manifest(nights, 2)["files"]
    assert isinstance(files, dict)
    assert detail(answer, "files") == f"{files['files']} unpacked, {files['bytes']} bytes"


@contextlib.contextmanager
def spoilt(nights: Nights, command: str) -> Iterator[None]:
    """Have the store changed by a shell `command` for a while."""
    lab = nights.server.lab
    lab.run("cp", "-a", SETS, f"{SETS}.kept")
    try:
        lab.run("sh", "-ec", command, cwd=SETS)
        yield
    finally:
        lab.run("rm", "-rf", SETS)
        lab.run("mv", f"{SETS}.kept", SETS)


BROKEN = {
    "gone": ("rm -r {0}", "There is no set {0}"),
    "cut short": ("truncate -s -1 {0}/files.tar.zst", "has "),
    "without its archive": ("rm {0}/files.tar.zst", "No such file"),
    "another": ("mv {0} x; cp -a {2} {0}; rm -r x", "is not the set of then"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_base_shows_in_the_list_and_stops_a_restore(nights: Nights, case: str) -> None:
    names = [path.rpartition("/")[2] for path in nights.sets]
    command, told = BROKEN[case]
    before = nights.server.gitlab.state()
    with spoilt(nights, command.format(*names)):
        for above in names[1:]:
            listed = nights.listed(above)
            assert listed["complete"] is False
            assert told.format(*names) in str(listed["problem"])
        assert f"{names[2]}\n  NOT COMPLETE" in nights.product.run("list").stdout
        answer = nights.product.restore(names[2])
        assert answer.code == 1
        assert f"it builds on set {names[1]}" in answer.error["message"]
        assert answer.error["hint"]
        assert nights.product("verify", names[1]).code == 1
    assert before.differences(nights.server.gitlab.state()) == []


def test_a_flipped_bit_in_the_base_is_found_before_anything_is_done(nights: Nights) -> None:
    flip = (
        "import sys; path = sys.argv[1]; data = bytearray(open(path, 'rb').read());"
        "data[len(data) // 2] ^= 1; open(path, 'wb').write(data)"
    )
    names = [path.rpartition("/")[2] for path in nights.sets]
    before = nights.server.gitlab.state()
    with spoilt(nights, f'python3 -c "{flip}" {names[0]}/files.tar.zst'):
        for answer in (nights.product("verify", names[2]), nights.product.restore(names[2])):
            assert answer.code == 1
            wrong = f"set {names[0]}, which it builds on: files.tar.zst: has a wrong checksum"
            assert wrong in answer.error["detail"]
        rehearsed = nights.product("rehearse", names[1])
        assert (rehearsed.code, results(rehearsed)["checksums"]) == (1, "failed")
        # A set known to be damaged is no base for the next one.
        assert nights.product("verify", names[0]).code == 1
        assert nights.listed(names[2])["damaged_base"] == names[0]
        assert f"NOT SOUND: {names[0]}" in nights.product.run("list").stdout
        assert nights.listed(nights.product.backup())["base"] is None
    assert before.differences(nights.server.gitlab.state()) == []


def test_prune_keeps_what_a_kept_set_builds_on_and_says_so(nights: Nights) -> None:
    names = [path.rpartition("/")[2] for path in nights.sets]
    with nights.server.replaced(CONFIG, "files: incremental\nkeep:\n  last: 1\n", 0o640):
        planned = nights.product("prune", "--dry-run").document["sets"]
        reasons = {decision["name"]: (decision["keep"], decision["reason"]) for decision in planned}
        assert reasons[names[1]] == (True, f"set {names[2]} builds on it")
        assert reasons[names[0]] == (True, f"set {names[1]} builds on it")
        assert nights.product("prune").document["removed"] == []
    assert nights.product("verify", names[2]).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_night_that_is_cut_short_changes_nothing_for_the_next(
    nights: Nights, number: signal.Signals
) -> None:
    server, name = nights.server, nights.sets[2].rpartition("/")[2]
    with server.locked_posts():
        backup = server.lab.popen(
            "gitlab-mm", "backup", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait_until(
            lambda: server.waits_for_lock() or backup.poll() is not None, 60, "pg_dump to wait"
        )
        assert backup.poll() is None, backup.communicate()
        server.lab.send_signal(backup, number)
        backup.communicate(timeout=30)
    new = f"{ODD}/after {number.name}"
    server.lab.run("sh", "-ec", f"echo more >'{server.gitlab.home}/{new}'")
    path = nights.product.backup()
    assert nights.listed(path)["base"] == name
    packed = f"zstd -dc {path}/files.tar.zst | tar --list"
    assert new in server.lab.run("sh", "-c", packed).stdout
    assert nights.product("verify", path).code == 0
    server.lab.run("rm", "-r", path)
    assert nights.product.leftovers() == []


def test_a_copy_elsewhere_needs_its_base_beside_it(nights: Nights) -> None:
    lab, path = nights.server.lab, nights.sets[1]
    name = path.rpartition("/")[2]
    lab.run("sh", "-ec", f"mkdir /root/usb; cp -a {path} /root/usb")
    answer = nights.product.restore(f"/root/usb/{name}")
    assert answer.code == 1
    assert "There is no set" in answer.error["detail"] and "/root/usb" in answer.error["hint"]
    lab.run("cp", "-a", nights.sets[0], "/root/usb")
    assert nights.product("verify", f"/root/usb/{name}").code == 0


def test_a_chain_is_copied_and_comes_back_whole(nights: Nights) -> None:
    """A set is fetched with all that it builds on, into a folder of sets that had nothing."""
    lab, names = nights.server.lab, [path.rpartition("/")[2] for path in nights.sets]
    lab.run("mkdir", "-m", "0700", "/srv/copies")
    lab.write("/root/copies.yml", "offsite: [{remote: /srv/copies}]\n", mode=0o600)
    copied = nights.product("offsite", "--config", "/root/copies.yml")
    assert copied.code == 0, copied
    lab.write("/root/other.yml", "backup_path: /srv/other\n", mode=0o600)
    words = ("--config", "/root/other.yml", "--from", "/srv/copies")
    assert nights.product("verify", *words, names[2]).code == 0
    answer = nights.product.restore("--no-safety-backup", *words, names[2])
    assert answer.code == 0, answer
    gitlab = nights.server.gitlab
    assert nights.states[2].differences(gitlab.state(), ignore=DERIVED) == []
    here = lab.run("ls", "/srv/other/mattermost").stdout.split()
    assert sorted(here) == sorted(names)


def test_what_comes_back_is_each_night_as_it_was(nights: Nights) -> None:
    """Last, for it changes the server: the newest by its chain, then the one in the middle."""
    lab, gitlab = nights.server.lab, nights.server.gitlab
    gitlab.sign_in("alice").post("after the last set")
    lab.run("sh", "-ec", f"rm -rf {gitlab.home}/{ODD}; echo new >{gitlab.home}/data/new")
    for night in (2, 1):
        answer = nights.product.restore(nights.sets[night])
        assert answer.code == 0, answer
        assert nights.states[night].differences(gitlab.state(), ignore=DERIVED) == []
        safety = nights.listed(f"{SETS}/{answer.document['safety_set']}")
        assert (safety["purpose"], safety["base"]) == ("safety", None)
        assert answer.document["files"] == nights.listed(nights.sets[night])["files"]
    # Every file is another one now: a full set, and not on the safety set.
    assert nights.listed(nights.product.backup())["base"] is None
    assert nights.product.leftovers() == []
