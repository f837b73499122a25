"""A Mattermost installation to back up or restore to, as immutable values."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..postgresql.endpoint import Endpoint
from ..system.redaction import Secret
from .effective_config import EffectiveConfig


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
    settings: EffectiveConfig  # effective: config.json overlaid by the environment
    database: Endpoint
    client_programs: Path  # folder with psql, pg_dump, pg_restore of the server's major version
    gitlab: GitLab
    root: Path = Path("/")
    missing: Sequence[str] | None = None  # of a salvaged one, in words; None: it is installed
    # How a rehearsal starts it; the defaults are the bundled one's.
    program: Path = Path("/opt/gitlab/embedded/bin/mattermost")
    working_folder: Path = Path("/opt/gitlab/embedded/service/mattermost")

    def below_root(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    @property
    def uncovered(self) -> list[str]:
        """Data that its sets do not cover, as text."""
        driver = self.settings.text("FileSettings", "DriverName")
        if driver in ("", "local"):
            return []
        bucket = self.settings.text("FileSettings", "AmazonS3Bucket")
        return [
            f"Uploads are in object storage ({driver}, bucket {bucket or 'unnamed'}) and are in no "
            "set; use the bucket's own versioning or replication"
        ]
