"""Databases in encodings of old hosts: a set, its rehearsal and its restore, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.base import build_base
from tests.lab.installed_package import install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

DATABASE = "mattermost_production"
HOME = "/var/opt/gitlab/mattermost"
ODD = f"{HOME}/data/20261128/日本語.pdf"
# In each a text that UTF-8 has not, or has with other bytes.
TEXTS = {
    "SQL_ASCII": r"E'B\xfccherei \xff'",
    "LATIN1": r"E'B\xfccherei'",
    "EUC_JP": r"E'\xc6\xfc\xcb\xdc'",
}


def recreate(lab: Lab, gitlab: Omnibus, encoding: str) -> None:
    """Move Mattermost's database into one of another encoding, as it was left by an old host."""
    gitlab.gitlab_ctl("stop", "mattermost")
    run = "/opt/gitlab/embedded/bin/chpst -u gitlab-psql:gitlab-psql /opt/gitlab/embedded/bin"
    at = "-h /var/opt/gitlab/postgresql -p 5432"
    options = f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    psql = "/opt/gitlab/bin/gitlab-psql -d postgres -q -c"
    lab.run(
        "sh",
        "-ec",
        f"cd /tmp; {run}/pg_dump {at} -Fc {DATABASE} >/tmp/x.dump; {psql} 'DROP DATABASE {DATABASE}';"
        f' {psql} "CREATE DATABASE {DATABASE} OWNER gitlab_mattermost {options}";'
        f" {run}/pg_restore {at} -d {DATABASE} </tmp/x.dump",
    )
    gitlab.gitlab_ctl("start", "mattermost")
    gitlab.wait_until_ready()


def stored(gitlab: Omnibus) -> list[str]:
    return gitlab.sql("SELECT encode(value::bytea, 'hex') FROM systems WHERE name = 'Odd'")


@pytest.mark.parametrize("encoding", sorted(TEXTS))
def test_a_database_of_another_encoding(encoding: str, deb: Path) -> None:
    with Lab(base=build_base()) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        session = gitlab.sign_in("alice")
        session.post("hello")
        session.upload("plan.txt", b"x" * 100)
        recreate(lab, gitlab, encoding)
        gitlab.sql(
            f"SET client_encoding TO '{encoding}'; INSERT INTO systems VALUES ('Odd', {TEXTS[encoding]})"
        )
        lab.write(ODD, "a file whose name no row has\n", owner="mattermost")
        before, text = gitlab.state(), stored(gitlab)
        assert text and text[0]
        for verb in ("backup", "verify", "rehearse"):
            answer = product(verb)
            assert answer.code == 0, answer
        gitlab.sql("DELETE FROM systems WHERE name = 'Odd'")
        lab.path(ODD).unlink()
        restored = product.restore()
        assert restored.code == 0, restored
        assert stored(gitlab) == text
        assert lab.path(ODD).exists()
        where = f"datname = '{DATABASE}'"
        assert gitlab.sql(
            f"SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE {where}"
        ) == [encoding]
        assert (
            before.differences(gitlab.state(), ("systems", "sessions", "status", "users", "audits"))
            == []
        )
