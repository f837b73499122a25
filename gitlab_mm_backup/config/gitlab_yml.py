"""gitlab.yml, the settings of GitLab's web application that gitlab-ctl reconfigure writes."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ExitCode, Failure
from ..system import validation

# A link to the rendered file (omnibus-gitlab 10 to 19).
GITLAB_YML = Path("/opt/gitlab/embedded/service/gitlab-rails/config/gitlab.yml")


def production(path: Path) -> dict[str, Any]:
    """Return the section ``production`` of gitlab.yml, {} if the file does not exist.

    Raises Failure where it cannot be read.
    """
    try:
        # By the path of the file itself, because in a container's directories no link is followed.
        return _production(Path(os.path.realpath(path)).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


@functools.lru_cache(maxsize=2)  # it is a long file, and a backup asks ten times
def _production(text: str) -> dict[str, Any]:
    document = validation.from_yaml(text)
    section = document.get("production") if isinstance(document, dict) else None
    return section if isinstance(section, dict) else {}


def unreadable(path: Path, error: Exception) -> Failure:
    """Return the failure for a gitlab.yml that cannot be used, without a word of it."""
    return Failure(
        "GitLab's own settings cannot be read",
        f"{path}: {error if isinstance(error, validation.Refused) else type(error).__name__}",
        "Run gitlab-ctl reconfigure, which writes the file again.",
        ExitCode.USAGE,
    )


@dataclass(frozen=True)
class Upload:
    """``backup.upload`` of gitlab.yml: the connection of fog, the bucket, and its options."""

    connection: Mapping[str, Any] = field(repr=False)
    directory: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def upload(section: Any, encryption_key: str = "") -> Upload | None:
    """Return ``backup.upload`` of gitlab.yml, None if GitLab uploads nothing.

    ``encryption_key`` is GITLAB_BACKUP_ENCRYPTION_KEY of GitLab's environment.
    """
    if not isinstance(section, dict) or not isinstance(section.get("connection"), dict):
        return None
    if not section["connection"]:
        return None
    options = {**section}
    if encryption_key and not options.get("encryption_key"):
        options["encryption_key"] = encryption_key
    return Upload(section["connection"], str(section.get("remote_directory") or ""), options)
