"""The real apt upgrades a stand-in of gitlab-ce: our trigger, and our gate before it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.packages import GitLabPackage
from tests.lab.sandbox import Lab, wait_until

CONFIG = "/etc/gitlab-mm-backup/config.yml"
OVERRIDE = "/etc/gitlab/skip-mattermost-backup"
SETS = "/var/opt/gitlab/backups/mattermost"
PG_DUMP = "/opt/gitlab/embedded/bin/pg_dump"
CODE = "/usr/lib/python3/dist-packages/gitlab_mm_backup"
HOOK = "/usr/share/gitlab-mm-backup/apt-preinst"
COMMANDS = "/opt/gitlab/embedded/service/omnibus-ctl-mm-backup"
V10, V18_10, V18_11, V19 = (
    GitLabPackage(version) for version in ("10.5.8", "18.10.2", "18.11.9", "19.0.0")
)


def apt(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run apt-get without a question; what it and its hooks say is in stdout."""
    words = ("apt-get", "--yes", "--allow-downgrades")
    done = lab.run("sh", "-c", 'exec "$@" 2>&1', "sh", *words, *arguments, check=False)
    assert "Traceback" not in done.stdout, done.stdout
    return done


def our_words(output: str) -> list[str]:
    """The lines of the check that the trigger repeats."""
    lines = output.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("gitlab-mm-backup: ")]
    assert len(starts) == 1, output
    (start,) = starts
    rest = [line for line in lines[start + 1 :] if line.startswith("  ")]
    return [lines[start], *rest]


def installed(lab: Lab, name: str = "gitlab-ce") -> str:
    return lab.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", name).stdout


# The trigger, on a host that never set Mattermost up


def test_each_change_of_gitlab_is_looked_at_once(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        install_product(lab, deb)
        command_file = "/usr/share/gitlab-mm-backup/mattermost_backup.rb"
        said = {}
        for package in (V10, V18_11, V19):
            done = apt(lab, "install", package.build(lab).path)
            assert done.returncode == 0, done.stdout
            said[package] = our_words(done.stdout)
            assert lab.read(f"{COMMANDS}/mattermost_backup.rb") == lab.read(command_file)
        assert "GitLab 10.5.8; the bundled Mattermost was never set up" in said[V10][0]
        assert "GitLab 18.11.9; the bundled Mattermost was never set up" in said[V18_11][0]
        assert "GitLab 19.0.0; this GitLab no longer bundles Mattermost" in said[V19][0]
        assert all(len(lines) <= 4 for lines in said.values())

        gone = apt(lab, "purge", "gitlab-ce")
        assert gone.returncode == 0
        assert "Omnibus GitLab is not installed" in our_words(gone.stdout)[0]
        assert not lab.path("/opt/gitlab").exists()


# The gate, on a server in use


@dataclass(frozen=True)
class Server:
    """A server with 18.10 as a package; each test leaves it so."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def sets(self) -> list[str]:
        return [set_["name"] for set_ in self.product("list").document["sets"]]

    def forget(self) -> None:
        """Have no set."""
        self.lab.run("rm", "-rf", SETS, "/var/lib/gitlab-mm-backup/places.json")

    def upgrade(self, package: GitLabPackage) -> subprocess.CompletedProcess[str]:
        return apt(self.lab, "install", package.path)

    @contextlib.contextmanager
    def configured(self, text: str) -> Iterator[None]:
        kept = self.lab.read(CONFIG)
        self.lab.path(CONFIG).write_text(text)
        try:
            yield
        finally:
            self.lab.path(CONFIG).write_text(kept)

    @contextlib.contextmanager
    def failing_dump(self) -> Iterator[None]:
        self.lab.run("mv", PG_DUMP, f"{PG_DUMP}.kept")
        self.lab.write(PG_DUMP, "#!/bin/sh\necho no dump today >&2\nexit 1\n", mode=0o755)
        try:
            yield
        finally:
            self.lab.run("mv", "--force", f"{PG_DUMP}.kept", PG_DUMP)

    @contextlib.contextmanager
    def once_19(self) -> Iterator[None]:
        """After the block, which may have upgraded to 19, have 18.11 and its Mattermost back."""
        link = "/opt/gitlab/service/mattermost"
        target = self.lab.run("readlink", link).stdout.strip()
        try:
            yield
        finally:
            self.lab.run("dpkg", "--install", V18_11.path)
            self.lab.run("ln", "-sfn", target, link)


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(version="18.10.2"))
        gitlab.sign_in("alice").post("hello")
        for package in (V18_10, V18_11, V19):
            package.build(lab)
        lab.run("dpkg", "--install", V18_10.path)
        product = install_product(lab, deb)
        yield Server(lab, gitlab, product)


def test_an_upgrade_makes_a_set_first_and_is_looked_at_after(server: Server) -> None:
    server.forget()
    done = server.upgrade(V18_11)
    assert done.returncode == 0, done.stdout
    (made,) = server.sets()
    assert f"Mattermost is in set {made}" in done.stdout
    assert done.stdout.index(made) < done.stdout.index("Unpacking gitlab-ce")
    said = our_words(done.stdout)
    assert "GitLab 18.11.9; the bundled Mattermost is enabled, version 10.11" in said[0]
    assert said[1:] == [
        "  retention: sets are kept for ever: neither keep_time nor keep is set in config.yml"
    ]
    assert installed(server.lab) == "ii 18.11.9-ce.0"


def test_what_is_no_upgrade_makes_no_set(server: Server) -> None:
    server.forget()
    for arguments in (
        ("install", "--reinstall", V18_11.path),
        ("install", "--simulate", V19.path),
        ("install", V18_10.path),
    ):
        done = apt(server.lab, *arguments)
        assert done.returncode == 0, done.stdout
    assert server.sets() == []
    with server.once_19():
        removed = apt(server.lab, "remove", "gitlab-ce")
    assert removed.returncode == 0
    assert "GitLab is removed" in removed.stdout and "there is no set" in removed.stdout
    assert server.sets() == []


def test_without_a_set_the_way_to_19_is_closed(server: Server) -> None:
    server.forget()
    with server.failing_dump():
        done = server.upgrade(V19)
    assert done.returncode == 100
    assert installed(server.lab) == "ii 18.11.9-ce.0"
    for words in (
        "GitLab 19.0.0-ce.0 removes the bundled Mattermost",
        "it has 1 team and 1 user",
        "no dump today",
        f"touch {OVERRIDE}",
        "upgrade_gate: warn",
    ):
        assert words in done.stdout, done.stdout
    assert "Unpacking" not in done.stdout
    assert server.product.leftovers() == []


def test_a_damaged_set_does_not_open_it(server: Server) -> None:
    server.forget()
    path = server.product.backup()
    server.lab.run("sh", "-c", f"echo >> {path}/files.tar.zst")
    done = server.upgrade(V19)
    assert done.returncode == 100
    assert "is damaged" in done.stdout


def test_a_set_opens_it(server: Server) -> None:
    server.forget()
    with server.once_19():
        done = server.upgrade(V19)
        assert done.returncode == 0, done.stdout
        assert installed(server.lab) == "ii 19.0.0-ce.0"
        (name,) = server.sets()
        assert f"is in the verified set {name}" in done.stdout
        assert "its data is still in /var/opt/gitlab/mattermost" in our_words(done.stdout)[0]


@pytest.mark.parametrize("how", ["override", "warn"])
def test_the_administrator_may_pass_without_one(how: str, server: Server) -> None:
    server.forget()
    policy = "" if how == "override" else f"upgrade_gate: {how}\n"
    if how == "override":
        server.lab.write(OVERRIDE, "")
    try:
        with server.failing_dump(), server.configured(policy), server.once_19():
            done = server.upgrade(V19)
            assert done.returncode == 0, done.stdout
    finally:
        server.lab.run("rm", "-f", OVERRIDE)
    assert server.sets() == []
    assert ("no dump today" in done.stdout) is (how == "warn")
    assert (OVERRIDE in done.stdout) is (how == "override")


def test_a_failing_backup_below_19_is_a_warning(server: Server) -> None:
    server.forget()
    assert apt(server.lab, "install", V18_10.path).returncode == 0
    with server.failing_dump():
        done = server.upgrade(V18_11)
    assert done.returncode == 0
    assert "Warning: GitLab is upgraded without a fresh set" in done.stdout
    assert "no dump today" in done.stdout


@pytest.mark.parametrize("path", [f"{CODE}/health/upgrade_gate.py", HOOK])
def test_a_broken_program_stops_nothing(path: str, server: Server) -> None:
    server.forget()
    server.lab.run("mv", path, f"{path}.kept")
    try:
        if path != HOOK:
            server.lab.write(path, "import a_module_that_is_not_there\n")
        with server.once_19():
            done = server.upgrade(V19)
            assert done.returncode == 0, done.stdout
            assert installed(server.lab) == "ii 19.0.0-ce.0"
    finally:
        server.lab.run("mv", "--force", f"{path}.kept", path)
    if path == HOOK:
        assert "apt-preinst: not found" in done.stdout
    else:
        assert "ModuleNotFoundError at health/upgrade_gate.py line 1" in done.stdout
        assert "Warning: gitlab-mm-backup could not look at this change" in done.stdout


def test_ctrl_c_leaves_no_set_and_the_old_gitlab(server: Server) -> None:
    server.forget()
    slow = "#!/bin/sh\ntouch /tmp/dumping\nexec sleep 600\n"
    server.lab.run("mv", PG_DUMP, f"{PG_DUMP}.kept")
    server.lab.write(PG_DUMP, slow, mode=0o755)
    try:
        running = server.lab.popen(
            "setsid", "--wait", "apt-get", "--yes", "install", V19.path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: server.lab.path("/tmp/dumping").exists(), 30, "the dump")
        group = server.lab.run("pgrep", "-f", f"^apt-get .*{V19.path}").stdout.strip()
        server.lab.run("kill", "-s", "INT", "--", f"-{group}")  # as a terminal does
        assert running.wait(30) != 0
        wait_until(lambda: server.product.leftovers() == [], 30, "everything to be taken back")
    finally:
        server.lab.run("mv", "--force", f"{PG_DUMP}.kept", PG_DUMP)
    assert server.sets() == []
    assert installed(server.lab) == "ii 18.11.9-ce.0"


def test_a_mattermost_that_nobody_uses_stops_nothing(server: Server) -> None:
    """Last but one: it empties the tables. Bots, which a server creates itself, are not users."""
    server.forget()
    server.gitlab.sql("DELETE FROM teams")
    server.gitlab.sql("CREATE TABLE IF NOT EXISTS bots (userid varchar(26))")
    server.gitlab.sql("INSERT INTO bots SELECT id FROM users")
    with server.failing_dump(), server.once_19():
        done = server.upgrade(V19)
        assert done.returncode == 0, done.stdout
    assert "no team and no user" in done.stdout


def test_apt_works_when_the_package_is_removed_but_its_settings_stay(server: Server) -> None:
    """Last, for it removes the package."""
    assert apt(server.lab, "remove", "gitlab-mm-backup").returncode == 0
    assert not server.lab.path(COMMANDS).exists()
    with server.once_19():
        assert server.upgrade(V19).returncode == 0
    made = f"{SETS}/1795310000_2026_11_22_10.11.20/manifest.json"
    server.lab.write(made, json.dumps({}))
    purged = apt(server.lab, "purge", "gitlab-mm-backup")
    assert f"the backup sets in {SETS} are kept" in purged.stdout
    assert server.lab.path(made).exists()
    assert not server.lab.path("/var/lib/gitlab-mm-backup").exists()
