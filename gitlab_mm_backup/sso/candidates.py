"""Candidates from elsewhere: sets, GitLab's own backups of /etc/gitlab, other folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import identity
from ..errors import Failure
from ..mattermost import json_text
from ..mattermost.site import Site
from ..store import inventory
from ..store.inventory import Store
from ..store.manifest import MANIFEST
from ..store.sets import BackupSet, open_set
from ..system import process
from ..system.process import DECOMPRESS
from . import check, credentials
from .check import Diagnosis
from .credentials import Candidate


def examine(site: Site, store: Store, named: Sequence[str] = ()) -> Diagnosis:
    """Diagnose ``site`` with its own candidates and those of ``named`` sets and folders.

    Where GitLab accepts none of them, every set of ``store`` and every backup of /etc/gitlab on
    this host is looked into as well, the newest first.
    """
    more = [one for name in named for one in _named(store, name)]
    diagnosis = check.check(site, more)
    if diagnosis.chosen() is not None:
        return diagnosis
    more += [one for set_ in store.sets() for one in from_set(set_)]
    return check.check(site, more + from_config_backups(site))


def from_set(set_: BackupSet) -> list[Candidate]:
    """Return the candidates of a set: environment, config.json, gitlab-secrets.json.

    A damaged part has none; ``gitlab-mm verify`` is there to name the damage.
    """
    source = f"set {set_.name}"
    found: list[Candidate] = []
    try:
        with set_.open("settings") as file:
            document = json_text.parse(file.read().decode(), "settings.json")
        found += credentials.from_settings_part(document, source)
    except (Failure, OSError, UnicodeDecodeError):
        found = []
    if "etc-gitlab" not in set_.manifest.parts:  # of a standalone Mattermost
        return found
    try:
        with (
            set_.open("etc-gitlab") as packed,
            process.output(DECOMPRESS, stdin=packed) as (stream, _),
        ):
            found += credentials.from_tar(stream, f"{source}: gitlab-secrets.json")
    except (Failure, OSError):
        return found
    return found


def from_config_backups(site: Site) -> list[Candidate]:
    """Return the candidates in ``gitlab-ctl backup-etc``'s archives, the newest first."""
    folder = site.below_root("/etc/gitlab/config_backup")
    found: list[Candidate] = []
    for path in sorted(folder.glob("gitlab_config_*.tar"), reverse=True):
        with open(path, "rb") as stream:
            found += credentials.from_tar(stream, f"{path.name}: gitlab-secrets.json")
    return found


def _named(store: Store, name: str) -> list[Candidate]:
    folder = Path(name)
    if "/" in name and folder.is_dir() and not (folder / MANIFEST).exists():
        return credentials.from_config_file(folder / "config.json", f"{folder}/config.json")
    if name == "latest":
        own = inventory.own_sets(identity.known(), store.sets())
        return from_set(own[0]) if own else []
    return from_set(open_set(folder) if "/" in name else store.find(name))
