"""GitLab in a podman container, with the binds of its documentation, and gitlab-mm on the host.

The host has no PostgreSQL, and lacks a library that the container's has: its programs run inside only.
"""

from __future__ import annotations

import configparser
import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.containers import VOLUMES, Podman, host, image
from tests.lab.disks import CHECKOUT
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec
from tests.lab.sandbox import Lab, wait_until

SETS = "/var/backups/gitlab/mattermost"
PAGE = CHECKOUT / "docs/containers.md"
UNIT = CHECKOUT / "debian/examples/gitlab-container.service"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
REBUILT = ("file_stats", "posts_by_team_day", "poststats")  # views, which a restore fills anew
# What of the container's root file system differs from its image.
CHANGED = "find {root}/../upper -newer /tmp/before ! -type d ! -path '*/supervise/*' | head -20"


class Host(NamedTuple):
    """A host with podman, GitLab's image, and our package."""

    lab: Lab
    podman: Podman
    product: Product

    def clear(self) -> None:
        """Take containers and volumes away, and forget which container it was; sets stay."""
        for name in self.podman("ps", "--all", "--format", "{{.Names}}").split():
            self.podman.remove(name)
        self.lab.run("sh", "-c", "rm -rf /srv/* /var/lib/gitlab-mm-backup/container.json")

    def fresh(self) -> Omnibus:
        """A new container with people, messages and uploads, and no set."""
        self.clear()
        self.lab.run("sh", "-c", f"rm -rf {SETS}/1*")
        running = self.podman.gitlab()
        running.seed()
        return running

    def running(self) -> Omnibus:
        """The container that a test before has left, or a new one."""
        if self.podman("ps", "--quiet"):
            return Omnibus(self.podman.inside("gitlab"), Spec())
        return self.fresh()

    def doctor(self, name: str) -> tuple[str, str]:
        """Result and detail of a check."""
        checks = self.product("doctor").document["checks"]
        found = next(check for check in checks if check["name"] == name)
        return found["result"], found["detail"]


@pytest.fixture(scope="module")
def site(base: Path, deb: Path) -> Iterator[Host]:
    with image(base, Spec()) as made, host(base, made) as lab:
        podman = Podman(lab, made)
        podman.prepare()
        yield Host(lab, podman, install_product(lab, deb))


@pytest.fixture
def gitlab(site: Host) -> Omnibus:
    return site.running()


def differences(one: Omnibus, before: object) -> list[str]:
    return one.state().differences(before, REBUILT)  # type: ignore[arg-type]


# What works on a package host works here, in the order of an administrator's first day.


def test_doctor_names_engine_image_and_volumes(site: Host, gitlab: Omnibus) -> None:
    result, detail = site.doctor("container")
    assert result == "passed"
    assert detail.startswith("gitlab, run by podman, of image /run/roots/")
    assert "/var/opt/gitlab = /srv/gitlab/data" in detail
    for check in ("GitLab", "Mattermost", "programs", "database", "service", "sign-in"):
        assert site.doctor(check)[0] == "passed", check


def test_backup_changes_nothing_in_the_container(site: Host, gitlab: Omnibus) -> None:
    root = json.loads(site.podman("inspect", "gitlab"))[0]["Rootfs"]
    site.lab.run("touch", "/tmp/before")
    path = site.product.backup()
    assert site.lab.run("sh", "-c", CHANGED.format(root=root)).stdout == ""
    assert path.startswith(f"{SETS}/")
    status = site.lab.path(path).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, 0)


def test_a_set_is_listed_verified_and_rehearsed(site: Host, gitlab: Omnibus) -> None:
    assert len(site.product("list").document["sets"]) == 1
    assert site.product("verify").code == 0
    rehearsed = site.product("rehearse")
    results = {check["name"]: check["result"] for check in rehearsed.document["checks"]}
    assert rehearsed.code == 0, rehearsed
    assert set(results.values()) == {"passed"}, results


def test_owners_are_stored_by_the_containers_names(site: Host, gitlab: Omnibus) -> None:
    newest = site.product("list").document["sets"][0]["path"]
    listed = site.lab.run("sh", "-c", f"zstd -dc {newest}/files.tar.zst | tar -tv").stdout
    assert "mattermost/mattermost" in listed


def test_restore_over_the_live_state(site: Host, gitlab: Omnibus) -> None:
    before = gitlab.state()
    gitlab.sql("DELETE FROM posts")
    done = site.product.restore("--no-safety-backup")
    assert done.code == 0, done
    assert differences(gitlab, before) == []
    assert gitlab.sign_in("alice").username == "alice"


def test_uploads_that_come_later(site: Host, gitlab: Omnibus) -> None:
    old = "/var/opt/gitlab/mattermost/data/20240101"
    place = f"{old}/teams/noteam/channels/c/users/u/f"
    gitlab.lab.run("mkdir", "-p", place)
    gitlab.lab.write(f"{place}/report.bin", "x" * 70000)
    gitlab.lab.run("chown", "--recursive", "mattermost:mattermost", old)
    site.product.backup()
    before = gitlab.state()
    gitlab.lab.run("rm", "-r", old)
    done = site.product.restore("--no-safety-backup", "--uploads-later")
    assert done.code == 0, done
    assert differences(gitlab, before) == []
    assert not site.lab.path("/var/lib/gitlab-mm-backup/uploads.json").exists()


def test_one_message_is_recovered(site: Host, gitlab: Omnibus) -> None:
    post = gitlab.sql("SELECT id FROM posts WHERE message <> '' AND type = '' LIMIT 1")[0]
    made = site.product.backup()
    gitlab.sql(f"DELETE FROM posts WHERE id = '{post}'")
    done = site.product("recover", made, "--post", post)
    assert done.code in (0, 4), done
    assert gitlab.sql(f"SELECT count(*) FROM posts WHERE id = '{post}'") == ["1"]
    back = site.product("recover", "--undo", done.document["undo"])
    assert back.code in (0, 4), back
    assert gitlab.sql(f"SELECT count(*) FROM posts WHERE id = '{post}'") == ["0"]
    assert site.product("recover", made, "--post", post).code in (0, 4)


def test_a_broken_sign_in_is_repaired(site: Host, gitlab: Omnibus) -> None:
    gitlab.lab.write("/opt/gitlab/etc/mattermost/env/MM_GITLABSETTINGS_SECRET", "wrong")
    gitlab.restart_mattermost()
    assert site.product("sso", "check").code == 1
    done = site.product("sso", "repair")
    assert done.code in (0, 4), done
    assert site.product("sso", "check").code == 0
    assert gitlab.sign_in("alice").username == "alice"


@contextmanager
def slow(gitlab: Omnibus, name: str, text: str) -> Iterator[None]:
    """Have the script ``text`` in place of a program of the container, kept beside it as NAME.kept."""
    program = f"/opt/gitlab/embedded/bin/{name}"
    gitlab.lab.run("mv", program, f"{program}.kept")
    gitlab.lab.write(program, text, mode=0o755)
    yield
    gitlab.lab.run("mv", f"{program}.kept", program)


def kill_during(site: Host, program: str, verb: str, *words: str) -> None:
    """Run a command and kill it while ``program`` runs in the container; wait for the end of both."""
    running = site.lab.popen("gitlab-mm", verb, *words)
    there = ("pgrep", "-f", f"^{program}")
    wait_until(lambda: site.lab.run(*there, check=False).stdout, 30, program)
    site.lab.run("pkill", "-KILL", "-f", f"bin/gitlab-mm {verb}")
    running.wait(10)
    wait_until(lambda: not site.lab.run(*there, check=False).stdout, 10, f"the end of {program}")


def test_nothing_runs_on_after_kill_9(site: Host, gitlab: Omnibus) -> None:
    """A program of the container dies with gitlab-mm; it is one here that takes a minute."""
    with slow(gitlab, "pg_dump", "#!/bin/sh\nexec sleep 61\n"):
        kill_during(site, "sleep 61", "backup")
    assert site.product("backup").code == 0
    assert site.product.leftovers() == []


def test_a_restore_that_was_killed_is_rolled_back(site: Host, gitlab: Omnibus) -> None:
    before = gitlab.state()
    text = '#!/bin/sh\ncase "$*" in *--dbname*) exec sleep 62 ;; esac\nexec "$0.kept" "$@"\n'
    with slow(gitlab, "pg_restore", text):
        kill_during(site, "sleep 62", "restore", "--yes", "--no-safety-backup")
    assert site.product("restore", "--rollback").code == 0
    gitlab.wait_until_ready()
    assert differences(gitlab, before) == []
    assert site.product.leftovers() == []


def test_nothing_is_mounted_on_the_host_afterwards(site: Host, gitlab: Omnibus) -> None:
    mounts = site.lab.run("cat", "/proc/self/mountinfo").stdout
    assert "gitlab-mm" not in mounts and "/opt/gitlab" not in mounts
    assert not site.lab.path("/etc/gitlab").exists()
    assert not site.lab.path("/opt/gitlab").exists()
    assert len(site.podman("ps", "--all", "--quiet").split()) == 1


def test_a_recreated_container_on_kept_volumes(site: Host, gitlab: Omnibus) -> None:
    before = gitlab.state()
    site.podman.remove()
    again = site.podman.gitlab()
    assert site.product("sso", "check").code == 0
    assert site.product("backup").code == 0
    assert differences(again, before) == []


def test_the_container_is_lost_with_its_volumes(site: Host, gitlab: Omnibus) -> None:
    """The reinstall: another image, new volumes, other credentials; the sets are kept."""
    site.clear()
    fresh = site.podman.gitlab(spec=Spec(seed="second"))
    done = site.product.restore("--no-safety-backup")
    assert done.code == 0, done
    session = fresh.sign_in("alice")
    assert session.username == "alice"
    assert int(fresh.sql("SELECT count(*) FROM posts")[0]) > 1


# `restore --only sso` into a fresh container.


def test_the_stored_credentials_work_again(site: Host) -> None:
    gitlab = site.fresh()
    site.product.backup()
    before = gitlab.environment()["MM_GITLABSETTINGS_ID"]
    site.clear()
    fresh = site.podman.gitlab(spec=Spec(seed="third"))
    assert fresh.environment()["MM_GITLABSETTINGS_ID"] != before
    done = site.product.restore("--only", "sso")
    assert done.code in (0, 4), done
    assert site.product("sso", "check").code == 0


# docs/containers.md, its commands in their order; docker is podman under that name.


def commands(title: str) -> list[list[str]]:
    """The commands of ours in a section of the page."""
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", section, re.S | re.M))
    return [line.split()[1:] for line in blocks.splitlines() if line.startswith("sudo gitlab-mm")]


def test_the_page_as_written(site: Host) -> None:
    site.fresh()
    site.lab.write("/usr/local/bin/docker", '#!/bin/sh\nexec podman "$@"\n', mode=0o755)
    done = [*commands("Layout"), *commands("Backup and restore")]
    lost = commands("The container or its volumes are lost")
    assert (len(done), len(lost)) == (7, 3)
    for words in done:
        assert site.lab.run(*words, check=False).returncode in (0, 4), words
    assert "run by docker" in site.doctor("container")[1]
    site.clear()
    site.podman.gitlab(spec=Spec(seed="fourth"))
    for words in [*lost, *commands("Before an image of GitLab 19")]:
        assert site.lab.run(*words, check=False).returncode in (0, 4), words


def test_the_unit_as_written(site: Host) -> None:
    """systemd would run this line first; it is of the example, with the image that it names."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    first = re.search(r"^ExecStartPre=/bin/sh -c '(.*)'$", UNIT.read_text(), re.M)
    unit.read_string(re.sub(r"^ExecStartPre=.*\n", "", UNIT.read_text(), flags=re.M))
    image = unit["Service"]["Environment"].partition("=")[2]
    assert first and site.lab.run("sh", "-c", first[1], env={"IMAGE": image}).returncode == 0
    for folder, target in VOLUMES.items():
        assert f"--volume /srv/gitlab/{folder}:{target} " in UNIT.read_text()
        assert f"--volume $GITLAB_HOME/{folder}:{target} " in PAGE.read_text()
    site.lab.run("rm", "/usr/local/bin/docker")


# The image of GitLab 19, which destroys id, secret and key in one step.

NEXT = ("gate", "--container", "gitlab", "--image", "gitlab/gitlab-ce:19.0.0-ce.0")


def test_18_may_start_and_19_may_not_without_a_set(site: Host) -> None:
    site.fresh()
    assert site.product("gate", "--image", "docker.io/gitlab/gitlab-ce:18.11.10-ce.0").code == 0
    assert site.product("list").document["sets"] == []
    site.podman.stop("gitlab")
    stopped = site.product(*NEXT)
    assert stopped.code == 10
    assert "the container is not started" in stopped.error["message"]
    assert "is not running" in stopped.error["detail"]


def test_the_gate_makes_a_set_where_it_runs(site: Host) -> None:
    site.podman.remove()
    site.podman.gitlab()
    passed = site.product(*NEXT)
    assert passed.code == 0, passed
    assert passed.document["set"] is not None
    assert passed.document["set"] == site.product("list").document["sets"][0]["name"]


def test_the_set_lets_it_pass_once_the_container_is_gone(site: Host) -> None:
    site.podman.remove()
    assert site.product(*NEXT).code == 0


def test_an_image_without_a_version_is_stopped(site: Host) -> None:
    stopped = site.product("gate", "--image", "gitlab/gitlab-ce:latest")
    assert stopped.code == 10
    assert "is not known" in stopped.error["message"]


def test_the_version_in_an_image_counts_more_than_its_tag(site: Host) -> None:
    files = "bin/cat lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6"
    site.lab.write("/tmp/root/opt/gitlab/version-manifest.txt", "gitlab-ce 19.1.0\n")
    pack = f"cp -L --parents {files} /tmp/root; tar -C /tmp/root -c . | podman import - gitlab-ce:18.0.0"
    site.lab.run("sh", "-ec", f"cd / && {pack}")
    passed = site.product.run("gate", "--image", "localhost/gitlab-ce:18.0.0")
    assert passed.returncode == 0
    assert "GitLab 19.1.0" in passed.stdout


def test_what_19_left_is_salvaged(site: Host) -> None:
    site.lab.run("sed", "-i", "/mattermost/d", "/srv/gitlab/config/gitlab.rb")
    later = site.podman.gitlab(spec=Spec(version="19.0.0", mattermost="disabled"))
    assert later.lab.run("id", "mattermost", check=False).returncode != 0
    made = site.product("backup")
    assert made.code in (0, 4), made
    newest = site.product("list").document["sets"][0]
    assert newest["salvaged"], newest
    assert site.product("doctor").code != 0


# What a host can do wrong; each message names what to do.


@pytest.fixture(scope="module")
def two(site: Host) -> Iterator[Host]:
    """GitLab in a container, and a second one that looks like it."""
    site.fresh()
    site.lab.run("mkdir", "-p", "/srv/other")
    mounts = ("--volume", "/srv/other:/var/opt/gitlab")
    root = site.podman.root(Spec())
    words = ("run", "--detach", "--name", "other", "--network", "none", *mounts)
    site.podman(*words, "--rootfs", root, "sleep", "1000")
    yield site
    site.clear()


def test_two_containers_without_a_name(two: Host) -> None:
    refused = two.product("backup")
    assert refused.code == 2
    assert refused.error["message"] == "There are several GitLab containers on this host"
    assert "gitlab (podman, running)" in refused.error["detail"]
    assert "other (podman, running)" in refused.error["detail"]
    assert two.doctor("GitLab")[0] == "failed"


def test_one_of_two_by_its_name(two: Host) -> None:
    assert two.product("sso", "check", "--container", "gitlab").code == 0
    two.lab.run("rm", "/var/lib/gitlab-mm-backup/container.json")
    two.lab.write(CONFIG, "container: gitlab\n")
    assert two.product("sso", "check").code == 0
    two.lab.write(CONFIG, "")


def test_a_name_that_no_container_has(two: Host) -> None:
    refused = two.product("backup", "--container", "renamed-gitlab-1")
    assert refused.code == 1
    assert "There is no container renamed-gitlab-1" in refused.error["message"]
    assert "gitlab (podman, running)" in refused.error["detail"]


def test_a_container_without_gitlab(two: Host) -> None:
    two.podman("exec", "other", "rm", "-r", "/opt/gitlab")
    refused = two.product("backup", "--container", "other")
    assert (refused.code, refused.error["message"]) == (1, "No usable Mattermost was found")


def test_a_stopped_container(two: Host) -> None:
    two.podman.stop("other")
    refused = two.product("backup", "--container", "other")
    assert refused.error["message"] == "The container other is not running"
    assert "podman start other" in refused.error["hint"]
    nightly = two.product("backup", "--if-present", "--container", "other")
    assert nightly.code == 1, "the night must not pass over it in silence"
    assert two.product("list", "--container", "other").code == 0


def test_an_engine_that_does_not_answer(two: Host) -> None:
    place = "/etc/containers/storage.conf"
    kept = two.lab.read(place)
    two.lab.write(place, '[storage]\ndriver="none of these"\n')
    refused = two.product("backup", "--container", "gitlab")
    two.lab.write(place, kept)
    assert refused.code == 1
    assert refused.error["message"] == "The container engine does not answer"
    assert "podman: " in refused.error["detail"]


def test_without_the_right_to_enter_a_container(two: Host) -> None:
    """As inside another container, and as with the rights of our unit, which do not suffice."""
    allowed = "chown,dac_override,dac_read_search,fowner,fsetid,kill,setgid,setuid,setpcap,net_admin,sys_admin"
    without = ("setpriv", "--bounding-set", f"-all,+{allowed.replace(',', ',+')}", "gitlab-mm")
    done = two.lab.run(*without, "backup", "--container", "gitlab", check=False)
    assert done.returncode == 1
    assert "The container's file system cannot be opened" in done.stderr
    assert "CAP_SYS_PTRACE" in done.stderr
    able = ("setpriv", "--bounding-set", f"{without[2]},+sys_ptrace,+sys_chroot", "gitlab-mm")
    assert two.lab.run(*able, "backup", "--container", "gitlab").returncode == 0


def test_a_directory_outside_of_all_volumes(two: Host) -> None:
    """What the container's settings name does not lead to files of the host."""
    gitlab = two.podman.inside("gitlab")
    setting = "/opt/gitlab/etc/mattermost/env/MM_PLUGINSETTINGS_DIRECTORY"
    kept = gitlab.read(setting)
    gitlab.write(setting, "/var/lib/dpkg")
    refused = two.product("backup", "--container", "gitlab")
    gitlab.write(setting, kept)
    assert refused.code == 1
    assert "in no volume of the container" in refused.error["detail"]


def test_no_link_of_the_container_leads_to_files_of_the_host(two: Host) -> None:
    """Not even one of its root: that one may do nothing here."""
    secrets = {"mattermost": {"gitlab_id": "of-the-host", "gitlab_secret": "of-the-host"}}
    two.lab.write("/root/secrets.json", json.dumps(secrets), mode=0o600)
    gitlab, place = two.podman.inside("gitlab"), "/etc/gitlab/gitlab-secrets.json"
    gitlab.run("sh", "-ec", f"mv {place} {place}.kept; ln -s /root/secrets.json {place}")
    checked = two.product("sso", "check", "--container", "gitlab")
    gitlab.run("sh", "-ec", f"rm {place}; mv {place}.kept {place}")
    assert "of-the-h" not in json.dumps(checked.document)
    assert [found["source"] for found in checked.document["candidates"]] == ["environment"]


def test_a_container_with_a_read_only_root(site: Host) -> None:
    site.clear()
    site.lab.run(
        "sh", "-ec", f"mkdir -p /srv/opt; cp -a {site.podman.root(Spec())}/opt/gitlab/. /srv/opt"
    )
    words = ("--read-only", "--read-only-tmpfs=false", "--volume", "/srv/opt:/opt/gitlab")
    site.podman.gitlab("gitlab", *words, "--tmpfs", "/tmp:notmpcopyup").seed()
    assert site.product("backup").code == 0
    assert site.product.restore().code == 0


def test_shifted_numbers_of_accounts(site: Host) -> None:
    """Owners are the container's by name, whatever their numbers are on the host."""
    site.clear()
    gitlab = site.podman.shifted(200000)
    gitlab.seed()
    before = gitlab.state()
    assert site.product("backup").code == 0
    assert site.product("rehearse").code == 0
    gitlab.sql("DELETE FROM posts")
    done = site.product.restore("--with-etc")
    assert done.code in (0, 4), done
    assert differences(gitlab, before) == []
    owners = site.lab.run(
        "sh", "-c", "find /srv/gitlab/data/mattermost /srv/gitlab/config -printf '%U\\n'"
    )
    assert {int(number) // 100000 for number in owners.stdout.split()} == {2}
    assert site.product("sso", "check").code == 0
