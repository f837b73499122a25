"""Swap databases: create one next to the live one, exchange the two, drop ours."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import Failure
from ..store.manifest import Database
from ..store.properties import Properties
from ..system import parallel, progress
from . import provisions
from .connection import APPLICATION, administering
from .endpoint import Endpoint
from .provisions import Provision

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

# The comment of our databases.
_MARK = "made or set aside by gitlab-mm-backup"
_NAME = re.compile(r"gitlab_mm_(?:new|old)_[0-9a-f]{8}")
_OF = "FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) %s"
_COMMENT = f"SELECT pg_catalog.shobj_description(oid, 'pg_database') {_OF}"
_OTHERS_OF_OURS = (
    "application_name OPERATOR(pg_catalog.=) {}"
    " AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()"
)
_PATIENCE = 30  # seconds for ended connections to be gone


def create_beside(endpoint: Endpoint, name: str, like: Database, provision: Provision) -> list[str]:
    """Create the empty database ``name``, owned by Mattermost's role, encoded as ``like``.

    It gets our mark, and the properties of ``provision`` that precede its rows. Returns warnings:
    where this server lacks the locale of ``like`` its default locale is used.
    """
    from psycopg import sql

    # While the superuser works in it, the superuser owns it, and no other role may connect.
    owner = endpoint.admin.role if provision.schemas else endpoint.owner.role
    create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {}{}{}").format(
        sql.Identifier(name),
        sql.Identifier(owner),
        sql.Literal(like.encoding),
        sql.SQL(" ALLOW_CONNECTIONS false" if provision.schemas else ""),
        sql.SQL(" TABLESPACE {}").format(sql.Identifier(provision.tablespace))
        if provision.tablespace
        else sql.SQL(""),
    )
    with administering(endpoint) as session:
        warnings = _create_with_locale(session, create, like, provision.locale)
        _comment(session, name, _MARK)
        if provision.schemas:
            revoke = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC")
            session.execute(revoke.format(sql.Identifier(name)))
            _let_in(session, name)
    if provision.schemas:
        provisions.create_extensions(endpoint, name, provision.schemas)
        _change_owner(endpoint, name, endpoint.owner.role)
    return warnings + provisions.apply_settings(endpoint, name, provision.settings)


def _create_with_locale(
    session: psycopg.Connection[Any], create: Composed, like: Database, more: Properties | None
) -> list[str]:
    """Create a database with the locale of ``like``, as far as it exists here."""
    import psycopg
    from psycopg import sql

    locale = sql.SQL(" LC_COLLATE {} LC_CTYPE {}").format(
        sql.Literal(like.collate), sql.Literal(like.ctype)
    )
    wanted: list[tuple[Composed, type[psycopg.Error]]] = [
        (locale, psycopg.errors.WrongObjectType)  # "invalid locale name"
    ]
    if more:  # ICU's errors have no SQLSTATE of their own
        wanted.insert(0, (locale + _provided(more), psycopg.DatabaseError))
    warnings: list[str] = []
    for clause, complaint in wanted:
        try:
            session.execute(create + clause)
            return warnings
        except complaint as error:
            warnings.append(
                f"The database gets this server's default locale: {error.diag.message_primary}"
            )
    session.execute(create)
    return warnings


def _provided(properties: Properties) -> Composed:
    """Return the clause for a locale of ICU (PostgreSQL 15) or PostgreSQL's builtin one (17)."""
    from psycopg import sql

    words = {"icu": "ICU_LOCALE", "builtin": "BUILTIN_LOCALE"}[properties.provider]
    clause = sql.SQL(" LOCALE_PROVIDER {} {} {}").format(
        sql.SQL(properties.provider), sql.SQL(words), sql.Literal(properties.locale)
    )
    if properties.rules:
        clause += sql.SQL(" ICU_RULES {}").format(sql.Literal(properties.rules))
    return clause


def ensure_live(endpoint: Endpoint) -> None:
    """Create the live database, empty, where it is missing: an exchange needs both."""
    from psycopg import sql

    create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0")
    with administering(endpoint) as session:
        if not _there(session, endpoint.name):
            session.execute(
                create.format(sql.Identifier(endpoint.name), sql.Identifier(endpoint.owner.role))
            )


def drop_marked(endpoint: Endpoint, name: str) -> None:
    """Drop the database ``name`` if it exists; raises Failure when it lacks our mark.

    A database of such a name without a comment is one whose creation was interrupted.
    """
    with dropped_beside(endpoint, name):
        pass


@contextlib.contextmanager
def dropped_beside(endpoint: Endpoint, name: str) -> Iterator[None]:
    """Do the same while the block works on files, without other database access."""
    from psycopg import sql

    with administering(endpoint) as session:
        if not _is_ours(session, name):
            yield
            return
        _shut_out(session, name)
        drop = sql.SQL("DROP DATABASE {}").format(sql.Identifier(name))
        with parallel.in_background(lambda: session.execute(drop)) as result:
            yield
            result()


def _is_ours(session: psycopg.Connection[Any], name: str) -> bool:
    """Tell whether ``name`` exists; raises Failure where it exists and is not ours."""
    row = session.execute(_COMMENT, (name,)).fetchone()
    marked = row is not None and row[0] is not None and _is_mark(row[0])
    if row is not None and not marked and not (row[0] is None and _NAME.fullmatch(name)):
        raise Failure(f"Database {name} is not dropped", "it is not marked as made by gitlab-mm")
    return row is not None


def take_ownership(endpoint: Endpoint) -> None:
    """Give the live database to the superuser while a dump is loaded.

    The load runs as Mattermost's role, which owns the live database: a hostile dump could drop
    it, or change its settings for good.
    """
    _change_owner(endpoint, endpoint.name, endpoint.admin.role)


def live_owner(endpoint: Endpoint) -> str:
    """Return the role that owns the live database; Mattermost's role where there is none."""
    query = f"SELECT pg_catalog.pg_get_userbyid(datdba) {_OF}"
    with administering(endpoint) as session:
        row = session.execute(query, (endpoint.name,)).fetchone()
    return str(row[0]) if row else endpoint.owner.role


def return_ownership(endpoint: Endpoint, owner: str = "") -> None:
    """Undo ``take_ownership``, whether it happened or not."""
    _change_owner(endpoint, endpoint.name, owner or endpoint.owner.role)


def _change_owner(endpoint: Endpoint, name: str, role: str) -> None:
    from psycopg import sql

    change = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    with administering(endpoint) as session:
        if endpoint.admin != endpoint.owner and _there(session, name):
            session.execute(change.format(sql.Identifier(name), sql.Identifier(role)))


def end_our_sessions(endpoint: Endpoint) -> None:
    """End sessions that a killed run left in the server, and wait until they are gone."""
    from psycopg import sql

    with administering(endpoint) as session:
        ours = sql.SQL(_OTHERS_OF_OURS).format(APPLICATION)
        _end_sessions(session, ours, "Sessions of an earlier run")


def empty_live(endpoint: Endpoint) -> None:
    """Drop the live database and create it again, empty. This cannot be undone."""
    from psycopg import sql

    with administering(endpoint) as session:
        if _there(session, endpoint.name):
            _shut_out(session, endpoint.name)
            session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(endpoint.name)))
    ensure_live(endpoint)


def exchange(endpoint: Endpoint, new: str, old: str, comment: str = "") -> None:
    """Rename ``new`` to the live name and the live database to ``old``, in one transaction.

    Connections to the live database are ended and refused meanwhile. ``old`` stays closed and gets
    our mark, the live one the ``comment``.
    """
    with administering(endpoint) as session:
        _shut_out(session, endpoint.name)
        _rename(session, [(endpoint.name, old), (new, endpoint.name)], comment)


def exchange_back(endpoint: Endpoint, new: str, old: str) -> None:
    """Undo ``exchange``, whether it happened or not."""
    with administering(endpoint) as session:
        if _there(session, old):
            _shut_out(session, endpoint.name)
            comment = (_comment_of(session, old) or "").partition("\n")[2]
            _rename(session, [(endpoint.name, new), (old, endpoint.name)], comment)
        elif _there(session, endpoint.name):
            _let_in(session, endpoint.name)


def _rename(session: psycopg.Connection[Any], pairs: list[tuple[str, str]], comment: str) -> None:
    """Rename in one transaction; the last name is the live one, which is opened again.

    A database that loses the live name keeps its own comment behind our mark.
    """
    from psycopg import sql

    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    (live, aside), (_, _) = pairs
    kept = _comment_of(session, live)
    with session.transaction():
        for before, after in pairs:
            session.execute(rename.format(sql.Identifier(before), sql.Identifier(after)))
        _comment(session, aside, f"{_MARK}\n{kept}" if kept else _MARK)
        _comment(session, live, None if _is_mark(comment) else comment or None)
        _let_in(session, live)


def _is_mark(comment: str) -> bool:
    return comment.partition("\n")[0] == _MARK


def _comment(session: psycopg.Connection[Any], name: str, text: str | None) -> None:
    from psycopg import sql

    comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
    session.execute(comment.format(sql.Identifier(name), sql.Literal(text)))


def _comment_of(session: psycopg.Connection[Any], name: str) -> str | None:
    row = session.execute(_COMMENT, (name,)).fetchone()
    return None if row is None else row[0]


def _there(session: psycopg.Connection[Any], name: str) -> bool:
    return session.execute(f"SELECT 1 {_OF}", (name,)).fetchone() is not None


def _shut_out(session: psycopg.Connection[Any], name: str) -> None:
    """Refuse new connections to ``name`` and end existing ones; waits until they are gone."""
    from psycopg import sql

    closed = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
    limit = session.execute(f"SELECT datconnlimit {_OF}", (name,))
    # -2: the server crashed during DROP; no connections are possible, and DROP works again.
    if limit.fetchone() != (-2,):
        session.execute(closed.format(sql.Identifier(name)))
    theirs = sql.SQL("datname OPERATOR(pg_catalog.=) {}").format(name)
    _end_sessions(session, theirs, f"Connections to database {name}")


@progress.waiting("sessions")
def _end_sessions(session: psycopg.Connection[Any], which: Composed, what: str) -> None:
    from psycopg import sql

    # What has no user is the server's own: it gives way to DROP and RENAME, and a plain role may
    # not end it.
    query = sql.SQL(
        "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid))"
        " FROM pg_catalog.pg_stat_activity"
        " WHERE usename IS NOT NULL AND {}"
    )
    deadline = time.monotonic() + _PATIENCE
    while (row := session.execute(query.format(which)).fetchone()) and row[0]:
        if time.monotonic() > deadline:
            raise Failure(f"{what} do not end", f"{row[0]} remain")
        time.sleep(0.05)


def _let_in(session: psycopg.Connection[Any], name: str) -> None:
    from psycopg import sql

    opened = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true")
    session.execute(opened.format(sql.Identifier(name)))
