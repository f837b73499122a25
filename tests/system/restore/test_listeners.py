"""Mattermost behind every kind of listener, and one that does not come up: asked in one way by all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.installed_package import Product
from tests.lab.omnibus import Omnibus
from tests.system.helpers.attacks import target
from tests.system.helpers.rehearsals import results

ENVIRONMENT = "/opt/gitlab/etc/mattermost/env"
KEYS = (
    "-keyout",
    "/var/opt/gitlab/mattermost/key.pem",
    "-out",
    "/var/opt/gitlab/mattermost/cert.pem",
)
TLS = {
    "CONNECTIONSECURITY": "TLS",
    "TLSCERTFILE": "/var/opt/gitlab/mattermost/cert.pem",
    "TLSKEYFILE": "/var/opt/gitlab/mattermost/key.pem",
}
PATH = {"SITEURL": "http://mattermost.example.test/chat"}
LISTENERS = {
    "tls": (TLS, "https://127.0.0.1:8065"),
    "address": ({"LISTENADDRESS": "127.0.0.2:8066"}, "http://127.0.0.2:8066"),
    "path": (PATH, "http://127.0.0.1:8065/chat"),
    "all": ({**TLS, **PATH, "LISTENADDRESS": "127.0.0.2:8443"}, "https://127.0.0.2:8443/chat"),
}


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[tuple[Omnibus, Product]]:
    with target(base, deb) as (lab, gitlab, product):
        subject = ("-subj", "/CN=mattermost.example.test", "-days", "2")
        lab.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *KEYS)
        lab.run("chown", "mattermost", KEYS[1], KEYS[3])
        yield gitlab, product


@pytest.mark.parametrize("kind", LISTENERS)
def test_it_is_reached_whatever_its_listener_is(kind: str, server: tuple[Omnibus, Product]) -> None:
    product = server[1]
    lab, (settings, url) = product.lab, LISTENERS[kind]
    files = {f"{ENVIRONMENT}/MM_SERVICESETTINGS_{name}": value for name, value in settings.items()}
    kept = {path: lab.read(path) for path in files if lab.path(path).exists()}
    try:
        for path, value in files.items():
            lab.write(path, value, mode=0o644)
        lab.run("gitlab-ctl", "restart", "mattermost")
        product("backup")
        rehearsed = product("rehearse")
        assert (results(rehearsed)["boot"], results(rehearsed)["answers"]) == ("passed", "passed")
        restored = product.restore("--no-safety-backup")
        assert restored.code in (0, 4), restored
        checks = {check["name"]: check for check in product("doctor").document["checks"]}
        assert checks["service"]["detail"] == f"Mattermost runs, and answers at {url}"
        lines = {line["name"]: line for line in product("status").document["lines"]}
        assert (lines["service"]["state"], url in lines["service"]["words"]) == ("good", True)
    finally:
        for path in files:
            if path not in kept:
                lab.path(path).unlink()
            else:
                lab.write(path, kept[path], mode=0o644)
        lab.run("gitlab-ctl", "restart", "mattermost")


def test_one_that_ends_again_and_again_is_not_waited_for(server: tuple[Omnibus, Product]) -> None:
    """The set's database is one that Mattermost does not start on, and says so."""
    gitlab, product = server
    gitlab.wait_until_ready()
    more = "INSERT INTO db_migrations SELECT 90000 + n, 'later' FROM generate_series(1, 999) n"
    gitlab.sql(more)
    product("backup")
    gitlab.sql("DELETE FROM db_migrations WHERE version > 90000")
    began = time.monotonic()
    answer = product.restore("--no-safety-backup")
    assert (answer.code, answer.error["message"]) == (1, "Mattermost keeps exiting"), answer
    assert "migrations: migration mismatch, there are more" in answer.error["detail"]
    assert time.monotonic() - began < 60
    gitlab.sign_in("alice")
