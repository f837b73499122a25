"""/etc/gitlab/gitlab-secrets.json: read, filled up with what is missing, written as Omnibus writes it."""

from __future__ import annotations

import base64
import json
from typing import Any

from . import paths
from .oauth import Credentials

Settings = dict[str, dict[str, Any]]
MATTERMOST_SALTS = ("email_invite_salt", "file_public_link_salt", "sql_at_rest_encrypt_key")


def read() -> Settings:
    """The file's sections; none if there is no file."""
    if not paths.SECRETS.exists():
        return {}
    sections: Settings = json.loads(paths.SECRETS.read_text())
    return sections


def hexadecimal(package: paths.Package, purpose: str, characters: int) -> str:
    """A made-up value in hexadecimal digits."""
    digits = "".join(paths.derive(package.seed, f"{purpose}/{number}").hex() for number in range(4))
    return digits[:characters]


def made_credentials(package: paths.Package) -> Credentials:
    """The application id and secret that this server comes up with when none is stored.

    Since 15.4 Omnibus makes 32 random bytes in URL-safe Base64 without padding; before, GitLab made 64 hex digits.
    """
    if not package.generation.invents_credentials:
        return hexadecimal(package, "gitlab_id", 64), hexadecimal(package, "gitlab_secret", 64)
    identifier, secret = (
        paths.derive(package.seed, name) for name in ("gitlab_id", "gitlab_secret")
    )
    return urlsafe(identifier), urlsafe(secret)


def urlsafe(data: bytes) -> str:
    """URL-safe Base64 without padding, as Ruby's SecureRandom.urlsafe_base64 gives it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def other_sections(package: paths.Package) -> Settings:
    """Secrets of GitLab's other parts: unused here, but the real file has them."""
    return {
        "gitlab_workhorse": {"secret_token": hexadecimal(package, "workhorse", 44)},
        "gitlab_shell": {"secret_token": hexadecimal(package, "shell", 128)},
        "gitlab_rails": {
            "secret_key_base": hexadecimal(package, "secret_key_base", 128),
            "db_key_base": hexadecimal(package, "db_key_base", 128),
            "otp_key_base": hexadecimal(package, "otp_key_base", 128),
        },
        "registry": {"http_secret": hexadecimal(package, "registry", 128)},
    }


def fill(package: paths.Package, sections: Settings) -> Settings:
    """The sections with every missing value made up; values that are there stay."""
    filled = {
        name: {**values, **sections.get(name, {})}
        for name, values in other_sections(package).items()
    }
    if not package.generation.bundles_mattermost:
        gone = {name: values for name, values in sections.items() if name != "mattermost"}
        return {**filled, **{name: gone[name] for name in gone if name not in filled}}
    salts = {name: hexadecimal(package, name, 32) for name in MATTERMOST_SALTS}
    filled["mattermost"] = {**salts, **sections.get("mattermost", {})}
    if package.generation.invents_credentials:
        filled["mattermost"].setdefault("register_as_oauth_app", True)
    return {**filled, **{name: values for name, values in sections.items() if name not in filled}}


def write(package: paths.Package, sections: Settings, mattermost: dict[str, Any]) -> None:
    """Write the file: the mattermost section from the values in force, credentials only while sign-in is on."""
    if not package.generation.bundles_mattermost:
        paths.write(paths.SECRETS, json.dumps(sections, indent=2) + "\n", mode=0o600)
        return
    names = list(MATTERMOST_SALTS)
    if package.generation.invents_credentials:
        names.append("register_as_oauth_app")
    if mattermost.get("gitlab_enable"):
        names += ["gitlab_enable", "gitlab_secret", "gitlab_id"]
    written = {**sections, "mattermost": {name: mattermost.get(name) for name in names}}
    paths.write(paths.SECRETS, json.dumps(written, indent=2) + "\n", mode=0o600)
