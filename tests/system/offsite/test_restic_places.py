"""Sets in repositories on real servers: S3's API, SFTP by OpenSSH, and whatever rclone reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import remotes
from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab
from tests.system.offsite.test_restic import CONFIG, DERIVED, HOME, PASSWORD, WORD, Server

ENVIRONMENT = "/etc/gitlab-mm-backup/environment"


@dataclass(frozen=True)
class Place:
    """A repository, and what the storage asks of who opens it."""

    repository: str
    keys: tuple[str, ...] = ()


PLACES = {
    "S3": Place(
        f"s3:https://{remotes.HOST}:{remotes.TLS_PORT}/{remotes.BUCKET}/mattermost",
        (
            f"SSL_CERT_FILE={remotes.S3_CERTIFICATE}",
            f"AWS_ACCESS_KEY_ID={remotes.KEY}",
            f"AWS_SECRET_ACCESS_KEY={remotes.SECRET}",
        ),
    ),
    "SFTP": Place(f"sftp://backup@127.0.0.1:{remotes.SSH_PORT}//srv/ssh/mattermost"),
    "rclone": Place("rclone:dav:repository"),
}


def keep_at(lab: Lab, place: Place) -> None:
    """Keep sets in a repository there, which is made for that."""
    lab.write(ENVIRONMENT, "".join(f"{key}\n" for key in place.keys), mode=0o600)
    lab.write(
        CONFIG,
        f"store: restic\nrestic:\n  repository: {place.repository}\n"
        f"  password_file: {PASSWORD}\n  environment_file: {ENVIRONMENT}\n",
    )
    keys = dict(key.split("=", 1) for key in place.keys)
    environment = {**keys, "RESTIC_PASSWORD": WORD, "HOME": "/root"}
    lab.run("restic", "-r", place.repository, "init", env=environment, timeout=60)


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with Lab(base=base, disk_size="1g") as lab:
        remotes.start_s3(lab)
        remotes.make_bucket(lab)
        remotes.start_s3_with_tls(lab)
        remotes.start_webdav(lab, "/srv/dav")
        remotes.write_rclone_conf(lab)
        remotes.start_ssh(lab, "/srv/ssh")
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        lab.write(PASSWORD, f"{WORD}\n", mode=0o600)
        yield Server(lab, gitlab, product, gitlab.seed())


@pytest.mark.parametrize("name", PLACES)
def test_a_set_goes_there_and_comes_back(server: Server, name: str) -> None:
    product = server.product
    keep_at(server.lab, PLACES[name])
    before = server.gitlab.state()
    made = product("backup")
    assert made.code == 0, made
    (entry,) = product("list").document["sets"]
    assert (entry["name"], entry["complete"]) == (made.document["set"], True)
    assert product("verify").code == 0
    server.lab.run("sh", "-c", f"rm -r {HOME}/data/*")
    server.gitlab.sql("DELETE FROM posts")

    restored = product.restore("--no-safety-backup")

    assert (restored.code, restored.document["sign_in"]) == (0, "accepted"), restored
    assert before.differences(server.gitlab.state(), DERIVED) == []
    session = server.gitlab.sign_in("alice")
    for identifier, text in server.seed.posts.items():
        assert session.read_post(identifier) == text
    lines = {line["name"]: line for line in product("status").document["lines"]}
    assert lines["off-site"]["state"] == "good", "it is on no disk of this host"
    said = "".join(str(answer.document) + answer.stderr for answer in (made, restored))
    assert remotes.SECRET not in said and WORD not in said
    assert product.leftovers() == []


@pytest.mark.parametrize("name", ["S3", "SFTP"])
def test_a_place_that_lets_nobody_in(server: Server, name: str) -> None:
    """A clear error; Mattermost and the sets that are there stay as they are."""
    place = PLACES[name]
    wrong = (*place.keys[:-1], f"{place.keys[-1]}x") if place.keys else ()
    keep_at(server.lab, Place(f"{place.repository}-{name}", place.keys))
    server.lab.write(ENVIRONMENT, "".join(f"{key}\n" for key in wrong), mode=0o600)
    key = "/root/.ssh/id_ed25519"
    server.lab.run("mv", key, f"{key}.away")
    try:
        answer = server.product("backup")
    finally:
        server.lab.run("mv", f"{key}.away", key)
    assert answer.code == 1, answer
    told = answer.error["message"] + answer.error["detail"]
    assert "restic" in told and remotes.SECRET not in str(answer.document) + answer.stderr
    server.lab.write(ENVIRONMENT, "".join(f"{key}\n" for key in place.keys), mode=0o600)
    assert server.product("list").document["sets"] == []
    assert server.product("backup").code == 0
    assert server.product.leftovers() == []
