"""Checks before a restore, and before a recovery: versions, server, connection limits, mounts, disk space."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backup import live
from ..config import settings
from ..container import compose
from ..errors import Failure
from ..mattermost import json_file, owned_rows
from ..mattermost.effective_config import EffectiveConfig
from ..mattermost.omnibus import WITHOUT_MATTERMOST
from ..mattermost.site import Kind, Site
from ..postgresql import connection, dump_contents, load
from ..postgresql.endpoint import Endpoint
from ..store import inventory
from ..store.check_records import Damaged
from ..store.sets import BackupSet
from ..store.verify import verify
from ..system import disk_space, sandbox
from ..version import numbers
from . import (
    choice,
    configuration,
    folder_swap,
    replacing,
    unpack,
    uploads_later,
    version_rules,
)
from .earlier_uploads import Later, Look
from .plan import RestoreOptions
from .version_rules import VersionFacts

# Migration numbers collide only in an upgrade across this version.
_FIRST_OF_11 = (11,)
_LAST_TO_BUNDLE = "18.11"
_LICENCES = "licenses"
_EXTRACT = "gitlab-mm extract takes files and messages out of this set."
log = logging.getLogger(__name__)

_UPGRADE = {Kind.OMNIBUS: ": gitlab-ctl pg-upgrade"}
_FEWEST = 2  # sessions at a time, of any restore
_READ_ONLY = "default_transaction_read_only"
# Additional free space besides the estimate, for PostgreSQL's WAL and small files.
SPARE = 64 << 20  # bytes


def check_versions(
    set_: BackupSet,
    target: str,
    postgresql: str,
    programs: Path,
    *,
    driver: str = "postgres",
    licensed: bool = False,
    bundled: bool = False,
) -> list[str]:
    """Return warnings for restoring the set into Mattermost ``target``.

    ``postgresql`` is the version of the target's server, ``programs`` a folder with a pg_restore
    that can read the set's dump, ``driver`` the target's SqlSettings.DriverName; ``licensed``: the
    target has a licence, ``bundled``: it is Omnibus's. Raises Failure when a rule refuses.
    """
    facts = version_facts(set_, target, postgresql, programs, driver, licensed)
    return version_rules.enforce(version_rules.evaluate(replace(facts, bundled=bundled)))


def version_facts(
    set_: BackupSet, target: str, postgresql: str, programs: Path, driver: str, licensed: bool
) -> VersionFacts:
    """Return the facts for the version rules; all except the migrations are quick to read."""
    manifest = set_.manifest
    settings = EffectiveConfig(_effective(set_))
    migrations = None
    if numbers(manifest.mattermost) < _FIRST_OF_11 <= numbers(target):
        migrations = _migrations(set_, programs)
    return VersionFacts(
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
    """Return the GitLab that bundled the set's Mattermost: a salvage runs on a later GitLab."""
    return _LAST_TO_BUNDLE if numbers(gitlab) >= WITHOUT_MATTERMOST else gitlab


def _effective(set_: BackupSet) -> Mapping[str, Any]:
    tree = json_file.read(set_.file("settings")).document.get("effective")
    return tree if isinstance(tree, Mapping) else {}


def _migrations(set_: BackupSet, programs: Path) -> dict[int, str]:
    """Return the migrations that the set's database has applied (Mattermost 6 and later)."""
    archive = set_.file("database")
    found = dump_contents.rows_in(programs, archive, _schema(set_), "db_migrations")
    return {int(row[0]): row[1] for row in found if len(row) == 2 and row[0].isdecimal()}


def _schema(set_: BackupSet) -> str:
    """Return the schema that Mattermost's tables are in."""
    properties = set_.manifest.properties
    return properties.tables.get("systems", "public") if properties else "public"


def refuse_unsuitable_server(set_: BackupSet, site: Site) -> str:
    """Return the server's version; refuse a replica, and a server older than the dump's."""
    with connection.administering(site.database) as session:
        row = session.execute(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version')"
        ).fetchone()
    assert row is not None
    version = str(row[1]).split()[0]
    if row[0]:
        raise Failure(
            "This host's PostgreSQL is a replica, which is read-only",
            "pg_is_in_recovery() says so",
            "Run the restore on the primary.",
        )
    if numbers(set_.manifest.database.server)[:1] > numbers(version)[:1]:
        raise Failure(
            "The set comes from a newer PostgreSQL than this host runs",
            f"set {set_.manifest.database.server}, host {version}",
            f"Upgrade it first{_UPGRADE.get(site.kind, '')}.",
        )
    return version


def refuse_limits(site: Site, sessions: int) -> None:
    """Raise Failure where Mattermost's role may not write, or not open ``sessions`` connections."""
    endpoint = site.database
    _refuse_few(endpoint, max(sessions, _FEWEST))
    with connection.administering(endpoint) as session:
        query = "SELECT 1 FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) %s"
        if session.execute(query, (endpoint.name,)).fetchone() is None:
            return  # a restore creates it; it has no settings yet
    with connection.as_mattermost(endpoint) as session:
        row = session.execute(
            f"SELECT current_setting('{_READ_ONLY}') = 'on', r.rolconfig::text, r.rolname"
            " FROM pg_roles r WHERE r.rolname = current_user"
        ).fetchone()
    if row is not None and row[0]:
        of_role = _READ_ONLY in (row[1] or "")
        whose = f'ROLE "{row[2]}"' if of_role else f'DATABASE "{endpoint.name}"'
        raise Failure(
            "Mattermost's sessions are read-only, so a restored Mattermost would not start",
            f"{_READ_ONLY} is on for role {row[2]} in database {endpoint.name}",
            f"As a superuser: ALTER {whose} RESET {_READ_ONLY}; or set it off in postgresql.conf.",
        )


def _refuse_few(endpoint: Endpoint, wanted: int) -> None:
    with connection.administering(endpoint) as session:
        row = session.execute(
            "SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) %s",
            (endpoint.owner.role,),
        ).fetchone()
    if row is not None and 0 <= row[0] < wanted:
        raise Failure(
            "Mattermost's role may not open enough connections for a restore",
            f"CONNECTION LIMIT {row[0]} is set for {endpoint.owner.role}; {wanted} are needed",
            f'As a superuser: ALTER ROLE "{endpoint.owner.role}" CONNECTION LIMIT -1. Or lower jobs in '
            f"/etc/gitlab-mm-backup/config.yml, to {_FEWEST} at least.",
        )


def check(set_: BackupSet, site: Site, plan: RestoreOptions) -> tuple[list[str], Later | None]:
    """Return warnings for the operator, and which uploads come after Mattermost's start.

    Changes nothing. Raises Failure for the first obstacle.
    """
    look = Look.at(set_)
    for loss in replacing.refuse(set_, site, plan):
        log.warning("Live data are replaced with nothing: %s", loss.words)
    try:
        may_wait = uploads_later.may_wait(plan, set_.manifest.files.bytes)
        verify(set_, look.each if may_wait else None)
    except Damaged as failure:
        failure.hint = choice.instead_of(set_, inventory.open_store(settings.load()))
        raise
    sandbox.account_entry(site.account.user)
    server = refuse_unsuitable_server(set_, site)
    if "database" in plan.parts:
        refuse_limits(site, settings.load().sessions)
    replacing.check_vacant(set_, site, plan)
    driver = site.settings.text("SqlSettings", "DriverName")
    bundled = site.kind is Kind.OMNIBUS
    warnings = check_versions(
        set_, site.version, server, site.client_programs, driver=driver, bundled=bundled
    )
    if "database" in plan.parts:
        warnings += load.plan(set_, site.database, site.client_programs).told
        if not plan.keep_previous:
            warnings += replacing.lost_for_good(site)
    if "config" in plan.parts:
        warnings += unpack.link_of_config(set_)
    warnings += configuration.left_behind(set_, site)
    _refuse_deep_mounts(site)
    if not plan.in_place:
        _refuse_without_room(set_, site, plan)
    return warnings, uploads_later.choose(look, site, plan, warnings)


def _refuse_deep_mounts(site: Site) -> None:
    deep = [
        str(mount)
        for live in folder_swap.exchanged(site.folders).values()
        for mount in folder_swap.deeper_mounts(live)
    ]
    if deep:
        raise Failure(
            "A disk is mounted deep inside Mattermost's directories",
            ", ".join(deep),
            "Unmount it, or mount it at one of the directories themselves (data, plugins).",
        )


def needs(set_: BackupSet, site: Site, plan: RestoreOptions) -> dict[Path, int]:
    """Return the bytes that the new state needs, by a folder on each disk."""
    wanted: dict[Path, int] = {}
    if "database" in plan.parts:
        wanted[data_folder(site)] = set_.manifest.database.bytes_to_load
    if plan.with_folders:
        # All of it on each disk: the archive's bytes are not known folder by folder.
        for live in folder_swap.exchanged(site.folders).values():
            wanted[live if live.is_dir() else live.parent] = set_.manifest.files.bytes
    return wanted


def data_folder(site: Site) -> Path:
    """Return PostgreSQL's data directory, or / where the server is on another host.

    A role without special rights cannot ask for it; that of a container is a volume.
    """
    contained = compose.database_folder()
    if contained is not None:
        return contained
    if site.database.admin == site.database.owner:
        return Path("/")
    with connection.administering(site.database) as session:
        row = session.execute("SHOW data_directory").fetchone()
    folder = Path(row[0]) if row and site.database.by_socket else Path("/")
    return folder if folder.is_dir() else Path("/")


def _refuse_without_room(set_: BackupSet, site: Site, plan: RestoreOptions) -> None:
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, count in needs(set_, site, plan).items():
        disk = os.stat(folder).st_dev
        first, before = by_disk.get(disk, (folder, 0))
        by_disk[disk] = (first, before + count)
    short = {
        folder: count + SPARE
        for folder, count in by_disk.values()
        if disk_space.available(folder) < count + SPARE
    }
    if short:
        raise Failure(
            "Not enough disk space for the restored data next to the live data",
            "; ".join(disk_space.words(folder, count) for folder, count in short.items()),
            "Free some space, keep less free (min_free), or give --in-place, which removes the live "
            "state first and cannot be undone.",
        )


def room(wanted: Mapping[Path, int]) -> list[str]:
    """Return, as text, the needed and the free space of each disk."""
    return [disk_space.words(folder, count) for folder, count in wanted.items()]


def refuse_recovery(set_: BackupSet, site: Site) -> None:
    """Raise Failure for a set whose rows have no place in the live Mattermost."""
    theirs, ours = set_.manifest.mattermost, site.version
    if numbers(theirs)[:1] != numbers(ours)[:1]:
        raise Failure(
            "The set is of another major version of Mattermost",
            f"the set has {theirs}, this host {ours}; their tables differ",
            _EXTRACT,
        )
    if not (owned_rows.reviewed(theirs) and owned_rows.reviewed(ours)):
        raise Failure(
            "This version of Mattermost is not known well enough",
            f"the set has {theirs}, this host {ours}; the tables of {' to '.join(owned_rows.REVIEWED)} "
            "were reviewed",
            _EXTRACT,
        )
    now = live.look(site)
    if now.trouble:
        raise Failure("The live database cannot be read", now.trouble)
    kept = set_.manifest.installation
    if kept and now.installation and kept != now.installation:
        raise Failure(
            "The set is of another Mattermost",
            f"its installation is {kept}, the live one {now.installation}",
            _EXTRACT,
        )
