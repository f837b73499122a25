"""Readiness: every reason against a restore that can be known before it begins."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from ..config import settings
from ..errors import Failure
from ..mattermost.site import Kind, Site
from ..postgresql import connection, load
from ..store.sets import BackupSet
from ..store.verify import verify
from ..system import disk_space, sandbox
from . import config_merge, fitness, folder_swap, replacing, suitable, unpack, unpacking, vacancy
from .plan import Plan

log = logging.getLogger(__name__)

# Room that must be left beside what is reckoned, for PostgreSQL's log and small things.
SPARE = 64 << 20  # bytes


def check(set_: BackupSet, site: Site, plan: Plan) -> list[str]:
    """Return what the operator must know; raises Failure for the first reason against it.

    Changes nothing.
    """
    for loss in replacing.refuse(set_, site, plan):
        log.warning("Live data are replaced with nothing: %s", loss.words)
    verify(set_)
    sandbox.account_entry(site.account.user)
    server = suitable.server(set_, site)
    if "database" in plan.parts:
        suitable.refuse_limits(site, settings.load().sessions)
    vacancy.check(set_, site, plan)
    driver = site.settings.text("SqlSettings", "DriverName")
    bundled = site.kind is Kind.OMNIBUS
    warnings = fitness.check(
        set_, site.version, server, site.client_programs, driver=driver, bundled=bundled
    )
    if "database" in plan.parts:
        warnings += load.plan(set_, site.database, site.client_programs).told
        if not plan.keep_previous:
            warnings += replacing.lost_for_good(site)
    if "config" in plan.parts:
        warnings += unpack.link_of_config(set_)
    warnings += config_merge.left_behind(set_, site)
    _refuse_deep_mounts(site)
    if not plan.in_place:
        _refuse_without_room(set_, site, plan)
    return warnings


def _refuse_deep_mounts(site: Site) -> None:
    deep = [
        str(mount)
        for live in unpacking.exchanged(site.folders).values()
        for mount in folder_swap.deeper_mounts(live)
    ]
    if deep:
        raise Failure(
            "Something is mounted deep inside of Mattermost's folders",
            ", ".join(deep),
            "Unmount it, or mount it at one of the folders themselves (data, plugins).",
        )


def needs(set_: BackupSet, site: Site, plan: Plan) -> dict[Path, int]:
    """Return the bytes that the new state takes, by the folder whose disk must have them."""
    wanted: dict[Path, int] = {}
    if "database" in plan.parts:
        wanted[_data_folder(site)] = set_.manifest.database.bytes_to_load
    if plan.with_folders:
        # All of it on each disk: the archive's bytes are not known folder by folder.
        for live in unpacking.exchanged(site.folders).values():
            wanted[live if live.is_dir() else live.parent] = set_.manifest.files.bytes
    return wanted


def _data_folder(site: Site) -> Path:
    """Return PostgreSQL's data folder, or / where the server is elsewhere.

    A plain role is not told where it is.
    """
    if site.database.admin == site.database.owner:
        return Path("/")
    with connection.administering(site.database) as session:
        row = session.execute("SHOW data_directory").fetchone()
    folder = Path(row[0]) if row and site.database.by_socket else Path("/")
    return folder if folder.is_dir() else Path("/")


def _refuse_without_room(set_: BackupSet, site: Site, plan: Plan) -> None:
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
            "There is no room for the new state beside the live one",
            "; ".join(disk_space.words(folder, count) for folder, count in short.items()),
            "Free some space, keep less free (min_free), or give --in-place, which removes the live "
            "state first and cannot be taken back.",
        )


def room(wanted: Mapping[Path, int]) -> list[str]:
    """Return, in words, what each disk needs and has."""
    return [disk_space.words(folder, count) for folder, count in wanted.items()]
