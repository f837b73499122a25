"""This program's own configuration: which of its files a set contains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import config_file, secret_files, settings
from ..config.settings import NO_CONFIG, Settings
from ..store.archive_writer import Survey
from ..store.manifest import Part
from ..store.verify import CONFIGURATION
from ..system import humanize
from . import parts, targets

_SECRET = "it has secrets"
_NOT_ROOTS = "accounts other than root can change it, or it is larger than 1 MiB"


@dataclass(frozen=True)
class Configuration:
    """The files to pack, and those that are left out."""

    files: Mapping[Path, Path] = field(default_factory=dict)  # path -> the file, links followed
    left_out: Mapping[str, str] = field(default_factory=dict)  # path -> why


NONE = Configuration()


def find(ours: Settings) -> Configuration:
    """Return the configuration of this host, as a set of it has it.

    Files with secrets are left out, unless sets are encrypted or config.yml wants them.
    """
    files, left_out = dict[Path, Path](), dict[str, str]()
    consented = ours.secrets_in_sets or ours.store == "restic"
    given = [path for path in config_file.files(settings.file()) if secret_files.given_in(path)]
    secret = {*filter(secret_files.has_secret, given), *named(ours)}
    for path in filter(os.path.lexists, dict.fromkeys([*given, *named(ours)])):
        file = targets.file_of(path)
        if file is None:
            left_out[str(path)] = _NOT_ROOTS
        elif path in secret and not consented:
            left_out[str(path)] = _SECRET
        else:
            files[path] = file
    return Configuration(files, left_out)


def notes(left_out: Mapping[str, str]) -> list[str]:
    """Return a line about the files that a set has not; no warning, because that is usual."""
    text = "; ".join(f"{humanize.plain(path)}: {why}" for path, why in left_out.items())
    return [f"Note: not in the set: {text} (secrets_in_sets in config.yml)"] if text else []


def named(ours: Settings) -> list[Path]:
    """Return the files with secrets that the settings name: of rclone and of restic."""
    remotes = [Path(remote.config) for remote in ours.offsite if remote.config != NO_CONFIG]
    restic = [ours.restic.password_file, ours.restic.environment_file]
    return list(dict.fromkeys([*remotes, *(path for path in restic if path is not None)]))


def pack(found: Configuration, ours: Settings, staging: Path) -> dict[str, Part]:
    """Write the files as a part; none where there are no files."""
    if not found.files:
        return {}
    path = staging / "configuration.tar.zst"
    part, _ = parts.pack(ours, path, Survey({}, [], []), instead=found.files)
    return {CONFIGURATION: part}
