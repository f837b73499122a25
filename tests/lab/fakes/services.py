"""Services under runit, in Omnibus's places: /opt/gitlab/sv, enabled by a link in /opt/gitlab/service."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import paths

SV = paths.OPT / "sv"
ENABLED = paths.OPT / "service"
INIT = paths.OPT / "init"
ANSWERED = ("run:", "down:", "finish:")


def define(name: str, run: str, log_owner: str = "root", terminate: str = "") -> bool:
    """Write a service's folder; `terminate` is a script that runs instead of TERM. Tells whether `run` changed."""
    place, log = SV / name, paths.LOG / name
    paths.folder(place / "control")
    if log_owner == "root":
        paths.folder(log, 0o700)
    if terminate:
        paths.write(place / "control/t", f"#!/bin/sh\n{terminate}\n", 0o755)
    paths.write(place / "log/run", f"#!/bin/sh\nexec svlogd -tt {log}\n", 0o755)
    return paths.write(place / "run", f"#!/bin/sh\nexec 2>&1\n{run}\n", 0o755)


def enable(name: str) -> None:
    """Make the links that runsvdir and gitlab-ctl look at."""
    paths.link(INIT / name, paths.BIN / "sv")
    if not (ENABLED / name).is_symlink():
        paths.link(ENABLED / name, SV / name)


def disable(name: str) -> None:
    """Stop the service, drop its link, and let runsvdir end its supervisor."""
    if enabled(name):
        if supervised(name):
            control("stop", name)
        (ENABLED / name).unlink()


def remove(name: str) -> None:
    """Forget a service that was never wanted."""
    disable(name)
    (INIT / name).unlink(missing_ok=True)
    shutil.rmtree(SV / name, ignore_errors=True)


def enabled(name: str) -> bool:
    """Whether the service link exists."""
    return (ENABLED / name).is_symlink()


def every_enabled() -> list[str]:
    """Names of all enabled services, sorted."""
    return (
        sorted(entry.name for entry in ENABLED.iterdir() if entry.is_symlink())
        if ENABLED.is_dir()
        else []
    )


def control(verb: str, name: str) -> subprocess.CompletedProcess[str]:
    """Run the service's init link, as gitlab-ctl does; stderr is empty, since sv prints to stdout."""
    return subprocess.run(
        [str(INIT / name), verb],
        check=False,
        text=True,
        capture_output=True,
        env={**os.environ, "SVDIR": str(ENABLED)},
    )


def supervised(name: str) -> bool:
    """Whether a runsv watches the service."""
    return enabled(name) and control("status", name).stdout.startswith(ANSWERED)


def link_for_stock_sv() -> None:
    """Debian's sv looks in /etc/service, Omnibus's own in /opt/gitlab/service: make both the same."""
    stock = Path("/etc/service")
    if stock.is_dir() and not stock.is_symlink():
        stock.rmdir()
    paths.link(stock, ENABLED)
