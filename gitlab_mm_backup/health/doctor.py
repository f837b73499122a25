"""gitlab-mm doctor: check whether this host is ready to back up and to restore."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..checks import Check, Result, guarded
from ..config import identity, secret_files, settings
from ..config.retention import FOR_EVER
from ..config.settings import Rules
from ..container import compose, selection, view
from ..errors import Failure
from ..mattermost import detect, omnibus, omnibus_files
from ..mattermost.journal import Journal
from ..mattermost.omnibus import Presence
from ..mattermost.site import Kind, Site
from ..postgresql import connection
from ..restore import undo_log
from ..store import inventory
from ..system import lock
from ..system.process import PATH
from . import lights, set_lights, status
from .lines import State, StatusLine

_PROGRAMS = ("zstd", "tar", "setpriv")
_CLIENTS = ("pg_dump", "pg_restore")


def run_checks(
    load: Callable[[], settings.Settings] = settings.load,
    root: Path = Path("/"),
    *,
    layout: bool = False,
) -> list[Check]:
    """Check everything that a backup and a restore need; change nothing.

    With ``layout``, check only files on disk and no services, because these stop and start while
    GitLab is being upgraded.
    """
    checks = [_gitlab(root), _mattermost(root), *_container(root), _programs(root)]
    if detect.absent(root):
        return checks
    checks += _config(load)
    checks.append(guarded("backup path", lambda: _backup_path(load())))
    if layout:
        checks.append(guarded("sets", lambda: _sets(load())))
    checks.append(guarded("retention", lambda: _retention(load())))
    checks.append(guarded("restore journal", _journal))
    checks.append(guarded("search", _search))
    checks.append(guarded("uploads", _uploads))
    if layout:
        return checks
    checks += _lights(load)
    try:
        site = detect.find() if root == Path("/") else omnibus.find(root)
    except Failure as failure:
        return [*checks, _unusable(failure, root)]
    checks.append(_check_of(status.running_site(site)))
    checks.append(guarded("database", lambda: _database(site)))
    checks.append(_check_of(status.sign_in_of(site)))
    return checks


def _unusable(failure: Failure, root: Path) -> Check:
    """Return the check of a Mattermost whose settings or database cannot be used."""
    if compose.server() is not None:
        return _refused("settings", failure)
    bundled = detect.kind(root) is Kind.OMNIBUS
    fix = "gitlab-ctl reconfigure" if bundled else "systemctl status mattermost"
    return _amiss("settings", str(failure), fix)


def _refused(name: str, failure: Failure) -> Check:
    """Return a check that failed, with the failure's own advice."""
    return Check(name, Result.FAILED, f"{failure}. {failure.hint}")


def _amiss(name: str, detail: str, fix: str, result: Result = Result.FAILED) -> Check:
    """Return a check that did not pass; its detail ends in the command that helps."""
    return Check(name, result, f"{detail}. Run: {fix}")


_RESULTS = {
    State.GOOD: Result.PASSED,
    State.WARNING: Result.WARNING,
    State.BAD: Result.FAILED,
    State.OFF: Result.NOT_RUN,
}


def _check_of(line: StatusLine) -> Check:
    return Check(line.name, _RESULTS[line.state], line.text)


def _lights(load: Callable[[], settings.Settings]) -> list[Check]:
    """Return what status says about sets, the last and the next run, and copies."""
    try:
        ours = load()
        facts = lights.collect(inventory.open_store(ours), ours)
    except Failure as failure:
        return [_amiss("last set", str(failure), "gitlab-mm config check")]
    lines = [
        set_lights.last_set(facts),
        set_lights.last_run(facts),
        status.next_run(facts),
        set_lights.off_site(facts),
    ]
    found = [_check_of(line) for line in lines if line is not None]
    if not facts.found.entries:  # a host that is ready, and has made no set yet
        found[0] = replace(found[0], result=Result.WARNING)
    return found


def _gitlab(root: Path) -> Check:
    version = omnibus_files.gitlab_version(root)
    if version:
        return Check("GitLab", Result.PASSED, f"Omnibus GitLab {version}")
    if detect.kind(root) is Kind.STANDALONE:
        return Check("GitLab", Result.NOT_RUN, "not on this host")
    unreached = selection.missing()
    if unreached is not None:
        return _refused("GitLab", unreached)
    return Check("GitLab", Result.FAILED, Presence.NO_GITLAB.value)


def _container(root: Path) -> list[Check]:
    """Return what the container is that GitLab or Mattermost runs in; nothing where it runs in none."""
    seen = view.entered() if root == Path("/") else None
    if seen is None:
        return []
    found = seen.container
    text = f"{found.name}, run by {found.engine}, of image {found.image}; {'; '.join(map(str, found.mounts))}"
    kept = {mount.target for mount in found.mounts if mount.kind != "tmpfs"}
    lost = [
        path for path in view.VOLUMES if path not in kept and str(Path(path).parent) not in kept
    ]
    if lost and not seen.is_server:  # a server's directories must be in volumes
        lost_text = f"{text}. {', '.join(lost)} of it is in no volume, and lost with the container"
        return [Check("container", Result.WARNING, lost_text)]
    return [Check("container", Result.PASSED, text)]


def _mattermost(root: Path) -> Check:
    found = omnibus.presence(root)
    if detect.kind(root) is Kind.STANDALONE:
        by = server.engine if (server := compose.server()) is not None else "systemd"
        return Check("Mattermost", Result.PASSED, f"a standalone Mattermost, run by {by}")
    if found is Presence.ENABLED:
        version = omnibus_files.bundled_mattermost(root)
        return Check("Mattermost", Result.PASSED, f"{found.value}, version {version or 'unknown'}")
    if found is Presence.NO_GITLAB:
        return Check("Mattermost", Result.NOT_RUN, "not checked: GitLab is not installed")
    home = omnibus.home(root) if found is Presence.REMOVED else Path("/nonexistent")
    left = ""
    if home.is_dir():
        left = f"; its data is still in {home} and in its database. Run: gitlab-mm backup"
    return Check("Mattermost", Result.WARNING, f"{found.value}{left}")


def _programs(root: Path) -> Check:
    missing = [name for name in _PROGRAMS if shutil.which(name, path=PATH) is None]
    if omnibus.presence(root) is Presence.ENABLED:
        clients = root / "opt/gitlab/embedded/bin"
        missing += [name for name in _CLIENTS if not os.access(clients / name, os.X_OK)]
    if missing:
        fix = "apt install --reinstall gitlab-mm-backup zstd tar util-linux"
        if set(missing) & set(_CLIENTS):
            fix = "gitlab-ctl reconfigure"
        return _amiss("programs", f"missing: {', '.join(missing)}", fix)
    return Check("programs", Result.PASSED, "all installed")


def _config(load: Callable[[], settings.Settings]) -> list[Check]:
    """Return a warning of old names of options and of secrets that every user can read."""
    try:
        old_names = load().old_names
        readable = secret_files.readable_secrets(settings.file())
    except Failure:  # which the next check tells
        return []
    lines = [f"old names of options: {'; '.join(old_names)}"] if old_names else []
    lines += [f"every user can read {path}, which has a secret" for path in readable]
    if not lines:
        return []
    return [_amiss("config.yml", "; ".join(lines), "gitlab-mm config check", Result.WARNING)]


def _backup_path(ours: settings.Settings) -> Check:
    """Check that the nearest existing directory is writable; its disk may be mounted read-only."""
    if ours.store == "restic":
        return _restic()
    there = next(path for path in (ours.sets, *ours.sets.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Check("backup path", Result.PASSED, f"{there} can be written to")
    return _amiss("backup path", f"{there} cannot be written to", f"findmnt --target {there}")


def _restic() -> Check:
    found = shutil.which("restic", path=PATH)
    if found is None:
        return _amiss("backup path", "restic is not installed", "apt install restic")
    return Check("backup path", Result.PASSED, f"sets are in a restic repository, through {found}")


def _sets(ours: settings.Settings) -> Check:
    store = inventory.open_store(ours)
    entries = store.entries()
    damaged = [entry.name for entry in entries if entry.set is None]
    if damaged:
        text = f"not complete: {', '.join(damaged)}"
        return _amiss("sets", text, "gitlab-mm list", Result.WARNING)
    if not entries:
        text = f"none yet in {store.where}"
        return _amiss("sets", text, "gitlab-mm backup", Result.WARNING)
    return Check(
        "sets", Result.PASSED, f"{len(entries)} in {store.where}, newest {entries[0].name}"
    )


def _retention(ours: settings.Settings) -> Check:
    if ours.rules == Rules():
        return Check("retention", Result.PASSED, FOR_EVER)
    return Check(
        "retention", Result.PASSED, "old sets are pruned; to preview: gitlab-mm prune --dry-run"
    )


def _journal() -> Check:
    if Journal().read() is not None:
        fix = "gitlab-mm restore --rollback, or gitlab-mm restore --continue"
        return _amiss("restore journal", "a restore was interrupted", fix)
    if left := undo_log.interrupted(identity.known().installation):
        fix = f"gitlab-mm recover --undo {left[0][0]}, or the same recover again"
        text = "gitlab-mm recover was interrupted"
        return _amiss("restore journal", text, fix, Result.WARNING)
    return Check("restore journal", Result.PASSED, "interrupted restore: none")


def _search() -> Check:
    left = Journal().later()
    if left:
        names = ", ".join(index.name for index in left)
        detail = f"search indexes are missing since a restore: {names}"
        return _amiss("search", detail, "gitlab-mm restore --continue", Result.WARNING)
    return Check("search", Result.PASSED, "no index is missing since a restore")


def _uploads() -> Check:
    entry = Journal().pending()
    if entry is None:
        return Check("uploads", Result.PASSED, "none are left to unpack by a restore")
    holder = lock.holder(lock.UPLOADS_FILE)
    if holder:
        return Check("uploads", Result.WARNING, f"{entry.words}; at work: {holder}")
    return _amiss("uploads", entry.words, "gitlab-mm restore --continue", Result.WARNING)


def _database(site: Site) -> Check:
    with connection.within(site.database) as session:
        version = session.execute("SHOW server_version").fetchone()
    assert version is not None
    contained = compose.database()
    where = f", in the container {contained.name}" if contained is not None else ""
    text = f"{site.database.name} on PostgreSQL {version[0]}{where}"
    return Check("database", Result.PASSED, text)
