"""How many indexes are built: counted from what pg_restore says, and only where somebody looks."""

from __future__ import annotations

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.postgresql.index_builds import IndexBuilds, counted
from gitlab_mm_backup.postgresql.load import Passes
from gitlab_mm_backup.system import progress
from gitlab_mm_backup.system.progress import Unit
from tests.unit.postgresql.test_load import KEY
from tests.unit.system.test_progress import Edge

LINES = [
    "20; 1259 20 INDEX public idx_posts_message_txt mm\n",
    "10; 2606 10 CONSTRAINT public posts posts_pkey mm\n",
    "90; 2606 90 FK CONSTRAINT public reactions reactions_post_fkey mm\n",
    "4; 0 1 TABLE DATA public posts mm\n",
]
SAID = (
    b"pg_restore: connecting to database for restore\n"
    b'pg_restore: creating INDEX "public.idx_posts_message_txt"\n'
    b'pg_restore: creating CONSTRAINT "public.posts posts_pkey"\n'
)
WRONG = (
    "pg_restore: while PROCESSING TOC:\n"
    "pg_restore: from TOC entry 10; 2606 10 CONSTRAINT posts posts_pkey mm\n"
    "pg_restore: error: could not execute query: ERROR:  could not create unique index\n"
    "DETAIL:  Key (id)=(x) is duplicated.\n"
)


class Screen(Edge):
    """Shows nothing, and tells what it would."""

    def shown(self) -> list[tuple[str, int | None, int | None, Unit]]:
        return [(bar.what, bar.total, bar.done and bar.done(), bar.unit) for bar in self.bars]


def test_only_lines_that_build_an_index_count() -> None:
    assert counted(LINES) == 2
    passes = Passes([LINES[3]], [LINES[0]], [], [LINES[:1], LINES[1:3]], [KEY, KEY], [LINES[1]])
    assert passes.indexes == 6


def test_the_one_that_is_being_built_is_not_done() -> None:
    edge, builds = Screen(), IndexBuilds()
    with progress.shown_by(edge.start), builds.shown(5):
        assert edge.shown() == [("indexes", 5, 0, Unit.THINGS)]
        with builds.heard(LINES) as first, builds.heard(LINES[:1]) as second:
            assert first is not None and second is not None
            for said, done in ((SAID[:60], 0), (SAID[60:], 1)):
                first.write(said)
                first.flush()
                assert builds.done() == done
            second.write(SAID[:110])
            second.flush()
            assert builds.done() == 1
        assert builds.done() == 3
        builds.add(2)
        assert edge.shown() == [("indexes", 5, 5, Unit.THINGS)]
    assert edge.bars[0].ended


def test_what_builds_none_and_where_nobody_looks_is_not_listened_to() -> None:
    builds = IndexBuilds()
    with builds.shown(2), builds.heard(LINES) as said:
        assert said is None
    with progress.shown_by(Screen().start), builds.heard(LINES[2:]) as said:
        assert said is None
    with builds.shown(0):
        pass


@pytest.mark.parametrize("before", [SAID.decode(), SAID.decode()[11:], ""])
def test_a_failure_has_no_word_of_what_was_created_before(before: str) -> None:
    with (
        progress.shown_by(Screen().start),
        pytest.raises(Failure) as caught,
        IndexBuilds().heard(LINES),
    ):
        raise Failure("pg_restore failed with exit code 1", before + WRONG)
    assert caught.value.detail == WRONG.rstrip("\n")


def test_words_of_another_program_stay() -> None:
    with (
        progress.shown_by(Screen().start),
        pytest.raises(Failure) as caught,
        IndexBuilds().heard(LINES),
    ):
        raise Failure("zstd failed with exit code 1", "zstd: unexpected end of file")
    assert caught.value.detail == "zstd: unexpected end of file"
