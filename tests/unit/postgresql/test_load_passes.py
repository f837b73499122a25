"""The passes in which a dump is loaded: everything once, nothing before what it waits for."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.postgresql.dump_contents import DumpList, Index, Key
from gitlab_mm_backup.postgresql.load import Passes, plan_passes

ROWS = {"public.posts": 1000, "public.users": 50, "public.reactions": 200, "public.teams": 3}
FIRST = [
    "; a remark\n",
    "1; 1259 1 TABLE public posts mm\n",
    "2; 1259 2 TABLE public users mm\n",
    "3; 0 3 TABLE DATA public bots mm\n",
    "4; 0 1 TABLE DATA public posts mm\n",
]
REST = ["5; 0 2 TABLE DATA public users mm\n", "6; 0 4 SEQUENCE SET public odd_id_seq mm\n"]
FOREIGN_KEY = "90; 2606 90 FK CONSTRAINT public reactions reactions_post_fkey mm\n"
TRIGGER = "91; 2620 91 TRIGGER public posts posts_changed mm\n"
POSTS_KEY = "10; 2606 10 CONSTRAINT public posts posts_pkey mm\n"
TEAMS_KEY = "11; 2606 11 CONSTRAINT public teams teams_pkey mm\n"
REACTIONS_KEY = "12; 2606 12 CONSTRAINT public reactions reactions_pkey mm\n"
SEARCH = "20; 1259 20 INDEX public idx_posts_message_txt mm\n"
TAGS = "19; 1259 19 INDEX public idx_posts_hashtags_txt mm\n"
NAMES = "18; 1259 18 INDEX public idx_users_names_txt mm\n"
SEARCHES = {
    "idx_posts_message_txt": "posts",
    "idx_posts_hashtags_txt": "posts",
    "idx_users_names_txt": "users",
}
WITHOUT_SEARCH = [f"public.{name}" for name in SEARCHES]


def index(table: str, name: str, how: str = "btree (id)") -> Index:
    return Index("public", name, table, f"CREATE INDEX {name} ON public.{table} USING {how}")


def line(number: int, name: str) -> str:
    return f"{number}; 1259 {number} INDEX public {name} mm\n"


INDEXES = {
    index_.full_name: index_
    for index_ in (
        *(
            index(table, name, "gin (to_tsvector('english'::regconfig, x))")
            for name, table in SEARCHES.items()
        ),
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
KEYS = {
    f"public.{table}_pkey": Key("public", f"{table}_pkey", table, "PRIMARY KEY", "id")
    for table in ("posts", "teams", "reactions")
}
USERS_KEY = "13; 2606 13 CONSTRAINT public users users_odd_key mm\n"
AFTER = [
    *(NAMES, TAGS, POSTS_KEY, TEAMS_KEY, REACTIONS_KEY, USERS_KEY, SEARCH),
    *(*OTHERS, FOREIGN_KEY, TRIGGER),
]
CONTENTS = DumpList([*FIRST, *REST], AFTER, INDEXES, KEYS)


def groups(passes: Passes) -> list[list[str]]:
    return [list(group) for group in passes.beside]


def test_the_long_searches_wait_for_their_own_rows_and_lock_nobody_out() -> None:
    passes = plan_passes(CONTENTS, ROWS, 2)
    *rest, names = groups(passes)
    assert (passes.first, passes.rows) == (FIRST, REST)
    assert (passes.long, names) == ([TAGS, SEARCH], [NAMES])
    assert {*chain(*rest)} == {TEAMS_KEY, REACTIONS_KEY, *OTHERS}
    assert passes.keys == [KEYS["public.posts_pkey"]]
    assert list(passes.last) == [USERS_KEY, FOREIGN_KEY, TRIGGER], "a key that is not plain waits"


def test_without_the_search_only_the_largest_table_is_not_locked() -> None:
    passes = plan_passes(CONTENTS, ROWS, 2, WITHOUT_SEARCH)
    assert (passes.first, passes.long, passes.rows) == ([*FIRST, *REST], [], [])
    assert passes.keys == [KEYS["public.posts_pkey"]]
    keys = [TEAMS_KEY, REACTIONS_KEY, USERS_KEY]
    assert sorted(chain(*groups(passes))) == sorted([*keys, *OTHERS])
    assert list(passes.last) == [FOREIGN_KEY, TRIGGER]


def test_a_key_is_the_first_of_its_session_for_it_shuts_out_all_other_work_on_its_table() -> None:
    for group in groups(plan_passes(DumpList(FIRST, AFTER, INDEXES, {}), ROWS, 1, WITHOUT_SEARCH)):
        kinds = ["CONSTRAINT" in line for line in group]
        assert kinds == sorted(kinds, reverse=True)


def test_all_tables_of_long_searches_are_filled_first() -> None:
    passes = plan_passes(CONTENTS, {}, 2)
    assert (passes.first, passes.rows) == ([*FIRST, REST[0]], [REST[1]])
    assert passes.long == [NAMES, TAGS, SEARCH]


def test_what_the_list_does_not_explain_comes_last_in_its_order() -> None:
    odd = ["30; 1259 30 INDEX public odd name mm\n", "31; 0 31 STATISTICS public odd mm\n"]
    passes = plan_passes(DumpList([*FIRST, *REST], [*odd, *AFTER], INDEXES, KEYS), ROWS, 2)
    assert list(passes.last) == [*odd, USERS_KEY, FOREIGN_KEY, TRIGGER]


VIEWS = [f"{n}; 0 {n} MATERIALIZED VIEW DATA public v{n} mm\n" for n in (41, 40)]


def test_views_are_filled_beside_the_indexes_in_their_order() -> None:
    passes = plan_passes(
        DumpList([*FIRST, *REST], [*AFTER, *VIEWS], INDEXES, KEYS), ROWS, 2, WITHOUT_SEARCH
    )
    assert groups(passes)[0] == VIEWS, "they take about as long as a large index"
    assert list(passes.last) == [FOREIGN_KEY, TRIGGER]


def test_a_view_that_needs_a_primary_key_waits_for_it() -> None:
    late = ["42; 1259 42 MATERIALIZED VIEW public v40 mm\n", *VIEWS]
    passes = plan_passes(DumpList([*FIRST, *REST], [*AFTER, *late], INDEXES, KEYS), ROWS, 2)
    assert list(passes.last) == [USERS_KEY, FOREIGN_KEY, TRIGGER, *late]


@given(
    st.lists(st.sampled_from(AFTER), unique=True),
    st.dictionaries(st.sampled_from(sorted(ROWS)), st.integers(0, 10**9)),
    st.integers(1, 9),
    st.lists(st.sampled_from(sorted(INDEXES)), unique=True),
)
def test_every_line_is_loaded_once(
    after: list[str], rows: dict[str, int], sessions: int, without: list[str]
) -> None:
    passes = plan_passes(DumpList([*FIRST, *REST], after, INDEXES, KEYS), rows, sessions, without)
    left_out = [line for line in after if any(name.split(".")[1] in line for name in without)]
    keys = [line for line in after if any(f" {key.name} " in line for key in passes.keys)]
    loaded = [*passes.long, *chain(*groups(passes)), *keys, *passes.last]
    assert [*passes.first, *passes.rows] == [*FIRST, *REST]
    assert sorted(loaded) == sorted(set(after) - set(left_out))
    assert len(keys) == len(passes.keys)
    assert all(groups(passes))
