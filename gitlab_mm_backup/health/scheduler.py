"""Find out what starts the nightly backup: systemd's timer or cron, and whether it runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..backup import schedule
from ..errors import Failure
from ..system import humanize, process
from ..system.process import Command

CRON = Path("/etc/cron.d/gitlab-mm-backup")
TIMER, SERVICE = "gitlab-mm-backup.timer", "gitlab-mm-backup.service"
_START = f"systemctl enable --now {TIMER}"
# As the package does it once, at the first installation.
_AGAIN = f"sed s/@MINUTE@/29/g /usr/share/gitlab-mm-backup/cron >{CRON}"
_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
_DAEMONS = ("cron", "crond", "fcron", "bcron-sched")  # that read /etc/cron.d
_SYSTEMD_CRON = "cron.target"  # of Debian's systemd-cron, which creates timers from /etc/cron.d
_LINE = re.compile(r"^[^#\s].* (\d\d?:\d\d)\s*$", re.M)


@dataclass(frozen=True)
class Scheduler:
    """What starts the next backup."""

    by: str = ""  # in words; "" if nothing does
    next_run: datetime | None = None
    obstacle: str = ""  # why nothing does
    fix: str = ""  # the command that helps

    @property
    def words(self) -> str:
        """When the next backup starts, and by what; or why none does."""
        if not self.by:
            return f"no nightly set: {self.obstacle}"
        return f"{humanize.moment(self.next_run)}, {self.by}" if self.next_run else self.by


def look(now: datetime) -> Scheduler:
    """Return what starts the next backup, or why nothing does."""
    units = _units() if _SYSTEMD.is_dir() else {}
    timer, service = units.get(TIMER, {}), units.get(SERVICE, {})
    active = timer.get("ActiveState") == "active"
    masked = service.get("LoadState") == "masked"
    if active and not masked:
        return Scheduler("by systemd's timer", _next_elapse())
    at, refused = _time_of_cron(), _refused_by_cron()
    if at and not refused and _cron_runs():
        return Scheduler("by cron", schedule.next_time(at, now))
    if at and refused:
        return Scheduler(obstacle=refused, fix=f"chown root:root {CRON}; chmod 0644 {CRON}")
    if active:
        text = f"{SERVICE}, which {TIMER} starts, is masked"
        return Scheduler(obstacle=text, fix=f"systemctl unmask {SERVICE}")
    if timer.get("UnitFileState") == "enabled":
        text = f"{TIMER} is enabled but not started"
        return Scheduler(obstacle=text, fix=f"systemctl start {TIMER}")
    if timer.get("LoadState") == "masked" and not at:
        text = f"{TIMER} is masked, and {CRON} has no line for it"
        return Scheduler(obstacle=text, fix=f"systemctl unmask {TIMER}; {_START}")
    if not at:
        text = f"{CRON} has no line for it, and {TIMER} is not active"
        return Scheduler(obstacle=text, fix=_START if units else _AGAIN)
    fix = f"systemctl enable --now cron, or {_START}" if units else "service cron start"
    return Scheduler(obstacle="cron is not running", fix=fix)


def _time_of_cron() -> str:
    try:
        found = _LINE.search(CRON.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def _refused_by_cron() -> str:
    """Return why cron ignores the file; "" if it does not (cron(8))."""
    try:
        status = os.stat(CRON)
    except OSError:
        return ""
    if status.st_uid == 0 and not status.st_mode & 0o022:
        return ""
    return f"cron ignores {CRON}, which others can write"


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


def _units() -> Mapping[str, Mapping[str, str]]:
    return {name: _shown(name) for name in (TIMER, SERVICE)}


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
