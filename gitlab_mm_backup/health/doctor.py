"""gitlab-mm doctor: check whether this host is ready to back up and to restore."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..checks import Check, Result, guarded
from ..config import settings
from ..config.settings import Rules
from ..errors import Failure
from ..mattermost import detect, listener, omnibus, omnibus_files, service
from ..mattermost.journal import Journal
from ..mattermost.omnibus import Presence
from ..mattermost.site import Kind, Site
from ..postgresql import connection
from ..sso import check, credentials
from ..sso.oauth import ProbeResult
from ..store import inventory
from ..store.retention import FOR_EVER
from ..system.process import PATH

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
    checks = [_gitlab(root), _mattermost(root), _programs(root)]
    if detect.absent(root):
        return checks
    checks += _config(load)
    checks.append(guarded("backup path", lambda: _backup_path(load())))
    checks.append(guarded("sets", lambda: _sets(load())))
    checks.append(guarded("retention", lambda: _retention(load())))
    checks.append(guarded("restore journal", _journal))
    checks.append(guarded("search", _search))
    if layout:
        return checks
    try:
        site = detect.find() if root == Path("/") else omnibus.find(root)
    except Failure as failure:
        return [*checks, Check("settings", Result.FAILED, str(failure))]
    checks.append(guarded("service", lambda: service_check(site)))
    checks.append(guarded("database", lambda: _database(site)))
    checks.append(guarded("sign-in", lambda: sign_in_check(site)))
    return checks


def _gitlab(root: Path) -> Check:
    version = omnibus_files.gitlab_version(root)
    if version:
        return Check("GitLab", Result.PASSED, f"Omnibus GitLab {version}")
    if detect.kind(root) is Kind.STANDALONE:
        return Check("GitLab", Result.NOT_RUN, "not on this host")
    return Check("GitLab", Result.FAILED, Presence.NO_GITLAB.value)


def _mattermost(root: Path) -> Check:
    found = omnibus.presence(root)
    if detect.kind(root) is Kind.STANDALONE:
        return Check("Mattermost", Result.PASSED, "a standalone Mattermost, run by systemd")
    if found is Presence.ENABLED:
        version = omnibus_files.bundled_mattermost(root)
        return Check("Mattermost", Result.PASSED, f"{found.value}, version {version or 'unknown'}")
    if found is Presence.NO_GITLAB:
        return Check("Mattermost", Result.NOT_RUN, "not checked: GitLab is not installed")
    home = omnibus.home(root) if found is Presence.REMOVED else Path("/nonexistent")
    left = ""
    if home.is_dir():
        left = f"; its data is still in {home} and in its database: save it with gitlab-mm backup"
    return Check("Mattermost", Result.WARNING, f"{found.value}{left}")


def _programs(root: Path) -> Check:
    missing = [name for name in _PROGRAMS if shutil.which(name, path=PATH) is None]
    if omnibus.presence(root) is Presence.ENABLED:
        clients = root / "opt/gitlab/embedded/bin"
        missing += [name for name in _CLIENTS if not os.access(clients / name, os.X_OK)]
    if missing:
        return Check("programs", Result.FAILED, f"missing: {', '.join(missing)}")
    return Check("programs", Result.PASSED, "all installed")


def _config(load: Callable[[], settings.Settings]) -> list[Check]:
    """Return a warning where config.yml uses old names of options; nothing else."""
    try:
        old_names = load().old_names
    except Failure:  # which the next check tells
        return []
    if not old_names:
        return []
    return [Check("config.yml", Result.WARNING, f"old names of options: {'; '.join(old_names)}")]


def _backup_path(ours: settings.Settings) -> Check:
    """Check that the nearest existing directory is writable; its disk may be mounted read-only."""
    if ours.store == "restic":
        return _restic()
    there = next(path for path in (ours.sets, *ours.sets.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Check("backup path", Result.PASSED, f"{there} can be written to")
    return Check("backup path", Result.FAILED, f"{there} cannot be written to")


def _restic() -> Check:
    found = shutil.which("restic", path=PATH)
    if found is None:
        return Check("backup path", Result.FAILED, "restic is not installed: apt install restic")
    return Check("backup path", Result.PASSED, f"sets are in a restic repository, through {found}")


def _sets(ours: settings.Settings) -> Check:
    store = inventory.open_store(ours)
    entries = store.entries()
    damaged = [entry.name for entry in entries if entry.set is None]
    if damaged:
        return Check("sets", Result.WARNING, f"not complete: {', '.join(damaged)}")
    if not entries:
        return Check("sets", Result.WARNING, f"none yet in {store.where}")
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
        detail = "a restore was interrupted: run gitlab-mm restore --rollback, or --continue"
        return Check("restore journal", Result.FAILED, detail)
    return Check("restore journal", Result.PASSED, "interrupted restore: none")


def _search() -> Check:
    left = Journal().later()
    if left:
        names = ", ".join(one.name for one in left)
        detail = f"search indexes are missing since a restore: {names}; build them: gitlab-mm restore --continue"
        return Check("search", Result.WARNING, detail)
    return Check("search", Result.PASSED, "no index is missing since a restore")


def service_check(site: Site) -> Check:
    """Check whether Mattermost runs, and answers at the address that a restore uses."""
    if not service.of(site).runs():
        how = service.of(site).start_by_hand
        return Check("service", Result.WARNING, f"Mattermost is stopped: {how}")
    try:
        service.wait_until_it_answers(site, seconds=0)
    except Failure as failure:
        told = f"Mattermost runs, but does not answer as a restore expects: {failure.detail}"
        return Check("service", Result.WARNING, told)
    url = listener.of(site.settings).url
    return Check("service", Result.PASSED, f"Mattermost runs, and answers at {url}")


def _database(site: Site) -> Check:
    with connection.within(site.database) as session:
        version = session.execute("SHOW server_version").fetchone()
    assert version is not None
    return Check("database", Result.PASSED, f"{site.database.name} on PostgreSQL {version[0]}")


def sign_in_check(site: Site) -> Check:
    """Check whether sign-in through GitLab works now."""
    if not credentials.layers(site)[0] or check.effective_pair(site) is None:
        return Check("sign-in", Result.NOT_RUN, "GitLab sign-in is not set up")
    verified, asked = check.accepted(site), check.probe(site)
    if verified is False or asked.verdict is ProbeResult.REFUSED:
        return Check("sign-in", Result.FAILED, f"{asked.reason}: run gitlab-mm sso check")
    if asked.verdict is ProbeResult.ACCEPTED:
        return Check("sign-in", Result.PASSED, asked.reason)
    return Check("sign-in", Result.WARNING, asked.reason)
