"""Gate: what apt's hook decides before GitLab is upgraded, most of all to the version without Mattermost."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..backup import job
from ..config import identity
from ..config.settings import Settings
from ..errors import ExitCode, Failure, Interrupted, reason
from ..mattermost import omnibus
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
OVERRIDE = Path("/etc/gitlab/skip-mattermost-backup")  # named as GitLab's own skip-auto-backup is
_WITHOUT_MATTERMOST = 19
_RECENT = timedelta(days=1)
# apt may call the hook several times in one run; a set is not made again for each call.
_FRESH = timedelta(minutes=15)
_WAY_AROUND = f"To upgrade without it: touch {OVERRIDE}, or upgrade_gate: warn in config.yml."


@dataclass(frozen=True)
class Change:
    """What apt is about to do to GitLab; "" for a version that there is not."""

    old: str
    new: str

    @property
    def removes(self) -> bool:
        return not self.new

    @property
    def loses_mattermost(self) -> bool:
        """Whether this upgrade crosses to the version that no longer bundles Mattermost."""
        return major(self.old) < _WITHOUT_MATTERMOST <= major(self.new)


@dataclass(frozen=True)
class GateResult:
    """The gate is open: what was found, and what the operator must read."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    set: str = ""


def planned(lines: Sequence[str]) -> Change | None:
    """Return GitLab's upgrade or removal among apt's lines (version 3), None when there is neither.

    A line: name, old version, architecture, multi-arch, direction, the same three of the new
    one, and the .deb or what else is done.  A change from gitlab-ce to gitlab-ee is one of
    GitLab, told in two lines.  Lines of another form are passed over.
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
    """Return the first number of a Debian version: 19 of 19.0.0-ce.0 and of 19.0.0~rc1."""
    return (*_order(version), 0)[0]


def _order(version: str) -> tuple[int, ...]:
    return numbers(re.sub(r"^\d+:", "", version))


def guard(change: Change, load: Callable[[], Settings], root: Path = Path("/")) -> GateResult:
    """Make a fresh set where a change of GitLab asks for one, and say what the operator must know.

    Raises Failure with ExitCode.REFUSED when apt has to stop.  Nothing else that is amiss on
    this host stops it.
    """
    try:
        return _guard(change, load, root)
    except Interrupted as interrupted:
        raise Failure(
            f"Interrupted by {interrupted.signal_name}: apt is stopped",
            "everything begun was taken back, and nothing is upgraded",
            exit_code=ExitCode.REFUSED,
        ) from None


def _guard(change: Change, load: Callable[[], Settings], root: Path) -> GateResult:
    if (root / OVERRIDE.relative_to("/")).exists():
        return GateResult([f"No set of Mattermost is made: {OVERRIDE} exists"])
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
    told: list[str] = []
    if settings is not None:
        trouble, told = _freshen(settings)
    crosses = change.loses_mattermost
    passed = _cross(change, settings, trouble) if crosses else _passed_below(settings, trouble)
    return dataclasses.replace(passed, warnings=[*told, *passed.warnings])


def _tell_removal(found: Presence, settings: Settings | None) -> GateResult:
    if found is not Presence.ENABLED:
        return GateResult()
    newest = _newest(settings)
    told = f"the newest is {_about(newest)}" if newest else "there is none"
    return GateResult(
        warnings=[f"GitLab is removed, and no set of its Mattermost is made for that: {told}"]
    )


def _freshen(settings: Settings) -> tuple[str, list[str]]:
    """Make a set unless there is one from just now.

    Returns in words why there is none, and what the operator must read about one that there is.
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
        signals.heed()  # a finished set passes signals over; what follows may be interrupted
    return "", warnings


def _passed_below(settings: Settings | None, trouble: str) -> GateResult:
    """The upgrade keeps Mattermost: whatever went wrong, apt goes on."""
    if trouble:
        return GateResult(
            warnings=[f"GitLab is upgraded without a fresh set of its Mattermost: {trouble}"]
        )
    newest = _newest(settings)
    name = newest.name if newest else ""
    return GateResult([f"Mattermost is in set {name}"], set=name)


def _cross(change: Change, settings: Settings | None, trouble: str) -> GateResult:
    """The upgrade takes Mattermost away: it needs a verified set, or nothing that could be lost."""
    problems = [trouble] if trouble else []
    for one in recent(_sets(settings), _now(), _RECENT):
        try:
            verify(one)
        except Failure as failure:
            problems.append(_words(failure))
            continue
        warnings = [f"No fresh set was made: {trouble}"] if trouble else []
        return GateResult(
            [f"Mattermost, which GitLab {change.new} removes, is in the verified set {one.name}"],
            warnings,
            one.name,
        )
    data = live_data()
    if not data:
        return GateResult(["Mattermost has no team and no user: nothing is lost by this upgrade"])
    message = f"GitLab {change.new} removes the bundled Mattermost, and its data is in no fresh set"
    detail = "; ".join([data, *(problems or ["no verified set is newer than a day"])])
    if settings is not None and settings.upgrade_gate == "warn":
        return GateResult(warnings=[f"{message}: {detail}"])
    raise Failure(
        f"{message}: apt is stopped",
        detail,
        f"Make a set: gitlab-mm backup. {_WAY_AROUND}",
        ExitCode.REFUSED,
    )


def live_data() -> str:
    """Say in words how many teams and users Mattermost has, "" for none.

    Where nobody can be asked it is taken for in use: going on cannot be taken back.
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
    """Return those of ``sets`` that count as new, in their order; safety sets never do."""
    return [one for one in sets if not one.manifest.safety and is_recent(one, now, within)]


def is_recent(one: BackupSet, now: datetime, within: timedelta) -> bool:
    """Tell whether a set was finished no longer ago; one from the future was made by a wrong clock."""
    finished = one.manifest.made + timedelta(seconds=one.manifest.seconds)
    return timedelta(minutes=-1) < now - finished <= within


def _newest(settings: Settings | None) -> BackupSet | None:
    return next((one for one in _sets(settings) if not one.manifest.safety), None)


def _sets(settings: Settings | None) -> list[BackupSet]:
    """Return the sets, newest first; none where they cannot be looked for, which a backup tells."""
    try:
        return own(inventory.open_store(settings)) if settings else []
    except Failure:
        return []


def own(store: Store) -> list[BackupSet]:
    """Return this host's sets; one that looks emptied, or has a wrong date, is none to rely on."""
    known, now = soundness.accepted_names(), _now()
    return [
        one
        for one in inventory.own_sets(identity.known(), store.sets())
        if not soundness.flaws(one.manifest, (), known, now)
    ]


def _about(one: BackupSet) -> str:
    return f"{one.name}, made {humanize.moment(one.manifest.made)}"


def _words(failure: Failure) -> str:
    """Put a failure into a line: what, the detail, and what to do."""
    return ". ".join(part for part in (str(failure), failure.hint) if part).rstrip(".")


def _now() -> datetime:
    return datetime.now(timezone.utc)
