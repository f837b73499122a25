"""This program's own configuration, from a set: put back where the host has none.

Root runs what it names (restic's password_command, programs in rclone.conf), so it is taken only
from a set whose origin is proven. What this host has is never replaced.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from ..backup import configuration, targets
from ..config import config_file, secret_files, settings
from ..config.config_file import BadSettings
from ..errors import Failure, reason
from ..mattermost import trust
from ..store import verify
from ..store.sets import BackupSet
from ..system import files, humanize
from ..system.files import STATE
from .plan import RestoreOptions

KEPT = STATE / "configuration-of-set"  # files of a set that are not in use, below their paths
BEFORE = STATE / "configuration-before-restore"  # files that set nothing, and were replaced
_HERE = "this host has another one"


def wanted(set_: BackupSet, plan: RestoreOptions) -> bool:
    """Tell whether a restore would put back the configuration in ``set_``."""
    return not plan.named and bool(set_.manifest.configuration) and not _own()


def put_back(set_: BackupSet, plan: RestoreOptions) -> list[str]:
    """Write the configuration in ``set_`` where this host has none; return what was done, as text.

    The set's version of a file that this host has otherwise, or that is not put back, is in
    ``KEPT``.
    """
    if plan.named or not set_.manifest.configuration:
        return []
    try:
        shutil.rmtree(KEPT, ignore_errors=True)
        found = {Path(path): data for path, data in verify.configuration(set_).items()}
        other = {path: data for path, data in found.items() if _content(path) != data}
        for path, data in other.items():
            _kept(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace_file(_kept(path), data)
        results = _written(other, plan)
    except (OSError, Failure) as error:
        return [f"The configuration in the set was not put back: {reason(error)}"]
    return [*(_told(path, why) for path, why in results.items()), *_lacking(set_, results)]


def _written(found: Mapping[Path, bytes], plan: RestoreOptions) -> dict[Path, str]:
    """Put back files that are in ``KEPT``; return for each why it was not, "" where it was."""
    if not plan.proven or _own():
        why = "this host has its own settings" if plan.proven else "nothing proves who made the set"
        return dict.fromkeys(found, why)
    try:
        ours = settings.load(_kept(settings.file()))
    except BadSettings as failure:
        return dict.fromkeys(found, f"this version cannot read it ({failure.detail})")
    results = {}
    for path, data in found.items():
        known = _is_ours(path) or path in configuration.named(ours)
        results[path] = _write(path, data) if known else "no setting names it"
        if not results[path]:
            _kept(path).unlink()
    return results


def _own() -> bool:
    """Tell whether config.yml or config.d of this host sets any option."""
    return any(map(secret_files.given_in, config_file.files(settings.file())))


def _is_ours(path: Path) -> bool:
    """Tell whether settings are read from ``path``."""
    file = settings.file()
    return path == file or (path.parent == file.with_suffix(".d") and path.suffix == ".yml")


def _kept(path: Path) -> Path:
    return KEPT / str(path).lstrip("/")


def _content(path: Path) -> bytes | None:
    file = targets.file_of(path)
    return files.read_or_none(file) if file is not None else None


def _write(path: Path, data: bytes) -> str:
    """Write a file where there is none; return why not, or "".

    A file of settings that sets nothing, as the package brings it, is moved to ``BEFORE``.
    """
    mode, before = 0o600, BEFORE / str(path).lstrip("/")
    if os.path.lexists(path):
        text = _content(path)
        if not _is_ours(path) or path.is_symlink() or text is None:
            return _HERE
        mode = stat.S_IMODE(path.stat().st_mode)
        before.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace_file(before, text)
    above = next(folder for folder in path.parents if os.path.lexists(folder))
    if trust.roots_alone(above) is None:
        return f"accounts other than root can change {above}"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace_file(path, data, mode=mode)
    return ""


def _told(path: Path, why: str) -> str:
    text = f"Put back {path}: this host had none"
    if why:
        text = f"Not put back: {path}, because {why}. The set's is in {_kept(path)}"
    return humanize.plain(text)


def _lacking(set_: BackupSet, results: Mapping[Path, str]) -> list[str]:
    """Return the files that the host of the set had, where its configuration was put back."""
    if "" not in results.values():
        return []
    return [
        humanize.plain(f"Not in the set: {path}, because {why}")
        for path, why in set_.manifest.left_out.items()
        if not os.path.lexists(path)
    ]
