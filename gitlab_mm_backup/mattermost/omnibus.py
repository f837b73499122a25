"""Find the Mattermost bundled with Omnibus GitLab, from the files on disk."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..container import selection
from ..errors import Failure
from ..postgresql import data_source
from ..postgresql.endpoint import Endpoint, Login
from ..system import files
from ..system.redaction import Secret
from ..version import numbers
from . import json_file, json_text, omnibus_files, trust
from .effective_config import EffectiveConfig, overlay
from .site import Account, Folders, GitLab, Kind, Site

# Omnibus's defaults (omnibus-gitlab 10 to 18, attributes/default.rb).
_HOME = "/var/opt/gitlab/mattermost"
_ACCOUNT = "mattermost"
_DATABASE = "mattermost_production"
_GITLAB_DATABASE = "gitlabhq_production"
_ROLE = "gitlab_mattermost"
_SOCKET = "/var/opt/gitlab/postgresql"
_PORT = 5432
_PSQL_ACCOUNT = "gitlab-psql"
_GIT = "git"
GITLAB_ROLE = "gitlab"
_VERSION_BYTES = 4096
# Role -> Mattermost's setting, and Omnibus's attribute.
_FOLDERS = {
    "data": ("FileSettings", "Directory", "file_directory"),
    "plugins": ("PluginSettings", "Directory", "plugin_directory"),
    "client-plugins": ("PluginSettings", "ClientDirectory", "plugin_client_directory"),
}
WITHOUT_MATTERMOST = (19,)  # the first GitLab that bundles none
_PORTS = "Check mattermost['sql_data_source'] and postgresql['port'] in gitlab.rb."


class Presence(enum.Enum):
    """How much of a bundled Mattermost a host has."""

    NO_GITLAB = "Omnibus GitLab is not installed on this host"
    REMOVED = "this GitLab no longer bundles Mattermost"
    NEVER = "the bundled Mattermost was never set up"
    DISABLED = "the bundled Mattermost is disabled"
    ENABLED = "the bundled Mattermost is enabled"


_WAYS_OUT = {
    Presence.NO_GITLAB: "Run this on the GitLab server, or where root runs its container.",
    Presence.REMOVED: "GitLab 19 removed it; gitlab-mm backup saves what it left here.",
    Presence.NEVER: "There is nothing to back up. To set it up: mattermost_external_url in "
    "/etc/gitlab/gitlab.rb, then gitlab-ctl reconfigure.",
    Presence.DISABLED: "Enable it in /etc/gitlab/gitlab.rb (mattermost['enable'] = true), run "
    "gitlab-ctl reconfigure, then try again.",
}


def presence(root: Path = Path("/")) -> Presence:
    """Return how much of a bundled Mattermost is on this host; only reads."""
    version = omnibus_files.gitlab_version(root)
    if not version:
        return Presence.NO_GITLAB
    if numbers(version) >= WITHOUT_MATTERMOST:  # a run of 19 that was aborted left the service
        return Presence.REMOVED
    if os.path.lexists(root / "opt/gitlab/service/mattermost"):
        return Presence.ENABLED
    if not (root / omnibus_files.EMBEDDED_MATTERMOST).is_dir():
        return Presence.REMOVED
    return Presence.DISABLED if (home(root) / "config.json").exists() else Presence.NEVER


def home(root: Path = Path("/")) -> Path:
    """Return Mattermost's home, which may remain after Mattermost is gone."""
    return root / _home(omnibus_files.attributes(root), root).lstrip("/")


@dataclass(frozen=True)
class _Sources:
    """The files that settings are looked up in, read once."""

    root: Path
    attributes: Mapping[str, Any]
    public: Mapping[str, Any]
    psql_rc: Mapping[str, str]

    def mattermost(self, key: str) -> str:
        return _text(self.attributes.get("mattermost"), key)


def _sources(root: Path) -> _Sources:
    return _Sources(
        root,
        omnibus_files.attributes(root),
        omnibus_files.public_attributes(root),
        omnibus_files.psql_rc(root),
    )


def find(root: Path = Path("/"), *, config_required: bool = True) -> Site:
    """Return the bundled Mattermost.

    Raises Failure when there is none, when it is not enabled, when its database is not PostgreSQL,
    and when its config.json cannot be read; the last only with ``config_required``, because a
    restore may repair that file.
    """
    found = presence(root)
    if found is Presence.NO_GITLAB and (reason := selection.missing()) is not None:
        raise reason
    if found is not Presence.ENABLED:
        raise Failure("No usable Mattermost was found", found.value, _WAYS_OUT[found])
    return describe(root, config_required=config_required)


def describe(
    root: Path = Path("/"),
    *,
    config_required: bool = True,
    stand_in: Mapping[str, Secret] | None = None,
    home: str = "",
) -> Site:
    """Return the bundled Mattermost from its files, whether or not its program is still there.

    ``stand_in`` replaces a missing environment folder, ``home`` the value of the node and the
    service's start script. Raises Failure as ``find`` does.
    """
    sources = _sources(root)
    place = Path(_home(sources.attributes, root, home))
    config_file = place / "config.json"
    account = Account(
        sources.mattermost("username") or sources.mattermost("user") or _ACCOUNT,
        sources.mattermost("group") or _ACCOUNT,
    )
    environment_folder = _environment_folder(sources, place, account)
    environment = omnibus_files.environment(environment_folder) if environment_folder else {}
    environment = environment or dict(stand_in or {})
    effective = overlay(_config(config_file, config_required), environment)
    gitlab_version = omnibus_files.gitlab_version(root)
    return Site(
        kind=Kind.OMNIBUS,
        version=_mattermost_version(root, place),
        account=account,
        folders=_folders(place, effective, environment, sources, account),
        config_file=config_file,
        environment_folder=environment_folder,
        environment=environment,
        settings=effective,
        database=_database(effective, environment, sources, account, gitlab_version),
        client_programs=root / "opt/gitlab/embedded/bin",
        gitlab=GitLab(gitlab_version, _gitlab_url(root), _gitlab_database(sources)),
        root=root,
    )


def _home(attributes: Mapping[str, Any], root: Path, otherwise: str = "") -> str:
    """Return the home from the node, or after a failed reconfigure from the start script."""
    home = _text(attributes.get("mattermost"), "home")
    if home:
        return home
    match = re.search(r"(?:--config|-c)[ =](/\S+)/config\.json", _start_script(root))
    return match[1] if match else otherwise or _HOME


def _start_script(root: Path) -> str:
    try:
        return (root / "opt/gitlab/sv/mattermost/run").read_text(errors="replace")
    except OSError:
        return ""


def _config(path: Path, required: bool) -> Mapping[str, Any]:
    try:
        document: Mapping[str, Any] = json_file.read_config(path).document
        return document
    except Failure as failure:
        if not required:
            return {}
        # A file that Mattermost cannot read either is reported; a missing one it creates itself.
        either = " (Mattermost cannot start from it either)"
        hopeless = either if isinstance(failure, json_text.NotJson) else ""
        raise Failure(
            failure.message, failure.detail, f"Fix {path}{hopeless}, or restore a set."
        ) from failure


def _environment_folder(sources: _Sources, home: Path, account: Account) -> Path | None:
    """Return the environment folder: of GitLab 11.6 to 18, or one below the home (10 to 11.5).

    The service's start script names the one that is used; an upgrade may leave the other.
    """
    script = _start_script(sources.root)
    named = re.search(r"chpst\s(?:.*\s)?-e\s+(/\S+)", script)
    candidates = [
        named[1] if named else "",
        sources.mattermost("env_directory"),
        str(sources.root / omnibus_files.ENVIRONMENT),
        str(home / "env"),
    ]
    found = next(
        (Path(candidate) for candidate in candidates if candidate and Path(candidate).is_dir()),
        None,
    )
    return found and trust.followed("environment", found, account.user)


def _mattermost_version(root: Path, home: Path) -> str:
    bundled = omnibus_files.bundled_mattermost(root)
    return bundled or _noted_version(home) or "unknown"


def _noted_version(home: Path) -> str:
    """Return the version of the program that last ran, from the home; the account may change it."""
    try:
        text = files.read_regular(home / "VERSION", _VERSION_BYTES).decode(errors="replace")
    except (OSError, Failure):
        return ""
    return text.partition("\n")[0].strip()


def _folders(
    home: Path,
    effective: EffectiveConfig,
    environment: Mapping[str, Secret],
    sources: _Sources,
    account: Account,
) -> Folders:
    """Find each folder in the settings; raises Failure for one that cannot be trusted."""
    configured, by_account = {"home": home}, []
    for role, (section, key, attribute) in _FOLDERS.items():
        setting = effective.text(section, key)
        # A relative path would be relative to the program; Omnibus never leaves it so.
        path = setting if setting.startswith("/") else sources.mattermost(attribute)
        configured[role] = Path(path) if path else home / role
        if setting.startswith("/") and f"MM_{section}_{key}".upper() not in environment:
            by_account.append(role)
    return Folders(configured, trust.real(configured, account.user, by_account))


def _database(
    effective: EffectiveConfig,
    environment: Mapping[str, Secret],
    sources: _Sources,
    account: Account,
    gitlab_version: str,
) -> Endpoint:
    # From GitLab 11 on only the environment counts: config.json then holds a sample.
    ours = "MM_SQLSETTINGS_DRIVERNAME" in environment or gitlab_version.startswith("10.")
    if ours and effective.text("SqlSettings", "DriverName") == "mysql":
        raise Failure(
            "This Mattermost keeps its data in MySQL, which is not supported",
            hint="Move it to PostgreSQL with Mattermost's own migration-assist first.",
        )
    own = _data_source(effective, environment, sources, gitlab_version)
    given = data_source.direct(own)
    bundled, host = _host(given.get("host", ""), _socket(sources))
    # Its socket admits accounts; a password may be a pooler's.
    password = "" if bundled and given != own else given.get("password", "")
    peer = host.startswith("/") and not password
    owner = Login(
        given.get("user") or _ROLE,
        account.user if peer or data_source.has_files(given) else None,
        Secret(password) if password else None,
    )
    return Endpoint(
        host=host,
        port=data_source.port(given, _port(sources), _PORTS),
        name=given.get("dbname") or sources.mattermost("database_name") or _DATABASE,
        owner=owner,
        admin=_superuser(sources) if bundled else owner,
        options=data_source.options(given),
        session=data_source.session(given),
    )


def _host(given: str, socket: str) -> tuple[bool, str]:
    """Tell whether this is the bundled server, however its socket directory is written."""
    same = not given or (given[0] == "/" and os.path.realpath(given) == os.path.realpath(socket))
    return same, socket if same else given


def _data_source(
    effective: EffectiveConfig,
    environment: Mapping[str, Secret],
    sources: _Sources,
    gitlab_version: str,
) -> dict[str, str]:
    """Return the parts of Mattermost's DataSource, a keyword string or a URL.

    From GitLab 11 on only the environment counts: config.json then holds a sample.
    """
    text = effective.text("SqlSettings", "DataSource")
    if "MM_SQLSETTINGS_DATASOURCE" not in environment and not gitlab_version.startswith("10."):
        text = ""
    return data_source.parse(
        text, "Check mattermost['sql_data_source'] in /etc/gitlab/gitlab.rb.", environment
    )


def _socket(sources: _Sources) -> str:
    found = [_text(section, "unix_socket_directory") for section in _postgresql(sources)]
    return sources.psql_rc.get("psql_host") or next(filter(None, found), _SOCKET)


def _port(sources: _Sources) -> str:
    found = [str(section.get("port") or "") for section in _postgresql(sources)]
    return sources.psql_rc.get("psql_port") or next(filter(None, found), str(_PORT))


def _postgresql(sources: _Sources) -> list[Mapping[str, Any]]:
    """Return the bundled server's settings: public attributes, then the node (12.0, 10)."""
    gitlab = sources.attributes.get("gitlab")
    places = [sources.public, sources.attributes, gitlab if isinstance(gitlab, Mapping) else {}]
    found = [place.get("postgresql") for place in places]
    return [section for section in found if isinstance(section, Mapping)]


def data_folder(root: Path = Path("/")) -> Path:
    """Return the data folder of the bundled PostgreSQL."""
    sources = _sources(root)
    found = [_text(section, "dir") for section in _postgresql(sources)]
    return Path(next(filter(None, found), _SOCKET)) / "data"


def _superuser(sources: _Sources) -> Login:
    name = sources.psql_rc.get("psql_user") or _PSQL_ACCOUNT
    return Login(name, name)


def _gitlab_database(sources: _Sources) -> Endpoint | None:
    """Return GitLab's own database where it is on the bundled server."""
    rails = sources.attributes.get("gitlab", {})
    rails = rails.get("gitlab_rails") or rails.get("gitlab-rails") or {}
    elsewhere = not (_text(rails, "db_host") or "/").startswith("/")
    if rails.get("enable") is False or elsewhere or not sources.psql_rc:
        return None
    name = sources.psql_rc.get("psql_dbname") or _text(rails, "db_database")  # the rc: from 12.0
    superuser = _superuser(sources)
    return Endpoint(
        host=_socket(sources),
        port=data_source.port({}, _port(sources), _PORTS),
        name=name or _GITLAB_DATABASE,
        owner=Login(_text(rails, "db_username") or GITLAB_ROLE, _gitlab_account(sources)),
        admin=superuser,
    )


def _gitlab_account(sources: _Sources) -> str:
    """Return the account that the bundled server's map admits as GitLab's role."""
    gitlab = sources.attributes.get("gitlab")
    user = gitlab.get("user") if isinstance(gitlab, Mapping) else None
    return _text(user, "username") or _GIT


def _gitlab_url(root: Path) -> str:
    section = omnibus_files.production(root).get("gitlab")
    if not isinstance(section, Mapping) or not section.get("host"):
        return ""
    scheme, usual = ("https", 443) if section.get("https") else ("http", 80)
    port = section.get("port") or usual
    place = f":{port}" if port != usual else ""
    return f"{scheme}://{section['host']}{place}{section.get('relative_url_root') or ''}"


def _text(section: Any, key: str) -> str:
    value = section.get(key) if isinstance(section, Mapping) else None
    return value if isinstance(value, str) else ""
