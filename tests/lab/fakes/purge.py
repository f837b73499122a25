"""Takes Omnibus GitLab off the host, as `apt purge` and an admin's rm would: processes, folders, users.

What lies elsewhere stays: /var/backups, folders for uploads outside home, settings of other packages.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import accounts, paths

RUNSVDIR_PID = Path("/run/gitlab-runsvdir.pid")
LINKS = ("/usr/bin/gitlab-ctl", "/usr/bin/gitlab-psql", "/etc/service")


def processes() -> list[int]:
    """Everything that runs from /opt/gitlab: supervisors, services, and what they started."""
    found = []
    users = {name for name in (*accounts.PACKAGE_USERS, "mattermost") if paths.user_exists(name)}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError, KeyError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                name = Path(os.fsdecode(command[0])).name
                if (
                    entry.owner() in users
                    or name in ("runsvdir", "runsv", "svlogd")
                    or b"/opt/gitlab/" in b" ".join(command[:2])
                ):
                    found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; tells whether it came."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def stop_everything() -> None:
    """Let runsvdir end its services; kill what is left after ten seconds."""
    if RUNSVDIR_PID.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(RUNSVDIR_PID.read_text()), signal.SIGHUP)
        RUNSVDIR_PID.unlink()
    if not wait_for(lambda: not processes(), 10):
        for number in processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        if not wait_for(lambda: not processes(), 5):
            raise RuntimeError("GitLab's processes do not end")


def main() -> int:
    """Take everything away."""
    users = [name for name in (*accounts.PACKAGE_USERS, "mattermost") if paths.user_exists(name)]
    stop_everything()
    for place in (paths.OPT, paths.VAR, paths.ETC, paths.LOG):
        shutil.rmtree(place, ignore_errors=True)
    for link in LINKS:
        if Path(link).is_symlink():
            Path(link).unlink()
    for name in users:
        subprocess.run(["userdel", name], check=True, capture_output=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
