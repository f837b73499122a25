"""An owner who keeps changing the database while we work in it: no set is inconsistent, no session is misused.

`make races` runs this with a thousand changes for each verb instead of a hundred.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product
from tests.lab.sandbox import Lab
from tests.system.helpers import owner
from tests.system.helpers.attacks import Attacks, target
from tests.system.helpers.races import CHANGES
from tests.system.helpers.spies import seen

PSQL = (
    "/opt/gitlab/embedded/bin/psql -X -q -v ON_ERROR_STOP=1 -h /var/opt/gitlab/postgresql"
    f" -U gitlab_mattermost -d {owner.DATABASE} -f -"
)
VERBS = (("backup",), ("rehearse",), ("verify",), ("list",), ("doctor",))


@dataclass
class House:
    """A server, and how many backups came through."""

    lab: Lab
    product: Product
    made: int = 1


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with target(base, deb) as (lab, _, product):
        owner.prepare(lab, PSQL)
        product.backup()
        yield House(lab, product)


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("owner")


def sets(product: Product) -> list[str]:
    return [str(set_["name"]) for set_ in product("list").document["sets"]]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_database_that_is_changed_all_the_time(
    house: House, attacks: Attacks, verb: tuple[str, ...]
) -> None:
    """Each run ends as it should, or with a message; no superuser steps into anything of it."""
    lab, product = house.lab, house.product
    before, changes = len(seen(lab)), 0
    with attacks.row(f"the owner of Mattermost's database changes it all the time: {verb[0]}"):
        while changes < CHANGES:
            with owner.changing(lab) as counts:
                answer = product(*verb, timeout=180)
            owner.settle(lab, PSQL)
            changes += counts[-1]
            assert answer.code in (0, 1, 4), answer
            if answer.code == 1:
                # A set of a moment without posts looks emptied, which is a check of doctor.
                checks = answer.document.get("checks", [])
                failed = [check["name"] for check in checks if check["result"] == "failed"]
                assert failed or (answer.error["message"] and answer.error["detail"]), answer
            house.made += verb == ("backup",) and answer.code != 1
        assert not [visit for visit in seen(lab)[before:] if visit.superuser]
        assert product.leftovers() == []


def test_each_set_that_was_left_behind_can_be_restored(house: House) -> None:
    lab, product = house.lab, house.product
    assert len(sets(product)) == house.made
    product.backup()
    names = sets(product)
    for name in names:
        assert product("verify", name).code in (0, 4), name
        answer = product("rehearse", name, timeout=180)
        assert answer.code in (0, 4), (name, answer)
    assert product.restore(names[-1]).code in (0, 4)
    manifest = json.loads(lab.read(f"/var/opt/gitlab/backups/mattermost/{names[0]}/manifest.json"))
    assert manifest["database"]["rows"]["public.users"] > 0
