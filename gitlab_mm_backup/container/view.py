"""A container's GitLab as if it were installed here: its files at their places, in this process alone.

The process gets private mounts in which the container's directories lie at GitLab's paths, and
the container's accounts are known. Programs below them run inside the container's file system
(system/sandbox.py, Guest). Other processes of the host see none of it, and nothing is left.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import Failure, reason
from ..system import namespaces, sandbox, validation
from ..system.files import STATE, read_state, write_state
from ..system.sandbox import Guest
from . import mounts
from .engine import Container, Mount

TREES = ("/opt/gitlab", "/var/opt/gitlab", "/etc/gitlab", "/var/log/gitlab")
VOLUMES = ("/etc/gitlab", "/var/opt/gitlab")  # without which GitLab does not survive its container
#: Names the container that this host's sets are of; where it exists, sets lie in SETS by default.
MARK = STATE / "container.json"
SETS = Path("/var/backups/gitlab")
# An empty directory of the package: other processes see nothing in it.
_BASE = Path("/usr/lib/gitlab-mm-backup/container")
_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
# Accounts that this host's own programs need. Of two that are called root the container's counts by
# name: in a user namespace it has another number.
_OURS = ("nobody", "nogroup", "gitlab-mm")
_HOSTS, _RESOLVER = "/etc/hosts", "/etc/resolv.conf"
# Directories of the host that no volume of a container replaces.
_HOSTS_OWN = re.compile(
    r"/|/(?:bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|root|run|sbin|sys|tmp|usr|var)(?:/.*)?"
    r"|/(?:home|media|mnt|opt|srv)"
)


@dataclass(frozen=True)
class View:
    """The container that is seen, and which paths are its."""

    container: Container
    trees: tuple[Path, ...]


_entered: list[View] = []


def entered() -> View | None:
    """Return what this process sees of a container; None where it sees the host alone."""
    return _entered[0] if _entered else None


def outside(path: Path) -> bool:
    """Tell whether ``path`` is the host's although Mattermost's files are a container's."""
    return entered() is not None and not inside(path)


def inside(path: Path) -> bool:
    """Tell whether ``path`` is in a directory of the container."""
    view = entered()
    return view is not None and any(path == tree or tree in path.parents for tree in view.trees)


def enter(container: Container) -> None:
    """Show the files, accounts and network of ``container`` to this process; raises Failure.

    Other threads must not have begun.
    """
    extra = [mount.target for mount in container.mounts if _may_show(mount)]
    texts = (_PASSWD, _GROUP, _HOSTS, _RESOLVER)
    taken = mounts.take(container.pid, [*TREES, *extra], texts)
    try:
        network = os.open(f"/proc/{container.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        shift = [_shift(container.pid, kind) for kind in ("uid_map", "gid_map")]
        mounts.leave_host()
        mounts.mount_memory(_BASE)
        for name in ("root", "stash"):
            (_BASE / name).mkdir()
        _place(taken)
        _know_accounts(taken, shift)
        names = {
            Path(path): _file(Path(path).name, taken.texts[path]) for path in (_HOSTS, _RESOLVER)
        }
    except OSError as error:
        raise Failure("The container's files cannot be shown here", reason(error)) from None
    finally:
        taken.close()
    namespaces.use_site(namespaces.SiteNetwork(network, names))
    accounts = {Path(path): _BASE / Path(path).name for path in (_PASSWD, _GROUP)}
    sandbox.receive(Guest(_BASE / "root", (Path("/opt/gitlab"),), accounts))
    _entered.append(View(container, tuple(map(Path, taken.trees))))


@dataclass(frozen=True)
class Last:
    """The container that GitLab was in when it was last reached."""

    engine: str
    name: str
    gitlab: str  # its version


def last() -> Last | None:
    """Return the container that was last reached; None where none ever was."""
    try:
        return read_state(MARK, _last)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _last(document: Any) -> Last:
    return Last(*(validation.line(document[name]) for name in ("engine", "name", "gitlab")))


def mark(gitlab: str) -> None:
    """Note the container that is reached, or was, with its version of GitLab."""
    view, known = entered(), last()
    if view is not None:
        known = Last(view.container.engine, view.container.name, gitlab)
    if known is not None and (known := replace(known, gitlab=gitlab)) != last():
        write_state(MARK, vars(known))


def marked() -> bool:
    """Tell whether this host's GitLab is, or was, in a container."""
    return MARK.exists()


def _may_show(mount: Mount) -> bool:
    """Tell whether a volume may be shown at its own place, beside GitLab's four directories.

    It hides nothing of the host: sets may lie there.
    """
    path = os.path.normpath(mount.target)
    shown = any(path == tree or path.startswith(f"{tree}/") for tree in TREES)
    if path != mount.target or shown or _HOSTS_OWN.fullmatch(path):
        return False
    try:
        return os.path.samefile(path, mount.source)
    except OSError:
        return not os.path.lexists(path)


def _place(taken: mounts.Taken) -> None:
    mounts.attach(taken.root, _BASE / "root")
    for count, (tree, descriptor) in enumerate(taken.trees.items()):
        stash = _BASE / f"stash/{count}"
        stash.mkdir()
        mounts.make_place(Path(tree), stash)
        # gitlab.yml is a link of GitLab's own; Mattermost's account can change nothing there.
        mounts.attach(descriptor, Path(tree), links=tree == "/opt/gitlab")


def _know_accounts(taken: mounts.Taken, shift: list[list[tuple[int, int, int]]]) -> None:
    """Know the container's accounts by name, with the numbers that they have on this host."""
    for path, ids in ((_PASSWD, (2, 3)), (_GROUP, (2,))):
        uids, gids = shift
        maps = (uids, gids) if path == _PASSWD else (gids,)
        lines = [_shifted(line.split(":"), ids, maps) for line in taken.texts[path].splitlines()]
        theirs = {line.partition(":")[0]: line for line in lines if line}
        ours = Path(path).read_text(errors="surrogateescape").splitlines()
        theirs = {name: line for name, line in theirs.items() if name not in _OURS}
        kept = [line for line in ours if line.partition(":")[0] not in set(theirs) - {"root"}]
        text = "\n".join([*theirs.values(), *kept, ""])
        mounts.bind(_file(Path(path).name, text, 0o644), Path(path))


def _shifted(
    fields: list[str], ids: tuple[int, ...], maps: tuple[list[tuple[int, int, int]], ...]
) -> str:
    """Return a line of passwd(5) or group(5) with the host's numbers; "" for an unusable one."""
    if len(fields) <= max(ids) or not all(fields[place].isdecimal() for place in ids):
        return ""
    for place, ranges in zip(ids, maps):
        number = int(fields[place])
        found = [
            host + number - inside for inside, host, size in ranges if 0 <= number - inside < size
        ]
        if not found:
            return ""
        fields[place] = str(found[0])
    return ":".join(fields)


def _shift(pid: int, kind: str) -> list[tuple[int, int, int]]:
    """Return the ranges of a user namespace: number inside, number here, size (user_namespaces(7))."""
    lines = Path(f"/proc/{pid}/{kind}").read_text().splitlines()
    return [(int(first), int(here), int(size)) for first, here, size in map(str.split, lines)]


def _file(name: str, text: str, mode: int = 0o644) -> Path:
    path = _BASE / name
    path.write_text(text, errors="surrogateescape")
    path.chmod(mode)
    return path
