"""Rows of a set in temporary tables of the live database, beside the tables that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from ..errors import Failure
from ..postgresql import contents
from ..postgresql.contents import ask, named
from ..system import humanize
from .owned_rows import CHANNEL, HOMES, KINDS, OwnedTable

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    Session = psycopg.Connection[Any]

_PIECE = 1 << 20  # bytes
# Columns with the name of a channel, and with the team that it is in.
_PLACES = {
    **dict.fromkeys(("channels", "publicchannels"), ("name", "teamid")),
    **dict.fromkeys(("incomingwebhooks", "outgoingwebhooks"), ("teamid",)),
    "threads": ("threadteamid",),
}
_THINGS = "CREATE TEMP TABLE gitlab_mm_things (id text PRIMARY KEY, marked bigint) ON COMMIT DROP"

#: Which of the ids of a kind a set has.
Had = Callable[[Mapping[str, Collection[str]]], Mapping[str, Collection[str]]]


@dataclass(frozen=True)
class DumpedRows:
    """Rows of a table as the dump of a set has them: COPY's text, in the encoding of the set."""

    table: OwnedTable
    columns: Sequence[str]
    file: IO[bytes]
    rows: int


@dataclass(frozen=True)
class Wanted:
    """A thing to bring back, and its rows."""

    kind: str
    id: str
    staged: Sequence[DumpedRows]
    encoding: str  # PostgreSQL's name of it
    place: Mapping[str, str] = field(default_factory=dict)  # columns of a channel with a new place


@dataclass(frozen=True)
class StagedTable:
    """A table of the live database, with the rows of the set in a temporary one beside it."""

    owned: OwnedTable
    columns: Sequence[str]  # common to both

    @property
    def name(self) -> str:
        return self.owned.name

    @property
    def mark(self) -> str:
        return self.owned.mark if self.owned.mark in self.columns else ""


def stage(session: Session, wanted: Wanted) -> tuple[list[StagedTable], list[str]]:
    """Copy the rows of the set into temporary tables, in the order in which they are inserted.

    Returns the tables, and what stays out because the live database has no place for it, as text.
    Raises Failure where rows do not fit.
    """
    session.execute(_THINGS)
    problems: list[str] = []
    tables = []
    for rows in wanted.staged:
        table, problem = _stage(session, rows, wanted.encoding)
        tables += [table] if table else []
        problems += [problem] if problem else []
    if wanted.place:
        _move(session, tables, wanted.place)
    if wanted.kind == CHANNEL:
        problems += _leave_strangers_out(session, {table.name for table in tables}, wanted.id)
    return tables, problems


def staging(table: str) -> sql.Composable:
    """Return the name of the temporary table with the set's rows of ``table``."""
    return named(f"gitlab_mm_{table}")


def _stage(session: Session, rows: DumpedRows, encoding: str) -> tuple[StagedTable | None, str]:
    """Copy rows of the set into a temporary table; the text says what has no place."""
    name, problem = rows.table.name, ""
    live = contents.columns(session, name)
    unknown = [column for column in rows.columns if column not in live]
    if not live or any(column in unknown for column in rows.table.key):
        count = humanize.number(rows.rows, "row")
        return None, f"{name}: {count} left out: the live server has no such table"
    if unknown:
        shown = humanize.plain(", ".join(unknown))
        problem = f"{name}: the live server has no column {shown}; its values are left out"
    ask(
        session,
        "CREATE TEMP TABLE {own} (LIKE {live} INCLUDING DEFAULTS) ON COMMIT DROP",
        own=staging(name),
        live=named(name),
    )
    for column in unknown:
        parts = {"own": staging(name), "column": named(column)}
        ask(session, "ALTER TABLE {own} ADD COLUMN {column} text", **parts)
    _copy(session, rows, encoding)
    ask(session, "ANALYZE {own}", own=staging(name))
    common = [column for column in live if column in rows.columns]
    return StagedTable(rows.table, common), problem


def _copy(session: Session, rows: DumpedRows, encoding: str) -> None:
    """Copy the rows as the dump has them, so that no value changes its form."""
    import psycopg
    from psycopg import sql

    own = session.info.parameter_status("client_encoding") or "UTF8"
    copying = sql.SQL("COPY {} ({}) FROM STDIN").format(
        staging(rows.table.name), named(*rows.columns)
    )
    statement = copying.as_bytes(session)
    try:
        _encode(session, encoding)
        with session.cursor().copy(statement) as copy:
            rows.file.seek(0)
            while piece := rows.file.read(_PIECE):
                copy.write(piece)
        _encode(session, own)
    except psycopg.DataError as error:
        raise Failure(
            "Rows of the set do not fit the live database",
            f"table {rows.table.name}: {error.diag.message_primary}",
            "gitlab-mm extract takes files and messages out of this set.",
        ) from None


def _encode(session: Session, encoding: str) -> None:
    session.execute("SELECT set_config('client_encoding', %s, true)", [encoding])


def _move(session: Session, tables: Sequence[StagedTable], place: Mapping[str, str]) -> None:
    """Give a channel its new name and team, in all tables that have these."""
    for table in tables:
        for column in _PLACES.get(table.name, ()):
            if column in table.columns:
                value = place["name" if column == "name" else "teamid"]
                parts = {"own": staging(table.name), "column": named(column)}
                ask(session, "UPDATE {own} SET {column} = %s WHERE {column} <> ''", value, **parts)


def same_key(table: OwnedTable, left: str, right: str) -> sql.Composable:
    """Return the condition that two rows are the same one."""
    from psycopg import sql

    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(left, column), sql.Identifier(right, column))
        for column in table.key
    ]
    return sql.SQL(" AND ").join(pairs)


def aliased(alias: str, columns: Iterable[str]) -> sql.Composable:
    """Return the columns of a table's alias in a statement."""
    from psycopg import sql

    return sql.SQL(", ").join(sql.Identifier(alias, column) for column in columns)


def _leave_strangers_out(session: Session, tables: Collection[str], channel: str) -> list[str]:
    """Remove what only members have from people who are not in the channel's team now.

    Returns how many rows, as text. Mattermost has none such: who leaves a team leaves its channels,
    and follows no thread there any more. In another team than before, no member has the
    channel in a category either.
    """
    if "channels" not in tables:
        return []
    said = []
    for name in ("channelmembers", "threadmemberships"):
        if name not in tables:
            continue
        strangers = ask(
            session,
            "WITH gone AS (DELETE FROM {own} m USING gitlab_mm_channels c"
            " WHERE c.id = %s AND c.teamid <> '' AND NOT EXISTS (SELECT 1 FROM teammembers t WHERE"
            " t.teamid = c.teamid AND t.userid = m.userid AND t.deleteat = 0)"
            " AND NOT EXISTS (SELECT 1 FROM channels l WHERE l.id = c.id)"
            " AND EXISTS (SELECT 1 FROM users u WHERE u.id = m.userid)"
            " AND EXISTS (SELECT 1 FROM teams e WHERE e.id = c.teamid)"
            " RETURNING 1) SELECT count(*) FROM gone",
            channel,
            own=staging(name),
        )[0][0]
        if strangers:
            rows = humanize.number(strangers, "row")
            said.append(f"{name}: {rows} left out: not in its team now")
    if "sidebarchannels" in tables:
        ask(
            session,
            "DELETE FROM gitlab_mm_sidebarchannels s WHERE EXISTS (SELECT 1 FROM sidebarcategories g,"
            " gitlab_mm_channels c WHERE g.id = s.categoryid AND c.id = %s AND c.teamid <> ''"
            " AND g.teamid <> c.teamid)",
            channel,
        )
    return said


@dataclass
class _Gone:
    """Things that the set has, and the live database does not."""

    had: Had
    ids: dict[str, set[str]] = field(default_factory=dict)  # kind -> ids
    counts: dict[tuple[str, str], int] = field(default_factory=dict)  # table, kind -> rows

    def among(self, dangling: Sequence[tuple[StagedTable, str, str, set[str]]]) -> None:
        """Note which of the things that rows refer to the set has."""
        asked: dict[str, set[str]] = {}
        for _, _, kind, ids in dangling:
            asked.setdefault(kind, set()).update(ids - self.ids.get(kind, set()))
        for kind, found in self.had(asked).items():
            self.ids.setdefault(kind, set()).update(found)

    @property
    def said(self) -> list[str]:
        """The rows that stay out, as text."""
        found = []
        for (name, kind), count in sorted(self.counts.items()):
            way = f"; first bring it back: recover --{kind}" if kind in KINDS else ""
            found.append(
                f"{name}: {humanize.number(count, 'row')} left out: the {kind} is gone{way}"
            )
        return found


def leave_out(
    session: Session, tables: Sequence[StagedTable], wanted: Wanted, had: Had
) -> list[str]:
    """Remove rows that refer to things that are gone, although ``had`` says that the set has them.

    Returns how many of which, as text. Raises Failure where the thing itself is among them.
    """
    there, gone, removed = {table.name for table in tables}, _Gone(had), 1
    while removed:  # a reply goes with its thread
        dangling = [
            (table, column, kind, ids)
            for table in tables
            for column, kind in table.owned.needed.items()
            if column in table.columns and (ids := _dangling(session, table, column, kind, there))
        ]
        gone.among(dangling)
        removed = 0
        for table, column, kind, ids in dangling:
            missing = sorted(ids & gone.ids.get(kind, set()))
            count = _drop(session, table, column, missing) if missing else 0
            if count:
                _refuse_without(session, table, wanted, kind, missing)
                place = (table.name, kind)
                gone.counts[place] = gone.counts.get(place, 0) + count
            removed += count
    return gone.said


def _dangling(
    session: Session, table: StagedTable, column: str, kind: str, there: Collection[str]
) -> set[str]:
    """Return the ids in ``column`` that neither a live row nor a staged one has."""
    home, text = HOMES[kind], "SELECT DISTINCT s.{column}::text FROM {own} s WHERE s.{column} <> ''"
    text += " AND NOT EXISTS (SELECT 1 FROM {live} l WHERE {same})"
    if contents.columns(session, home):
        text += " AND NOT EXISTS (SELECT 1 FROM {home} h WHERE h.id = s.{column})"
    if home in there:
        text += " AND NOT EXISTS (SELECT 1 FROM {staged} h WHERE h.id = s.{column})"
    rows = ask(
        session,
        text,
        column=named(column),
        own=staging(table.name),
        live=named(table.name),
        same=same_key(table.owned, "l", "s"),
        home=named(home),
        staged=staging(home),
    )
    return {row[0] for row in rows}


def _drop(session: Session, table: StagedTable, column: str, ids: Sequence[str]) -> int:
    text = (
        "WITH gone AS (DELETE FROM {own} s WHERE s.{column}::text = ANY(%s::text[]) AND NOT EXISTS"
        " (SELECT 1 FROM {live} l WHERE {same}) RETURNING 1) SELECT count(*) FROM gone"
    )
    parts = {"own": staging(table.name), "live": named(table.name), "column": named(column)}
    rows = ask(session, text, list(ids), same=same_key(table.owned, "l", "s"), **parts)
    return int(rows[0][0])


def _refuse_without(
    session: Session, table: StagedTable, wanted: Wanted, kind: str, missing: Sequence[str]
) -> None:
    """Raise Failure where the row of the thing itself was left out."""
    if table.owned.kind != wanted.kind:
        return
    if ask(session, "SELECT 1 FROM {own} WHERE id = %s", wanted.id, own=staging(table.name)):
        return
    elsewhere = "; or give it another team: --as TEAM/NEW-CHANNEL" * (wanted.kind == CHANNEL)
    raise Failure(
        f"The {kind} of this {wanted.kind} is gone",
        f"its id was {humanize.plain(missing[0])}; nothing was changed",
        f"First bring it back: gitlab-mm recover SET --{kind} {humanize.plain(missing[0])}{elsewhere}.",
    )
