"""The search of a real server, after a restore that builds its indexes at the end."""

from __future__ import annotations

from tests.real.extras import found
from tests.real.house import House

INDEXES = (
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE '%to_tsvector%'"
    " ORDER BY 1"
)


def test_a_search_finds_the_same_after_a_restore_that_left_it_for_later(house: House) -> None:
    house.alice.post("a needle in the haystack", "coffee")
    before, indexes = searched(house), house.gitlab.sql(INDEXES)
    assert all(before), before
    name = house.product("backup").document["set"]
    answer = house.product.restore("--search-later", "--no-safety-backup", name)
    assert answer.code == 0, answer
    if house.version >= (6,):
        assert answer.document["search"]["indexes"], answer
    else:
        assert answer.document["search"] is None, "this server builds missing indexes at its start"
    house.gitlab.wait_until_ready(120)
    house.alice = house.gitlab.sign_in("alice")
    assert searched(house) == before
    assert house.gitlab.sql(INDEXES) == indexes


def searched(house: House) -> list[list[str]]:
    return [found(house.alice, house.seed.team, words) for words in ("needle", "staging")]
