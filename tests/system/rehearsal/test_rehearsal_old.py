"""A rehearsal of the oldest Mattermost: its lib/pq answers no SCRAM (Mattermost before 5.14)."""

from __future__ import annotations

from pathlib import Path

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers.rehearsals import results


def test_a_mattermost_that_knows_no_scram_starts_in_a_rehearsal(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(version="10.5.8"))
        product = install_product(lab, deb)
        gitlab.seed()
        product.backup()
        rehearsed = product("rehearse")
        assert (rehearsed.code, set(results(rehearsed).values())) == (0, {"passed"}), rehearsed
