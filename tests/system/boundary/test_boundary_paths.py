"""Root follows no path that Mattermost's account can change, and gives nothing away through one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab, wait_until
from tests.system.helpers.attacks import Attacks, target

HOME = "/var/opt/gitlab/mattermost"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
CANARY = "/srv/canary"
# All of it with owner, mode, times of access and change; it notes every access but this one.
SEAL = f"""
mount -o remount,noatime {CANARY}
find {CANARY} -printf '%p %u:%g %m %A@ %C@ %s\\n' | sort
mount -o remount,strictatime {CANARY}
"""
MAKE_CANARY = f"""
mkdir {CANARY}
mount -t tmpfs -o strictatime,mode=755 tmpfs {CANARY}
mkdir -m 700 {CANARY}/keys
echo secret >{CANARY}/keys/key; echo 'echo hello' >{CANARY}/run.sh
chmod 600 {CANARY}/keys/key
"""
VERBS = (
    ("backup",),
    ("rehearse",),
    ("restore", "--yes", "latest"),
    ("restore", "--yes", "--only", "files", "--no-safety-backup", "latest"),
    ("sso", "repair"),
    ("doctor",),
    ("status",),
)
TARGETS = {
    "a directory of root's": CANARY,
    "a private directory of root's": f"{CANARY}/keys",
    "/root": "/root",
    "/etc": "/etc",
    "/proc": "/proc",
    "/dev/shm": "/dev/shm",
    "PostgreSQL's data": "/var/opt/gitlab/postgresql",
    "the folder of sets": "/var/opt/gitlab/backups",
    "a directory of its own, for now": "/srv/own",
}
# What it puts in place of its config.json.
CONFIGS = {
    "a link to /etc/shadow": "ln -s /etc/shadow $0",
    "a link to gitlab-secrets.json": "ln -s /etc/gitlab/gitlab-secrets.json $0",
    "a link to /dev/zero": "ln -s /dev/zero $0",
    "a pipe": "mkfifo $0",
    "a sparse file of 3 GB": "truncate -s 3G $0",
    "a directory": "mkdir $0",
}


@dataclass
class House:
    """A server whose account mattermost attacks, and a tree of root's that must not be touched."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def shell(self, script: str, *words: str, user: str = "root") -> str:
        return str(self.lab.run("sh", "-ec", script, *words, user=user).stdout)

    def seal(self) -> str:
        return self.shell(SEAL)

    @contextlib.contextmanager
    def instead(self, name: str, making: str) -> Iterator[None]:
        """Have the account put something else in the place of an entry of its home."""
        path = f"{HOME}/{name}"
        self.shell(f'mv "$0" "$0.away"; {making}', path, user="mattermost")
        try:
            yield
        finally:
            self.shell('rm -rf "$0"; mv "$0.away" "$0"', path, user="mattermost")

    def refused(self, words: str) -> None:
        """Every verb ends, none with success of what it was to do, and none touches the canary."""
        before = self.seal()
        for verb in VERBS:
            done = self.product.run(*verb, timeout=60)
            assert "Traceback" not in done.stderr, (verb, done.stderr)
            if verb[0] in ("backup", "restore"):
                assert done.returncode == 1 and words in done.stderr, (verb, done.stderr)
        assert self.seal() == before
        assert self.product.leftovers() == []


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with target(base, deb) as (lab, gitlab, product):
        made = House(lab, gitlab, product)
        made.shell(MAKE_CANARY)
        made.shell("install -d -o mattermost -g mattermost /srv/own")
        product.backup()
        yield made


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("paths")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("role", ["data", "plugins", "client-plugins"])
def test_a_link_in_place_of_a_directory(
    house: House, attacks: Attacks, role: str, target: str
) -> None:
    row = attacks.row(f"mattermost puts a link to {target} in the place of {role}")
    with row, house.instead(role, f'ln -s {TARGETS[target]} "$0"'):
        house.refused("Mattermost's directory")


def test_a_link_in_place_of_the_home_s_directory_of_another(house: House, attacks: Attacks) -> None:
    with attacks.row("mattermost swaps its data for a directory of another account, by a bind"):
        house.shell(f"install -d -o git {HOME}/../strange; mv {HOME}/data {HOME}/../away")
        house.shell(f"mv {HOME}/../strange {HOME}/data")
        try:
            house.refused("belongs to user git")
        finally:
            house.shell(f"rmdir {HOME}/data; mv {HOME}/../away {HOME}/data")


@pytest.mark.parametrize("kind", CONFIGS)
def test_something_else_in_place_of_config_json(house: House, attacks: Attacks, kind: str) -> None:
    row = attacks.row(f"mattermost puts {kind} in the place of config.json")
    with row, house.instead("config.json", CONFIGS[kind].replace("$0", '"$0"')):
        before = house.seal()
        for verb in (("backup",), ("status",), ("doctor",), ("sso", "check"), ("sso", "repair")):
            done = house.product.run(*verb, timeout=60)
            assert "Traceback" not in done.stderr and "root:" not in done.stderr + done.stdout
            assert done.returncode in ((1,) if verb == ("backup",) else (0, 1, 4)), (verb, done)
        assert house.seal() == before


def test_an_administrator_s_link_is_followed_where_config_yml_allows_it(house: House) -> None:
    house.shell(f"mv {HOME}/data /srv/uploads; ln -s /srv/uploads {HOME}/data")
    kept = house.lab.read(CONFIG)
    try:
        refused = house.product("backup")
        assert refused.code == 1 and "allow_links: [/srv/uploads]" in refused.error["hint"]
        house.lab.path(CONFIG).write_text(f"{kept}\nallow_links: [/srv/uploads]\n")
        made = house.product("backup")
        assert made.code == 0, made
        manifest = json.loads(house.lab.read(f"{made.document['path']}/manifest.json"))
        assert manifest["files"]["folders"]["data"] == "/srv/uploads"
        assert house.product.restore(str(made.document["set"])).code == 0
        assert house.shell(f"readlink {HOME}/data") == "/srv/uploads\n"
    finally:
        house.lab.path(CONFIG).write_text(kept)
        house.shell(f"rm {HOME}/data; mv /srv/uploads {HOME}/data")
    house.product.backup()


# Made once root has looked at all there is and starts tar, before tar reads its first directory.
MEANWHILE = f"""#!/bin/sh
case "$*" in
*--create*var/opt/gitlab/mattermost*)
    setpriv --reuid=mattermost --regid=mattermost --clear-groups sh -ec '
        mkdir {HOME}/data/odd; cd {HOME}/data/odd
        for number in $(seq 50); do
            mkfifo pipe$number; ln -s /etc/passwd link$number; : >set$number; chmod 6755 set$number
        done'
esac
exec /usr/bin/tar "$@"
"""


def test_what_is_made_while_tar_packs(house: House, attacks: Attacks) -> None:
    """A restore accepts the set; what it must not hold is reported, and not restored."""
    tar = "/usr/local/sbin/tar"  # first in the PATH of our programs
    house.lab.write(tar, MEANWHILE, mode=0o755)
    try:
        with attacks.row("mattermost makes pipes, links out and set-user-id files while tar packs"):
            made = house.product("backup")
            house.shell(f"rm {tar}")
            assert made.code == 4, made
            assert "pipe" in str(made.document["told"])
            name = str(made.document["set"])
            assert house.product("verify", name).code == 0
            assert house.product.restore("--no-safety-backup", name).code == 0
            assert house.shell(f"find {HOME}/data -type p -o -type f -perm /6000") == ""
    finally:
        house.shell(f"rm -rf {tar} {HOME}/data/odd")
    house.product.backup()


SETS = "/var/opt/gitlab/backups/mattermost"  # in a directory that belongs to the account git
PUTS = {
    "a link to /etc": "ln -s /etc $0",
    "a link to a directory of its own": "install -d -m 777 $0.own; ln -s $0.own $0",
    "a directory of its own": "install -d -m 777 $0",
}
HELD_UP = """#!/bin/sh
touch /tmp/dumping; while [ ! -e /tmp/go ]; do sleep 0.05; done
exec "$0.kept" "$@"
"""


@contextlib.contextmanager
def instead_of_the_sets(house: House, making: str) -> Iterator[None]:
    """Have the account git put something in the place of the directory of the sets."""
    house.shell(f'mv "$0" "$0.away"; {making}', SETS, user="git")
    try:
        yield
    finally:
        house.shell('rm -rf "$0" "$0.own"; mv "$0.away" "$0"', SETS, user="git")


@pytest.mark.parametrize("what", PUTS)
def test_another_directory_in_place_of_the_sets(house: House, attacks: Attacks, what: str) -> None:
    etc = house.shell("ls -la /etc")
    with attacks.row(f"git puts {what} in the place of the sets"):
        with instead_of_the_sets(house, PUTS[what]):
            for verb in (("backup",), ("list",), ("verify",), ("prune",), ("restore", "--yes")):
                answer = house.product(*verb)
                assert answer.code == 1, (verb, answer)
            made = house.shell(f"find {SETS} {SETS}.own -mindepth 1 2>/dev/null || :")
            assert made == "", "nothing was written there"
        assert house.shell("ls -la /etc") == etc
        assert house.product("verify").code == 0, "and the sets are what they were"


def test_another_directory_in_place_of_the_sets_meanwhile(house: House, attacks: Attacks) -> None:
    """After all that is looked at before a backup."""
    program = "/opt/gitlab/embedded/bin/pg_dump"
    house.shell(f"mv {program} {program}.kept; rm -f /tmp/go /tmp/dumping")
    house.lab.write(program, HELD_UP, mode=0o755)
    backup = house.lab.popen("gitlab-mm", "backup", "--json", stdout=PIPE, text=True)
    try:
        wait_until(house.lab.path("/tmp/dumping").exists, 30, "the dump")
        row = attacks.row("git puts a directory of its own in the place of the sets meanwhile")
        with row, instead_of_the_sets(house, PUTS["a directory of its own"]):
            house.lab.write("/tmp/go", "")
            out, _ = backup.communicate(timeout=60)
            assert json.loads(out)["exit_code"] == 1, out
            assert house.shell(f"find {SETS} -mindepth 1") == ""
    finally:
        house.shell(f"mv {program}.kept {program}")
        backup.kill()
    house.product.backup()
    assert house.product.leftovers() == []


RACE = """
import os, stat, time
top, log = "/srv/mmdata", open("/tmp/attack.log", "w", buffering=1)
def works():
    return [f"{top}/{one}" for one in os.listdir(top) if one.startswith(".gitlab-mm-")]
print("ready", flush=True)
end = time.time() + 60
while time.time() < end and not os.path.exists("/tmp/over"):
    for work in works():
        try:
            if os.lstat(work).st_uid == 0:
                os.rename(work, f"{top}/zz-{time.time()}")
                os.mkdir(work); os.mkdir(work + "/new")
                log.write("swapped\\n")
            inside = f"{work}/unpacking"
            if os.lstat(work).st_uid != 0 and not os.path.islink(inside):
                os.rename(inside, f"{work}/u-{time.time()}")
                os.symlink("/srv/canary", inside)
                log.write("planted\\n")
        except OSError as error:
            log.write(f"{error.strerror}\\n")
"""


def test_a_work_folder_within_a_mount_of_the_account(
    base: Path, deb: Path, attacks: Attacks
) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(data_folder="/srv/mmdata"))
        product = install_product(lab, deb)
        house = House(lab, gitlab, product)
        house.shell(MAKE_CANARY)
        house.shell(
            "gitlab-ctl stop mattermost; cp -a /srv/mmdata /srv/kept;"
            "mount -t tmpfs tmpfs /srv/mmdata; cp -a /srv/kept/. /srv/mmdata/;"
            "chown --reference=/srv/kept /srv/mmdata; chmod --reference=/srv/kept /srv/mmdata;"
            "gitlab-ctl start mattermost"
        )
        gitlab.wait_until_ready()
        seed = gitlab.seed()
        house.shell("head -c 60M /dev/urandom >/srv/mmdata/pad", user="mattermost")
        made = product.backup()
        as_before = house.shell("stat -c '%U:%G %a' /srv/mmdata")
        lab.write("/tmp/race.py", RACE)
        before = house.seal()
        attack = lab.popen("python3", "/tmp/race.py", user="mattermost")
        try:
            wait_until(lab.path("/tmp/attack.log").exists, 10, "the attack to begin")
            with attacks.row("mattermost renames root's work folder within its own mount"):
                answer = product.restore("--no-safety-backup", made.rpartition("/")[2])
                assert answer.code in (0, 4), answer
                assert all(
                    "does not belong to root any more" in warning
                    for warning in answer.document["warnings"]
                )
                assert "Permission denied" in lab.read("/tmp/attack.log"), "it was tried meanwhile"
                assert house.seal() == before
        finally:
            lab.write("/tmp/over", "")
            attack.wait(timeout=70)
        assert house.shell("stat -c '%U:%G %a' /srv/mmdata") == as_before
        session = gitlab.sign_in("alice")
        assert all(session.read_post(post) == text for post, text in seed.posts.items())


def test_an_environment_folder_in_the_home(base: Path, deb: Path, attacks: Attacks) -> None:
    """GitLab 10 to 11.5 have it there."""
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(version="11.2.0"))
        product = install_product(lab, deb)
        house = House(lab, gitlab, product)
        house.shell(MAKE_CANARY)
        product.backup()
        before, cron = house.seal(), house.shell("ls -la /etc/cron.d")
        for target in ("/etc/cron.d", CANARY):
            row = attacks.row(f"mattermost puts a link to {target} in the place of its environment")
            with row, house.instead("env", f'ln -s {target} "$0"'):
                for verb in (("sso", "check"), ("sso", "repair"), ("sso", "repair", "--rotate")):
                    done = product.run(*verb, timeout=60)
                    assert done.returncode == 1 and "Traceback" not in done.stderr, done
                    assert "behind a link" in done.stderr, done
        assert (house.seal(), house.shell("ls -la /etc/cron.d")) == (before, cron)
        product.backup()
