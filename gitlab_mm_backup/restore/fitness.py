"""Fitness: what is known of a set and of a target, held against the rules about versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..mattermost import json_file
from ..mattermost.effective_config import EffectiveConfig
from ..mattermost.omnibus import WITHOUT_MATTERMOST
from ..postgresql import dump_contents
from ..store.sets import BackupSet
from ..version import numbers
from . import version_rules
from .version_rules import Facts

# Only a step over this version can meet numbers of migrations that collide.
_FIRST_OF_11 = (11,)
_LAST_TO_BUNDLE = "18.11"
_LICENCES = "licenses"


def check(
    set_: BackupSet,
    target: str,
    postgresql: str,
    programs: Path,
    *,
    driver: str = "postgres",
    licensed: bool = False,
    bundled: bool = False,
) -> list[str]:
    """Return what the operator must know before the set goes into Mattermost ``target``.

    ``postgresql`` is the version of the target's server, ``programs`` a folder with a pg_restore
    that can read the set's dump, ``driver`` the target's SqlSettings.DriverName; ``licensed`` says
    that the target has a licence of its own, ``bundled`` that it is Omnibus's.  Raises Failure when a rule refuses.
    """
    facts = of_set(set_, target, postgresql, programs, driver, licensed)
    return version_rules.heed(version_rules.judge(replace(facts, bundled=bundled)))


def of_set(
    set_: BackupSet, target: str, postgresql: str, programs: Path, driver: str, licensed: bool
) -> Facts:
    """Return the facts that the rules judge; all but the migrations are quick to read."""
    manifest = set_.manifest
    settings = EffectiveConfig(_effective(set_))
    migrations = None
    if numbers(manifest.mattermost) < _FIRST_OF_11 <= numbers(target):
        migrations = _migrations(set_, programs)
    return Facts(
        set=manifest.mattermost,
        target=target,
        gitlab=_bundling(manifest.gitlab),
        postgresql=postgresql,
        driver=driver,
        settings=settings,
        migrations=migrations,
        gitlab_sign_in=settings.flag("GitLabSettings", "Enable"),
        licensed=licensed or bool(manifest.database.rows.get(f"{_schema(set_)}.{_LICENCES}")),
    )


def _bundling(gitlab: str) -> str:
    """Return the GitLab that bundled the set's Mattermost: a salvage is made beside a later one."""
    return _LAST_TO_BUNDLE if numbers(gitlab) >= WITHOUT_MATTERMOST else gitlab


def _effective(set_: BackupSet) -> Mapping[str, Any]:
    tree = json_file.read(set_.file("settings")).document.get("effective")
    return tree if isinstance(tree, Mapping) else {}


def _migrations(set_: BackupSet, programs: Path) -> dict[int, str]:
    """Return the steps of the schema that the set's database has made (Mattermost 6 and later)."""
    archive = set_.file("database")
    found = dump_contents.rows_in(programs, archive, _schema(set_), "db_migrations")
    return {int(row[0]): row[1] for row in found if len(row) == 2 and row[0].isdecimal()}


def _schema(set_: BackupSet) -> str:
    """Return the schema that Mattermost's tables are in."""
    properties = set_.manifest.properties
    return properties.tables.get("systems", "public") if properties else "public"
