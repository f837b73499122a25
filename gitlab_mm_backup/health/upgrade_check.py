"""gitlab-mm doctor --to 19: what GitLab 19, which has no Mattermost, does to this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ..checks import Check, Result, failed, guarded, passed
from ..config.settings import Settings
from ..errors import Failure
from ..mattermost import gitlab_rb, json_file, omnibus, omnibus_files
from ..mattermost.omnibus import WITHOUT_MATTERMOST, Presence
from ..mattermost.site import Site
from ..postgresql import connection
from ..store import check_records, inventory
from ..store.check_records import CheckVerdict
from ..store.sets import BackupSet
from ..system import humanize
from ..version import numbers
from . import upgrade_gate

_SECRETS = omnibus_files.SECRETS
_FRESH = timedelta(days=1)  # as in upgrade_gate.py
_FIRST_TO_LEAVE = (18, 11)  # the package of 19.0 refuses to be unpacked over older ones
_LEAST_POSTGRESQL = 17
_KNOWN_GOOD = "18.11.9"


@dataclass(frozen=True)
class Use:
    """How much Mattermost is used; None if not known."""

    teams: int | None
    users: int | None
    last_post: datetime | None
    words: str

    @property
    def some(self) -> bool:
        """Return whether data could be lost; unknown counts as used."""
        return self.teams is None or bool(self.teams or self.users)


def run_checks(load: Callable[[], Settings], root: Path = Path("/")) -> list[Check]:
    """Check each part of this host that an upgrade to GitLab 19 affects; change nothing."""
    version = omnibus_files.gitlab_version(root)
    if not version:
        return [failed("GitLab", Presence.NO_GITLAB.value)]
    if numbers(version) >= WITHOUT_MATTERMOST:
        return [_upgraded(version, root)]
    try:
        site: Site | None = omnibus.describe(root, config_required=False)
    except Failure:
        site = None
    use = _use(site)
    return [
        guarded("upgrade", lambda: _upgrade(version, root, use)),
        Check("use", Result.PASSED, use.words),
        guarded("gitlab.rb", lambda: _gitlab_rb(root, site)),
        guarded("PostgreSQL", lambda: _postgresql(site)),
        guarded("set", lambda: _set(load(), use)),
        guarded("secrets", lambda: _secrets(root, use)),
    ]


def _upgraded(version: str, root: Path) -> Check:
    there = omnibus.home(root).is_dir()
    kept = "; gitlab-mm backup saves the remaining data of Mattermost" if there else ""
    return Check("upgrade", Result.WARNING, f"this is GitLab {version} already{kept}")


def _use(site: Site | None) -> Use:
    """Count teams and users in Mattermost's database; the secrets exist on every 18.x host."""
    if site is None:
        return Use(None, None, None, "not known: its settings cannot be read; assumed in use")
    try:
        teams, users = connection.count_people(site.database)
        last = connection.last_post(site.database)
    except Failure as failure:
        if "does not exist" in failure.detail:
            return Use(0, 0, None, "no database: nothing to lose")
        return Use(None, None, None, f"not known ({failure}); assumed in use")
    if not teams and not users:
        return Use(0, 0, None, "no team and no user: nothing to lose")
    ago = f", last post {humanize.moment(last)}" if last else ", no post"
    return Use(
        teams,
        users,
        last,
        f"{humanize.number(teams, 'team')}, {humanize.number(users, 'user')}{ago}",
    )


def _upgrade(version: str, root: Path, use: Use) -> Check:
    """Check the version; the patch releases of 18.11 differ (omnibus-gitlab #9916, #10001)."""
    ours = numbers(version)
    if ours < _FIRST_TO_LEAVE:
        return failed(
            "upgrade",
            f"blocked: GitLab 19 requires 18.11 first, this is {version}; upgrade to {_KNOWN_GOOD}",
        )
    known = {
        7: failed(
            "upgrade",
            f"blocked: {version} refuses the upgrade on every host, because of the secrets that all "
            f"hosts have; upgrade to {_KNOWN_GOOD} first",
        ),
        8: failed(
            "upgrade",
            f"blocked: {version} enables Mattermost, also where it never was; upgrade to "
            f"{_KNOWN_GOOD} first",
        ),
    }
    patch = ours[2] if len(ours) > 2 else 0
    if ours[:2] == _FIRST_TO_LEAVE and patch in known:
        return known[patch]
    if ours[:2] == _FIRST_TO_LEAVE and patch < min(known):
        return Check(
            "upgrade",
            Result.WARNING,
            f"passes silently: {version} does not check for Mattermost, and GitLab 19 erases the "
            f"secrets; {_KNOWN_GOOD} or later warns",
        )
    if _enabled(root):
        return failed(
            "upgrade",
            "blocked: mattermost['enable'] is true (mattermost_external_url alone makes it so); "
            "remove its lines from gitlab.rb, then run gitlab-ctl reconfigure",
        )
    erased = ", and erases Mattermost's secrets" if use.some else ""
    return passed("upgrade", f"passes: Mattermost is not enabled{erased}")


def _enabled(root: Path) -> bool:
    """Return mattermost['enable'] of the last reconfigure; if unknown, whether its service exists."""
    known: Mapping[str, Any] = omnibus_files.attributes(root).get("mattermost") or {}
    if "enable" in known:
        return known["enable"] is True
    return omnibus.presence(root) is Presence.ENABLED


def _gitlab_rb(root: Path, site: Site | None) -> Check:
    """Any setting fails the first reconfigure of most 19.x, after the secrets are erased."""
    found = gitlab_rb.settings(root)
    if not found:
        return passed("gitlab.rb", "has no setting of Mattermost")
    lines = "; ".join(str(setting) for setting in found)
    url = site.settings.text("ServiceSettings", "SiteURL") if site else ""
    return failed(
        "gitlab.rb",
        f"remove before the upgrade, or the first reconfigure of 19 may fail: {lines}. "
        f"To keep GitLab's links to it, set gitlab_rails['mattermost_host'] = {url or '…'!r}",
    )


def _postgresql(site: Site | None) -> Check:
    gitlab = site.gitlab.database if site else None
    if gitlab is None:
        return Check("PostgreSQL", Result.NOT_RUN, "GitLab's database is not on this host")
    with connection.administering(gitlab) as session:
        server = connection.server_version(session)
    if numbers(server)[0] >= _LEAST_POSTGRESQL:
        return passed("PostgreSQL", server)
    return failed(
        "PostgreSQL",
        f"blocked: GitLab 19 requires {_LEAST_POSTGRESQL} or newer, this is {server}; "
        "run gitlab-ctl pg-upgrade",
    )


def _set(ours: Settings, use: Use) -> Check:
    """Check for a recent set that passed a rehearsal."""
    newest = next(
        (set_ for set_ in upgrade_gate.own(inventory.open_store(ours)) if not set_.manifest.safety),
        None,
    )
    if newest is None:
        if not use.some:
            return Check("set", Result.NOT_RUN, "none, and nothing to lose")
        return failed("set", "there is none: run gitlab-mm backup, then gitlab-mm rehearse")
    return _judge(newest, use)


def _judge(newest: BackupSet, use: Use) -> Check:
    settled = check_records.decisive(check_records.of_set(newest))
    made = f"{newest.name}, made {humanize.moment(newest.manifest.made)}"
    if settled is not None and settled.verdict is CheckVerdict.FAILED:
        return failed("set", f"{made}, did not pass: run gitlab-mm backup, then gitlab-mm rehearse")
    if settled is None:
        result = Result.FAILED if use.some else Result.WARNING
        return Check(
            "set", result, f"{made}, was never rehearsed completely: run gitlab-mm rehearse"
        )
    if datetime.now(timezone.utc) - newest.manifest.made > _FRESH:
        return Check("set", Result.WARNING, f"{made}, passed its rehearsal, but is over a day old")
    return passed("set", f"{made}, passed its rehearsal")


def _secrets(root: Path, use: Use) -> Check:
    """The first reconfigure of 19 rewrites the file without Mattermost's section, even if it fails."""
    section = json_file.read(root / _SECRETS).document.get("mattermost")
    if not isinstance(section, Mapping) or not section:
        return passed("secrets", "gitlab-secrets.json has none of Mattermost's")
    if not use.some:
        return passed("secrets", "GitLab 19 erases those of Mattermost, which is not used")
    return Check(
        "secrets",
        Result.PASSED,
        "the first reconfigure of GitLab 19 erases those of Mattermost, even if it fails; they are "
        "in the sets",
    )
