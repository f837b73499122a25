"""Omnibus GitLab's fixed places, and how the lab keeps what the real package would know by itself."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

from .generation import Generation

OPT = Path("/opt/gitlab")
VAR = Path("/var/opt/gitlab")
ETC = Path("/etc/gitlab")
LOG = Path("/var/log/gitlab")
BIN = OPT / "embedded/bin"
NODES = OPT / "embedded/nodes"
MATTERMOST_SERVICE = OPT / "embedded/service/mattermost"
CODE = OPT / "embedded/lib/lab"
PACKAGE = CODE / "package.json"
SECRETS = ETC / "gitlab-secrets.json"
GITLAB_RB = ETC / "gitlab.rb"


class Package(NamedTuple):
    """What is settled before /etc/gitlab/gitlab.rb is read: the version, and the lab's substitute for chance."""

    version: str
    seed: str
    secret_form: str

    @property
    def generation(self) -> Generation:
        """The habits of this version."""
        return Generation(self.version)

    def save(self) -> None:
        """Write the file that `load_package` reads."""
        write(PACKAGE, json.dumps(self._asdict()), mode=0o600)


def node_name() -> str:
    """The name of the node file, without .json: the host's full name."""
    return socket.getfqdn()


def load_package() -> Package:
    """The package that is installed here."""
    return Package(**json.loads(PACKAGE.read_text()))


def derive(seed: str, purpose: str) -> bytes:
    """32 bytes that look random and are the same for the same seed and purpose."""
    return hashlib.sha256(f"{seed}/{purpose}".encode()).digest()


def write(
    path: Path, text: str, mode: int = 0o644, owner: str = "root", group: str = "root"
) -> bool:
    """Write a file with owner and mode, making its folder; tells whether the content changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = not path.exists() or path.read_bytes() != text.encode()
    if changed:
        path.write_bytes(text.encode())
    own(path, owner, group, mode)
    return changed


def folder(path: Path, mode: int = 0o755, owner: str = "root", group: str = "root") -> Path:
    """Make a folder with owner and mode."""
    path.mkdir(parents=True, exist_ok=True)
    own(path, owner, group, mode)
    return path


def own(path: Path, owner: str, group: str, mode: int) -> None:
    """Set owner, group (by name) and mode."""
    user = pwd.getpwnam(owner)
    # The groups of this lab carry their user's name; only root and such are looked up alone.
    os.chown(path, user.pw_uid, pwd.getpwnam(group).pw_gid)
    path.chmod(mode)


def link(path: Path, target: Path) -> None:
    """Make (or replace) a symbolic link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def user_exists(name: str) -> bool:
    """Whether the system has this user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def run_as(
    user: str, *argv: str, check: bool = True, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program the way Omnibus does: chpst, the C locale, and a folder that every user may read."""
    return subprocess.run(
        [str(BIN / "chpst"), "-u", f"{user}:{user}", *argv],
        check=check,
        input=stdin,
        text=True,
        capture_output=True,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )
