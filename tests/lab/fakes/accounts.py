"""The system users of Omnibus. Their numbers come from a counter, so that a lab can be built again with other ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import paths

NEXT_NUMBER = paths.CODE / "next-uid"
PACKAGE_USERS = {
    "git": ("gitlab-home", "/bin/sh"),
    "gitlab-www": ("nginx", "/bin/false"),
    "gitlab-psql": ("postgresql", "/bin/sh"),
    "gitlab-prometheus": ("prometheus", "/bin/sh"),
}


def start_numbers(first: int) -> None:
    """From now on new users get this number and the following ones."""
    paths.write(NEXT_NUMBER, str(first), 0o600)


def ensure(name: str, home: Path, shell: str) -> None:
    """Create a system user and its group, if missing."""
    if paths.user_exists(name):
        return
    number = int(NEXT_NUMBER.read_text())
    start_numbers(number + 1)
    options = (
        "--system",
        "--no-create-home",
        "--user-group",
        "--uid",
        str(number),
        "--home-dir",
        str(home),
    )
    subprocess.run(["useradd", *options, "--shell", shell, name], check=True, capture_output=True)


def ensure_package_users() -> None:
    """The users that every Omnibus GitLab has; mattermost's is made when Mattermost is enabled."""
    for name, (home, shell) in PACKAGE_USERS.items():
        ensure(name, paths.VAR / home, shell)
