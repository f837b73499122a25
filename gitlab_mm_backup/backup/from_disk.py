"""Make a set from the disk of a stopped host, or from Docker's volumes; both stay unchanged."""

from __future__ import annotations

import functools
import logging
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import settings
from ..config.settings import Settings
from ..errors import ExitCode, Failure
from ..mattermost import omnibus, omnibus_files
from ..mattermost.site import GitLab, Site
from ..postgresql import scratch
from ..postgresql.endpoint import Endpoint
from ..store.inventory import Store
from ..store.local import LocalStore
from ..store.sets import BackupSet
from ..system import files, humanize, process
from ..system.namespaces import View, within
from ..system.process import Command
from ..system.sandbox import INSIDE
from . import configuration, job, salvage
from .job import BackupResult, Before

log = logging.getLogger(__name__)

_SETS, _COPY = INSIDE / "sets", INSIDE / "postgresql"
_ETC, _VAR, _LOG = Path("/etc/gitlab"), Path("/var/opt/gitlab"), Path("/var/log/gitlab")
_OPT, _EMBEDDED = Path("/opt/gitlab"), Path("/opt/gitlab/embedded")
_OWN_CLIENTS = _EMBEDDED / "bin"
# Paths of a whole disk that are not shown: this host's own are used, or they are not needed.
_HOST_PLACES = (
    *("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"),
    *("proc", "sys", "dev", "run", "tmp", "etc", "boot", "lost+found"),
)
# In GitLab's program folder: files about its configuration.
_FROM_EMBEDDED = ("nodes", "service")
_GITLAB_DATABASE = "gitlabhq_production"
_ACCOUNTS = ("root", "nobody", scratch.ACCOUNT)


@dataclass(frozen=True)
class _Seen:
    """The result of a first look into the tree."""

    site: Site
    data: Path  # PostgreSQL's data folder
    major: str  # its version
    size: int  # bytes


def make(root: Path, settings: Settings, store: Store, note: str = "") -> BackupResult:
    """Make a set of the Mattermost whose files are below ``root``; nothing there is changed.

    ``root`` is a mounted disk of a host, or a folder with Docker's volumes ``config`` and
    ``data``. The database is dumped from a server on a copy of its data directory. Raises Failure for
    a restic repository: the set is made within a view of this host that shows a directory of sets.
    """
    if not isinstance(store, LocalStore):
        raise Failure(
            "--root backs up into a directory, not into a restic repository",
            "config.yml has store: restic",
            "Give a file with store: local and a backup_path: gitlab-mm backup --config FILE --root ...",
            ExitCode.USAGE,
        )
    places, links = _layout(Path(os.path.realpath(root)))
    kept = salvage.kept_in(store.sets())
    store.prepare()
    with scratch.place(settings.scratch_dir) as place:
        base = place.folder / "view"
        base.mkdir()
        view = View(
            places,
            {_COPY: place.data, place.socket: place.socket, _SETS: store.folder},
            _files(),
            links,
        )
        seen = _within(root, view, base, _look)
        programs = scratch.server_of(_OWN_CLIENTS, seen.major)
        scratch.refuse_without_room(settings.scratch_dir, seen.size, "a copy of the database")
        log.info("Copying %s of PostgreSQL's data", humanize.size(seen.size))
        _within(root, view, base, functools.partial(_copy, seen.data))
        log.info("Starting a scratch PostgreSQL on the copy")
        superuser, owners = seen.site.database.admin.role, _owners(seen.site)
        with scratch.cluster_on_copy(place, programs, superuser, owners) as server:
            view = replace(view, readable={**places, **_bundle(programs)})
            adjust = functools.partial(_adjusted, server, programs)
            found = functools.partial(salvage.find, kept, adjust)
            site = _within(root, view, base, found)
            made = functools.partial(_make_set, view, base)
            return job.backup(site, settings, store, make=made, note=note)


def _within(root: Path, view: View, base: Path, task: Callable[[], Any]) -> Any:
    """Run ``task`` in the view; a failure's paths are those of the old host, which it then says."""
    try:
        return within(view, base, task)
    except Failure as failure:
        detail = f"below {root}: {failure.detail}"
        raise Failure(failure.message, detail, failure.hint, failure.exit_code) from failure


def _make_set(
    view: View, base: Path, site: Site, settings: Settings, store: LocalStore, before: Before
) -> BackupSet:
    """Make the set in the view, where the store has another path; return it with its own."""
    inside = LocalStore(_SETS)
    # The disk may be another server's: that holds less, and has another configuration.
    before = replace(before, fuller=None, configuration=configuration.NONE)
    make = functools.partial(job.make_set, site, settings, inside, before)
    made: BackupSet = within(view, base, make)
    return store.find(made.name)


def _layout(root: Path) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Return the view of ``root``: path inside -> path here, and its links."""
    if (root / "var/opt/gitlab").is_dir():
        return _disk(root)
    volumes = {_ETC: root / "config", _VAR: root / "data", _LOG: root / "logs"}
    if (root / "config").is_dir() and (root / "data/postgresql").is_dir():
        there = {inside: Path(os.path.realpath(path)) for inside, path in volumes.items()}
        return {inside: path for inside, path in there.items() if path.is_dir()}, {}
    raise Failure(
        f"There are no files of Omnibus GitLab in {root}",
        "it has neither var/opt/gitlab nor config and data/postgresql",
        "Name the mount point of the old disk, or the directory with Docker's volumes "
        "config and data.",
    )


def _disk(root: Path) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Return a whole disk without its system, and of GitLab's programs only their description."""
    places: dict[Path, Path] = {}
    links: dict[Path, str] = {}
    top = Path("/")
    for inside, leave_out in (
        (top, (*_HOST_PLACES, "opt")),
        (top / "opt", ("gitlab",)),
        (_OPT, ("embedded",)),
    ):
        for name in _names(root, inside):
            if name not in leave_out:
                _show(root, inside / name, places, links)
    for name in _FROM_EMBEDDED:
        _show(root, _EMBEDDED / name, places, links)
    _show(root, _ETC, places, links)
    return places, links


def _names(root: Path, inside: Path) -> list[str]:
    folder = _outside(root, inside)
    try:
        return sorted(os.listdir(folder)) if folder.is_dir() and not folder.is_symlink() else []
    except OSError as error:
        raise Failure(f"{folder} cannot be read", str(error.strerror)) from error


def _show(root: Path, inside: Path, places: dict[Path, Path], links: dict[Path, str]) -> None:
    """Add one path to the view; a link stays a link, so that it is resolved in the tree."""
    path = _outside(root, inside)
    if any(_outside(root, parent).is_symlink() for parent in inside.parents):
        return
    if path.is_symlink():
        links[inside] = os.readlink(path)
    elif path.is_dir() or path.is_file():
        places[inside] = path


def _outside(root: Path, inside: Path) -> Path:
    return root / inside.relative_to("/")


def _bundle(programs: Path) -> dict[Path, Path]:
    """Return this host's own bundled programs, where the server is one of them."""
    if _EMBEDDED not in programs.parents:
        return {}
    names = [name for name in os.listdir(_EMBEDDED) if name not in _FROM_EMBEDDED]
    return {_EMBEDDED / name: _EMBEDDED / name for name in names}


def _files() -> dict[Path, str]:
    """Return our own settings, and passwd entries for our accounts only.

    Each id also has an entry with its number as its name: files in the tree may have the id of one
    of our accounts.
    """
    entries = [pwd.getpwnam(name) for name in _ACCOUNTS]
    aliases = [(str(entry.pw_uid), entry.pw_uid, entry.pw_gid) for entry in entries if entry.pw_uid]
    named = [*aliases, *((entry.pw_name, entry.pw_uid, entry.pw_gid) for entry in entries)]
    users = "".join(f"{name}:x:{uid}:{gid}::/:/usr/sbin/nologin\n" for name, uid, gid in named)
    config = settings.file()
    ours = {config: config.read_text(encoding="utf-8")} if config.is_file() else {}
    return {
        **ours,
        Path("/etc/passwd"): users,
        Path("/etc/group"): "root:x:0:\n",
        Path("/etc/nsswitch.conf"): "passwd: files\ngroup: files\nhosts: files dns\n",
    }


def _look() -> _Seen:
    """Examine the tree from within it; raises Failure where nothing can be dumped from it."""
    site = omnibus.describe(config_required=False)
    if site.database.admin.account is None:
        raise Failure(
            "This Mattermost's database is on another server",
            f"{site.database.host} port {site.database.port}",
            "Dump it there with pg_dump; that server does not depend on these files.",
        )
    data = omnibus.data_folder()
    version = files.first_line(data / "PG_VERSION")
    if not re.fullmatch(r"\d+(\.\d+)?", version):
        raise Failure(
            "There is no PostgreSQL data directory",
            f"{data}: {'PG_VERSION is empty' if data.is_dir() else 'is not a directory'}",
        )
    _refuse_running(data)
    counted = process.run(Command(["du", "--summarize", "--bytes", "--dereference", str(data)]))
    return _Seen(site, data, version, int(counted.out.split()[0]))


def _refuse_running(data: Path) -> None:
    """Raise Failure where a server runs on ``data``: it is its working directory.

    postmaster.pid proves nothing: it may be stale, removed, or from a container.
    """
    wanted = os.stat(data)
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            found = os.stat(f"/proc/{pid}/cwd")
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            raise _running(f"process {pid} ({name}) uses {data}")


def _running(detail: str) -> Failure:
    return Failure(
        "A PostgreSQL server is running on this data directory",
        detail,
        "Stop that GitLab first (gitlab-ctl stop, docker stop), or make the set on that host: "
        "gitlab-mm backup, without --root.",
    )


def _copy(data: Path) -> None:
    """Copy the data directory, and check that nothing changed meanwhile, by another host either."""
    control = data / "global/pg_control"
    try:
        before = control.read_bytes()
        copy = ["cp", "--recursive", "--dereference", "--preserve=mode,timestamps"]
        process.run(Command([*copy, "--sparse=auto", "--", f"{data}/.", f"{_COPY}/data"]))
        if control.read_bytes() != before:
            raise _running(f"{control} changed while it was copied")
    except OSError as error:
        raise Failure(f"{error.filename} cannot be read", str(error.strerror)) from error


def _owners(site: Site) -> tuple[str, str]:
    """Return the roles that own Mattermost's database and GitLab's."""
    gitlab = site.gitlab.database
    return site.database.owner.role, gitlab.owner.role if gitlab else omnibus.GITLAB_ROLE


def _adjusted(server: Endpoint, programs: Path, site: Site) -> Site:
    """Return ``site`` with its databases on the scratch server."""
    gitlab = site.gitlab
    name = gitlab.database.name if gitlab.database else _GITLAB_DATABASE
    version = gitlab.version or omnibus_files.gitlab_that_ran(site.root) or "unknown"
    owner, theirs = (replace(server.owner, role=role) for role in _owners(site))
    return replace(
        site,
        database=replace(server, name=site.database.name, owner=owner),
        gitlab=GitLab(version, gitlab.url, replace(server, name=name, owner=theirs)),
        client_programs=programs,
    )
