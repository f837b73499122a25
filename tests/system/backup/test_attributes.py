"""Access control lists and extended attributes: through every kind of set, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.installed_package import Product
from tests.lab.omnibus import Omnibus
from tests.lab.sandbox import Lab
from tests.system.helpers.attacks import target
from tests.system.offsite.test_restic import CONFIG, PASSWORD, REPOSITORY, SETTINGS, WORD

# Lists as the kernel keeps them: a bundled account may read, and what is made anew is alike.
SET = """
import os, pwd, struct
home = "/var/opt/gitlab/mattermost"
someone = pwd.getpwnam("gitlab-psql").pw_uid
entries = ((1, 6, -1), (2, 4, someone), (4, 4, -1), (16, 4, -1), (32, 0, -1))
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *one) for one in entries)
os.setxattr(f"{home}/config.json", "system.posix_acl_access", acl)
os.setxattr(f"{home}/data", "system.posix_acl_default", acl)
os.setxattr("/etc/gitlab/gitlab.rb", "system.posix_acl_access", acl)
os.setxattr(f"{home}/plugins", "user.note", b"x\\0y")
"""
SHOW = """
import os
home = "/var/opt/gitlab/mattermost"
for path in (f"{home}/config.json", f"{home}/data", "/etc/gitlab/gitlab.rb", f"{home}/plugins"):
    print(path, {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))})
"""
LOSE = SHOW.replace("print(path, ", "print(").replace("os.getxattr", "os.removexattr")


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[tuple[Omnibus, Product]]:
    with target(base, deb) as (lab, gitlab, product):
        lab.write(PASSWORD, f"{WORD}\n", mode=0o600)
        environment = {"RESTIC_REPOSITORY": REPOSITORY, "RESTIC_PASSWORD": WORD, "HOME": "/root"}
        lab.run("restic", "init", env=environment)
        yield gitlab, product


def python(lab: Lab, program: str) -> str:
    return str(lab.run("python3", "-c", program).stdout)


@pytest.mark.parametrize("config", ["", "files: incremental\n", SETTINGS])
def test_they_come_back(config: str, server: tuple[Omnibus, Product]) -> None:
    gitlab, product = server
    lab = product.lab
    lab.write(CONFIG, config, mode=0o640)
    python(lab, SET)
    before = python(lab, SHOW)
    assert before.count("system.posix_acl") == 3
    answer = product("backup")
    assert (answer.code, answer.document["warnings"]) == (0, [])
    rehearsed = product("rehearse")
    assert rehearsed.code == 0, rehearsed
    python(lab, LOSE)
    assert "posix_acl" not in python(lab, SHOW)
    restored = product.restore("--no-safety-backup", "--with-etc")
    assert restored.code == 4, restored  # of /etc/gitlab alone
    assert [
        warning for warning in restored.document["warnings"] if "/etc/gitlab was" not in warning
    ] == []
    assert python(lab, SHOW) == before
    gitlab.sign_in("alice")


def test_a_warning_that_is_accepted_stays_told_but_is_none_of_the_run(
    server: tuple[Omnibus, Product],
) -> None:
    gitlab, product = server
    lab = product.lab
    lab.run("mkdir", "/srv/old uploads")
    lab.run("ln", "-s", "/srv/old uploads", f"{gitlab.home}/data/old")
    lab.write(CONFIG, "", mode=0o640)
    answer = product("backup")
    assert (answer.code, len(answer.document["warnings"])) == (4, 1), answer
    lab.write(CONFIG, "accept_warnings: [/srv/old uploads]\n", mode=0o640)
    accepted = product("backup")
    assert (accepted.code, accepted.document["warnings"]) == (0, []), accepted
    assert accepted.document["told"] == answer.document["warnings"]
    assert any("1 warning accepted by config.yml" in note for note in accepted.document["notes"])
    assert "/srv/old uploads" in product.run("list").stdout
    lab.run("rm", f"{gitlab.home}/data/old")


# As a configuration management lays out a server: links to what it keeps itself.
MANAGE = """
mkdir -p /srv/managed/ssl /srv/managed/certs; cd /srv/managed
for name in gitlab.rb gitlab-secrets.json; do mv /etc/gitlab/$name .; ln -s $PWD/$name /etc/gitlab/; done
rm -rf /etc/gitlab/ssl /etc/gitlab/trusted-certs
echo key >ssl/host.key; chmod 600 ssl/host.key; ln -s $PWD/ssl /etc/gitlab/ssl
echo ca >certs/ca.crt; mkdir /etc/gitlab/trusted-certs
ln -s $PWD/certs/ca.crt /etc/gitlab/trusted-certs/
mv {home}/config.json .; chown root:mattermost config.json; chmod 640 config.json
ln -s $PWD/config.json {home}/config.json
"""


def test_what_is_managed_elsewhere_comes_back_where_nobody_keeps_it(
    server: tuple[Omnibus, Product],
) -> None:
    gitlab, product = server
    lab = product.lab
    lab.write(CONFIG, "", mode=0o640)
    lab.run("sh", "-ec", MANAGE.format(home=gitlab.home))
    etc = ("gitlab.rb", "gitlab-secrets.json", "ssl/host.key", "trusted-certs/ca.crt")
    before = {name: lab.read(f"/etc/gitlab/{name}") for name in etc}
    config = gitlab.config()
    answer = product("backup")
    assert (answer.code, answer.document["told"]) == (0, []), answer
    rehearsed = product("rehearse")
    assert rehearsed.code == 0, rehearsed
    lab.run("rm", "-r", "/srv/managed")
    planned = " ".join(product("restore", "--dry-run").document["warnings"])
    assert planned.count("config.json was a link to") == 1
    restored = product.restore("--no-safety-backup", "--with-etc")
    assert restored.code == 4, restored
    words = " ".join(restored.document["warnings"])
    assert words.count("was a link to") == 5 and "config.json was a link to" in words
    assert {name: lab.read(f"/etc/gitlab/{name}") for name in etc} == before
    shown = lab.run(
        "stat", "-c", "%F %U %a", f"{gitlab.home}/config.json", "/etc/gitlab/ssl/host.key"
    )
    assert shown.stdout == "regular file mattermost 600\nregular file root 600\n"
    assert gitlab.config() == config
    assert product("sso", "check").code == 0
    gitlab.sign_in("alice")
