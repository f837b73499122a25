"""Copies on real servers: GitLab's own S3 place, WebDAV and SFTP; what breaks, and what the next run mends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import remotes
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

SETS = "/var/opt/gitlab/backups/mattermost"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
NOTES = "/var/lib/gitlab-mm-backup/offsite.json"
PLACES = "/var/lib/gitlab-mm-backup/places.json"
DAV, NAS, SMALL = "/srv/dav", "/srv/nas", "/srv/small"
CALLS = "/var/tmp/calls"
# Tells what every rclone was called with, and is it.
SPY = f"""#!/bin/sh
printf '%s\\n' "$*" >>{CALLS}
exec /usr/bin/rclone "$@"
"""
OWN = """\
offsite:
  - remote: dav:mattermost
    retries: 0
  - remote: nas:mattermost
    bandwidth: 900M
"""


# Where GitLab uploads its backups; the bucket is part of the host's name then.
CONNECTION = {
    "provider": "AWS",
    "region": "us-east-1",
    "aws_access_key_id": remotes.KEY,
    "aws_secret_access_key": remotes.SECRET,
    "endpoint": f"http://{remotes.HOST}:{remotes.S3_PORT}",
}
INNER = ", ".join(f"'{key}' => '{value}'" for key, value in CONNECTION.items())
UPLOADS = (
    f"gitlab_rails['backup_upload_connection'] = {{ {INNER} }}",
    f"gitlab_rails['backup_upload_remote_directory'] = '{remotes.BUCKET}'",
)


@dataclass
class Host:
    """A host with Mattermost, our package and the three servers."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def offsite(self) -> Answer:
        return self.product("offsite")

    def follow(self, **changes: Any) -> None:
        """Have GitLab upload elsewhere; its first settings are rendered from gitlab.rb."""
        path = "/opt/gitlab/embedded/service/gitlab-rails/config/gitlab.yml"
        line = f"connection: {json.dumps({**CONNECTION, **changes})}"
        self.lab.write(path, re.sub(r"connection: .*", line, self.lab.read(path)))

    def config(self, text: str) -> None:
        self.lab.write(CONFIG, text, mode=0o600)

    def forget(self, *folders: str) -> None:
        """Have nothing copied yet."""
        self.lab.run("rm", "-rf", NOTES, PLACES, *folders)

    def set(self) -> str:
        """The newest set's name."""
        return sorted(path.name for path in self.lab.path(SETS).iterdir())[-1]

    def sums(self, folder: str) -> str:
        """The checksums of a folder's files, by name."""
        find = "find . -type f -exec sha256sum {} + | sort -k2"
        return self.lab.run("sh", "-c", find, cwd=folder).stdout


@pytest.fixture(scope="module")
def host(base: Path, deb: Path) -> Iterator[Host]:
    with Lab(base=base, disk_size="1g") as lab:
        gitlab = install(lab, Spec(gitlab_rb=UPLOADS))
        remotes.start_s3(lab)
        remotes.make_bucket(lab)
        remotes.start_webdav(lab, DAV)
        remotes.start_sftp(lab, NAS)
        remotes.start_cut_line(lab, remotes.WEBDAV_PORT)
        remotes.write_rclone_conf(lab)
        lab.write("/usr/local/bin/rclone", SPY, mode=0o755)
        lab.write(CALLS, "", mode=0o666)
        made = Host(lab, gitlab, install_product(lab, deb))
        gitlab.seed()
        made.config(OWN)
        yield made


@pytest.fixture(autouse=True)
def the_sets_here_are_untouched(host: Host) -> Iterator[None]:
    """Whatever becomes of a copy: each set here stays as it was, and nothing is left running."""
    there = host.lab.path(SETS).exists()
    before = host.sums(SETS) if there else ""
    yield
    if there:
        now = host.sums(SETS)
        assert [line for line in before.splitlines() if line not in now] == []
    assert host.lab.run("pgrep", "-af", "rclone (rcat|cat|lsjson)", check=False).stdout == ""


def copies(answer: Answer) -> dict[str, dict[str, Any]]:
    return {copy_["remote"]: copy_ for copy_ in answer.document["copies"]}


def test_a_backup_copies_its_set_to_every_place_and_checks_it_there(host: Host) -> None:
    answer = host.product("backup")
    assert answer.code == 0, answer
    name, here = str(answer.document["set"]), str(answer.document["path"])
    found = copies(answer)
    assert {remote: found[remote]["copied"][name]["checks"] for remote in found} == {
        "gitlab": ["md5"],  # of Swift, by way of S3
        "dav": ["read back"],  # WebDAV has no hashes
        "nas": ["sha1"],  # of the server's sha1sum
    }
    wanted = {line for line in host.sums(here).splitlines() if "signature" not in line}
    for folder in (f"{DAV}/mattermost", f"{NAS}/mattermost"):
        assert wanted < set(host.sums(f"{folder}/{name}").splitlines())
        assert host.lab.path(f"{folder}/{name}/copy.json").exists()
    objects = remotes.s3(host.lab, "lsf", "-R", "--files-only", f"s3:{remotes.BUCKET}")
    assert f"mattermost/{name}/manifest.json" in objects.split()
    listed = json.loads(host.lab.read(NOTES))
    assert {remote for remote in listed if name in listed[remote]["sets"]} == {
        "gitlab",
        "dav",
        "nas",
    }


def test_the_manifest_is_written_last(host: Host) -> None:
    calls = [line for line in host.lab.read(CALLS).splitlines() if line.startswith("rcat ")]
    for place in (f"gitlab:{remotes.BUCKET}/mattermost", "dav:mattermost", "nas:mattermost"):
        files = [line.rpartition("/")[2] for line in calls if f" {place}/" in line]
        assert files.pop(0).startswith(".place-of-"), "a place is marked before it is used"
        assert files[0] == "SHA256SUMS" and files[-3:] == [
            *("copy.json", "signature.json", "manifest.json")
        ]


def test_nothing_secret_is_in_a_list_of_arguments_or_on_a_disk(host: Host) -> None:
    assert remotes.SECRET not in host.lab.read(CALLS)
    ours = ("/etc/gitlab-mm-backup", "/var/lib/gitlab-mm-backup", "/tmp", SETS, "/run")
    pattern = f"{remotes.SECRET}|{remotes.PASSWORD}"
    found = host.lab.run(
        "grep", "-D", "skip", "-rlsE", "--text", pattern, *ours, check=False
    ).stdout
    assert found == ""
    names = [path.name for path in host.lab.path("/root/.config/rclone").iterdir()]
    assert names == ["rclone.conf"]


def test_what_is_there_is_not_sent_again(host: Host) -> None:
    host.lab.path(CALLS).write_text("")
    answer = host.offsite()
    assert answer.code == 0, answer
    assert all(not copy_["copied"] for copy_ in answer.document["copies"])
    assert "rcat" not in host.lab.read(CALLS)


def test_the_notes_can_be_lost(host: Host) -> None:
    host.lab.path(NOTES).unlink()
    answer = host.offsite()
    assert answer.code == 0, answer
    assert all(not copy_["copied"] for copy_ in answer.document["copies"])
    assert host.set() in host.lab.read(NOTES)


def test_a_copy_that_lost_a_file_there_is_made_again(host: Host) -> None:
    name = host.set()
    host.lab.path(f"{NAS}/mattermost/{name}/files.tar.zst").unlink()
    answer = host.offsite()
    assert answer.code == 0, answer
    assert {remote for remote, found in copies(answer).items() if found["copied"]} == {"nas"}
    assert host.lab.path(f"{NAS}/mattermost/{name}/files.tar.zst").exists()
    listed = {set_["name"]: set_ for set_ in host.product("list").document["sets"]}
    assert set(listed[name]["copies"]) == {"gitlab", "dav", "nas"}


def test_a_bucket_by_its_path(host: Host) -> None:
    """The first test has reached it as a host name, fog's default."""
    host.follow(path_style=True)
    try:
        host.forget()
        remotes.s3(host.lab, "purge", f"s3:{remotes.BUCKET}/mattermost")
        answer = host.offsite()
    finally:
        host.follow()
    assert answer.code == 0, answer
    assert host.set() in copies(answer)["gitlab"]["copied"]


WRONG = {
    "a key that may not list": ({"aws_access_key_id": remotes.WRITER}, "s3:ListBucket"),
    "wrong key": ({"aws_secret_access_key": "another"}, "refuses the credentials"),
    "clock skew": (
        {"endpoint": f"http://{remotes.HOST}:{remotes.SKEWED_PORT}"},
        "clocks of this host and of the remote",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_s3_refuses(host: Host, name: str) -> None:
    changes, told = WRONG[name]
    if name == "clock skew":
        remotes.start_skewed_s3(host.lab)
    host.follow(**changes)
    try:
        answer = host.offsite()
    finally:
        host.follow()
    assert answer.code == 1 and told in answer.error["detail"], answer
    assert remotes.SECRET not in json.dumps(answer.document) + answer.stderr
    assert [remote for remote in copies(answer) if copies(answer)[remote]["problems"]] == ["gitlab"]
    assert host.offsite().code == 0


def test_the_bucket_has_vanished(host: Host) -> None:
    remotes.s3(host.lab, "purge", f"s3:{remotes.BUCKET}")
    answer = host.offsite()
    assert answer.code == 1 and "not the place that was used" in answer.error["detail"], answer
    remotes.make_bucket(host.lab)
    answer = host.offsite()
    assert answer.code == 1 and "gitlab-mm place forget gitlab:" in answer.error["detail"], answer
    assert host.product("place", "forget", "gitlab").code == 0
    assert host.set() in copies(host.offsite())["gitlab"]["copied"]


def test_the_remote_is_full(host: Host) -> None:
    """A quota of the bucket; and a disk that has no room any more, behind SFTP."""
    remotes.s3(host.lab, "purge", f"s3:{remotes.BUCKET}/mattermost")
    remotes.quota(host.lab, 1000)
    host.forget(f"{DAV}/mattermost")
    host.lab.run("mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", NAS)
    try:
        answer = host.offsite()
    finally:
        host.lab.run("umount", "--lazy", NAS)
        remotes.quota(host.lab, 0)
    assert host.product("place", "forget", "nas").code == 0, "that disk is away for good"
    assert answer.code == 1, answer
    told = {remote: " ".join(found["problems"]) for remote, found in copies(answer).items()}
    assert "the remote is full" in told["gitlab"], told
    assert "the remote is full" in told["nas"], told
    assert host.set() in copies(answer)["dav"]["copied"], "the others are served all the same"
    answer = host.offsite()
    assert answer.code == 0, answer
    assert "gitlab" in {remote for remote, found in copies(answer).items() if found["copied"]}


def biggest(host: Host) -> dict[str, Any]:
    """The largest part of the newest set."""
    parts = json.loads(host.lab.read(f"{SETS}/{host.set()}/manifest.json"))["parts"].values()
    return dict(max(parts, key=lambda part: int(part["bytes"])))


def test_the_connection_is_cut_and_the_next_run_sends_what_is_missing(host: Host) -> None:
    name = host.set()
    host.forget(f"{DAV}/mattermost")
    host.config("follow_gitlab: false\noffsite:\n  - remote: cut:mattermost\n    retries: 0\n")
    big = biggest(host)
    remotes.cut_after(host.lab, big["bytes"] // 2)
    try:
        answer = host.offsite()
        assert answer.code == 1 and "the connection fails" in answer.error["detail"], answer
        assert not host.lab.path(f"{DAV}/mattermost/{name}/manifest.json").exists()
        notes = json.loads(host.lab.read(NOTES))["cut"]
        assert name not in notes["sets"], "no copy, not counted"
        begun = set(notes["begun"][name]["files"])
        assert big["file"] not in begun
        remotes.cut_after(host.lab, None)
        host.lab.path(CALLS).write_text("")
        assert host.offsite().code == 0
        sent = {
            line.rpartition("/")[2] for line in host.lab.read(CALLS).splitlines() if "rcat" in line
        }
        assert big["file"] in sent and not begun & sent, "what was there is not sent again"
    finally:
        remotes.cut_after(host.lab, None)
        host.config(OWN)


def test_a_connection_that_comes_back_is_waited_for(host: Host) -> None:
    """rclone cannot send a stream twice: the second try is ours."""
    host.forget(f"{DAV}/mattermost")
    host.config("follow_gitlab: false\noffsite:\n  - remote: cut:mattermost\n    retries: 1\n")
    remotes.cut_after(host.lab, biggest(host)["bytes"] // 2, times=1)
    host.lab.path(CALLS).write_text("")
    try:
        answer = host.offsite()
    finally:
        remotes.cut_after(host.lab, None)
        host.config(OWN)
    assert answer.code == 0, answer
    assert host.set() in copies(answer)["cut"]["copied"]
    sent = [line.rpartition("/")[2] for line in host.lab.read(CALLS).splitlines() if "rcat" in line]
    assert sum(sent.count(request) - 1 for request in set(sent)) == 1, sent


def test_old_copies_go_by_the_rules_of_their_remote(host: Host) -> None:
    old = host.set()
    host.offsite()
    answer = host.product("backup")
    assert answer.code == 0, answer
    host.lab.write(f"{NAS}/mattermost/precious", "not ours\n")
    host.config(OWN + "    keep_last: 1\n    keep_time: 1s\n")
    try:
        answer = host.offsite()
    finally:
        host.config(OWN)
    assert answer.code == 0, answer
    assert copies(answer)["nas"]["removed"] == [old] and not copies(answer)["dav"]["removed"]
    left = {path.name for path in host.lab.path(f"{NAS}/mattermost").iterdir()}
    assert {name for name in left if not name.startswith(".place-of-")} == {host.set(), "precious"}


# --- encrypted

KEY, OTHER_KEY = "/srv/key", "/srv/other-key"
SSH_KEY, LOCKED_KEY = "/srv/ssh-key", "/srv/locked-ssh-key"


@pytest.fixture(scope="module")
def encrypted(host: Host) -> str:
    """The newest set's copy at nas, encrypted to two keys of age's and two of SSH's; gives its name."""
    public = []
    for path in (KEY, OTHER_KEY):
        host.lab.run("age-keygen", "-o", path)
        public.append(host.lab.run("age-keygen", "-y", path).stdout.strip())
    for path, passphrase in ((SSH_KEY, ""), (LOCKED_KEY, "secret words")):
        make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "admin at a laptop")
        host.lab.run(*make, "-f", path)
        public.append(host.lab.read(f"{path}.pub").strip())
    host.lab.run("sh", "-c", f"umask 077; sed 's/$/\\r/' {SSH_KEY} >{SSH_KEY}-of-windows")
    host.lab.run("age-keygen", "-o", "/srv/wrong-key")
    host.forget(f"{NAS}/mattermost")
    recipients = f"    recipients: [{', '.join(public)}]\n"
    host.config("follow_gitlab: false\noffsite:\n  - remote: nas:mattermost\n" + recipients)
    answer = host.offsite()
    assert answer.code == 0, answer
    assert copies(answer)["nas"]["encrypted"]
    assert copies(answer)["nas"]["copied"][host.set()]["checks"] == ["sha1"]
    return host.set()


def test_an_encrypted_copy_shows_only_what_a_list_needs(host: Host, encrypted: str) -> None:
    folder = f"{NAS}/mattermost/{encrypted}"
    names = {path.name for path in host.lab.path(folder).iterdir()}
    parts = {name for name in names if name.endswith(".age")}
    about = {"manifest.json", "SHA256SUMS", "copy.json", "signature.json"}
    assert names - parts == about and len(parts) == 7
    secret = host.gitlab.environment()["MM_GITLABSETTINGS_SECRET"]
    assert host.lab.run("grep", "-rl", secret, folder, check=False).stdout == ""
    answer = host.product("list", "--from", "nas")
    assert answer.code == 0, answer
    listed = [set_ for set_ in answer.document["sets"] if set_["name"] == encrypted]
    assert listed[0]["complete"] and len(listed[0]["recipients"]) == 4


@pytest.mark.parametrize("key", [SSH_KEY, f"{SSH_KEY}-of-windows"])
def test_a_copy_is_verified_with_an_ssh_key(host: Host, encrypted: str, key: str) -> None:
    answer = host.product("verify", "--from", "nas", "--identity", key, encrypted)
    assert answer.code == 0, answer


@pytest.mark.parametrize("key", [KEY, OTHER_KEY, SSH_KEY])
def test_a_copy_is_opened_by_hand(host: Host, encrypted: str, key: str) -> None:
    folder = f"{NAS}/mattermost/{encrypted}"
    script = (
        f"for one in *.age; do age -d -i {key} -o $0/${{one%.age}} $one; done;"
        " cp manifest.json SHA256SUMS $0; cd $0; sha256sum --check --quiet SHA256SUMS"
    )
    target = f"/var/tmp/by-hand-{Path(key).name}"
    host.lab.run("mkdir", target)
    host.lab.run("sh", "-euc", script, target, cwd=folder)


def test_a_copy_is_verified_and_rehearsed(host: Host, encrypted: str) -> None:
    words = ("--from", "nas:mattermost", "--identity", KEY, encrypted)
    answer = host.product("verify", *words)
    assert answer.code == 0, answer
    assert {check["name"]: check["result"] for check in answer.document["checks"]} == {
        "origin": "passed",
        "checksums": "passed",
        "structure": "passed",
    }
    answer = host.product("rehearse", "--quick", *words)
    assert answer.code == 0, answer
    assert {check["result"] for check in answer.document["checks"]} <= {"passed", "not run"}
    assert host.product.leftovers() == []


REFUSED = {
    "no key": ((), 2, "--identity"),
    "a wrong key": (("--identity", "/srv/wrong-key"), 1, "cannot be opened"),
    "no such file": (("--identity", "/srv/nowhere"), 2, "cannot be read"),
    "no key at all": (("--identity", CONFIG), 2, "not an age identity"),
    "the public half of a key": (("--identity", f"{SSH_KEY}.pub"), 2, "no private key"),
    "a key with a passphrase": (("--identity", LOCKED_KEY), 1, "passphrase"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_copy_that_stays_closed(host: Host, encrypted: str, name: str) -> None:
    words, code, told = REFUSED[name]
    answer = host.product("verify", "--from", "nas", *words, encrypted)
    assert answer.code == code, answer
    assert told in " ".join(str(text) for text in answer.error.values())
    assert "AGE-SECRET-KEY" not in json.dumps(answer.document) + answer.stderr
    assert host.product.leftovers() == []


def test_a_copy_that_was_damaged_there(host: Host, encrypted: str) -> None:
    path = host.lab.path(f"{NAS}/mattermost/{encrypted}/files.tar.zst.age")
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-100] + bytes(100))
        answer = host.product("verify", "--from", "nas", "--identity", KEY, encrypted)
    finally:
        path.write_bytes(content)
    assert answer.code == 1, answer
    assert "files.tar.zst.age" in str(answer.error)
    assert host.product.leftovers() == []
