"""What people would miss in Mattermost's database, the id of its installation, and derived counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..clock import utc
from ..store.manifest import Contents
from ..system import validation

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

# Mattermost 4.6 to 11 have these columns; deleted rows have a deleteat (milliseconds since 1970).
_COUNTS = {
    "teams": "count(*) FILTER (WHERE deleteat = 0)",
    "posts": "count(*) FILTER (WHERE deleteat = 0), max(createat) FILTER (WHERE deleteat = 0)",
    "fileinfo": "count(*) FILTER (WHERE deleteat = 0),"
    " coalesce(sum(size) FILTER (WHERE deleteat = 0), 0)::bigint",
}
# Mattermost works with the first of its search_path.
_SCHEMA = """
    SELECT n.nspname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = %s AND c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\\_%%'
    ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname),
        n.nspname <> 'public', n.nspname LIMIT 1"""
# The newest, which show current problems, and a random sample of the others.
_SAMPLE = """
    (SELECT id, path FROM {0} WHERE deleteat = 0 ORDER BY createat DESC LIMIT 100)
    UNION (SELECT id, path FROM {0} WHERE deleteat = 0 ORDER BY random() LIMIT 100)"""
_LAST_MOMENT = 253402300799  # seconds since 1970: 9999-12-31; a bot may write any number
# Types of posts that Mattermost does not count (model.Post.IsJoinLeaveMessage).
_UNCOUNTED = [
    f"system_{name}"
    for name in (
        *("join_leave", "add_remove", "join_channel", "leave_channel", "join_team", "leave_team"),
        *("add_to_channel", "remove_from_channel", "add_to_team", "remove_from_team"),
    )
]
# As Mattermost counts the replies of a thread when one is deleted (post_store.go,
# updateThreadAfterReplyDeletion): participants are in the order of their last replies.
_THREADS = """
    SELECT t.postid, t.replycount::text, t.lastreplyat::text, t.participants::text,
        coalesce(sum(r.replies), 0)::text, coalesce(max(r.last), 0)::text,
        array_agg(r.userid ORDER BY r.last) FILTER (WHERE r.userid IS NOT NULL)
    FROM threads t LEFT JOIN (
        SELECT rootid, userid, count(*) AS replies, max(createat) AS last FROM posts
        WHERE rootid = ANY(%(roots)s) AND deleteat = 0 GROUP BY rootid, userid
    ) r ON r.rootid = t.postid
    WHERE t.postid = ANY(%(roots)s)
    GROUP BY t.postid, t.replycount, t.lastreplyat, t.participants::text"""
# Mattermost counts a post once and does not take it off again; so there are never fewer.
_CHANNELS = """
    SELECT c.id, {old}, {new} FROM channels c JOIN (
        SELECT channelid, count(*) FILTER (WHERE counted) AS posts, max(createat) AS last,
            count(*) FILTER (WHERE counted AND rootid = '') AS roots,
            max(createat) FILTER (WHERE rootid = '') AS last_root
        FROM (SELECT *, coalesce(type, '') <> ALL(%(uncounted)s) AS counted FROM posts
            WHERE channelid = ANY(%(channels)s) AND deleteat = 0 AND originalid = '') p
        GROUP BY channelid
    ) p ON p.channelid = c.id"""
_TALLIES = {
    "totalmsgcount": "p.posts",
    "totalmsgcountroot": "p.roots",
    "lastpostat": "p.last",
    "lastrootpostat": "p.last_root",
}
Key = tuple[str, ...]


@dataclass(frozen=True)
class Upload:
    """An upload that is not deleted."""

    id: str
    path: str  # below the data directory


@dataclass(frozen=True)
class Change:
    """Columns of a row, and the old and the new text of each."""

    table: str
    key: Key  # texts of the columns that identify the row
    columns: Mapping[str, tuple[str | None, str | None]]


def installation(session: psycopg.Connection[Any]) -> str:
    """Return Mattermost's id of the installation (DiagnosticId), "" where it has none yet.

    It is created at the first start on an empty database, and restored with it.
    """
    table = _table(session, "systems")
    if table is None:
        return ""
    row = _one(session, "SELECT value FROM {} WHERE name = 'DiagnosticId'", table)
    try:
        return validation.identifier(row[0]) if row else ""
    except ValueError:
        return ""


def present(session: psycopg.Connection[Any]) -> bool:
    """Tell whether the database has tables of Mattermost: an empty one has no posts either."""
    return any(_table(session, name) is not None for name in ("posts", "users"))


def count(session: psycopg.Connection[Any]) -> Contents | None:
    """Return the counts; a missing table counts 0.

    None where the tables are not Mattermost's.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for name, wanted in _COUNTS.items():
        table = _table(session, name)
        row = _one(session, f"SELECT {wanted} FROM {{}}", table) if table else (0, 0)
        if row is None:
            return None
        found[name] = row
    users = _users(session)
    if users is None:
        return None
    moment = found["posts"][1]
    return Contents(
        teams=int(found["teams"][0]),
        users=users,
        posts=int(found["posts"][0]),
        uploads=int(found["fileinfo"][0]),
        upload_bytes=max(0, int(found["fileinfo"][1])),
        last_post=_moment(moment) if moment else None,
    )


def in_use(session: psycopg.Connection[Any]) -> bool:
    """Tell whether there is anything that ``count`` would count."""
    tables = filter(None, (_table(session, name) for name in _COUNTS))
    first = "SELECT 1 FROM {} WHERE deleteat = 0 LIMIT 1"
    return any(_one(session, first, table) for table in tables) or bool(_users(session))


def sample(session: psycopg.Connection[Any]) -> list[Upload]:
    """Return up to 200 uploads to look for on disk; none where the tables are unexpected."""
    from psycopg import sql

    table = _table(session, "fileinfo")
    if table is None:
        return []
    rows = _rows(session, sql.SQL(_SAMPLE).format(table))
    return [Upload(_text(row[0]), _text(row[1])) for row in rows]


def still_named(session: psycopg.Connection[Any], uploads: Iterable[Upload]) -> set[str]:
    """Return the ids of those ``uploads`` that are still not deleted."""
    from psycopg import sql

    table = _table(session, "fileinfo")
    if table is None:
        return set()
    query = "SELECT id FROM {} WHERE deleteat = 0 AND id = ANY(%s)"
    ids = [upload.id for upload in uploads]
    return {_text(row[0]) for row in _rows(session, sql.SQL(query).format(table), ids)}


def _text(value: str | bytes) -> str:
    """Return text of a database in SQL_ASCII, which comes as bytes, like any other."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def from_rows(rows: Mapping[str, int]) -> Contents:
    """Return approximate counts for an older set, from the row counts of its tables."""
    found = {name.rpartition(".")[2]: number for name, number in rows.items()}
    users = max(0, found.get("users", 0) - found.get("bots", 0))
    teams, posts, uploads = (found.get(name, 0) for name in ("teams", "posts", "fileinfo"))
    return Contents(teams, users, posts, uploads, 0, None)


def _users(session: psycopg.Connection[Any]) -> int | None:
    """Return the number of users without bots: an unused server creates some."""
    users, bots = _table(session, "users"), _table(session, "bots")
    if users is None:
        return 0
    query = "SELECT count(*) FROM {} WHERE deleteat = 0"
    if bots is None:
        row = _one(session, query, users)
    else:
        row = _one(session, f"{query} AND id NOT IN (SELECT userid FROM {{}})", users, bots)
    return int(row[0]) if row else None


def _table(session: psycopg.Connection[Any], name: str) -> sql.Identifier | None:
    from psycopg import sql

    row = session.execute(_SCHEMA, (name,)).fetchone()
    return sql.Identifier(row[0], name) if row else None


def _one(
    session: psycopg.Connection[Any], query: str, *tables: sql.Identifier
) -> tuple[Any, ...] | None:
    """Return the row of a query; None where its columns do not exist."""
    from psycopg import sql

    return next(iter(_rows(session, sql.SQL(query).format(*tables))), None)


def _rows(
    session: psycopg.Connection[Any], query: sql.Composed, *values: object
) -> list[tuple[Any, ...]]:
    """Return the rows of a query; none where its columns do not exist."""
    import psycopg

    try:
        with session.transaction():  # a savepoint: the snapshot goes on
            return session.execute(query, values or None).fetchall()
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
        return []


def _moment(milliseconds: int) -> str | None:
    seconds = int(milliseconds) // 1000
    if not 0 < seconds <= _LAST_MOMENT:
        return None
    return utc(datetime.fromtimestamp(seconds, timezone.utc))


def named(*names: str) -> sql.Composable:
    """Return identifiers, quoted and separated by commas."""
    from psycopg import sql

    return sql.SQL(", ").join(map(sql.Identifier, names))


def ask(session: psycopg.Connection[Any], text: str, *values: object, **parts: Any) -> list[Any]:
    """Execute a statement with ``{parts}``, which are of SQL; returns its rows, if it has any."""
    from psycopg import sql

    found = session.execute(sql.SQL(text).format(**parts), values or None)
    return found.fetchall() if found.description else []


def columns(session: psycopg.Connection[Any], table: str, schema: str = "") -> dict[str, str]:
    """Return the columns of a table -> their types; none where there is no such table.

    Without a ``schema`` it is in the first that the session finds it in.
    """
    query = (
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attnum > 0"
        " AND attrelid = to_regclass(concat_ws('.', quote_ident(nullif(%s, '')), quote_ident(%s)))"
        " AND NOT attisdropped ORDER BY attnum"
    )
    return {str(row[0]): str(row[1]) for row in ask(session, query, schema, table)}


def committed(session: psycopg.Connection[Any], transaction: str) -> bool | None:
    """Tell whether a transaction of before was committed; None while it is not decided.

    One that this server does not know any more counts as committed.
    """
    import psycopg

    if not transaction:
        return False
    try:
        state = ask(session, "SELECT txid_status(%s::bigint)", transaction)[0][0]
    except psycopg.DataError:  # of another cluster
        return True
    return None if state == "in progress" else state != "aborted"


def change(session: psycopg.Connection[Any], key: Sequence[str], wanted: Change) -> bool:
    """Change a row that has the old values still; tell whether it has."""
    from psycopg import sql

    types = columns(session, wanted.table)
    news = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in wanted.columns]
    olds = [
        # Through its type, for a type may print a value in another form, as jsonb does.
        sql.SQL("{}::text IS NOT DISTINCT FROM (%s::{})::text").format(
            sql.Identifier(name), sql.SQL(types[name])
        )
        for name in wanted.columns
    ]
    own = [
        sql.SQL("{} = %s::{}").format(sql.Identifier(name), sql.SQL(types[name])) for name in key
    ]
    done = session.execute(
        sql.SQL("UPDATE {} SET {} WHERE {}").format(
            sql.Identifier(wanted.table),
            sql.SQL(", ").join(news),
            sql.SQL(" AND ").join([*own, *olds]),
        ),
        [
            *(new for _, new in wanted.columns.values()),
            *wanted.key,
            *(old for old, _ in wanted.columns.values()),
        ],
    )
    return done.rowcount == 1


def thread_counts(session: psycopg.Connection[Any], roots: Iterable[str]) -> list[Change]:
    """Return how the rows of threads are to change so that they count the replies there are."""
    found = []
    if columns(session, "threads"):
        rows = session.execute(_THREADS, {"roots": list(roots)}).fetchall()
        for root, replies, last, listed, true_replies, true_last, people in rows:
            known = _participants(listed)
            new = json.dumps(people or [], ensure_ascii=False)
            wanted = {
                "replycount": (replies, true_replies),
                "lastreplyat": (last, true_last),
                "participants": (listed, new if known != sorted(people or []) else listed),
            }
            found.append(Change("threads", (root,), _differing(wanted)))
    return [change for change in found if change.columns]


def _participants(text: str | None) -> list[str]:
    try:
        return sorted(map(str, validation.from_json(text or "[]") or []))
    except (ValueError, TypeError):
        return []


def _differing(
    wanted: Mapping[str, tuple[str | None, str | None]],
) -> dict[str, tuple[str | None, str | None]]:
    return {name: both for name, both in wanted.items() if both[0] != both[1]}


def channel_counts(session: psycopg.Connection[Any], channels: Iterable[str]) -> list[Change]:
    """Return how the counts of channels are to grow so that they have the posts there are."""
    from psycopg import sql

    there = [name for name in _TALLIES if name in columns(session, "channels")]
    old = [f"c.{name}::text" for name in there]
    new = [f"greatest(c.{name}, {_TALLIES[name]}, 0)::text" for name in there]
    query = sql.SQL(_CHANNELS).format(old=sql.SQL(", ".join(old)), new=sql.SQL(", ".join(new)))
    values = {"channels": list(channels), "uncounted": _UNCOUNTED}
    found = []
    for id_, *texts in session.execute(query, values).fetchall():
        wanted = dict(zip(there, zip(texts[: len(there)], texts[len(there) :])))
        found.append(Change("channels", (id_,), _differing(wanted)))
    return [change for change in found if change.columns]
