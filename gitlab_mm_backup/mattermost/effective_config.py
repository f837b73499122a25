"""Effective settings: config.json overlaid by MM_* variables, as Mattermost does it; live or of a set."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Failure
from ..store.sets import BackupSet
from ..system import validation
from ..system.redaction import Secret

# How Mattermost spells the settings that Omnibus passes by environment, for a config.json that
# lacks them (omnibus-gitlab 10 to 18, env template of the mattermost cookbook), and those that we
# look up.
_SPELLING = {
    "ServiceSettings": (
        "SiteURL",
        "ListenAddress",
        "AllowedUntrustedInternalConnections",
        "EnableAPITeamDeletion",
        "EnableLocalMode",
        "ConnectionSecurity",
    ),
    "TeamSettings": ("SiteName",),
    "SqlSettings": ("DriverName", "DataSource", "AtRestEncryptKey"),
    "LogSettings": ("FileLocation",),
    "FileSettings": ("DriverName", "Directory", "AmazonS3Bucket", "MaxFileSize"),
    "EmailSettings": ("EnableSignInWithEmail", "SMTPServer"),
    "GitLabSettings": (
        "Enable",
        "Secret",
        "Id",
        "Scope",
        "AuthEndpoint",
        "TokenEndpoint",
        "UserApiEndpoint",
    ),
    "PluginSettings": ("Directory", "ClientDirectory"),
}
_SPELLED = {
    tuple(step.casefold() for step in place): place[-1]
    for section, keys in _SPELLING.items()
    for place in ((section,), *((section, key) for key in keys))
}
# Go's strconv.ParseBool.
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_BOOLEANS = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
_WHOLE = re.compile(r"[+-]?[0-9]+")


def folded(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the form that Go compares: encoding/json ignores the case of a struct's keys."""
    return tuple(step.casefold() for step in path)


def spelled(path: tuple[str, ...]) -> str:
    """Return Mattermost's spelling of the last step of ``path``; an unknown one is kept."""
    return _SPELLED.get(folded(path), path[-1])


class EffectiveConfig:
    """Read access to effective settings by section and key."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree

    @property
    def tree(self) -> Mapping[str, Any]:
        """The whole document, secrets included: for settings.json inside a set only."""
        return self._tree

    def text(self, section: str, key: str) -> str:
        value = self._value(section, key)
        return value if isinstance(value, str) else ""

    def secret(self, section: str, key: str) -> Secret:
        return Secret(self.text(section, key))

    def flag(self, section: str, key: str) -> bool:
        value = self._value(section, key)
        return value if isinstance(value, bool) else str(value) in _TRUE

    def differences(self, other: EffectiveConfig) -> list[str]:
        """Return the names (Section.Key) of what differs, never the values."""
        names = []
        for section in sorted({*self._tree, *other._tree}):
            ours, theirs = self._tree.get(section), other._tree.get(section)
            if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
                keys = sorted({*ours, *theirs})
                names += [f"{section}.{key}" for key in keys if ours.get(key) != theirs.get(key)]
            elif ours != theirs:
                names.append(section)
        return names

    def _value(self, section: str, key: str) -> Any:
        inside = self._tree.get(section)
        if isinstance(inside, Mapping) and key in inside:
            return inside[key]
        return self._folded.get(folded((section, key)))

    @functools.cached_property
    def _folded(self) -> dict[tuple[str, ...], Any]:
        """All values by their folded keys; a set of an earlier version has keys as written."""
        return {
            folded((section, key)): value
            for section, inside in self._tree.items()
            if isinstance(inside, Mapping)
            for key, value in inside.items()
        }

    def __repr__(self) -> str:
        return "Settings(…)"


def overlay(config: Mapping[str, Any], environment: Mapping[str, Secret]) -> EffectiveConfig:
    """Return ``config`` with every ``MM_<SECTION>_<KEY>`` of ``environment`` applied.

    A value gets the type of the one that it replaces: booleans by Go's ParseBool, whole numbers,
    lists split at each space. Text of another type is passed over, as Mattermost does. A key that
    config.json lacks becomes text.
    """
    tree = {
        section: dict(inside) if isinstance(inside, Mapping) else inside
        for section, inside in config.items()
    }
    names = _names(tree)
    for variable, value in environment.items():
        place = names.get(variable.upper())
        if place is None:
            continue
        section, key = place
        inside = tree.get(section)
        if inside is None:  # missing, or null
            inside = tree[section] = {}
        if isinstance(inside, dict):
            inside[key] = _as_type_of(inside.get(key), value.reveal())
    return EffectiveConfig(tree)


def unplaced(config: Mapping[str, Any], environment: Mapping[str, Secret]) -> list[str]:
    """Return the names in ``environment`` that have no setting in ``config``; sorted."""
    names = _names(config)
    return sorted(name for name in environment if name.upper() not in names)


def _names(tree: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Map variable names to (section, key): Omnibus's own first, then all that config.json has."""
    places = [(section, key) for section, keys in _SPELLING.items() for key in keys]
    places += [
        (section, key)
        for section, inside in tree.items()
        if isinstance(inside, Mapping)
        for key in inside
    ]
    return {f"MM_{section}_{key}".upper(): (section, key) for section, key in places}


def _as_type_of(old: Any, text: str) -> Any:
    if isinstance(old, bool):
        return _BOOLEANS.get(text, old)
    if isinstance(old, int):
        return int(text) if _WHOLE.fullmatch(text) else old
    if isinstance(old, list):
        return text.split(" ")
    return text


def environment_of_set(document: Mapping[str, Any]) -> dict[str, Secret]:
    """Return the service's variables in settings.json.

    Raises Failure where it has none, or invalid ones.
    """
    try:
        found = validation.variables(document.get("environment"))
    except ValueError as error:
        raise Failure(
            "The settings part of the set is invalid",
            f"settings.json, environment: {error}",
            "Choose another set: gitlab-mm list.",
        ) from None
    return {name: Secret(value) for name, value in found.items()}


@dataclass(frozen=True)
class KeptSettings:
    """Settings of a set; the values are secrets, the names are not."""

    effective: EffectiveConfig
    plugins: Mapping[str, bool]  # ids, in order -> whether it is enabled


def of_set(set_: BackupSet) -> KeptSettings:
    """Return the settings of a set, wherever its parts are; raises Failure."""
    with set_.open("settings") as file:
        data = file.read(validation.LARGEST_DOCUMENT + 1)
    try:
        document = validation.from_json(data)
    except ValueError as error:
        raise _unreadable(str(error)) from None
    config = document.get("config") if isinstance(document, Mapping) else None
    if not isinstance(config, Mapping):
        raise _unreadable("settings.json has no config")
    environment = environment_of_set(document)
    return KeptSettings(overlay(config, environment), _plugins(config))


def _plugins(config: Mapping[str, Any]) -> dict[str, bool]:
    """Return the plugins that Mattermost has settings or a state of."""
    section = config.get("PluginSettings")
    section = section if isinstance(section, Mapping) else {}
    settings, states = section.get("Plugins"), section.get("PluginStates")
    settings = settings if isinstance(settings, Mapping) else {}
    states = states if isinstance(states, Mapping) else {}
    return {name: _enabled(states.get(name)) for name in sorted({*settings, *states})}


def _enabled(state: Any) -> bool:
    return isinstance(state, Mapping) and state.get("Enable") is True


def _unreadable(detail: str) -> Failure:
    return Failure(
        "The settings part of the set is invalid", detail, "Choose another set: gitlab-mm list."
    )
