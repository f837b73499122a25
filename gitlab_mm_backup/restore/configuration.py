"""Configuration from a set: config.json adapted to a site, and this program's own put back.

On Omnibus the service's environment sets what config.json does not; a standalone Mattermost has
config.json only. So the environment's values are written there, except values that a host sets
itself, and paths in the set's folders become paths in this site's.

This program's own configuration is put back where the host has none. Root runs what it names
(restic's password_command, programs in rclone.conf), so it is taken only from a set whose origin is
proven. What this host has is never replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..backup import configuration, targets
from ..config import config_file, secret_files, settings
from ..config.config_file import BadSettings
from ..container import compose
from ..errors import Failure, reason
from ..mattermost import effective_config, json_file, trust
from ..mattermost.effective_config import overlay, unplaced
from ..mattermost.json_file import Operations
from ..mattermost.json_text import Keys
from ..mattermost.site import Kind, Site
from ..store import verify
from ..store.sets import BackupSet
from ..system import files, humanize
from ..system.files import STATE
from .plan import RestoreOptions

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
            f"add those that are needed to {_where_variables_are()}"
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


def _where_variables_are() -> str:
    here = compose.server()
    if here is None:
        return "the unit: systemctl edit mattermost"
    return f"the environment of the container {here.name}"


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


KEPT = STATE / "configuration-of-set"  # files of a set that are not in use, below their paths
BEFORE = STATE / "configuration-before-restore"  # files that set nothing, and were replaced
_HERE = "this host has another one"


def wanted(set_: BackupSet, plan: RestoreOptions) -> bool:
    """Tell whether a restore would put back the configuration in ``set_``."""
    return not plan.named and bool(set_.manifest.configuration) and not _own()


def put_back(set_: BackupSet, plan: RestoreOptions) -> list[str]:
    """Write the configuration in ``set_`` where this host has none; return what was done, as text.

    The set's version of a file that this host has otherwise, or that is not put back, is in
    ``KEPT``.
    """
    if plan.named or not set_.manifest.configuration:
        return []
    try:
        shutil.rmtree(KEPT, ignore_errors=True)
        found = {Path(path): data for path, data in verify.configuration(set_).items()}
        other = {path: data for path, data in found.items() if _content(path) != data}
        for path, data in other.items():
            _kept(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace_file(_kept(path), data)
        results = _written(other, plan)
    except (OSError, Failure) as error:
        return [f"The configuration in the set was not put back: {reason(error)}"]
    return [*(_told(path, why) for path, why in results.items()), *_lacking(set_, results)]


def _written(found: Mapping[Path, bytes], plan: RestoreOptions) -> dict[Path, str]:
    """Put back files that are in ``KEPT``; return for each why it was not, "" where it was."""
    if not plan.proven or _own():
        why = "this host has its own settings" if plan.proven else "nothing proves who made the set"
        return dict.fromkeys(found, why)
    try:
        ours = settings.load(_kept(settings.file()))
    except BadSettings as failure:
        return dict.fromkeys(found, f"this version cannot read it ({failure.detail})")
    results = {}
    for path, data in found.items():
        known = _is_ours(path) or path in configuration.named(ours)
        results[path] = _write(path, data) if known else "no setting names it"
        if not results[path]:
            _kept(path).unlink()
    return results


def _own() -> bool:
    """Tell whether config.yml or config.d of this host sets any option."""
    return any(map(secret_files.given_in, config_file.files(settings.file())))


def _is_ours(path: Path) -> bool:
    """Tell whether settings are read from ``path``."""
    file = settings.file()
    return path == file or (path.parent == file.with_suffix(".d") and path.suffix == ".yml")


def _kept(path: Path) -> Path:
    return KEPT / str(path).lstrip("/")


def _content(path: Path) -> bytes | None:
    file = targets.file_of(path)
    return files.read_or_none(file) if file is not None else None


def _write(path: Path, data: bytes) -> str:
    """Write a file where there is none; return why not, or "".

    A file of settings that sets nothing, as the package brings it, is moved to ``BEFORE``.
    """
    mode, before = 0o600, BEFORE / str(path).lstrip("/")
    if os.path.lexists(path):
        text = _content(path)
        if not _is_ours(path) or path.is_symlink() or text is None:
            return _HERE
        mode = stat.S_IMODE(path.stat().st_mode)
        before.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace_file(before, text)
    above = next(folder for folder in path.parents if os.path.lexists(folder))
    if trust.roots_alone(above) is None:
        return f"accounts other than root can change {above}"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace_file(path, data, mode=mode)
    return ""


def _told(path: Path, why: str) -> str:
    text = f"Put back {path}: this host had none"
    if why:
        text = f"Not put back: {path}, because {why}. The set's is in {_kept(path)}"
    return humanize.plain(text)


def _lacking(set_: BackupSet, results: Mapping[Path, str]) -> list[str]:
    """Return the files that the host of the set had, where its configuration was put back."""
    if "" not in results.values():
        return []
    return [
        humanize.plain(f"Not in the set: {path}, because {why}")
        for path, why in set_.manifest.left_out.items()
        if not os.path.lexists(path)
    ]
