"""Each release of Debian that we support, as a minimal root file system: install, build, back up, restore; piuparts.

Only the installation of packages needs a network. GitLab's stand-ins run under the release's own Python.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.lab.base import apt_environment, apt_install, copy_source, source_files
from tests.lab.disks import CHECKOUT
from tests.lab.installed_package import DEB, Product, install_product
from tests.lab.omnibus import Omnibus, SignInFailed, Spec, install
from tests.lab.releases import build_root, mirror
from tests.lab.sandbox import Lab
from tests.system.backup.test_database_properties import ICU, recreate

BACKUPS = "/srv/backups"
MOST_BYTES = 620_000  # of the package; docs/packaging.md says what of
# What the stand-ins for GitLab and Mattermost run on.
SERVER = (
    "cron",
    "curl",
    "iproute2",
    "nocache",
    "openssl",
    "postgresql",
    "procps",
    "psmisc",
    "restic",
    "ruby",
    "runit",
)
BUILDING = (
    "build-essential",
    "debhelper",
    "dh-python",
    "gettext",
    "lintian",
    "pandoc",
    "python3-all",
    "python3-click",
    "python3-setuptools",
)
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day", "sessions")
BUILD = """\
umask {umask}
cd {folder}
TZ={zone} LC_ALL={locale} dpkg-buildpackage -us -uc >../build.log 2>&1 || {{ tail -n 30 ../build.log; exit 1; }}
"""


class Release:
    """The tests; each release is a class, so that they run beside each other."""

    suite: ClassVar[str]
    python: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, deb: Path) -> Iterator[Lab]:
        with Lab(root=build_root(cls.suite), network=True) as lab:
            lab.path(DEB).write_bytes(deb.read_bytes())
            yield lab

    def test_apt_brings_all_that_it_needs(self, lab: Lab) -> None:
        """Nothing but apt was there before; what a dependency leaves out would be missing now."""
        said = apt_install(lab, DEB)
        assert "gitlab-mm-backup: Omnibus GitLab is not installed on this host" in said
        assert lab.run("python3", "--version").stdout.startswith(f"Python {self.python}.")
        answer = Product(lab)("doctor")
        results = {check["name"]: check["result"] for check in answer.document["checks"]}
        assert results == {"GitLab": "failed", "Mattermost": "not run", "programs": "passed"}

    def test_a_lost_server_comes_back(self, lab: Lab, deb: Path) -> None:
        lab.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
        lab.write("/etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n")
        apt_install(lab, *SERVER)
        lab.unplug()
        gitlab, product = install(lab, Spec(backup_path=BACKUPS)), Product(lab)
        seed = gitlab.seed()
        checks = product("doctor").document["checks"]
        fresh = {check["name"] for check in checks if check["result"] != "passed"}
        assert fresh <= {"last set", "next run", "off-site"}, "no set, no cron, no copies yet"
        product.backup()
        assert product("rehearse").code == 0
        rows, state = gitlab.gitlab_database_dump(), gitlab.state()
        lab.run("dpkg", "--purge", "gitlab-mm-backup")
        gitlab.lose_everything()
        gitlab = install(lab, Spec(backup_path=BACKUPS, seed="again", first_uid=1480))
        gitlab.gitlab_database_restore(rows)
        product = install_product(lab, deb)
        with pytest.raises(SignInFailed):
            gitlab.sign_in("alice")
        answer = product.restore()
        assert (answer.code, answer.document["sign_in"]) == (0, "accepted"), answer
        session = gitlab.sign_in("alice")
        assert {post: session.read_post(post) for post in seed.posts} == seed.posts
        assert state.differences(gitlab.state(), ignore=DERIVED) == []


class TestBookworm(Release):
    suite, python = "bookworm", "3.11"

    @pytest.mark.long  # all other labs are bookworm too
    def test_a_lost_server_comes_back(self, lab: Lab, deb: Path) -> None:
        super().test_a_lost_server_comes_back(lab, deb)


class TestTrixie(Release):
    suite, python = "trixie", "3.13"

    def test_a_set_of_an_older_postgresql_comes_back_and_not_the_other_way(
        self, lab: Lab, base: Path, deb: Path
    ) -> None:
        """Debian's 15 and 17, the database in a locale of ICU and with an extension."""
        new, product = Omnibus(lab, Spec(backup_path=BACKUPS)), Product(lab)
        with Lab(base=base) as older:
            old, olders = install(older, Spec(backup_path=BACKUPS)), install_product(older, deb)
            recreate(old, ICU)
            old.sql("CREATE EXTENSION pg_trgm")
            seed = old.seed()
            assert [major(old), major(new)] == [15, 17]
            there = move_set(older, olders.backup(), lab)
            new.gitlab_database_restore(old.gitlab_database_dump())
            state = old.state()
            answer = product.restore("--no-safety-backup", there)
            assert (answer.code, answer.document["sign_in"]) == (0, "accepted"), answer
            session = new.sign_in("alice")
            assert {post: session.read_post(post) for post in seed.posts} == seed.posts
            assert state.differences(new.state(), ignore=DERIVED) == []
            assert new.sql(PROVIDER) == ["i"] and "pg_trgm" in new.sql(EXTENSIONS)
            assert product("rehearse").code == 0
            newer, before = move_set(lab, product.backup(), older), old.state()
            refused = olders.restore(newer)
            assert refused.code == 1 and "a newer PostgreSQL" in refused.error["message"], refused
            assert before.differences(old.state()) == []

    def test_its_restic_keeps_sets(self, lab: Lab) -> None:
        """Bookworm's is in test_restic; this one has other messages and exit codes."""
        assert re.match(r"restic 0\.1[5-9]", lab.run("restic", "version").stdout)
        settings = "store: restic\nrestic: {repository: /srv/restic, password_file: /root/word}\n"
        lab.write("/etc/gitlab-mm-backup/config.yml", f"{settings}keep: {{last: 1}}\n")
        lab.write("/root/word", "word\n", mode=0o600)
        gitlab, product = Omnibus(lab, Spec(backup_path=BACKUPS)), Product(lab)
        missing = product("backup")
        assert (missing.code, "restic init" in missing.error["hint"]) == (1, True), missing
        lab.run("restic", "init", "-r", "/srv/restic", "-p", "/root/word")
        before, first = gitlab.state(), product("backup")
        assert first.code == 0, first
        lab.write(f"{gitlab.home}/data/more", "more")
        second = product("backup")
        assert (second.code, second.document["removed"]) == (0, [first.document["set"]]), second
        lab.run("rm", "-r", f"{gitlab.home}/data")
        assert product("verify").code == 0
        assert product.restore("--no-safety-backup").code == 0
        assert (
            before.differences(gitlab.state(), ignore=(*DERIVED, f"{gitlab.home}/data/more")) == []
        )
        (pack,) = lab.run("sh", "-c", "ls -S /srv/restic/data/*/* | head -1").stdout.split()
        lab.path(pack).chmod(0o600)
        lab.path(pack).write_bytes(lab.path(pack).read_bytes()[:-1000] + bytes(1000))
        assert product("verify").code == 1


PROVIDER = "SELECT datlocprovider FROM pg_database WHERE datname = current_database()"
EXTENSIONS = "SELECT extname FROM pg_extension"


def major(gitlab: Omnibus) -> int:
    return int(gitlab.sql("SHOW server_version_num")[0]) // 10_000


def move_set(lab: Lab, path: str, other: Lab) -> str:
    """Copy a set to a place of root's on another host; gives its path there."""
    folder, _, name = path.rpartition("/")
    packed = lab.run_bytes("tar", "--create", f"--directory={folder}", name).stdout
    other.run("install", "-d", "-m", "700", "/srv/moved")
    other.run_bytes("tar", "--extract", "--directory=/srv/moved", input=packed)
    return f"/srv/moved/{name}"


def build_twice(lab: Lab) -> str:
    """Build the package in two places that differ in all that must not matter; gives its .changes."""
    sums = set()
    for folder, umask, zone, locale in (
        ("/srv/another-place/deep", "077", "Asia/Tokyo", "C"),
        ("/build", "022", "UTC", "C.UTF-8"),
    ):
        copy_source(lab, f"{folder}/source", CHECKOUT, source_files(CHECKOUT))
        script = BUILD.format(umask=umask, folder=f"{folder}/source", zone=zone, locale=locale)
        lab.run("sh", "-ec", script, timeout=300)
        (made,) = lab.path(folder).glob("*.deb")
        assert made.name.endswith("_all.deb")
        assert made.stat().st_size < MOST_BYTES
        sums.add(hashlib.sha256(made.read_bytes()).hexdigest())
    assert len(sums) == 1
    (changes,) = lab.path("/build").glob("*.changes")
    return f"/build/{changes.name}"


def lintian(lab: Lab, changes: str, *options: str) -> str:
    """What lintian says of source and package, down to mere advice.

    Its exit code tells no more: 2 also stands for what it masks by itself, as Python's metadata.
    """
    command = ("lintian", "--allow-root", "--pedantic", "--display-info", "--fail-on", "info")
    done = lab.run(*command, *options, changes, check=False, timeout=600)
    assert done.returncode in (0, 2)
    return done.stdout + done.stderr


@pytest.mark.long  # trixie's lintian knows a newer policy
def test_bookworm_builds_it_the_same_twice_and_lintian_is_silent(base: Path) -> None:
    with Lab(base=base) as lab:
        # This lintian is older than the policy that trixie's knows.
        silent = ("--suppress-tags", "newer-standards-version")
        assert lintian(lab, build_twice(lab), *silent) == ""


def test_trixie_builds_it_the_same_twice_and_lintian_is_silent() -> None:
    with Lab(root=build_root("trixie"), network=True) as lab:
        apt_install(lab, *BUILDING)
        assert lintian(lab, build_twice(lab)) == ""


REPOSITORY = """\
mkdir /root/repository /root/rootfs
tar -xpf /root/root.tar.zst --zstd --numeric-owner -C /root/rootfs
dpkg-deb -R {deb} /root/older
sed -i 's/^Version:.*/Version: 0.0.9/' /root/older/DEBIAN/control
dpkg-deb -b --root-owner-group /root/older /root/repository
cd /root/repository && dpkg-scanpackages . >Packages
"""


class Piuparts:
    """Installed, upgraded from an older one, removed and purged: a root file system is as it was.

    By each release's own piuparts, which knows what its other packages leave.
    """

    suite: ClassVar[str]

    def test_nothing_is_left(self, deb: Path) -> None:
        root, package = build_root(self.suite), f"/root/{deb.name}"
        with Lab(root=root, network=True) as lab:
            apt_install(lab, "piuparts", "dpkg-dev", "zstd")
            lab.path(package).write_bytes(deb.read_bytes())
            lab.path("/root/root.tar.zst").write_bytes(root.read_bytes())
            lab.run("sh", "-ec", REPOSITORY.format(deb=package))
            said = lab.run(
                "piuparts", "--existing-chroot=/root/rootfs", f"--distribution={self.suite}",
                f"--mirror={mirror()}", "--bindmount=/root/repository",
                "--extra-repo=deb [trusted=yes] file:///root/repository ./",
                # The lock of everything that makes an account, which is never removed.
                "--ignore=/etc/.pwd.lock", package,
                env={**apt_environment(), "TMPDIR": "/dev/shm"}, timeout=600,
            ).stdout  # fmt: skip
        assert re.search(r"Unpacking gitlab-mm-backup \(\S+\) over \(0\.0\.9\)", said)
        passed = re.findall(r"PASS: (.+)", said)
        assert passed == [
            "Installation and purging test.",
            "Installation, upgrade and purging tests.",
            "All tests.",
        ]


@pytest.mark.long
class TestPiupartsBookworm(Piuparts):
    suite = "bookworm"


class TestPiupartsTrixie(Piuparts):
    suite = "trixie"
