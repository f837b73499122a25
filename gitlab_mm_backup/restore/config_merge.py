"""Adapt a set's config.json to a site without an environment folder over it.

On Omnibus the service's environment sets what config.json does not; a standalone Mattermost has
config.json only. So the environment's values are written there, except values that a host sets
itself, and paths in the set's folders become paths in this site's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ..mattermost import effective_config, json_file
from ..mattermost.effective_config import overlay, unplaced
from ..mattermost.json_file import Operations
from ..mattermost.json_text import Keys
from ..mattermost.site import Kind, Site
from ..store.sets import BackupSet

# A host's own settings: Omnibus passes them by environment from GitLab 11 on, and renders
# them into config.json before.  Those of a set from elsewhere must not replace them.
_HOST_BOUND: Mapping[str, tuple[str, ...]] = {
    "ServiceSettings": ("SiteURL", "ListenAddress"),
    "SqlSettings": ("DriverName", "DataSource"),
    "LogSettings": ("FileLocation",),
    "FileSettings": ("Directory",),
    "PluginSettings": ("Directory", "ClientDirectory"),
    "GitLabSettings": ("AuthEndpoint", "TokenEndpoint", "UserApiEndpoint"),
}
# A standalone site's own; GitLab stays where the set's Mattermost knew it, and so does the
# address unless this host's config.json has one already.
_STANDALONE: Mapping[str, tuple[str, ...]] = {
    "ServiceSettings": ("SiteURL", "ListenAddress"),
    "SqlSettings": (
        *("DriverName", "DataSource"),
        *("DataSourceReplicas", "DataSourceSearchReplicas"),
    ),
    "LogSettings": ("FileLocation",),
    "NotificationLogSettings": ("FileLocation",),
    "FileSettings": ("Directory",),
    "PluginSettings": ("Directory", "ClientDirectory"),
}
# Not used there: the last two are for Omnibus's own build of the program.
_NOT_CONFIGURATION = ("MM_INSTALL_TYPE", "MM_CONFIG", "GODEBUG", "SSL_CERT_DIR")
_OF_GITLAB = ("/opt/gitlab/", "/var/opt/gitlab/", "/var/log/gitlab/", "/etc/gitlab/")
# Values that may be shown; all others may be secrets.
_PLAIN = re.compile(
    r"SiteURL|ListenAddress|SiteName|DriverName|Directory|ClientDirectory|FileLocation|Scope"
    r"|\w+Endpoint|Enable\w*|AllowedUntrustedInternalConnections"
)


def operations(set_: BackupSet, site: Site, config: Mapping[str, Any]) -> Operations:
    """Return the patch that adapts the set's ``config`` to this site, with tests first."""
    if site.kind is Kind.STANDALONE:
        kept, folders = (
            json_file.read(set_.file("settings")).document,
            set_.manifest.files.folders,
        )
        return json_file.setting(config, _baked(kept, folders, site, config))
    return json_file.setting(config, _said_here(site))


def _said_here(site: Site) -> dict[Keys, Any]:
    """Return the values that this host sets, where no environment does (GitLab 10)."""
    return {
        (section, key): site.settings.text(section, key)
        for section, keys in _HOST_BOUND.items()
        for key in keys
        if f"MM_{section}_{key}".upper() not in site.environment
        and site.settings.text(section, key)
        and site.gitlab.version.startswith("10.")
    }


def _baked(
    kept: Mapping[str, Any],
    folders: Mapping[str, str],
    site: Site,
    config: Mapping[str, Any],
) -> dict[Keys, Any]:
    changes: dict[Keys, Any] = {}
    for path, value in _leaves(config):
        moved = _moved(value, folders, site)
        if moved != value:
            changes[path] = moved
    effective = overlay(config, effective_config.environment_of_set(kept))
    for path in _differing(effective.tree, config):
        if not _by_environment(site, path):
            changes[path] = _moved(_value(effective.tree, path), folders, site)
    for section, keys in _STANDALONE.items():
        for key in keys:
            here = _value(site.settings.tree, (section, key))
            if (
                here is not None
                and not _by_environment(site, (section, key))
                and (here != "" or key == "FileLocation")
            ):
                changes[section, key] = here
    return changes


def _by_environment(site: Site, path: Keys) -> bool:
    """Tell whether the service's environment sets it: Mattermost never writes that to the file."""
    return "_".join(("MM", *path)).upper() in site.environment


def left_behind(set_: BackupSet, site: Site) -> list[str]:
    """Return, as text, the settings of the set that a standalone site cannot have.

    Variables without a setting in config.json, and paths that still lead into GitLab's folders.
    """
    if site.kind is not Kind.STANDALONE:
        return []
    document = json_file.read(set_.file("settings")).document
    config, environment = document.get("config"), effective_config.environment_of_set(document)
    if not isinstance(config, Mapping):
        return []
    unknown = [
        variable for variable in unplaced(config, environment) if variable not in _NOT_CONFIGURATION
    ]
    lines = []
    if unknown:
        lines.append(
            f"Not taken over, because config.json has no setting for them: {', '.join(unknown)}; "
            "add those that are needed to the unit: systemctl edit mattermost"
        )
    baked = json_file.applied(config, operations(set_, site, config), "config.json")
    strange = [
        ".".join(path)
        for path, value in _leaves(baked)
        if isinstance(value, str) and value.startswith(_OF_GITLAB)
    ]
    if strange:
        lines.append(f"These settings still point to directories of GitLab: {', '.join(strange)}")
    return lines


def shown(patch: Operations) -> list[str]:
    """Return the changes of a patch as text, without possible secrets."""
    lines = []
    for operation in patch:
        if operation["op"] == "test":
            continue
        value, last = operation["value"], str(operation["path"]).rpartition("/")[2]
        plain = isinstance(value, (bool, int)) or value in ("", {}, []) or _PLAIN.fullmatch(last)
        inside = "/PluginSettings/Plugins" in operation["path"]
        lines.append(
            f"{operation['op']} {operation['path']}: {value if plain and not inside else '(not shown)'}"
        )
    return lines


def _leaves(tree: Any, path: Keys = ()) -> list[tuple[Keys, Any]]:
    """Return each value that is not an object, with its path; lists count as values."""
    if not isinstance(tree, Mapping):
        return [(path, tree)]
    return [leaf for key, inside in tree.items() for leaf in _leaves(inside, (*path, key))]


def _moved(value: Any, folders: Mapping[str, str], site: Site) -> Any:
    """Return a path below a folder of the set as a path below this site's folder of that role."""
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    roles = sorted(folders, key=lambda role: -len(folders[role]))
    for role in roles:
        old, path = PurePosixPath(folders[role]), PurePosixPath(value)
        if role in site.folders.configured and (old == path or old in path.parents):
            end = "/" if value.endswith("/") else ""
            return f"{site.folders.configured[role] / path.relative_to(old)}{end}"
    return value


def _differing(tree: Mapping[str, Any], config: Mapping[str, Any]) -> list[Keys]:
    """Return the keys (section, key) whose values differ between ``tree`` and ``config``."""
    return [
        (section, key)
        for section, inside in tree.items()
        if isinstance(inside, Mapping)
        for key, value in inside.items()
        if _value(config, (section, key)) != value
    ]


def _value(tree: Mapping[str, Any], path: Keys) -> Any:
    inside: Any = tree
    for step in path:
        inside = inside.get(step) if isinstance(inside, Mapping) else None
    return inside
