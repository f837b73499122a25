"""A set from a server whose locale this one does not have."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gitlab_mm_backup import manifest as module
from tests.lab.omnibus import Spec, install
from tests.lab.product import install_product
from tests.lab.sandbox import Lab


def made_elsewhere(folder: Path, locale: str) -> None:
    """Have the set say that its database had another locale, with sums that are right."""
    found = module.parse((folder / module.MANIFEST).read_bytes(), "the set")
    database = dataclasses.replace(found.database, collate=locale, ctype=locale)
    changed = dataclasses.replace(found, database=database)
    (folder / module.MANIFEST).write_bytes(module.to_bytes(changed))
    (folder / module.SUMS).write_bytes(module.sums(changed))


def test_a_locale_that_is_missing_here_is_told_and_is_no_obstacle(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        seed = gitlab.seed()
        path = product.backup()
        made_elsewhere(lab.path(path), "tlh_QO.UTF-8")
        answer = product.restore("--no-safety-backup")
        assert answer.code == 4
        assert any("locale" in warning for warning in answer.document["warnings"])
        session = gitlab.sign_in("alice")
        for identifier, text in seed.posts.items():
            assert session.read_post(identifier) == text

        made_elsewhere(lab.path(path), "C")
        assert product.restore("--no-safety-backup").code == 0
        query = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        assert gitlab.sql(query) == ["C"]
