"""A temporary role with the rights of the database's owner, where the owner cannot log in.

GitLab 19 removes Mattermost's line from the server's map of accounts (pg_ident.conf). The map's
last line remains: it admits every account as the role with its name.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..container import view
from ..errors import Failure
from ..postgresql import connection
from ..postgresql.endpoint import Endpoint, Login
from ..postgresql.scratch import ACCOUNT
from .site import Site

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

# The comment of our role.
_MARK = "made by gitlab-mm-backup for the time of a backup"


@contextlib.contextmanager
def admitted(site: Site) -> Iterator[Site]:
    """Yield ``site``; where its database's owner cannot log in, with a member of that role.

    The member exists for the time of the block. It is not a superuser and has no password; only
    our own account on this host can log in as it, or in a container the account nobody. Raises
    Failure where a role of that name exists that this program did not create.
    """
    if not _shut_out(site):
        yield site
        return
    endpoint, account = site.database, _account()
    with connection.administering(endpoint) as session:
        _make(session, endpoint, account)
    try:
        # SET ROLE to the owner: new objects then belong to Mattermost's role.
        as_owner = {**endpoint.session, "role": endpoint.owner.role}
        guest = replace(endpoint, owner=Login(account, account), session=as_owner)
        yield replace(site, database=guest)
    finally:
        try:
            with connection.administering(endpoint) as session:
                _drop(session, account)
        except Failure as failure:
            log.warning("The role %s stays until the next backup: %s", account, failure)


def _account() -> str:
    """Return the account that the server knows by name and that has no login."""
    return ACCOUNT if view.entered() is None else "nobody"


def _shut_out(site: Site) -> bool:
    """Tell whether a salvaged site's owner cannot log in, but an administrator can."""
    if site.missing is None or site.database.admin == site.database.owner:
        return False
    try:
        with connection.within(site.database):
            return False
    except Failure:
        return True


def _make(session: psycopg.Connection[Any], endpoint: Endpoint, account: str) -> None:
    from psycopg import sql

    comment = session.execute(
        "SELECT pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles"
        " WHERE rolname OPERATOR(pg_catalog.=) %s",
        (account,),
    ).fetchone()
    if comment is not None and comment[0] != _MARK:
        raise Failure(
            f"PostgreSQL has a role {account} that this program did not create",
            "gitlab-mm needs this name to read the database that Mattermost left",
            f"Rename it: gitlab-psql -c 'ALTER ROLE \"{account}\" RENAME TO another'",
        )
    if comment is not None:  # of a run that was killed
        _drop(session, account)
    role, owner = sql.Identifier(account), sql.Identifier(endpoint.owner.role)
    with session.transaction():
        session.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(role, owner))
        session.execute(
            sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(_MARK)),
        )


def _drop(session: psycopg.Connection[Any], account: str) -> None:
    from psycopg import sql

    session.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(account)))
