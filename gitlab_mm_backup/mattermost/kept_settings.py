"""The settings of a set, looked at without unpacking it: plugins, and what differs from the live ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Failure
from ..store.sets import BackupSet
from ..system import validation
from . import effective_config
from .effective_config import EffectiveConfig


@dataclass(frozen=True)
class KeptSettings:
    """Settings of a set; the values are secrets, the names are not."""

    effective: EffectiveConfig
    plugins: Mapping[str, bool]  # ids, in order -> whether it is enabled


def read(set_: BackupSet) -> KeptSettings:
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
    environment = effective_config.environment_of_set(document)
    return KeptSettings(effective_config.overlay(config, environment), _plugins(config))


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
