"""The passes in which a dump is loaded: everything once, nothing before what it waits for."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.dump_list import DumpList, Passes, plan
from gitlab_mm_backup.index import Index

ROWS = {"public.posts": 1000, "public.users": 50, "public.reactions": 200, "public.teams": 3}
FIRST = ["; a remark\n", "1; 1259 1 TABLE public posts mm\n", "2; 0 1 TABLE DATA public posts mm\n"]
FOREIGN_KEY = "90; 2606 90 FK CONSTRAINT public reactions reactions_post_fkey mm\n"
TRIGGER = "91; 2620 91 TRIGGER public posts posts_changed mm\n"
POSTS_KEY = "10; 2606 10 CONSTRAINT public posts posts_pkey mm\n"
TEAMS_KEY = "11; 2606 11 CONSTRAINT public teams teams_pkey mm\n"
REACTIONS_KEY = "12; 2606 12 CONSTRAINT public reactions reactions_pkey mm\n"
SEARCH = "20; 1259 20 INDEX public idx_posts_message_txt mm\n"


def index(table: str, name: str, how: str = "btree (id)") -> Index:
    return Index("public", name, table, f"CREATE INDEX {name} ON public.{table} USING {how}")


def line(number: int, name: str) -> str:
    return f"{number}; 1259 {number} INDEX public {name} mm\n"


INDEXES = {
    one.full_name: one
    for one in (
        index("posts", "idx_posts_message_txt", "gin (to_tsvector('english'::regconfig, message))"),
        index("posts", "idx_posts_create_at"),
        index("posts", "idx_posts_user_id"),
        index("reactions", "idx_reactions_channel_id"),
    )
}
OTHERS = [
    line(21, "idx_posts_create_at"),
    line(22, "idx_posts_user_id"),
    line(23, "idx_reactions_channel_id"),
]
AFTER = [POSTS_KEY, TEAMS_KEY, REACTIONS_KEY, SEARCH, *OTHERS, FOREIGN_KEY, TRIGGER]
CONTENTS = DumpList(FIRST, AFTER, INDEXES)


def groups(passes: Passes) -> list[list[str]]:
    return [list(group) for group in passes.side_by_side]


def test_the_search_has_a_session_of_its_own_and_its_table_no_other_lock() -> None:
    passes = plan(CONTENTS, ROWS, 2)
    search, rest = groups(passes)
    assert passes.first == FIRST
    assert search == [SEARCH]
    assert set(rest) == {TEAMS_KEY, REACTIONS_KEY, *OTHERS}
    assert list(passes.last) == [POSTS_KEY, FOREIGN_KEY, TRIGGER]


def test_without_the_search_keys_are_made_beside_too() -> None:
    passes = plan(CONTENTS, ROWS, 2, ["public.idx_posts_message_txt"])
    assert sorted(chain(*groups(passes))) == sorted([POSTS_KEY, TEAMS_KEY, REACTIONS_KEY, *OTHERS])
    assert list(passes.last) == [FOREIGN_KEY, TRIGGER]
    heavy = next(group for group in groups(passes) if POSTS_KEY in group)
    assert heavy[0] == POSTS_KEY, "it shuts out all other work on its table: first of its session"


def test_a_single_session_does_one_after_the_other() -> None:
    search, rest = groups(plan(CONTENTS, ROWS, 1))
    assert (search, len(rest)) == ([SEARCH], 5)


def test_what_the_list_does_not_explain_comes_last_in_its_order() -> None:
    odd = ["30; 1259 30 INDEX public odd name mm\n", "31; 0 31 STATISTICS public odd mm\n"]
    passes = plan(DumpList(FIRST, [*odd, *AFTER], INDEXES), ROWS, 2)
    assert list(passes.last) == [*odd, POSTS_KEY, FOREIGN_KEY, TRIGGER]


VIEWS = [f"{n}; 0 {n} MATERIALIZED VIEW DATA public v{n} mm\n" for n in (41, 40)]


def test_views_are_filled_beside_the_indexes_in_their_order() -> None:
    passes = plan(
        DumpList(FIRST, [*AFTER, *VIEWS], INDEXES), ROWS, 2, ["public.idx_posts_message_txt"]
    )
    heavy, light = groups(passes)
    assert light[-2:] == VIEWS
    assert sum(ROWS.get(one, 0) for one in light) <= sum(ROWS.get(one, 0) for one in heavy)
    assert list(passes.last) == [FOREIGN_KEY, TRIGGER]


def test_a_view_that_needs_a_primary_key_waits_for_it() -> None:
    late = ["42; 1259 42 MATERIALIZED VIEW public v40 mm\n", *VIEWS]
    passes = plan(DumpList(FIRST, [*AFTER, *late], INDEXES), ROWS, 2)
    assert list(passes.last) == [POSTS_KEY, FOREIGN_KEY, TRIGGER, *late]


@given(
    st.lists(st.sampled_from(AFTER), unique=True),
    st.dictionaries(st.sampled_from(sorted(ROWS)), st.integers(0, 10**9)),
    st.integers(1, 9),
    st.lists(st.sampled_from(sorted(INDEXES)), unique=True),
)
def test_every_line_is_loaded_once(
    after: list[str], rows: dict[str, int], sessions: int, without: list[str]
) -> None:
    passes = plan(DumpList(FIRST, after, INDEXES), rows, sessions, without)
    left_out = [one for one in after if any(name.split(".")[1] in one for name in without)]
    loaded = [*chain(*groups(passes)), *passes.last]
    assert sorted(loaded) == sorted(set(after) - set(left_out))
    assert all(groups(passes))
    assert len(groups(passes)) <= max(sessions, 2)
