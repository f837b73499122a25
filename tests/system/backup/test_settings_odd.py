"""Settings that Mattermost runs with and that are written oddly: a set, its rehearsal, its restore."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.base import build_base
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

ENVIRONMENT = "/opt/gitlab/etc/mattermost/env"
SOURCE = f"{ENVIRONMENT}/MM_SQLSETTINGS_DATASOURCE"
CONFIG = "/var/opt/gitlab/mattermost/config.json"
HBA = "/var/opt/gitlab/postgresql/data/pg_hba.conf"
ROLE, NAME = "gitlab_mattermost", "mattermost_production"
PASSWORD = "p@Secret99"
SECTIONS = ("FileSettings", "PluginSettings", "SqlSettings")


@pytest.fixture(scope="module")
def server(deb: Path) -> Iterator[tuple[Omnibus, Product]]:
    with Lab(base=build_base()) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.sign_in("alice").post("hello")
        yield gitlab, product


def replaced(text: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    """Make each change once; every one has to find its place."""
    for pattern, new in changes:
        text, count = re.subn(pattern, new.replace(b"\\", b"\\\\"), text, count=1)
        assert count == 1, pattern
    return text


# The lab's Mattermost, not written in Go, starts from these too.
MILD = (
    (rb'"ServiceSettings": \{', b'"ServiceSettings": {\n "EnableCommands": true,'),
    (rb'"GitLabSettings": \{', b'"New": 1e400, "gitlabsettings": {'),
)
ODD = (
    (rb'"CustomBrandText": "[^"]*"', rb'"CustomBrandText": "Welcome \ud83d"'),
    (rb'"SupportEmail": "[^"]*"', b'"SupportEmail": "B\xfccherei"'),
)


def test_a_config_json_that_only_go_reads(server: tuple[Omnibus, Product]) -> None:
    """Mattermost writes it anew at each start, in its own form."""
    gitlab, product = server
    path, name = (
        product.lab.path(path) for path in (CONFIG, f"{ENVIRONMENT}/MM_TEAMSETTINGS_SITENAME")
    )
    before, known = path.read_bytes(), name.read_bytes()
    mild = replaced(before, *MILD)
    try:
        path.write_bytes(replaced(mild, *ODD))
        name.write_bytes("Bücherei".encode("latin-1"))
        product.backup()
        rehearsed = product("rehearse", "--quick")
        assert rehearsed.code == 0, rehearsed
        name.write_bytes(known)
        path.write_bytes(mild)
        made = product.backup()
        gitlab.gitlab_ctl("restart", "mattermost")
        gitlab.wait_until_ready()
        anew = path.read_bytes()
        path.write_bytes(
            replaced(before, (rb'"SupportEmail": "[^"]*"', b'"SupportEmail": "a@b.c"'))
        )
        restored = product.restore("--no-safety-backup", made)
        assert restored.code == 0, restored
        assert path.read_bytes() == anew
    finally:
        name.write_bytes(known)
        path.write_bytes(before)


def changed(product: Product, text: bytes) -> Answer:
    """Make a set while config.json is this text; Mattermost keeps what it has read."""
    path = product.lab.path(CONFIG)
    before = path.read_bytes()
    path.write_bytes(text)
    try:
        return product("backup")
    finally:
        path.write_bytes(before)


FORMS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "a byte order mark": (lambda text: b"\xef\xbb\xbf" + text, 1),
    "a comment": (lambda text: b"// by hand\n" + text, 1),
    "a trailing comma": (lambda text: text.rstrip().rstrip(b"}") + b",}", 1),
    "CR LF": (lambda text: text.replace(b"\n", b"\r\n"), 0),
    "a number of 25 digits": (
        lambda text: replaced(text, (rb'"MaxFileSize": \d+', b'"MaxFileSize": ' + b"9" * 25)),
        0,
    ),
    "sections that are null": (
        lambda text: json.dumps(json.loads(text) | dict.fromkeys(SECTIONS)).encode(),
        0,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_config_json(form: str, server: tuple[Omnibus, Product]) -> None:
    """What Go's encoding/json takes; what it does not take stops Mattermost too, and is told."""
    product = server[1]
    change, code = FORMS[form]
    answer = changed(product, change(product.lab.path(CONFIG).read_bytes()))
    assert answer.code == code, answer
    if code:
        assert answer.error["message"] == f"{CONFIG} is not JSON"
        assert re.match(r"line \d+ column \d+", answer.error["detail"])
        assert "Mattermost cannot start from it either" in answer.error["hint"]


def test_keys_in_other_letters(server: tuple[Omnibus, Product]) -> None:
    """Go reads keys in any letter case, so an oddly written key may put uploads into a bucket."""
    product = server[1]
    document = json.loads(product.lab.path(CONFIG).read_bytes())
    settings = document.pop("FileSettings") | {"drivername": "amazons3", "amazons3bucket": "chat"}
    del settings["DriverName"]
    settings.pop("AmazonS3Bucket", None)
    answer = changed(product, json.dumps(document | {"filesettings": settings}).encode())
    assert answer.code == 4, answer
    assert "object storage (amazons3, bucket chat)" in answer.document["warnings"][0]


@pytest.fixture(scope="module")
def by_password(server: tuple[Omnibus, Product]) -> Product:
    """The bundled server takes a password at 127.0.0.1, and nothing listens at port 1."""
    gitlab, product = server
    gitlab.sql("ALTER SYSTEM SET listen_addresses = '127.0.0.1'", "postgres")
    gitlab.sql(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'", "postgres")
    path = product.lab.path(HBA)
    path.write_bytes(b"host all all 127.0.0.1/32 scram-sha-256\n" + path.read_bytes())
    gitlab.gitlab_ctl("restart", "postgresql")
    gitlab.wait_until_ready()
    return product


@pytest.mark.parametrize(
    "text",
    [
        f"postgres://{ROLE}:{PASSWORD}@127.0.0.1:5432/{NAME}?sslmode=disable&connect_timeout=10",
        f"postgres://{ROLE}:{PASSWORD}@127.0.0.1/{NAME}?sslmode=disable&search_path=public"
        "&statement_timeout=1&timezone=Asia/Tokyo&sslinline=false&options=-c%20lock_timeout%3D5",
        f"postgres://{ROLE}:{PASSWORD}@127.0.0.1:1,127.0.0.1:5432/{NAME}?sslmode=disable",
        f"host=127.0.0.1 user={ROLE} password={PASSWORD} dbname={NAME} binary_parameters=yes "
        "search_path='public, other' disable_prepared_binary_result=yes",
    ],
)
def test_a_data_source_that_go_understands(text: str, by_password: Product) -> None:
    source = by_password.lab.path(SOURCE)
    before = source.read_text()
    source.write_text(text)
    try:
        made = by_password("backup")
        assert made.code == 0, made
        assert "Secret99" not in str(made.document) + made.stderr
        rehearsed = by_password("rehearse", "--quick")
        assert rehearsed.code == 0, rehearsed
    finally:
        source.write_text(before)


def test_no_part_of_a_wrong_password_is_told(by_password: Product) -> None:
    source = by_password.lab.path(SOURCE)
    before = source.read_text()
    for wrong in (f"{PASSWORD}x", "Secret99/x", "5432/Secret99", "%Secret99"):
        source.write_text(f"postgres://{ROLE}:{wrong}@127.0.0.1:5432/{NAME}?sslmode=disable")
        try:
            done = by_password("backup")
        finally:
            source.write_text(before)
        assert done.code == 1
        assert "Secret99" not in str(done.document) + done.stderr


@pytest.mark.parametrize("end", ["/", "//.", "/../postgresql"])
def test_the_bundled_socket_however_it_is_written(
    end: str, server: tuple[Omnibus, Product]
) -> None:
    product = server[1]
    source = product.lab.path(SOURCE)
    before = source.read_text()
    source.write_text(f"user={ROLE} host=/var/opt/gitlab/postgresql{end} port=5432 dbname={NAME}")
    try:
        product.backup()
        restored = product.restore("--no-safety-backup")
        assert restored.code == 0, restored
    finally:
        source.write_text(before)
