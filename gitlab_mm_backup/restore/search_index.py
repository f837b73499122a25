"""The search indexes: built after a restore, while Mattermost runs."""

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
from ..system import progress, signals
from ..system.progress import Unit

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

# For larger databases Mattermost starts before the search indexes are built: they take half a
# minute or longer (docs/performance.md).
_LARGE = 1 << 30  # bytes


@dataclass(frozen=True)
class IndexResult:
    """The result of building the postponed indexes."""

    indexes: list[str]  # schema.name, built now
    seconds: float
    problems: list[str]  # in words; what is not built stays noted for the next run


def waits(wish: str, manifest: Manifest) -> bool:
    """Tell whether a restore postpones the search indexes, by the plan's ``wish``."""
    large = wish == "auto" and manifest.database.bytes > _LARGE
    return (wish == "later" or large) and load.bears_no_search(manifest)


def note(left_out: Sequence[Index], journal: Journal) -> None:
    """Record the indexes to build, before the restore is final.

    Indexes postponed by an earlier restore stay recorded until ``settle``: after a rollback of
    this one they are needed again.
    """
    earlier = [index for index in journal.later() if index not in left_out]
    journal.keep_later([*left_out, *earlier])


def settle(left_out: Sequence[Index], journal: Journal) -> None:
    """Forget the indexes of an earlier restore: its database is no longer live."""
    journal.keep_later(left_out)


def build(site: Site, journal: Journal) -> IndexResult | None:
    """Build the recorded indexes without blocking other sessions; None where there are none.

    Indexes that cannot be built are reported and stay recorded for the next run.
    """
    wanted = journal.later()
    if not wanted:
        return None
    log.info("Building the search indexes while Mattermost runs")
    began, built, problems = time.monotonic(), list[str](), list[str]()
    try:
        # A killed run may have left a session that still builds one, which would block this one.
        swap.end_our_sessions(site.database)
        with connection.within(site.database) as session:
            connection.as_stored(session)
            with progress.of("indexes", len(wanted), Unit.THINGS) as advance:
                while wanted:
                    if _build(session, wanted[0]):
                        built.append(wanted[0].full_name)
                    wanted = wanted[1:]
                    journal.keep_later(wanted)
                    advance(1)
    except Failure as failure:
        problems.append(_unfinished(wanted, str(failure)))
    return IndexResult(built, round(time.monotonic() - began, 3), problems)


def build_pending(site: Site) -> list[str]:
    """Build the indexes of an earlier restore, before a backup; return problems as text."""
    built = build(site, Journal()) if site.missing is None else None
    return built.problems if built else []


def build_at_last(site: Site, journal: Journal) -> IndexResult | None:
    """Do the same at the end of a complete restore: a signal interrupts only the building."""
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
    """Build one index as the dump defines it; False where it exists, or its table does not.

    CONCURRENTLY, so that nothing is blocked; an interrupted build leaves an invalid index, which
    is dropped first (PostgreSQL manual, CREATE INDEX).
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
    """Execute a statement of the dump; on an interruption, cancel it in the server too."""
    try:
        session.execute(statement.encode(errors="surrogateescape"))
    except BaseException:
        connection.cancel(session)
        raise
