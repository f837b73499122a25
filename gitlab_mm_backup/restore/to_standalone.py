"""Moves out of the bundle: checks before, and remaining tasks after."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from ..errors import Failure
from ..mattermost import json_file
from ..mattermost.effective_config import EffectiveConfig
from ..mattermost.site import Kind, Site
from ..postgresql import connection
from ..sso import oauth
from ..sso.oauth import APPLICATION_NAME
from ..store.sets import BackupSet
from .plan import RestoreOptions


def todo(set_: BackupSet, site: Site) -> list[str]:
    """Return the remaining tasks on GitLab's host; [] unless this moves out of the bundle."""
    if site.kind is not Kind.STANDALONE or set_.manifest.kind != Kind.OMNIBUS.value:
        return []
    url = _url(site)
    lines = [
        "On GitLab's host, in /etc/gitlab/gitlab.rb: remove every line that begins with mattermost "
        "(mattermost_external_url, mattermost['...'], mattermost_nginx['...'])",
        f"  and add: gitlab_rails['mattermost_host'] = {_ruby(url)}",
        "  then: gitlab-ctl reconfigure",
    ]
    if url != _url_before(set_):
        lines.append(f"In GitLab, Admin, Applications, {APPLICATION_NAME}: add these redirect URIs")
        lines += [f"  {uri}" for uri in oauth.redirect_uris(site)]
    else:
        host = urlsplit(url).hostname
        lines.append(
            f"Point the DNS name {host} to this host; GitLab's application needs no change"
        )
    return lines


def _ruby(text: str) -> str:
    """Return a literal for gitlab.rb, which root runs: Mattermost's account can change the address."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _url(site: Site) -> str:
    return site.settings.text("ServiceSettings", "SiteURL").rstrip("/")


def _url_before(set_: BackupSet) -> str:
    tree = json_file.read(set_.file("settings")).document.get("effective")
    settings = EffectiveConfig(tree if isinstance(tree, dict) else {})
    return settings.text("ServiceSettings", "SiteURL").rstrip("/")


def check_vacant(set_: BackupSet, site: Site, plan: RestoreOptions) -> None:
    """Raise Failure for the first obstacle; changes nothing."""
    if site.kind is Kind.OMNIBUS and set_.manifest.kind != site.kind.value:
        raise Failure(
            "The set is from a standalone Mattermost; this host has the one bundled with GitLab",
            "the bundled one cannot take its settings: its environment folder overrides them",
            "Restore it where Mattermost's own package is installed.",
        )
    if site.kind is Kind.STANDALONE and plan.with_etc:
        raise Failure(
            "/etc/gitlab is not restored on a standalone Mattermost",
            "it belongs to GitLab, on GitLab's host",
            "Run it without --with-etc.",
        )
    if "database" not in plan.parts:
        return
    if site.database.admin == site.database.owner:
        _refuse_weak_role(site)
    if set_.manifest.kind != site.kind.value and not plan.replace:
        _refuse_data(site)


def _refuse_weak_role(site: Site) -> None:
    """Raise Failure where Mattermost's role cannot create and rename databases.

    Where Mattermost's DataSource is the only login, its role makes the new database.
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
            f"Role {endpoint.owner.role} may not create and rename databases",
            "the set is loaded into a new database, which is then swapped with the live one by renaming",
            "As a superuser of that server: "
            + "; ".join(
                f"psql -p {endpoint.port} -c {shlex.quote(statement)}" for statement in wanted
            )
            + ". After the restore it can be taken back (NOCREATEDB).",
        )


def _refuse_data(site: Site) -> None:
    try:
        teams, users = connection.count_people(site.database)
    except Failure:
        return  # there is no such database yet; whatever else is wrong was found before
    if teams or users:
        raise Failure(
            "This Mattermost already holds data",
            f"its database {site.database.name} has {teams} teams and {users} users",
            "To replace them, give --replace; a safety set is made first.",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
