"""The upgrade gate: before apt upgrades GitLab, back up, and stop an upgrade that loses data."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..backup import job, unchanged
from ..config import identity
from ..config.settings import Settings
from ..container import compose, image, selection, view
from ..errors import ExitCode, Failure, Interrupted, reason
from ..mattermost import omnibus, omnibus_files
from ..mattermost.journal import Journal
from ..mattermost.omnibus import Presence
from ..postgresql import connection
from ..postgresql.endpoint import Endpoint
from ..restore import rollback, search_index
from ..store import inventory, soundness
from ..store.inventory import Store
from ..store.sets import BackupSet
from ..store.verify import verify
from ..system import humanize, signals
from ..system.lock import only_run
from ..version import numbers

log = logging.getLogger(__name__)

PACKAGES = ("gitlab-ce", "gitlab-ee")
OVERRIDE = Path("/etc/gitlab/skip-mattermost-backup")  # named like GitLab's own skip-auto-backup
_WITHOUT_MATTERMOST = 19
_RECENT = timedelta(days=1)
# apt may call the hook several times in one run; only the first call makes a set.
_FRESH = timedelta(minutes=15)
_WAY_AROUND = f"To upgrade without it: touch {OVERRIDE}, or upgrade_gate: warn in config.yml."
_WAY_AROUND_IMAGE = "To start it without a set: upgrade_gate: warn in config.yml."
_NOT_STARTED = "the container is not started"


@dataclass(frozen=True)
class Change:
    """The upgrade or removal of GitLab that apt has planned; "" for no version."""

    old: str
    new: str
    stopped: str = "apt is stopped"  # what a refusal means

    @property
    def removes(self) -> bool:
        return not self.new

    @property
    def loses_mattermost(self) -> bool:
        """Whether this upgrade removes the bundled Mattermost."""
        return major(self.old) < _WITHOUT_MATTERMOST <= major(self.new)


@dataclass(frozen=True)
class GateResult:
    """The upgrade may go on: lines, warnings, and the set that has the data."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    set: str = ""


def planned(lines: Sequence[str]) -> Change | None:
    """Return GitLab's upgrade or removal in apt's lines (version 3), None if there is none.

    A line has: name, old version, architecture, multi-arch, direction, the same three of the new
    version, and the .deb or **REMOVE**, **CONFIGURE**.  A change from gitlab-ce to gitlab-ee has
    two lines, and is one upgrade.  Other lines are ignored.
    """
    olds, news, upward = set(), set(), False
    for line in lines:
        words = line.split(" ", 8)
        if len(words) != 9 or words[0] not in PACKAGES or words[4] not in ("<", "=", ">"):
            continue
        olds.add(words[1])
        news.add("-" if words[8] == "**REMOVE**" else words[5])
        upward = upward or (words[4] == "<" and words[1] != "-")
    old = max(olds - {"-"}, key=_order, default="")
    new = max(news - {"-"}, key=_order, default="")
    if not old:
        return None
    upward = upward or _order(new) > _order(old)
    return Change(old, new) if upward or not new else None


def major(version: str) -> int:
    """Return the major version of a Debian version: 19 of 19.0.0-ce.0 and of 19.0.0~rc1."""
    return (*_order(version), 0)[0]


def _order(version: str) -> tuple[int, ...]:
    return numbers(re.sub(r"^\d+:", "", version))


def guard(change: Change, load: Callable[[], Settings], root: Path = Path("/")) -> GateResult:
    """Back up before an upgrade of GitLab if needed, and return what the operator must know.

    Raises Failure with ExitCode.REFUSED if apt must stop.  No other problem of this host stops it.
    """
    try:
        return _guard(change, load, root)
    except Interrupted as interrupted:
        raise Failure(
            f"Interrupted by {interrupted.signal_name}: {change.stopped}",
            "the changes so far are rolled back; nothing is upgraded",
            exit_code=ExitCode.REFUSED,
        ) from None


def guard_image(reference: str, load: Callable[[], Settings]) -> GateResult:
    """Like ``guard``, before a container of an image is started on the volumes of this host's GitLab.

    The container may run, be stopped or be gone. Raises Failure with ExitCode.REFUSED if it must not
    be started.
    """
    version = image.gitlab_version(reference)
    if not version:
        raise Failure(
            f"Which GitLab is in {reference} is not known: {_NOT_STARTED}",
            "the image is not on this host, and its tag is no version",
            "Pull it first, or name it by its version.",
            ExitCode.REFUSED,
        )
    server = compose.server()
    if server is not None:
        raise Failure(
            f"Which container is GitLab's is not known: {_NOT_STARTED}",
            f"{server.name} is a standalone Mattermost, and was used last",
            "Name GitLab's container: --container NAME.",
            ExitCode.REFUSED,
        )
    last = view.last()
    old = omnibus_files.gitlab_version(Path("/")) or (last.gitlab if last else "")
    change = Change(old or "0", version, _NOT_STARTED)
    if not change.loses_mattermost or (not old and selection.missing() is None):
        return GateResult([f"GitLab {version} takes no Mattermost away from this host"])
    if view.entered() is not None:
        return guard(change, load)
    settings = load()
    if settings.upgrade_gate == "off":
        return GateResult()
    passed = _cross(change, settings, "")  # no set can be made now, and a recent one is enough
    view.mark(version)  # later starts of it take nothing more away
    return passed


def _guard(change: Change, load: Callable[[], Settings], root: Path) -> GateResult:
    if (root / OVERRIDE.relative_to("/")).exists():
        return GateResult([f"Mattermost is not backed up, because {OVERRIDE} exists"])
    try:
        settings, trouble = load(), ""
    except Failure as failure:
        settings, trouble = None, _words(failure)
    if settings is not None and settings.upgrade_gate == "off":
        return GateResult()
    found = omnibus.presence(root)
    if change.removes:
        return _tell_removal(found, settings)
    if found is Presence.DISABLED and change.loses_mattermost:
        return GateResult(warnings=[f"{found.value}, and GitLab {change.new} removes it for good"])
    if found is not Presence.ENABLED:
        return GateResult()
    lines: list[str] = []
    if settings is not None:
        trouble, lines = _freshen(settings)
    crosses = change.loses_mattermost
    passed = _cross(change, settings, trouble) if crosses else _passed_below(settings, trouble)
    return dataclasses.replace(passed, warnings=[*lines, *passed.warnings])


def _tell_removal(found: Presence, settings: Settings | None) -> GateResult:
    if found is not Presence.ENABLED:
        return GateResult()
    newest = _newest(settings)
    text = f"the newest set is {_about(newest)}" if newest else "there is no set"
    return GateResult(warnings=[f"GitLab is removed; its Mattermost is not backed up now: {text}"])


def _freshen(settings: Settings) -> tuple[str, list[str]]:
    """Back up unless there is a set of the last _FRESH.

    Returns why there is none ("" on success), and warnings.
    """
    newest = _newest(settings)
    if newest is not None and is_recent(newest, _now(), _FRESH):
        log.info("Set %s is fresh enough", newest.name)
        return "", []
    try:
        with only_run():
            rollback.refuse_unfinished(Journal())
            site = omnibus.find()
            warnings = search_index.build_pending(site)
            made = job.backup(site, settings, inventory.open_store(settings))
            warnings += rollback.prune_previous(settings.keep_time)
        warnings += made.warnings + job.follow(made)
    except Failure as failure:
        return _words(failure), []
    except OSError as error:
        return reason(error), []
    finally:
        signals.heed()  # the end of a backup ignores signals; from here they interrupt again
    return "", warnings


def _passed_below(settings: Settings | None, trouble: str) -> GateResult:
    """Return the result for an upgrade that keeps Mattermost: apt goes on in any case."""
    if trouble:
        return GateResult(
            warnings=[f"GitLab is upgraded without a fresh set of its Mattermost: {trouble}"]
        )
    newest = _newest(settings)
    name = newest.name if newest else ""
    return GateResult([f"Mattermost is in set {name}"], set=name)


def _cross(change: Change, settings: Settings | None, trouble: str) -> GateResult:
    """Return the result for an upgrade that removes Mattermost; raise Failure if data would be lost."""
    problems = [trouble] if trouble else []
    for set_ in recent(_sets(settings), _now(), _RECENT):
        try:
            verify(set_)
        except Failure as failure:
            problems.append(_words(failure))
            continue
        warnings = [f"No fresh set was made: {trouble}"] if trouble else []
        return GateResult(
            [f"Mattermost, which GitLab {change.new} removes, is in the verified set {set_.name}"],
            warnings,
            set_.name,
        )
    data = live_data()
    if not data:
        return GateResult(["Mattermost has no team and no user: this upgrade loses no data"])
    message = f"GitLab {change.new} removes the bundled Mattermost, and no fresh set has its data"
    about = _WAY_AROUND if view.entered() or not view.marked() else _WAY_AROUND_IMAGE
    detail = "; ".join([data, *(problems or ["no verified set is newer than a day"])])
    if settings is not None and settings.upgrade_gate == "warn":
        return GateResult(warnings=[f"{message}: {detail}"])
    raise Failure(
        f"{message}: {change.stopped}",
        detail,
        f"Back up first: gitlab-mm backup. {about}",
        ExitCode.REFUSED,
    )


def live_data() -> str:
    """Return, in words, how many teams and users Mattermost has, "" for none.

    If the database does not answer, Mattermost is assumed in use: the upgrade cannot be undone.
    """
    try:
        endpoint: Endpoint = omnibus.find(config_required=False).database
        teams, users = connection.count_people(endpoint)
    except Failure as failure:
        return f"whether it has teams and users is not known ({failure})"
    if not teams and not users:
        return ""
    return f"it has {humanize.number(teams, 'team')} and {humanize.number(users, 'user')}"


def recent(sets: Sequence[BackupSet], now: datetime, within: timedelta) -> list[BackupSet]:
    """Return the recent sets of ``sets``, in their order, without safety sets."""
    return [set_ for set_ in sets if not set_.manifest.safety and is_recent(set_, now, within)]


def is_recent(set_: BackupSet, now: datetime, within: timedelta) -> bool:
    """Return whether a set was finished, or unchanged, within this time and not in the future."""
    finished = set_.manifest.made + timedelta(seconds=set_.manifest.seconds)
    finished = max(finished, unchanged.confirmed([set_], now).get(set_.name, finished))
    return timedelta(minutes=-1) < now - finished <= within


def _newest(settings: Settings | None) -> BackupSet | None:
    return next((set_ for set_ in _sets(settings) if not set_.manifest.safety), None)


def _sets(settings: Settings | None) -> list[BackupSet]:
    """Return the sets, newest first; [] if the store cannot be read (a backup reports that)."""
    try:
        return own(inventory.open_store(settings)) if settings else []
    except Failure:
        return []


def own(store: Store) -> list[BackupSet]:
    """Return this host's sets without those that have flaws, such as a date in the future."""
    known, now = soundness.accepted_names(), _now()
    return [
        set_
        for set_ in inventory.own_sets(identity.known(), store.sets())
        if not soundness.flaws(set_.manifest, (), known, now)
    ]


def _about(set_: BackupSet) -> str:
    return f"{set_.name}, made {humanize.moment(set_.manifest.made)}"


def _words(failure: Failure) -> str:
    """Return a failure as one line: message, detail and hint."""
    return ". ".join(part for part in (str(failure), failure.hint) if part).rstrip(".")


def _now() -> datetime:
    return datetime.now(timezone.utc)
