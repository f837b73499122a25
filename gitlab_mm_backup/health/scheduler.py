"""Find out what starts the nightly backup: systemd's timer or cron, and whether it runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..backup import schedule
from ..config.schedule import Schedule
from ..errors import Failure
from ..system import humanize, process
from ..system.process import Command

CRON = Path("/etc/cron.d/gitlab-mm-backup")
TIMER, SERVICE = "gitlab-mm-backup.timer", "gitlab-mm-backup.service"
_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
_DAEMONS = ("cron", "crond", "fcron", "bcron-sched")  # that read /etc/cron.d
_SYSTEMD_CRON = "cron.target"  # of Debian's systemd-cron, which creates timers from /etc/cron.d
_LINE = re.compile(r"^[^#\s].* (\d\d?:\d\d)\s*$", re.M)


@dataclass(frozen=True)
class _Way:
    """The files of cron and systemd that start a run."""

    cron: Path
    timer: str
    service: str
    again: str  # the command that brings the file of cron back
    line: re.Pattern[str]  # of cron's file

    @property
    def start(self) -> str:
        return f"systemctl enable --now {self.timer}"


# As the package does it once, at the first installation.
_NIGHTLY = _Way(
    CRON, TIMER, SERVICE, f"sed s/@MINUTE@/29/g /usr/share/gitlab-mm-backup/cron >{CRON}", _LINE
)
OFTEN = _Way(
    Path("/etc/cron.d/gitlab-mm-backup-schedule"),
    "gitlab-mm-backup-schedule.timer",
    "gitlab-mm-backup-schedule.service",
    "apt-get install --reinstall -o Dpkg::Options::=--force-confmiss gitlab-mm-backup",
    re.compile(r"^[^#\s].*/gitlab-mm-backup/(scheduled) cron\s*$", re.M),
)


@dataclass(frozen=True)
class Scheduler:
    """What starts the next backup."""

    by: str = ""  # in words; "" if nothing does
    next_run: datetime | None = None
    obstacle: str = ""  # why nothing does
    fix: str = ""  # the command that helps
    plan: Schedule | None = None  # of config.yml

    @property
    def words(self) -> str:
        """When the next backup starts, and by what; or why none does."""
        if not self.by:
            return f"no {'scheduled' if self.plan else 'nightly'} set: {self.obstacle}"
        return f"{humanize.moment(self.next_run)}, {self.by}" if self.next_run else self.by


def look(now: datetime, plan: Schedule | None = None) -> Scheduler:
    """Return what starts the next backup, or why nothing does; ``plan`` is that of config.yml."""
    way = OFTEN if plan else _NIGHTLY
    units = {name: _shown(name) for name in (way.timer, way.service)} if _SYSTEMD.is_dir() else {}
    timer, service = units.get(way.timer, {}), units.get(way.service, {})
    active = timer.get("ActiveState") == "active"
    masked = service.get("LoadState") == "masked"
    rhythm = f", {plan}" if plan else ""
    if active and not masked:
        moment = plan.next_time(now) if plan else _next_elapse()
        return Scheduler(f"by systemd's timer{rhythm}", moment, plan=plan)
    at, refused = _line_of_cron(way), _refused_by_cron(way.cron)
    if at and not refused and _cron_runs():
        moment = plan.next_time(now) if plan else schedule.next_time(at, now)
        return Scheduler(f"by cron{rhythm}", moment, plan=plan)
    return replace(_obstacle(way, units, at, refused), plan=plan)


def _obstacle(
    way: _Way, units: Mapping[str, Mapping[str, str]], at: str, refused: str
) -> Scheduler:
    """Return why neither systemd nor cron starts a run, and the command that helps."""
    timer = units.get(way.timer, {})
    if at and refused:
        fix = f"chown root:root {way.cron}; chmod 0644 {way.cron}"
        return Scheduler(obstacle=refused, fix=fix)
    if timer.get("ActiveState") == "active":
        text = f"{way.service}, which {way.timer} starts, is masked"
        return Scheduler(obstacle=text, fix=f"systemctl unmask {way.service}")
    if timer.get("UnitFileState") == "enabled":
        text = f"{way.timer} is enabled but not started"
        return Scheduler(obstacle=text, fix=f"systemctl start {way.timer}")
    if timer.get("LoadState") == "masked" and not at:
        text = f"{way.timer} is masked, and {way.cron} has no line for it"
        return Scheduler(obstacle=text, fix=f"systemctl unmask {way.timer}; {way.start}")
    if not at:
        text = f"{way.cron} has no line for it, and {way.timer} is not active"
        return Scheduler(obstacle=text, fix=way.start if units else way.again)
    fix = f"systemctl enable --now cron, or {way.start}" if units else "service cron start"
    return Scheduler(obstacle="cron is not running", fix=fix)


def _line_of_cron(way: _Way) -> str:
    try:
        found = way.line.search(way.cron.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def _refused_by_cron(cron: Path) -> str:
    """Return why cron ignores the file; "" if it does not (cron(8))."""
    try:
        status = os.stat(cron)
    except OSError:
        return ""
    if status.st_uid == 0 and not status.st_mode & 0o022:
        return ""
    return f"cron ignores {cron}, which others can write"


def _cron_runs() -> bool:
    """Return whether a cron daemon runs in this PID namespace (proc(5), comm), or systemd-cron."""
    ours = os.readlink("/proc/self/ns/pid")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
            if name in _DAEMONS and os.readlink(f"/proc/{pid}/ns/pid") == ours:
                return True
        except OSError:
            continue
    return _shown(_SYSTEMD_CRON).get("ActiveState") == "active" if _SYSTEMD.is_dir() else False


def _shown(unit: str) -> Mapping[str, str]:
    """Return the properties of a systemd unit, {} if systemd does not answer."""
    told = _show(unit, "--property=LoadState,ActiveState,UnitFileState")
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)


def _show(unit: str, *options: str) -> str:
    try:
        return process.run(Command(["systemctl", "show", unit, *options]), timeout=10).out
    except Failure:
        return ""


def _next_elapse() -> datetime | None:
    """Return when systemd runs the timer next; None before systemd 248."""
    told = _show(TIMER, "--property=NextElapseUSecRealtime", "--timestamp=unix")
    found = re.search(r"=@(\d+)", told)
    return datetime.fromtimestamp(int(found[1])).astimezone() if found else None
