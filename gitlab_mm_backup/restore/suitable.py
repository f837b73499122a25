"""Whether a server can take a restore: found out before anything is stopped."""

from __future__ import annotations

from ..errors import Failure
from ..mattermost.site import Kind, Site
from ..postgresql import connection
from ..postgresql.endpoint import Endpoint
from ..store.sets import BackupSet
from ..version import numbers

_UPGRADE = {Kind.OMNIBUS: ": gitlab-ctl pg-upgrade"}
_FEWEST = 2  # sessions at a time, of any restore
_READ_ONLY = "default_transaction_read_only"


def server(set_: BackupSet, site: Site) -> str:
    """Return the server's version; refuse a replica, and one that is older than the dump's."""
    with connection.administering(site.database) as session:
        row = session.execute(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version')"
        ).fetchone()
    assert row is not None
    version = str(row[1]).split()[0]
    if row[0]:
        raise Failure(
            "This host's PostgreSQL is a replica and takes no data",
            "pg_is_in_recovery() says so",
            "Run the restore on the primary.",
        )
    if numbers(set_.manifest.database.server)[:1] > numbers(version)[:1]:
        raise Failure(
            "The set comes from a newer PostgreSQL than this host runs",
            f"set {set_.manifest.database.server}, host {version}",
            f"Upgrade it first{_UPGRADE.get(site.kind, '')}.",
        )
    return version


def refuse_limits(site: Site, sessions: int) -> None:
    """Raise Failure where Mattermost's role may not write, or not open the ``sessions`` of a load."""
    endpoint = site.database
    _refuse_few(endpoint, max(sessions, _FEWEST))
    with connection.administering(endpoint) as session:
        query = "SELECT 1 FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) %s"
        if session.execute(query, (endpoint.name,)).fetchone() is None:
            return  # a restore makes it, and nobody has set anything for it
    with connection.as_mattermost(endpoint) as session:
        row = session.execute(
            f"SELECT current_setting('{_READ_ONLY}') = 'on', r.rolconfig::text, r.rolname"
            " FROM pg_roles r WHERE r.rolname = current_user"
        ).fetchone()
    if row is not None and row[0]:
        of_role = _READ_ONLY in (row[1] or "")
        whose = f'ROLE "{row[2]}"' if of_role else f'DATABASE "{endpoint.name}"'
        raise Failure(
            "Mattermost's sessions are read-only, so a restored Mattermost would not start",
            f"{_READ_ONLY} is on for role {row[2]} in database {endpoint.name}",
            f"As a superuser: ALTER {whose} RESET {_READ_ONLY}; or set it off in postgresql.conf.",
        )


def _refuse_few(endpoint: Endpoint, wanted: int) -> None:
    with connection.administering(endpoint) as session:
        row = session.execute(
            "SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) %s",
            (endpoint.owner.role,),
        ).fetchone()
    if row is not None and 0 <= row[0] < wanted:
        raise Failure(
            "Mattermost's role may not open enough connections for a restore",
            f"CONNECTION LIMIT {row[0]} is set for {endpoint.owner.role}; {wanted} are needed",
            f'As a superuser: ALTER ROLE "{endpoint.owner.role}" CONNECTION LIMIT -1. Or lower jobs in '
            f"/etc/gitlab-mm-backup/config.yml, to {_FEWEST} at least.",
        )
