"""Environment variables: which ones of the caller are used. All others are removed.

They are documented in docs/settings.md, "Environment variables".
"""

from __future__ import annotations

import os
import pwd
import re

from .redaction import Secret

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Output: language and width of the terminal, and the time zone.
_OWN = re.compile(
    r"TERM|COLUMNS|LINES|NO_COLOR|TZ|LANG|LANGUAGE|LC_[A-Z]+"
    r"|GITLAB_MM_[A-Z_]+"  # of a run for its hooks, which may call us
)
# Proxies and certificates, as Go's net/http and crypto/x509, and curl, read them.
_NETWORK = re.compile(
    r"https?_proxy|all_proxy|no_proxy|HTTPS?_PROXY|ALL_PROXY|NO_PROXY|SSL_CERT_(?:FILE|DIR)"
)
# Path and password of rclone's own configuration file (rclone's manual, "Environment
# Variables").
_RCLONE = re.compile(r"RCLONE_CONFIG|RCLONE_CONFIG_PASS|RCLONE_PASSWORD_COMMAND")
# Variables of restic and its storages (its manual, "Environment Variables"): on an empty host
# there is no file with them yet.
_RESTIC = re.compile(r"(?:RESTIC|AWS|B2|AZURE|GOOGLE|OS|ST|RCLONE)_[A-Z0-9_]+")
_ROOTS = ("/root/.config/rclone/rclone.conf", "/root/.rclone.conf")
_ID = re.compile(r"[0-9]{1,9}")

_callers: dict[str, str] = {}


def cleanse() -> None:
    """Remove every variable except those for language and terminal, once, at the start.

    The caller's variables are saved for ``network``, ``rclone`` and ``restic``; libpq, Python's
    libraries and the C library no longer see them.
    """
    given = dict(os.environ)
    _callers.clear()
    _callers.update(given)
    kept = {name: value for name, value in given.items() if _OWN.fullmatch(name)}
    os.environ.clear()
    os.environ.update({**kept, **account(), "PATH": PATH})


def account() -> dict[str, str]:
    """Return HOME, USER and LOGNAME of the current account."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return {"HOME": "/"}
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}


def network() -> dict[str, Secret]:
    """Return the caller's proxies and certificates; a proxy's address may hold a password."""
    return _those(_NETWORK)


def proxies() -> dict[str, str]:
    """Return the caller's proxies by scheme, as urllib takes them; "no" lists the exceptions."""
    found = {name.lower(): value.reveal() for name, value in network().items()}
    return {name[: -len("_proxy")]: url for name, url in found.items() if name.endswith("_proxy")}


def rclone() -> dict[str, Secret]:
    """Return the caller's variables that open rclone's own configuration file."""
    return {name: value for name, value in _those(_RCLONE).items() if name != "RCLONE_CONFIG"}


def rclone_config() -> str:
    """Return the path of rclone's own configuration file: RCLONE_CONFIG, or root's."""
    named = _callers.get("RCLONE_CONFIG", "")
    return named or next((path for path in _ROOTS if os.path.exists(path)), _ROOTS[0])


def restic() -> dict[str, Secret]:
    """Return the caller's variables for a repository that is given with --from."""
    return {**_those(_RESTIC), **network()}


def sudo() -> tuple[int, int]:
    """Return the user and group id of the account that called sudo(8); (0, 0) where none did."""
    user, group = (_callers.get(name, "") for name in ("SUDO_UID", "SUDO_GID"))
    return (int(user), int(group)) if _ID.fullmatch(user) and _ID.fullmatch(group) else (0, 0)


def _those(wanted: re.Pattern[str]) -> dict[str, Secret]:
    return {name: Secret(value) for name, value in _callers.items() if wanted.fullmatch(name)}
