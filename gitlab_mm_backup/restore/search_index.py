"""The search's indexes, built after a restore while Mattermost runs again."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Failure, Interrupted
from ..mattermost.journal import Journal
from ..mattermost.site import Site
from ..postgresql import connection, load, swap
from ..postgresql.dump_contents import Index
from ..store.manifest import Manifest
from ..system import signals

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

# Above this size of the database nobody should have to wait for the search before they can talk
# again: its indexes then take up to half a minute, or longer (docs/performance.md).
_LARGE = 1 << 30  # bytes


@dataclass(frozen=True)
class IndexResult:
    """What became of the indexes that were left for later."""

    indexes: list[str]  # schema.name, built now
    seconds: float
    problems: list[str]  # in words; what is not built stays noted for the next run


def waits(wish: str, manifest: Manifest) -> bool:
    """Tell whether a restore leaves the search's indexes for later, by the plan's ``wish``."""
    large = wish == "auto" and manifest.database.bytes > _LARGE
    return (wish == "later" or large) and load.bears_no_search(manifest)


def note(left_out: Sequence[Index], journal: Journal) -> None:
    """Note what is to be built, before the restore is final.

    What an earlier restore left stays noted until ``settle``: if this one is taken back it is
    wanted again.
    """
    earlier = [index for index in journal.later() if index not in left_out]
    journal.keep_later([*left_out, *earlier])


def settle(left_out: Sequence[Index], journal: Journal) -> None:
    """Forget what an earlier restore left: its database is live no more."""
    journal.keep_later(left_out)


def build(site: Site, journal: Journal) -> IndexResult | None:
    """Build what is noted, beside everybody's work; None where nothing is.

    What cannot be built is told, and stays noted for the next run.
    """
    wanted = journal.later()
    if not wanted:
        return None
    log.info("Building the search indexes while Mattermost runs")
    began, built, problems = time.monotonic(), list[str](), list[str]()
    try:
        # A run that was killed may have left one at work, which would be in the way.
        swap.end_our_sessions(site.database)
        with connection.within(site.database) as session:
            connection.as_stored(session)
            while wanted:
                if _build(session, wanted[0]):
                    built.append(wanted[0].full_name)
                wanted = wanted[1:]
                journal.keep_later(wanted)
    except Failure as failure:
        problems.append(_unfinished(wanted, str(failure)))
    return IndexResult(built, round(time.monotonic() - began, 3), problems)


def build_pending(site: Site) -> list[str]:
    """Build what an earlier restore left for later, as a backup does first; return problems."""
    built = build(site, Journal()) if site.missing is None else None
    return built.problems if built else []


def build_at_last(site: Site, journal: Journal) -> IndexResult | None:
    """The same at the end of a restore, which is done: a signal ends the building alone."""
    try:
        with signals.heeded():
            return build(site, journal)
    except Interrupted as interrupted:
        why = f"interrupted by {interrupted.signal_name}"
        return IndexResult([], 0.0, [_unfinished(journal.later(), why)])


def _unfinished(wanted: Sequence[Index], why: str) -> str:
    names = ", ".join(index.name for index in wanted)
    return (
        f"Mattermost's search is slow until its indexes are built ({names}): {why}. The next "
        "backup builds them; to build them now: gitlab-mm restore --continue"
    )


def _build(session: psycopg.Connection[Any], index: Index) -> bool:
    """Build one index as the dump defines it; False where it is there, or its table is not.

    CONCURRENTLY, so that nobody waits for it; one that was cut short stays behind as invalid and
    goes first (PostgreSQL manual, CREATE INDEX).
    """
    row = session.execute(
        "SELECT to_regclass(%s) IS NOT NULL,"
        " (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s))",
        (index.full_table, index.full_name),
    ).fetchone()
    assert row is not None
    there, valid = row
    if valid or not there:
        return False
    if valid is False:
        _execute(session, f"DROP INDEX CONCURRENTLY {index.full_name}")
    _execute(session, f"CREATE INDEX CONCURRENTLY {index.statement[len('CREATE INDEX ') :]}")
    _execute(session, f"ANALYZE {index.full_table}")
    return True


def _execute(session: psycopg.Connection[Any], statement: str) -> None:
    """Execute what the dump says; when we are interrupted, so is the server's work for us."""
    try:
        session.execute(statement.encode(errors="surrogateescape"))
    except BaseException:
        session.cancel()
        raise
