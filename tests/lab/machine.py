"""Questions about a root file system: may it carry labs, and where does a path in it really lie?"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from tests.lab.errors import LabError, LabRefused, wait_until
from tests.lab.init import CGROUP

ROOT_FOLDERS = ("usr", "etc", "var", "opt")


def refuse_unfit_machine(root: Path = Path("/"), user_id: int | None = None) -> None:
    """Raise LabRefused where a real GitLab is installed, and where a lab cannot be built.

    That is for everyone but root, and where the root file system is split into several.
    """
    if (os.geteuid() if user_id is None else user_id) != 0:
        raise LabRefused("labs need root (they are made of namespaces and mounts)")
    if (root / "opt/gitlab/embedded").exists():
        raise LabRefused(
            f"{root / 'opt/gitlab/embedded'} exists: labs do not run on a machine with GitLab"
        )
    for package in ("gitlab-ce", "gitlab-ee"):
        query = ["dpkg", f"--admindir={root / 'var/lib/dpkg'}", "-s", package]
        if (
            subprocess.run(
                query, stdin=subprocess.DEVNULL, capture_output=True, check=False
            ).returncode
            == 0
        ):
            raise LabRefused(
                f"the package {package} is installed: labs do not run on a machine with GitLab"
            )
    for name in ROOT_FOLDERS:
        if os.path.ismount(root / name):
            raise LabRefused(
                f"{root / name} is a file system of its own; a lab sees the root file system only"
            )


def remove_control_group(pid: int) -> None:
    """Remove the control groups of a lab with systemd, which is dead."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    place = next(Path(mount[1]) for mount in mounts if mount[2] == "cgroup2")
    group = place / f"{CGROUP}{pid}"
    for folder, _, _ in os.walk(group, topdown=False):
        wait_until(functools.partial(_removed, Path(folder)), 10, f"{folder} to be empty")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def resolve_inside(root: Path, path: str, follow: bool = True) -> Path:
    """Where `path` of the system below `root` lies: absolute links, too, stay below `root`.

    Without `follow` a link at the very end stays a link. A path that does not exist is returned unchanged.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    found: list[str] = []
    for _ in range(1000):
        if not pending:
            return root.joinpath(*found)
        part = pending.pop()
        if part == "..":
            found = found[:-1]
            continue
        here = root.joinpath(*found, part)
        if here.is_symlink() and (pending or follow):
            target = os.readlink(here)
            found = [] if target.startswith("/") else found
            pending += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
        else:
            found.append(part)
    raise LabError(f"{path}: too many levels of links")
