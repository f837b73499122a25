"""Moves out of the bundle: checks before, remaining tasks after, and an nginx site."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ExitCode, Failure
from ..mattermost import json_file, listener
from ..mattermost.effective_config import EffectiveConfig
from ..mattermost.site import Kind, Site
from ..postgresql import connection
from ..sso import oauth
from ..sso.oauth import APPLICATION_NAME
from ..store.sets import BackupSet
from ..system.files import replace_file
from .plan import RestoreOptions

_NGINX = """\
# Mattermost behind nginx, written by gitlab-mm-backup for {url}
upstream mattermost {{
    server {backend};
    keepalive 32;
}}

server {{
    listen {listen};
    server_name {host};
{tls}
    location ~ /api/v[0-9]+/(users/)?websocket$ {{
        proxy_pass http://mattermost;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
{headers}        proxy_read_timeout 600s;
    }}

    location / {{
        # As large as FileSettings.MaxFileSize.
        client_max_body_size {largest};
        proxy_pass http://mattermost;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
{headers}        proxy_read_timeout 600s;
    }}
}}
"""
_TLS = """\
    # The certificate of {host}: put it here, or change the two lines.
    ssl_certificate /etc/ssl/certs/{host}.pem;
    ssl_certificate_key /etc/ssl/private/{host}.key;
"""
_HEADERS = """\
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Frame-Options SAMEORIGIN;
"""


def todo(set_: BackupSet, site: Site) -> list[str]:
    """Return the remaining tasks on GitLab's host; [] unless this moves out of the bundle."""
    if site.kind is not Kind.STANDALONE or set_.manifest.kind != Kind.OMNIBUS.value:
        return []
    url = _url(site)
    told = [
        "On GitLab's host, in /etc/gitlab/gitlab.rb: remove every line that begins with mattermost "
        "(mattermost_external_url, mattermost['...'], mattermost_nginx['...'])",
        f"  and add: gitlab_rails['mattermost_host'] = {_ruby(url)}",
        "  then: gitlab-ctl reconfigure",
    ]
    if url != _url_before(set_):
        told.append(f"In GitLab, Admin, Applications, {APPLICATION_NAME}: add these redirect URIs")
        told += [f"  {uri}" for uri in oauth.redirect_uris(site)]
    else:
        host = urlsplit(url).hostname
        told.append(f"Point the DNS name {host} to this host; GitLab's application needs no change")
    return told


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


def nginx_site(site: Site) -> str:
    """Return an nginx site for the site's own address; raises Failure where it has none."""
    url = urlsplit(_url(site))
    host = url.hostname or ""
    web, whole = url.scheme in ("http", "https"), _url(site).isprintable()
    if not web or not whole or not host or not _harmless(host):
        raise Failure(
            "No nginx site can be written",
            "ServiceSettings.SiteURL is not a URL",
            "Set it in the System Console, then give --nginx again.",
            ExitCode.USAGE,
        )
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    tree = site.settings.tree.get("FileSettings")
    largest = tree.get("MaxFileSize") if isinstance(tree, dict) else None
    return _NGINX.format(
        url=_url(site),
        backend=listener.of(site.settings).place,
        listen=f"{port} ssl" if secure else str(port),
        host=host,
        tls=_TLS.format(host=host) if secure else "",
        headers=_HEADERS,
        largest=largest if isinstance(largest, int) else "100m",
    )


def _harmless(host: str) -> bool:
    return all(letter.isalnum() or letter in ".-" for letter in host)


def write_nginx_site(path: Path, site: Site) -> None:
    """Write it to a new file; raises Failure where the file exists."""
    text = nginx_site(site)
    if os.path.lexists(path):
        raise Failure(f"{path} already exists", "it is not overwritten", "Name a new file.")
    try:
        replace_file(path, text.encode(), mode=0o644)
    except OSError as error:
        raise Failure(f"{path} cannot be written", str(error.strerror)) from error


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
