"""A Mattermost installation that we read from or restore into, as plain frozen values."""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..system.redaction import Secret
from .effective_config import Settings


class Kind(str, enum.Enum):
    """Who installed the Mattermost."""

    OMNIBUS = "omnibus"
    STANDALONE = "standalone"


@dataclass(frozen=True)
class Account:
    """An operating system account, always by name: numeric ids differ between servers."""

    user: str
    group: str


@dataclass(frozen=True)
class Login:
    """How to become one database role.

    ``account`` is the operating system user whose peer authentication the server maps to
    ``role``; None means that a password, or nothing, is needed instead.
    """

    role: str
    account: str | None = None
    password: Secret | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where one PostgreSQL database is and as whom to reach it."""

    host: str  # a socket folder when it begins with "/"; several are separated by commas
    port: int | str  # of several hosts, each with its own: as libpq takes them
    name: str
    owner: Login  # owns the database and what is in it; whoever works there does so as this role
    # May create and drop databases, and works in ``postgres`` alone; the owner where nobody else
    # is known.
    admin: Login
    # libpq's, such as sslmode; a Secret is the content of a file.
    options: Mapping[str, str | Secret] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)  # of the server: search_path, role
    # What an administrator does where it does not answer, and where it is missing.
    care: str = "gitlab-ctl status postgresql; gitlab-ctl start postgresql"
    making: str = "gitlab-ctl reconfigure creates it where Mattermost is enabled."

    def settings(self, *names: str) -> str:
        """Return libpq's ``options`` for a session: all that Mattermost's own has, or ``names``."""
        wanted = {
            name: re.sub(r"([\\\s])", r"\\\1", value)
            for name, value in self.session.items()
            if not names or name in names
        }
        return "".join(f"-c {name}={value} " for name, value in wanted.items())

    @property
    def by_socket(self) -> bool:
        return self.host.startswith("/")


@dataclass(frozen=True)
class Folders:
    """Mattermost's folders by role: home, data, plugins, client-plugins.

    A role other than home may name a folder that does not exist, or one anywhere on the host.
    """

    configured: Mapping[str, Path]  # as settings name them
    real: Mapping[str, Path]  # links followed
    shared: Collection[str] = ()  # roles whose folder holds files of the program too, which stay

    @property
    def home(self) -> Path:
        return self.real["home"]


@dataclass(frozen=True)
class GitLab:
    """The GitLab that the site signs in with."""

    version: str
    url: str  # external_url, "" where unknown
    database: Endpoint | None  # None where GitLab's database is not on this host


@dataclass(frozen=True)
class Site:
    """One Mattermost installation, complete."""

    kind: Kind
    version: str  # of Mattermost
    account: Account
    folders: Folders
    config_file: Path
    environment_folder: Path | None  # None where the service has none
    environment: Mapping[str, Secret]  # the MM_* and other variables the service runs with
    settings: Settings  # effective: config.json overlaid by the environment
    database: Endpoint
    client_programs: Path  # folder with psql, pg_dump, pg_restore of the server's major version
    gitlab: GitLab
    root: Path = Path("/")
    missing: Sequence[str] | None = None  # of a salvaged one, in words; None: it is installed
    # What starts it, for a trial; the defaults are the bundled one's.
    program: Path = Path("/opt/gitlab/embedded/bin/mattermost")
    working_folder: Path = Path("/opt/gitlab/embedded/service/mattermost")

    def below_root(self, path: str) -> Path:
        return self.root / path.lstrip("/")
