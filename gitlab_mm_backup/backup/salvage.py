"""Salvage: back up a bundled Mattermost whose program is gone, and find this host's Mattermost."""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import pwd
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..mattermost import (
    detect,
    effective_config,
    gitlab_rb,
    json_file,
    json_text,
    omnibus,
    omnibus_files,
)
from ..mattermost.site import Account, Kind, Site
from ..postgresql import connection
from ..postgresql.endpoint import Endpoint
from ..sso import credentials, oauth
from ..sso.check import effective_pair
from ..sso.credentials import Candidate
from ..sso.oauth import Application, Pair
from ..store.inventory import Store
from ..store.sets import BackupSet
from ..system import process
from ..system.process import Command
from ..system.redaction import Secret

log = logging.getLogger(__name__)

_ID, _SECRET = "MM_GITLABSETTINGS_ID", "MM_GITLABSETTINGS_SECRET"
_KEY, _SITE_URL = "MM_SQLSETTINGS_ATRESTENCRYPTKEY", "MM_SERVICESETTINGS_SITEURL"
# Below GitLab's address (omnibus-gitlab, libraries of the mattermost cookbook).
_ENDPOINTS = {
    "MM_GITLABSETTINGS_AUTHENDPOINT": "/oauth/authorize",
    "MM_GITLABSETTINGS_TOKENENDPOINT": "/oauth/token",
    "MM_GITLABSETTINGS_USERAPIENDPOINT": "/api/v4/user",
}
_COMPLETE = "/signup/gitlab/complete"
# gitlab.rb's values of these come first, as in the next reconfigure.
_RUBY_KEYS = {
    "external_url": _SITE_URL,
    "sql_at_rest_encrypt_key": _KEY,
    "sql_data_source": "MM_SQLSETTINGS_DATASOURCE",
    "file_directory": "MM_FILESETTINGS_DIRECTORY",
    "plugin_directory": "MM_PLUGINSETTINGS_DIRECTORY",
    "plugin_client_directory": "MM_PLUGINSETTINGS_CLIENTDIRECTORY",
}
_RUBY, _SECRETS = gitlab_rb.FILE, omnibus_files.SECRETS


@dataclass(frozen=True)
class SavedEnvironment:
    """The service's environment in an earlier set."""

    source: str
    environment: Mapping[str, Secret]


@dataclass(frozen=True)
class _Backup:
    """Mattermost's settings in GitLab's own backup of /etc/gitlab."""

    name: str
    secrets: Mapping[str, Any]  # the section mattermost of gitlab-secrets.json
    ruby: str  # gitlab.rb


def left(root: Path = Path("/")) -> bool:
    """Tell whether GitLab no longer bundles Mattermost, and its home still exists."""
    gone = omnibus.presence(root) is omnibus.Presence.REMOVED
    return gone and (omnibus.home(root).is_dir() or (root / omnibus_files.ENVIRONMENT).is_dir())


def kept_in(sets: Sequence[BackupSet]) -> SavedEnvironment | None:
    """Return the environment of the newest of ``sets`` with GitLab's credentials."""
    for set_ in sets:
        try:
            found = effective_config.environment_of_set(
                json_file.read(set_.file("settings")).document
            )
        except Failure:
            continue
        if _ID in found and _SECRET in found:
            return SavedEnvironment(f"set {set_.name}", found)
    return None


def find(kept: SavedEnvironment | None, adjust: Callable[[Site], Site] = lambda site: site) -> Site:
    """Return the remains of this host's bundled Mattermost as a site.

    Its credentials and keys come from the environment folder, else from GitLab's own backups of
    /etc/gitlab, the newest first, else from ``kept``. ``adjust`` gives the place of its databases,
    if that differs from the settings. Raises Failure where its home or its database is gone.
    """
    bare = adjust(omnibus.describe(config_required=False))
    backup = _config_backup(bare)
    ruby = gitlab_rb.literals("\n".join((backup.ruby if backup else "", gitlab_rb.text(bare.root))))
    recovered = {} if bare.environment_folder else _recover(bare, backup, ruby, kept)
    described = omnibus.describe(
        config_required=False, stand_in=recovered, home=ruby.get("home", "")
    )
    site = adjust(described)
    home = site.folders.home
    if not home.is_dir():
        raise Failure("Mattermost's home folder is missing", f"{home} is not a directory")
    site = replace(site, database=_database(site), account=_owner(site))
    return replace(site, missing=_missing(site))


def _recover(
    bare: Site, backup: _Backup | None, ruby: Mapping[str, str], kept: SavedEnvironment | None
) -> dict[str, Secret]:
    """Return the variables that are still known without the environment folder."""
    candidates, rows = _candidates(bare, backup, kept)
    chosen = next(
        (candidate for candidate in candidates if candidate.verified), next(iter(candidates), None)
    )
    found: dict[str, Secret] = {}
    if kept and any(
        candidate.source == kept.source and candidate.verified is not False
        for candidate in candidates
    ):
        found.update(kept.environment)
    found.pop("MM_SQLSETTINGS_DATASOURCE", None)  # the database of this host is used
    for row in rows or []:
        if chosen is not None and row.uid == chosen.pair.id:
            found[_SITE_URL] = Secret(row.redirect_uri.split(_COMPLETE)[0])
    if bare.gitlab.url:
        found.update({name: Secret(bare.gitlab.url + path) for name, path in _ENDPOINTS.items()})
    if backup is not None and isinstance(backup.secrets.get("sql_at_rest_encrypt_key"), str):
        found[_KEY] = Secret(backup.secrets["sql_at_rest_encrypt_key"])
    found.update({_RUBY_KEYS[key]: Secret(ruby[key]) for key in _RUBY_KEYS if key in ruby})
    if chosen is not None:
        log.info("Taking GitLab's credentials from %s", chosen.source)
        found.update({_ID: Secret(chosen.pair.id), _SECRET: chosen.pair.secret})
        found.setdefault("MM_GITLABSETTINGS_ENABLE", Secret("true"))
    return found


def _candidates(
    bare: Site, backup: _Backup | None, kept: SavedEnvironment | None
) -> tuple[list[Candidate], list[Application] | None]:
    """Return all pairs with GitLab's verdict on each, and its rows."""
    found: list[tuple[str, Pair | None]] = []
    if backup is not None:
        section = {"mattermost": backup.secrets}
        found.append((backup.name, credentials.pair_in(section, credentials.SECRETS_KEYS)))
    found.append(("gitlab.rb", credentials.literal_pair(bare)))
    found.append(("config.json", effective_pair(bare)))
    if kept is not None:
        words = {name: value.reveal() for name, value in kept.environment.items()}
        found.append((kept.source, credentials.pair_in(words, credentials.ENVIRONMENT_KEYS)))
    candidates = [Candidate(source, pair) for source, pair in found if pair]
    try:
        rows = oauth.applications(bare, [candidate.pair.id for candidate in candidates])
    except Failure:
        rows = None
    return credentials.verify(candidates, rows), rows


def _config_backup(site: Site) -> _Backup | None:
    """Return the newest of ``gitlab-ctl backup-etc``'s archives with Mattermost's secrets."""
    folder = site.below_root("/etc/gitlab/config_backup")
    for name, texts in omnibus_files.own_backups(folder, [_RUBY, _SECRETS]):
        try:
            section = json_text.parse(texts.get(_SECRETS, ""), name).get("mattermost")
        except Failure:
            continue
        if isinstance(section, Mapping) and section:
            return _Backup(name, section, texts.get(_RUBY, ""))
    return None


def _database(site: Site) -> Endpoint:
    """Return the database: by its name, or by the role that owns it."""
    endpoint = site.database
    with connection.administering(endpoint) as session:
        names = [
            str(row[0])
            for row in session.execute(
                "SELECT datname FROM pg_catalog.pg_database"
                " WHERE datname OPERATOR(pg_catalog.=) %s"
                " OR pg_catalog.pg_get_userbyid(datdba) OPERATOR(pg_catalog.=) %s"
                " ORDER BY datname OPERATOR(pg_catalog.<>) %s",
                (endpoint.name, endpoint.owner.role, endpoint.name),
            ).fetchall()
        ]
    if not names:
        raise Failure(
            "There is no database of Mattermost",
            f"no database is called {endpoint.name} or belongs to {endpoint.owner.role}",
        )
    return replace(endpoint, name=names[0])


def _owner(site: Site) -> Account:
    """Return the account of the files: its names, or its ids where it is gone."""
    uid = os.stat(site.folders.home).st_uid
    gid = _group(site, uid)
    user, group = str(uid), str(gid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(gid).gr_name
    return Account(user, group)


def _group(site: Site, uid: int) -> int:
    """Return the group of the account's files; the home itself belongs to root's."""
    # find(1) enters no directory through a link.
    theirs = ["find", str(site.folders.home), "-maxdepth", "2", "-uid", str(uid), "!", "-gid", "0"]
    asked = Command([*theirs, "-printf", "%G\n"], may_exit=(0, 1))  # 1: something has vanished
    groups = process.printed(asked).split()
    return int(Counter(groups).most_common(1)[0][0]) if groups else uid


def _readable(path: Path) -> bool:
    try:
        json_file.read_config(path)
    except Failure:
        return False
    return True


def _missing(site: Site) -> tuple[str, ...]:
    """Return, as text, what was not found."""
    settings, environment = site.settings, site.environment
    by_environment = not site.gitlab.version.startswith("10.")
    known = bool(site.environment_folder) or not by_environment
    uses_gitlab = not known or settings.flag("GitLabSettings", "Enable")
    found = {
        "config.json": _readable(site.config_file),
        "the environment folder": known,
        "GitLab's id and secret: register a new application": bool(effective_pair(site))
        or not uses_gitlab,
        "the folder of uploads": site.folders.real["data"].is_dir()
        or settings.text("FileSettings", "DriverName") not in ("", "local"),
        "ServiceSettings.SiteURL": bool(settings.text("ServiceSettings", "SiteURL")),
        "SqlSettings.AtRestEncryptKey": _KEY in environment or not by_environment,
        "the version of Mattermost": site.version != "unknown",
    }
    return tuple(words for words, there in found.items() if not there)


def site_here(store: Store) -> Site:
    """Return this host's Mattermost, or what GitLab 19 left of it; raises Failure without one."""
    if detect.kind() is Kind.OMNIBUS and left():
        return find(kept_in(store.sets()))
    return detect.find()
