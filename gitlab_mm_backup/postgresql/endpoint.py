"""A Mattermost installation that we read from or restore into, as plain frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..system.redaction import Secret


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
    owner: Login  # owns the database and its objects; all work there is done as this role
    # May create and drop databases, and works in ``postgres`` alone; the owner where nobody else
    # is known.
    admin: Login
    # libpq's, such as sslmode; a Secret is the content of a file.
    options: Mapping[str, str | Secret] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)  # of the server: search_path, role
    # Hints where it does not answer, and where it is missing.
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
