"""Mattermost's configuration: config.json, defaults for what it lacks, and the MM_ environment on top."""

from __future__ import annotations

import copy
import json
import os
import re
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
    """The file's content, {} if there is none or it is empty; raises Refused for what is no JSON object."""
    try:
        document = json.loads(path.read_text() or "{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Refused(
            f"failed to create store: unable to load on store creation: {error}"
        ) from error
    if not isinstance(document, dict):
        raise Refused(f"{path}: cannot unmarshal into Go value of type model.Config")
    return document


def with_defaults(config: Config) -> Config:
    """The configuration with every section and key that this server knows, in its order and spelling.

    As Go's decoder reads: the case of names is ignored, null is no value, and what is unknown goes. Raises Refused
    for a value of another type.
    """
    known: Config = json.loads((FIXTURES / "config-5.37.json").read_text())
    given = folded(config)
    return {
        name: filled(name, section, folded(given.get(name.casefold()) or {}))
        for name, section in known.items()
    }


def folded(section: Config) -> Config:
    """Values by their names in small letters, without those that are null."""
    if not isinstance(section, dict):
        raise Refused(f"cannot unmarshal {type(section).__name__} into Go struct")
    return {name.casefold(): value for name, value in section.items() if value is not None}


def filled(name: str, known: Config, given: Config) -> Config:
    """A section with a value for each key that is known."""
    section = {key: given.get(key.casefold(), usual) for key, usual in known.items()}
    for key, usual in known.items():
        if usual is not None and not isinstance(section[key], type(usual)):
            raise Refused(f"cannot unmarshal into Go struct field {name}.{key}")
    return section


def correct(config: Config) -> None:
    """Put right in place what people write in two ways (fixConfig)."""
    config["ServiceSettings"]["SiteURL"] = config["ServiceSettings"]["SiteURL"].rstrip("/")
    files = config["FileSettings"]
    if files["DriverName"] == "local" and files["Directory"]:
        files["Directory"] = files["Directory"].rstrip("/") + "/"


def refuse_invalid(config: Config) -> None:
    """Raise Refused for an address that cannot be listened at (ServiceSettings.isValid)."""
    listen = config["ServiceSettings"]["ListenAddress"]
    host, colon, port = listen.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # net.SplitHostPort: too many colons
    fits = not host or ":" in host or re.fullmatch(r"[\w.-]+", host)
    if not (colon and fits and port.isdecimal() and int(port) < 1 << 16):
        raise Refused("invalid config: Invalid listen address for service settings Must be set.")


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
    given = {name.upper(): text for name, text in environment.items()}
    for name, section in result.items():
        if isinstance(section, dict):
            for key, value in section.items():
                text = given.get(f"MM_{name}_{key}".upper())
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


def save(path: Path, config: Config, mode: int = 0o600) -> None:
    """Write the file as Mattermost does, in its place; ``mode`` is that of a new one."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(go_json.dumps(config))


def start(
    path: Path, environment: Mapping[str, str] = os.environ, version: tuple[int, ...] = (10,)
) -> Config:
    """Load, complete and write the file, and give the configuration in force; raises Refused.

    Until 5.10, which has a store for it, the file was written where salts were missing.
    """
    config = with_defaults(load(path))
    salted = make_salts(config)
    correct(config)
    in_force = overlay(config, environment)
    correct(in_force)
    refuse_invalid(in_force)
    if salted or version >= (5, 10):
        try:
            save(path, config, 0o600 if version < (6,) else 0o644)
        except OSError as error:
            raise Refused(f"failed to persist: failed to write file: {error}") from error
    return in_force
