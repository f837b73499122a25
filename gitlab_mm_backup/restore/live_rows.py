"""Rows of a set put into the live database beside what is there, in one transaction.

No live row is overwritten: a missing row is inserted, and one that is only marked as deleted loses
that mark. What Mattermost counts is corrected as Mattermost does it (its post_store.go).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import Failure
from ..mattermost.owned_rows import KINDS, TABLES, Comes
from ..mattermost.staged_rows import StagedTable, Wanted, aliased, same_key, staging
from ..postgresql import contents
from ..postgresql.contents import Change, Key, ask, named
from ..system import humanize, validation
from .undo_log import RecoveryRecord

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    Session = psycopg.Connection[Any]

# Milliseconds between the marks of one deletion: Mattermost takes the time anew for some tables.
_AT_ONCE = 5000
_UPDATED = "updateat"
# Columns that Mattermost derives, or changes without anybody's doing: no sign of a change.
_DERIVED = {
    "channels": (
        "lastpostat",
        "lastrootpostat",
        "totalmsgcount",
        "totalmsgcountroot",
        "extraupdateat",
    ),
    "posts": ("hasreactions",),
    "threads": ("replycount", "lastreplyat", "participants"),
    "users": ("lastlogin", "failedattempts"),
}
# What no two rows may share, and its name for people.
_UNIQUE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "channels": {"name": ("name", "teamid")},
    "teams": {"name": ("name",)},
    "users": {"name": ("username",), "email": ("email",), "GitLab sign-in": ("authdata",)},
}
_DELETER = "deleteBy"  # in the props of a post: who deleted it
_WAYS = {
    "channel": "Give it another one: --as TEAM/NEW-CHANNEL; or rename the other channel.",
    "team": "Rename the other team in Mattermost (mmctl team rename), then try again.",
    "user": "Give the other account another user name or e-mail address, or delete it for good "
    "(mmctl user delete), then try again.",
}


@dataclass
class Recovered:
    """What was done to the live rows."""

    inserted: dict[str, list[Key]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    digests: dict[str, list[Key]] = field(default_factory=dict)  # table -> (id, MD5 of the row)
    uploads: list[tuple[Any, ...]] = field(
        default_factory=list
    )  # size, name and paths, of live rows
    differing: list[tuple[str, Key]] = field(default_factory=list)  # undeleted, but changed since
    staying: dict[str, int] = field(default_factory=dict)  # table -> rows that stay deleted
    warnings: list[str] = field(default_factory=list)
    partial: bool = False  # rows of the thing stay out

    @property
    def rows(self) -> int:
        return sum(map(len, self.inserted.values())) + len(self.changes)


def put_back(
    session: Session, tables: Sequence[StagedTable], wanted: Wanted, done: Recovered
) -> None:
    """Insert and undelete the staged rows; raises Failure where a name of the thing is taken."""
    for table in tables:
        if table.owned.kind == wanted.kind:
            _refuse_taken(session, table, wanted)
        _insert(session, table, done)
        while table.mark and _undelete(session, table, wanted, done):
            pass  # replies are found after the post that they reply to
        _count_staying(session, table, done)
    _correct_counts(session, done)
    _note_results(session, tables, done)


def _refuse_taken(session: Session, table: StagedTable, wanted: Wanted) -> None:
    """Raise Failure where another row has a name of the thing, whose own row is gone."""
    for what, columns in _UNIQUE.get(table.name, {}).items():
        if not all(column in table.columns for column in columns):
            continue
        rows = ask(
            session,
            "SELECT l.id, l.{first}, l.deleteat <> 0 FROM {live} l JOIN {own} s ON ({left}) ="
            " ({right}) AND l.id <> s.id WHERE s.id = %s AND s.{first} <> '' AND NOT EXISTS"
            " (SELECT 1 FROM {live} x WHERE x.id = s.id)",
            wanted.id,
            live=named(table.name),
            own=staging(table.name),
            first=named(columns[0]),
            left=aliased("l", columns),
            right=aliased("s", columns),
        )
        for id_, name, deleted in rows:
            shown = f"{humanize.plain(name)} (id {id_}{', deleted' if deleted else ''})"
            raise Failure(
                f"The {what} of the {wanted.kind} is taken",
                f"it is now that of {shown}",
                _WAYS[wanted.kind],
            )


def _texts(alias: str, columns: Iterable[str]) -> sql.Composable:
    """Return columns as texts."""
    from psycopg import sql

    return sql.SQL(", ").join(
        sql.SQL("{}::text").format(sql.Identifier(alias, column)) for column in columns
    )


def _of_things(table: StagedTable, condition: str) -> sql.Composable:
    """Return the condition that a staged row belongs to a thing that was brought back."""
    from psycopg import sql

    columns = [column for column in table.owned.belongs if column in table.columns]
    if not columns:
        return sql.SQL("false")
    query = "EXISTS (SELECT 1 FROM gitlab_mm_things t WHERE t.id IN ({}) AND " + condition + ")"
    return sql.SQL(query).format(_texts("s", columns))


def _insert(session: Session, table: StagedTable, done: Recovered) -> None:
    """Insert the rows that are missing."""
    from psycopg import sql

    comes = {
        Comes.ALWAYS: sql.SQL("true"),
        Comes.WITH_DELETED: _of_things(table, "true"),
        Comes.WITH_ROW: _of_things(table, "t.marked IS NULL"),
    }[table.owned.comes]
    parts: dict[str, sql.Composable] = {
        "live": named(table.name),
        "own": staging(table.name),
        "same": same_key(table.owned, "l", "s"),
        "comes": comes,
    }
    missing = "FROM {own} s WHERE {comes} AND NOT EXISTS (SELECT 1 FROM {live} l WHERE {same})"
    rows = ask(
        session,
        "INSERT INTO {live} AS n ({columns}) SELECT {values} "
        + missing
        + " ON CONFLICT DO NOTHING RETURNING {key}",
        columns=named(*table.columns),
        values=aliased("s", table.columns),
        key=_texts("n", table.owned.key),
        **parts,
    )
    if rows:
        done.inserted[table.name] = sorted(tuple(row) for row in rows)
    if rows and table.owned.kind in KINDS:
        _add_things(session, [(row[0], None) for row in rows])
    left = ask(session, "SELECT count(*) " + missing, **parts)[0][0]
    if left:
        count = humanize.number(left, "row")
        done.warnings.append(f"{table.name}: {count} left out: other rows have their unique values")


def _add_things(session: Session, things: Iterable[tuple[str, str | None]]) -> None:
    with session.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO gitlab_mm_things VALUES (%s, %s) ON CONFLICT DO NOTHING", list(things)
        )


def _undelete(session: Session, table: StagedTable, wanted: Wanted, done: Recovered) -> bool:
    """Take the mark off rows that were deleted with what was brought back; tell if there were any."""
    from psycopg import sql

    dates = [column for column in (_UPDATED, "props") if column in table.columns]
    derived = (table.mark, *dates, *_DERIVED.get(table.name, ()))
    plain = [column for column in table.columns if column not in derived]
    pairs_of = sql.SQL("").join(
        sql.SQL(", l.{0}::text, s.{0}::text").format(named(column)) for column in dates
    )
    together = f"t.marked IS NULL OR abs(t.marked - l.{table.mark}) <= {_AT_ONCE}"
    asked = sql.SQL("s.id = {}").format(wanted.id) if table.owned.kind == wanted.kind else None
    rows = ask(
        session,
        "SELECT {key}, l.{mark}::text, s.{mark}::text, ROW({left}) IS NOT DISTINCT FROM ROW({right})"
        "{dates} FROM {live} l JOIN {own} s ON {same} WHERE l.{mark} > 0 AND coalesce(s.{mark}, 0)"
        " = 0 AND ({asked} OR {things}) FOR UPDATE OF l",
        key=_texts("l", table.owned.key),
        mark=named(table.mark),
        left=_texts("l", plain),
        right=_texts("s", plain),
        dates=pairs_of,
        live=named(table.name),
        own=staging(table.name),
        same=same_key(table.owned, "l", "s"),
        asked=asked or sql.SQL("false"),
        things=_of_things(table, f"({together})"),
    )
    width, undeleted = len(table.owned.key), 0
    for row in rows:
        key, (old, new, same, *rest) = tuple(row[:width]), row[width:]
        pairs = dict(zip(dates, zip(rest[::2], rest[1::2])))
        columns, unchanged = _undeleted(table.mark, (old, new), pairs, same)
        undeleted += _unmark(session, table, Change(table.name, key, columns), done)
        if not unchanged:
            done.differing.append((table.name, key))
    if table.owned.kind in KINDS:
        _add_things(session, [(row[0], row[width]) for row in rows])
    return undeleted > 0


def _undeleted(
    mark: str,
    marks: tuple[str, str | None],
    pairs: Mapping[str, tuple[str | None, str | None]],
    same: bool,
) -> tuple[dict[str, tuple[str | None, str | None]], bool]:
    """Return the columns that the deletion changed, old and new, and whether the rest is the set's."""
    wanted: dict[str, tuple[str | None, str | None]] = {mark: marks}
    if "props" in pairs:
        old, theirs = pairs["props"]
        before, equal = _without_deleter(old, theirs)
        same = same and equal
        if before != old:
            wanted["props"] = (old, before)
    old, theirs = pairs.get(_UPDATED, (None, None))
    at_once = old is not None and abs(int(old) - int(marks[0])) <= _AT_ONCE
    if same and at_once and old != theirs:
        wanted[_UPDATED] = (old, theirs)
    return wanted, same


def _without_deleter(old: str | None, theirs: str | None) -> tuple[str | None, bool]:
    """Return props without who deleted the post, and whether they are the set's then."""
    try:
        live, kept = (validation.from_json(text or "{}") for text in (old, theirs))
        live.pop(_DELETER, None)
    except (ValueError, AttributeError):
        return old, old == theirs
    if live == kept:
        return theirs, True
    return json.dumps(live, ensure_ascii=False), False


def _unmark(session: Session, table: StagedTable, wanted: Change, done: Recovered) -> bool:
    changed = contents.change(session, table.owned.key, wanted)
    done.changes += [wanted] if changed else []
    return changed


def _count_staying(session: Session, table: StagedTable, done: Recovered) -> None:
    """Note how many rows the set has that were deleted on their own since."""
    if table.mark:
        text = "SELECT count(*) FROM {live} l JOIN {own} s ON {same} WHERE l.{mark} > 0"
        text += " AND coalesce(s.{mark}, 0) = 0"
        parts = {"live": named(table.name), "own": staging(table.name), "mark": named(table.mark)}
        count = ask(session, text, same=same_key(table.owned, "l", "s"), **parts)[0][0]
        if count:
            done.staying[table.name] = count


def _correct_counts(session: Session, done: Recovered) -> None:
    """Let threads and channels count what was brought back, and posts have their reactions.

    What was inserted whole has the counts of the set.
    """
    rows = ask(
        session,
        "SELECT DISTINCT p.rootid, p.channelid FROM posts p JOIN gitlab_mm_things t ON t.id = p.id",
    )
    reacted = ask(
        session,
        "SELECT id, hasreactions::text FROM posts WHERE hasreactions IS NOT TRUE AND id = ANY(%s)",
        sorted({key[1] for key in done.inserted.get("reactions", ())}),
    )
    threads = {key[0] for key in done.inserted.get("threads", ()) if not done.partial}
    channels = {key[0] for key in done.inserted.get("channels", ())}
    wanted = [
        *contents.thread_counts(session, {row[0] for row in rows} - threads - {"", None}),
        *contents.channel_counts(session, {row[1] for row in rows} - channels),
        *(Change("posts", (id_,), {"hasreactions": (old, "true")}) for id_, old in reacted),
    ]
    keys = {"threads": "postid", "channels": "id", "posts": "id"}
    for change in wanted:
        contents.change(session, [keys[change.table]], change)
        if change.key not in done.inserted.get(change.table, ()):  # an undo removes that whole
            done.changes.append(change)


def _note_results(session: Session, tables: Sequence[StagedTable], done: Recovered) -> None:
    """Note the uploads whose files are wanted, and what the inserted posts are now.

    Mattermost changes rows of uploads on its own: it adds small previews and texts to search.
    """
    ids = [key[0] for key in done.inserted.get("posts", ())]
    text = "SELECT id, md5(posts::text) FROM posts WHERE id = ANY(%s)"
    done.digests["posts"] = ask(session, text, ids) if ids else []
    if any(table.name == "fileinfo" for table in tables):
        done.uploads = ask(
            session,
            "SELECT l.size, l.name, l.path, l.thumbnailpath, l.previewpath FROM fileinfo l"
            " JOIN gitlab_mm_fileinfo s ON s.id = l.id WHERE coalesce(l.deleteat, 0) = 0",
        )


def take_back(session: Session, record: RecoveryRecord) -> tuple[int, list[str]]:
    """Remove the inserted rows and change the others back; return how many, and what stays.

    Raises Failure, with nothing changed, where somebody has written in what was brought back.
    """
    refuse_undecided(session, record)
    _refuse_used(session, record)
    keys = {table.name: table.key for table in TABLES}
    count, told, recount = 0, list[str](), list[str]()
    for name, rows in reversed(record.inserted):
        count += _remove(session, name, keys[name], rows)
    for change in reversed(record.changes):
        back = {column: (new, old) for column, (old, new) in change.columns.items()}
        if contents.change(session, keys[change.table], Change(change.table, change.key, back)):
            count += 1
        elif change.table == "threads":
            recount += change.key
        else:
            key = humanize.plain(", ".join(change.key))
            told.append(f"{change.table} {key} was changed since, and stays as it is")
    for right in contents.thread_counts(session, recount):  # of the posts that are left now
        count += contents.change(session, keys["threads"], right)
    return count, told


def refuse_undecided(session: Session, record: RecoveryRecord) -> None:
    """Raise Failure while PostgreSQL has not ended the transaction of a recovery that was killed."""
    if contents.committed(session, record.transaction) is None:
        raise Failure(
            f"The recovery of {humanize.plain(record.about.get('name', ''))} has not ended in the database",
            "it was interrupted, and PostgreSQL still runs its transaction; nothing was changed",
            "Run the command again.",
        )


def _remove(session: Session, name: str, key: Sequence[str], rows: Sequence[Key]) -> int:
    from psycopg import sql

    types = contents.columns(session, name)
    if not types or not rows:
        return 0
    lists = [sql.SQL("%s::text[]::{}[]").format(sql.SQL(types[column])) for column in key]
    done = session.execute(
        sql.SQL("DELETE FROM {} WHERE ({}) IN (SELECT * FROM unnest({}))").format(
            named(name), named(*key), sql.SQL(", ").join(lists)
        ),
        [list(values) for values in zip(*rows)],
    )
    return done.rowcount


def _refuse_used(session: Session, record: RecoveryRecord) -> None:
    """Raise Failure where messages were added to what was brought back, or changed."""
    ids = {
        name: {key[0] for found, keys in record.inserted if found == name for key in keys}
        for name in ("channels", "users", "posts")
    }
    used = 0
    for name, rows in record.digests.items():
        was = {row[0]: row[1] for row in rows}
        text = "SELECT l.id, md5(l::text) FROM {live} l WHERE l.id = ANY(%s)"
        found = ask(session, text, list(was), live=named(name))
        used += sum(was[id_] != digest for id_, digest in found)
    text = (
        "SELECT count(*) FROM posts WHERE (channelid = ANY(%s) OR rootid = ANY(%s)"
        " OR userid = ANY(%s)) AND NOT id = ANY(%s)"
    )
    places = [sorted(ids[name]) for name in ("channels", "posts", "users", "posts")]
    used += int(ask(session, text, *places)[0][0])
    if used:
        raise Failure(
            "What was brought back is in use",
            f"added or changed since: {humanize.number(used, 'message')}; nothing was changed",
            "Delete it in Mattermost instead.",
        )
