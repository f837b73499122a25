"""Check a loaded database: references, uploads, indexes and sequences.

Tables are found as Mattermost finds them, by the search_path of its sessions.
"""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import checks
from ..checks import Check
from ..postgresql import connection, unkept
from ..postgresql.connection import COMPARED
from ..system import parallel

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

    Session = psycopg.Connection[Any]

_EXAMPLES = 3  # in a detail


@dataclass(frozen=True)
class Reference:
    """A column with the id of a row in another table; it may be empty."""

    table: str
    column: str
    target: str


# From Mattermost's own integrity check (store/sqlstore/integrity.go, 5.37), those that every version
# since 4.2 has.
REFERENCES = (
    Reference("posts", "channelid", "channels"),
    Reference("posts", "userid", "users"),
    Reference("posts", "rootid", "posts"),
    Reference("channels", "teamid", "teams"),
    Reference("channelmembers", "channelid", "channels"),
    Reference("channelmembers", "userid", "users"),
    Reference("teammembers", "teamid", "teams"),
    Reference("teammembers", "userid", "users"),
    Reference("fileinfo", "postid", "posts"),
    Reference("reactions", "postid", "posts"),
    Reference("sessions", "userid", "users"),
)


@dataclass(frozen=True)
class Uploads:
    """The uploads of a set as (path below the data directory, bytes); None for the reason ``untold``."""

    archived: Iterable[tuple[bytes, int]] | None
    untold: str = ""


def run_checks(
    sessions: Sequence[Session], uploads: Uploads, without: Sequence[str]
) -> list[Check]:
    """Return every check of the database; ``without`` are the indexes that were not built.

    Slow queries run in all ``sessions`` in parallel.
    """
    looks: dict[str, Callable[[Session], Check]] = {
        "references": lambda _: _references(sessions),
        "uploads": lambda session: _uploads(session, uploads),
        "previews": lambda session: _previews(session, uploads),
        "indexes": lambda session: _indexes(session, without),
        "sequences": _sequences,
    }
    return [_looked(sessions[0], name, look) for name, look in looks.items()]


def _looked(session: Session, name: str, look: Callable[[Session], Check]) -> Check:
    """Return the check from ``look``; a database error becomes a failed check."""
    import psycopg

    try:
        return look(session)
    except psycopg.Error as error:
        return checks.failed(name, str(error).strip())


def _references(sessions: Sequence[Session]) -> Check:
    known = _columns(sessions[0])
    present = [
        reference
        for reference in REFERENCES
        if {(reference.table, reference.column), (reference.target, "id")} <= known
    ]
    waiting, problems = collections.deque(present), dict[Reference, str]()

    def ask(session: Session) -> None:
        with contextlib.suppress(IndexError):  # until the queue is empty
            while True:
                reference = waiting.popleft()
                problems[reference] = _dangling(session, reference)

    asking = [functools.partial(ask, session) for session in sessions]
    parallel.run_all(*asking, cancel=lambda: connection.cancel(*sessions))
    lines = [problems[reference] for reference in present if problems[reference]]
    if lines:
        return checks.failed("references", "; ".join(lines))
    return checks.passed("references", f"{len(present)} kinds of references lead to a row")


def _dangling(session: Session, reference: Reference) -> str:
    """Return, in words, how many rows refer to a missing row; "" for none."""
    from psycopg import sql

    query = sql.SQL(
        "SELECT count(*), (array_agg({column}))[1] FROM {table} a WHERE coalesce({column}, '')"
        " <> '' AND NOT EXISTS (SELECT 1 FROM {target} b WHERE b.id = a.{column})"
    )
    names = {key: sql.Identifier(getattr(reference, key)) for key in ("table", "column", "target")}
    count, example = _row(session, query.format(**names))
    if not count:
        return ""
    return (
        f"{count} in {reference.table} name {reference.target} that are not there by {reference.column}, "
        f"such as {example!r}"
    )


def _columns(session: Session) -> set[tuple[str, str]]:
    query = (
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = ANY (current_schemas(false))"
    )
    return {(row[0], row[1]) for row in session.execute(query)}


def _note_uploads(session: Session, archived: Iterable[tuple[bytes, int]]) -> None:
    # File names are bytes, possibly in another encoding than the database.
    session.execute("CREATE TEMPORARY TABLE archived (path bytea NOT NULL, size bigint NOT NULL)")
    with session.cursor().copy("COPY pg_temp.archived (path, size) FROM STDIN") as copy:
        for row in archived:
            copy.write_row(row)
    session.execute("CREATE INDEX ON pg_temp.archived (path)")
    session.execute("ANALYZE pg_temp.archived")


def _uploads(session: Session, uploads: Uploads) -> Check:
    """Compare every upload that is not deleted, and its size, with the archive."""
    if uploads.archived is None:
        return checks.not_run("uploads", uploads.untold)
    _note_uploads(session, uploads.archived)
    rows = session.execute(
        "SELECT f.path, f.size, a.size FROM fileinfo f LEFT JOIN pg_temp.archived a"
        f" ON a.path = convert_to(f.path, {COMPARED})"
        " WHERE f.deleteat = 0 AND a.size IS DISTINCT FROM f.size ORDER BY 1"
    ).fetchall()
    (count,) = _row(session, "SELECT count(*) FROM fileinfo WHERE deleteat = 0")
    if rows:
        named = [
            f"{path!r} is missing" if size is None else f"{path!r} has {size} bytes, not {wanted}"
            for path, wanted, size in rows[:_EXAMPLES]
        ]
        missing = sum(size is None for _, _, size in rows)
        words = f"{missing} of {count} are missing, {len(rows) - missing} have another size"
        return checks.failed("uploads", f"{words}: {'; '.join(named)}")
    return checks.passed("uploads", f"{count} in the archive with their sizes")


def _previews(session: Session, uploads: Uploads) -> Check:
    """Check thumbnails and previews; missing ones are no failure, as images open without them."""
    if uploads.archived is None:
        return checks.not_run("previews", uploads.untold)
    wanted, missing = _row(
        session,
        "SELECT count(*), count(*) FILTER (WHERE NOT EXISTS"
        f" (SELECT 1 FROM pg_temp.archived a WHERE a.path = convert_to(p.path, {COMPARED}))) FROM"
        " (SELECT unnest(ARRAY[thumbnailpath, previewpath]) AS path FROM fileinfo"
        " WHERE deleteat = 0) p WHERE p.path <> ''",
    )
    text = f"{missing} of {wanted} are missing; the images themselves are looked at as uploads"
    return checks.passed("previews", text if missing else f"{wanted} in the archive")


def _indexes(session: Session, without: Sequence[str]) -> Check:
    rows = session.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready)"
    ).fetchall()
    if rows:
        return checks.failed("indexes", f"not valid: {', '.join(row[0] for row in rows)}")
    (count,) = _row(
        session,
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false))",
    )
    left = f"; {len(without)} of the search left out (--full builds them)" if without else ""
    return checks.passed("indexes", f"{count} are valid{left}")


def _sequences(session: Session) -> Check:
    """Check that no sequence returns a number that its column already has."""
    found = unkept.sequences_behind(session)
    behind = [sequence.rpartition(".")[2] for sequence, is_behind in found.items() if is_behind]
    if behind:
        return checks.failed("sequences", f"behind their column: {', '.join(behind)}")
    text = f"{len(found)} in step with their columns" if found else "the database has none"
    return checks.passed("sequences", text)


def _row(session: Session, query: str | Composed) -> Sequence[Any]:
    row = session.execute(query).fetchone()
    assert row is not None
    return tuple(row)
