"""Which files of the settings have secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..system.redaction import Secret
from . import config_file
from .schema import OPTIONS


def readable_secrets(file: Path) -> list[Path]:
    """Return the files of the settings in ``file`` that have a secret and that every user can read."""
    found = [path for path in config_file.files(file) if path.exists() and has_secret(path)]
    return [path for path in found if path.stat().st_mode & 0o004]


def has_secret(path: Path) -> bool:
    """Tell whether a file of the settings has a secret, even where a later file replaces it."""
    return any(_holds(given.value) for given in given_in(path).values())


def given_in(path: Path) -> dict[str, config_file.Given]:
    """Return the values in one file of the settings; none where it is absent."""
    return config_file.read_alone(path, OPTIONS)


def _holds(value: Any) -> bool:
    """Tell whether there is a secret in the value of an option."""
    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    return isinstance(value, Secret) or (isinstance(value, list) and any(map(_holds, value)))
