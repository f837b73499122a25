"""Mattermost's configuration: config.json, defaults for what it lacks, and the MM_ environment on top."""

from __future__ import annotations

import copy
import json
import os
import secrets
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import go_json

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
SALTS = (
    ("SqlSettings", "AtRestEncryptKey"),
    ("FileSettings", "PublicLinkSalt"),
    ("EmailSettings", "InviteSalt"),
)
# Go's strconv.ParseBool.
BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
Config = dict[str, Any]


class Refused(Exception):
    """The configuration cannot be used; the server ends."""


def load(path: Path) -> Config:
    """The file's content; raises Refused if it is missing or no JSON object."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"failed to load configuration: {path}: {error}") from error
    if not isinstance(document, dict):
        raise Refused(
            f"failed to load configuration: {path}: cannot unmarshal into Go value of type model.Config"
        )
    return document


def with_defaults(config: Config) -> Config:
    """The configuration with every section and key that this server knows, in its order; what is unknown stays last."""
    known: Config = json.loads((FIXTURES / "config-5.37.json").read_text())
    filled = {name: {**section, **(config.get(name) or {})} for name, section in known.items()}
    return {**filled, **{name: section for name, section in config.items() if name not in known}}


def make_salts(config: Config) -> bool:
    """Fill empty salts in place; tells whether there were any."""
    empty = [(section, key) for section, key in SALTS if not config[section].get(key)]
    for section, key in empty:
        config[section][key] = "".join(
            secrets.choice(string.ascii_lowercase + string.digits) for _ in range(32)
        )
    return bool(empty)


def overlay(config: Config, environment: Mapping[str, str]) -> Config:
    """The configuration in force: MM_SECTION_KEY over the file's value, in the type of the known value."""
    result = copy.deepcopy(config)
    for name, section in result.items():
        if isinstance(section, dict):
            for key, value in section.items():
                text = environment.get(f"MM_{name}_{key}".upper())
                if text is not None:
                    section[key] = converted(text, value)
    return result


def converted(text: str, like: Any) -> Any:
    """A variable's text in the type of the value it replaces; what does not parse leaves that value."""
    if isinstance(like, bool):
        return BOOLEANS.get(text, like)
    if isinstance(like, int):
        return int(text) if text.lstrip("-").isdigit() else like
    if isinstance(like, list):
        return text.split(" ")  # as the original does, which makes one empty word of nothing
    return like if isinstance(like, dict) else text


def save(path: Path, config: Config) -> None:
    """Write the file as Mattermost does, without what came from the environment."""
    path.write_text(go_json.dumps(config))


def start(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Load, make missing salts and keep them, and give the configuration in force; raises Refused."""
    config = with_defaults(load(path))
    if make_salts(config):
        try:
            save(path, config)
        except OSError as error:
            raise Refused(f"failed to save configuration: {error}") from error
    return overlay(config, environment)
