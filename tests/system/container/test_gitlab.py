"""GitLab in a podman container, with the binds of its documentation, and gitlab-mm on the host.

The host has no PostgreSQL, and lacks a library that the container's has: its programs run inside only.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.containers import Image, Podman, host, image
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec
from tests.lab.sandbox import Lab, wait_until

SETS = "/var/backups/gitlab/mattermost"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
REBUILT = ("file_stats", "posts_by_team_day", "poststats")  # views, which a restore fills anew
# What of the container's root file system differs from its image.
CHANGED = "find {root}/../upper -newer /tmp/before ! -type d ! -path '*/supervise/*' | head -20"


class Host(NamedTuple):
    """A host with podman, GitLab's images, and our package."""

    lab: Lab
    podman: Podman
    product: Product

    def doctor(self, name: str) -> tuple[str, str]:
        """Result and detail of a check."""
        checks = self.product("doctor").document["checks"]
        found = next(check for check in checks if check["name"] == name)
        return found["result"], found["detail"]


@pytest.fixture(scope="module")
def images(base: Path) -> Iterator[list[Image]]:
    """GitLab 18 with Mattermost, the same with other credentials, and GitLab 19."""
    with (
        image(base, Spec()) as first,
        image(base, Spec(seed="second")) as second,
        image(base, Spec(version="19.0.0", mattermost="never")) as without,
    ):
        yield [first, second, without]


@pytest.fixture(scope="module")
def site(base: Path, deb: Path, images: list[Image]) -> Iterator[Host]:
    with host(base, *images) as lab:
        podman = Podman(lab, images)
        podman.prepare()
        yield Host(lab, podman, install_product(lab, deb))


@pytest.fixture(scope="class")
def gitlab(site: Host) -> Iterator[Omnibus]:
    """A new container with people, messages and uploads; its volumes go with it."""
    running = site.podman.gitlab()
    running.seed()
    yield running
    remove_all(site)


def remove_all(site: Host) -> None:
    for name in site.podman("ps", "--all", "--format", "{{.Names}}").split():
        site.podman.remove(name)
    site.lab.run("sh", "-c", "rm -rf /srv/* /var/lib/gitlab-mm-backup/container.json")


def differences(one: Omnibus, before: object) -> list[str]:
    return one.state().differences(before, REBUILT)  # type: ignore[arg-type]


class TestOneContainer:
    """What works on a package host works here, in the order of an administrator's first day."""

    def test_doctor_names_engine_image_and_volumes(self, site: Host, gitlab: Omnibus) -> None:
        result, detail = site.doctor("container")
        assert result == "passed"
        assert detail.startswith("gitlab, run by podman, of image /run/podman/roots/")
        assert "/var/opt/gitlab = /srv/gitlab/data" in detail
        for check in ("GitLab", "Mattermost", "programs", "database", "service", "sign-in"):
            assert site.doctor(check)[0] == "passed", check

    def test_backup_changes_nothing_in_the_container(self, site: Host, gitlab: Omnibus) -> None:
        root = json.loads(site.podman("inspect", "gitlab"))[0]["Rootfs"]
        site.lab.run("touch", "/tmp/before")
        path = site.product.backup()
        assert site.lab.run("sh", "-c", CHANGED.format(root=root)).stdout == ""
        assert path.startswith(f"{SETS}/")
        status = site.lab.path(path).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, 0)

    def test_a_set_is_listed_verified_and_rehearsed(self, site: Host, gitlab: Omnibus) -> None:
        assert len(site.product("list").document["sets"]) == 1
        assert site.product("verify").code == 0
        rehearsed = site.product("rehearse")
        results = {check["name"]: check["result"] for check in rehearsed.document["checks"]}
        assert rehearsed.code == 0, rehearsed
        assert set(results.values()) == {"passed"}, results

    def test_owners_are_stored_by_the_containers_names(self, site: Host, gitlab: Omnibus) -> None:
        newest = site.product("list").document["sets"][0]["path"]
        listed = site.lab.run("sh", "-c", f"zstd -dc {newest}/files.tar.zst | tar -tv").stdout
        assert "mattermost/mattermost" in listed

    def test_restore_over_the_live_state(self, site: Host, gitlab: Omnibus) -> None:
        before = gitlab.state()
        gitlab.sql("DELETE FROM posts")
        done = site.product.restore("--no-safety-backup")
        assert done.code == 0, done
        assert differences(gitlab, before) == []
        assert gitlab.sign_in("alice").username == "alice"

    def test_nothing_runs_on_after_kill_9(self, site: Host, gitlab: Omnibus) -> None:
        """A program of the container dies with gitlab-mm; it is one here that takes a minute."""
        program = "/opt/gitlab/embedded/bin/pg_dump"
        gitlab.lab.run("mv", program, f"{program}.kept")
        gitlab.lab.write(program, "#!/bin/sh\nexec sleep 61\n", mode=0o755)
        running = site.lab.popen("gitlab-mm", "backup")
        dumps = ("pgrep", "-f", "^sleep 61")
        wait_until(lambda: site.lab.run(*dumps, check=False).stdout, 20, "pg_dump")
        site.lab.run("pkill", "-KILL", "-f", "bin/gitlab-mm backup")
        running.wait(10)
        wait_until(lambda: not site.lab.run(*dumps, check=False).stdout, 10, "the end of pg_dump")
        gitlab.lab.run("mv", f"{program}.kept", program)
        assert site.product("backup").code == 0
        assert site.product.leftovers() == []

    def test_nothing_is_mounted_on_the_host_afterwards(self, site: Host, gitlab: Omnibus) -> None:
        mounts = site.lab.run("cat", "/proc/self/mountinfo").stdout
        assert "gitlab-mm" not in mounts and "/opt/gitlab" not in mounts
        assert not site.lab.path("/etc/gitlab").exists()
        assert not site.lab.path("/opt/gitlab").exists()
        assert len(site.podman("ps", "--all", "--quiet").split()) == 1

    def test_a_recreated_container_on_kept_volumes(self, site: Host, gitlab: Omnibus) -> None:
        before = gitlab.state()
        site.podman.remove()
        again = site.podman.gitlab()
        assert site.product("sso", "check").code == 0
        assert site.product("backup").code == 0
        assert differences(again, before) == []

    def test_the_container_is_lost_with_its_volumes(self, site: Host, gitlab: Omnibus) -> None:
        """The reinstall: another image, new volumes, other credentials; the sets are kept."""
        remove_all(site)
        fresh = site.podman.gitlab(number=1)
        done = site.product.restore("--no-safety-backup")
        assert done.code == 0, done
        session = fresh.sign_in("alice")
        assert session.username == "alice"
        assert int(fresh.sql("SELECT count(*) FROM posts")[0]) > 1
