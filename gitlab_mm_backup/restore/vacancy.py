"""Whether a standalone site may take a set at all: its role, what it holds, and the set's kind."""

from __future__ import annotations

import shlex

from ..errors import Failure
from ..mattermost.site import Kind, Site
from ..postgresql import connection
from ..store.sets import BackupSet
from .plan import Plan


def check(set_: BackupSet, site: Site, plan: Plan) -> None:
    """Raise Failure for the first reason against it; changes nothing."""
    if site.kind is Kind.OMNIBUS and set_.manifest.kind != site.kind.value:
        raise Failure(
            "The set is of a standalone Mattermost, and this is the one bundled with GitLab",
            "there is no way back into the bundle: its environment folder would win",
            "Restore it where Mattermost's own package is installed.",
        )
    if site.kind is Kind.STANDALONE and plan.with_etc:
        raise Failure(
            "/etc/gitlab is not put back on a standalone Mattermost",
            "it belongs to GitLab, on GitLab's host",
            "Leave out --with-etc.",
        )
    if "database" not in plan.parts:
        return
    if site.database.admin == site.database.owner:
        _refuse_weak_role(site)
    if set_.manifest.kind != site.kind.value and not plan.replace:
        _refuse_data(site)


def _refuse_weak_role(site: Site) -> None:
    """The new database is made beside the live one, and the two are renamed: that takes rights.

    No other login is known where Mattermost's own DataSource is all there is.
    """
    endpoint = site.database
    with connection.administering(endpoint) as session:
        row = session.execute(
            "SELECT rolsuper OR rolcreatedb, rolsuper OR NOT EXISTS (SELECT 1"
            " FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) %s"
            " AND NOT pg_catalog.pg_has_role(datdba, 'MEMBER'))"
            " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user",
            (endpoint.name,),
        ).fetchone()
    assert row is not None
    role, name = _quoted(endpoint.owner.role), _quoted(endpoint.name)
    missing = {
        f"ALTER ROLE {role} CREATEDB": row[0],
        f"ALTER DATABASE {name} OWNER TO {role}": row[1],
    }
    wanted = [statement for statement, there in missing.items() if not there]
    if wanted:
        raise Failure(
            f"Role {endpoint.owner.role} may not exchange databases",
            "the set is loaded into a new database beside the live one, and the two are renamed",
            "As a superuser of that server: "
            + "; ".join(f"psql -p {endpoint.port} -c {shlex.quote(one)}" for one in wanted)
            + ". After the restore it can be taken back (NOCREATEDB).",
        )


def _refuse_data(site: Site) -> None:
    try:
        teams, users = connection.count_people(site.database)
    except Failure:
        return  # there is no such database yet; whatever else is wrong was found before
    if teams or users:
        raise Failure(
            "This Mattermost holds data already",
            f"its database {site.database.name} has {teams} teams and {users} users",
            "Give --replace to put the set in their place; a safety set of them is made first.",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
