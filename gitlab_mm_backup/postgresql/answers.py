"""Errors of a PostgreSQL server, or of a pooler before it, as failures with a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import Failure
from .endpoint import Endpoint

if TYPE_CHECKING:
    import psycopg

_REFUSED = "FATAL:"  # the server was there, and said no; it is not translated
_NO_ROOM = {
    "too many connections for role": "ALTER ROLE {role} CONNECTION LIMIT -1",
    "too many connections for database": "ALTER DATABASE {name} CONNECTION LIMIT -1",
    "connection slots are reserved": "a larger max_connections in postgresql.conf",
    "too many clients": "a larger max_connections in postgresql.conf",
}
# PgBouncer's error about libpq's PGOPTIONS.
_POOLER = "unsupported startup parameter"


def refuse_pooler(session: psycopg.Connection[Any]) -> None:
    """Raise Failure where another program answers in place of the server.

    A pooler reports another process id than the server process has (PostgreSQL manual, 55.2.9).
    A role without the right to that function cannot be asked; the session is used as it is.
    """
    import psycopg

    try:
        row = session.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        session.rollback()
        return
    if row is not None and row[0] != session.info.backend_pid:
        raise _pooler("another server process answers than the one connected to")


def _pooler(detail: str) -> Failure:
    return Failure(
        "Mattermost's DataSource points to a connection pooler such as PgBouncer, not to PostgreSQL",
        f"{detail}; a backup and a restore need direct sessions of the server",
        "Name the server in /etc/gitlab-mm-backup/config.yml, below database: host (its name, or the "
        "directory of its socket) and port, as 5432. Mattermost can keep using the pooler.",
    )


def failure(error: psycopg.Error, name: str, role: str, endpoint: Endpoint) -> Failure:
    """Return the failure for an error of the database ``name``, with a hint."""
    import psycopg

    detail = str(error).strip()
    if not isinstance(error, psycopg.OperationalError) or error.sqlstate is not None:
        return Failure(f"PostgreSQL reported an error in {name}", detail)
    if _POOLER in detail:
        return _pooler(detail)
    if f'database "{name}" does not exist' in detail:
        return Failure(f"There is no database {name}", detail, endpoint.making)
    if "permission denied for database" in detail:
        return Failure(
            f"Role {role} may not connect to database {name}",
            detail,
            f"As a superuser: GRANT CONNECT ON DATABASE {_quoted(name)} TO {_quoted(role)}",
        )
    for words, remedy in _NO_ROOM.items():
        if words in detail:
            remedy = remedy.format(role=_quoted(role), name=_quoted(name))
            return Failure(
                "PostgreSQL has no free connection for a backup or restore",
                detail,
                f"Allow more, as a superuser: {remedy}. Four beside Mattermost's own are enough, and "
                "for a restore as many as jobs in config.yml.",
            )
    if _REFUSED in detail:
        return Failure("PostgreSQL refuses the connection", detail, endpoint.care)
    return Failure(
        "PostgreSQL does not answer",
        detail,
        f"Is it running at {endpoint.host} port {endpoint.port}? {endpoint.care}",
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
