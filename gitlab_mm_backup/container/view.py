"""A container's GitLab as if it were installed here: its files at their places, in this process alone.

The process gets private mounts in which the container's directories lie at GitLab's paths, and
the container's accounts are known. Programs below them run inside the container's file system
(system/sandbox.py, Guest). Other processes of the host see none of it, and nothing is left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
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
BASE = Path("/usr/lib/gitlab-mm-backup/container")
ACCOUNTS = ("/etc/passwd", "/etc/group")
# Accounts that this host's own programs need. Of two that are called root the container's counts by
# name: in a user namespace it has another number.
_OURS = ("nobody", "nogroup", "gitlab-mm")
NAMES = ("/etc/hosts", "/etc/resolv.conf")
TEXTS = (*ACCOUNTS, *NAMES)
Ranges = list[tuple[int, int, int]]  # number inside, number here, size
Shift = tuple[Ranges, Ranges]  # of uids, of gids
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

    @property
    def is_server(self) -> bool:
        """Tell whether it is a standalone Mattermost, whose PostgreSQL is in another container."""
        return self.container.is_mattermost


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
    extra = [mount.target for mount in container.mounts if may_show(mount)]
    taken = mounts.take(container.pid, [*TREES, *extra], TEXTS)
    try:
        shift = shifts(container.pid)
        begin()
        (BASE / "root").mkdir()
        mounts.attach(taken.root, BASE / "root")
        # gitlab.yml is a link of GitLab's own; Mattermost's account can change nothing there.
        place(taken.trees, links=("/opt/gitlab",))
        know_accounts({path: taken.texts[path] for path in ACCOUNTS}, shift)
        network = network_of(container.pid, taken.texts, "site")
    except OSError as error:
        raise not_shown(error) from None
    finally:
        taken.close()
    namespaces.use_site(network)
    sandbox.receive(Guest(BASE / "root", (Path("/opt/gitlab"),), accounts()))
    show(View(container, tuple(map(Path, taken.trees))))


def not_shown(error: OSError) -> Failure:
    return Failure("The container's files cannot be shown here", reason(error))


def begin() -> None:
    """Give this process private mounts, with an empty directory in memory at BASE."""
    mounts.leave_host()
    mounts.mount_memory(BASE)
    (BASE / "stash").mkdir()


def show(view: View) -> None:
    """Note what this process sees from now on."""
    _entered[:] = [view]


def network_of(pid: int, texts: Mapping[str, str], name: str) -> namespaces.SiteNetwork:
    """Return the network of a process, with the files by which names are resolved there."""
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    files = {Path(path): file(f"{name}-{Path(path).name}", texts[path]) for path in NAMES}
    return namespaces.SiteNetwork(descriptor, files)


def accounts() -> dict[Path, Path]:
    """Return the files of accounts for a container's programs: path inside -> path here."""
    return {Path(path): BASE / Path(path).name for path in ACCOUNTS}


@dataclass(frozen=True)
class Last:
    """The container that GitLab was in when it was last reached."""

    engine: str
    name: str
    gitlab: str  # its version, "" for a standalone Mattermost
    mattermost: str = ""  # version of a standalone one
    account: str = ""  # of a standalone one: user:group:uid:gid, numbers of this host


def last() -> Last | None:
    """Return the container that was last reached; None where none ever was."""
    try:
        return read_state(MARK, _last)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _last(document: Any) -> Last:
    more = {name: validation.line(document.get(name, "")) for name in ("mattermost", "account")}
    return Last(*(validation.line(document[name]) for name in ("engine", "name", "gitlab")), **more)


def mark(gitlab: str) -> None:
    """Note the container that is reached, or was, with its version of GitLab."""
    view, known = entered(), last()
    if view is not None:
        known = Last(view.container.engine, view.container.name, gitlab)
    if known is not None:
        note(replace(known, gitlab=gitlab))


def note(known: Last) -> None:
    """Note the container that is reached."""
    if known != last():
        write_state(MARK, vars(known))


def marked() -> bool:
    """Tell whether this host's GitLab is, or was, in a container."""
    return MARK.exists()


def may_show(mount: Mount) -> bool:
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


def place(trees: Mapping[str, int], links: Collection[str] = ()) -> None:
    """Show ``trees`` at their paths; through no link in them, but those named in ``links``."""
    for count, (tree, descriptor) in enumerate(trees.items()):
        stash = BASE / f"stash/{count}"
        stash.mkdir()
        mounts.make_place(Path(tree), stash)
        mounts.attach(descriptor, Path(tree), links=tree in links)


def know_accounts(texts: Mapping[str, str], shift: Shift) -> None:
    """Know the accounts in ``texts`` by name, with the numbers that they have on this host."""
    (passwd, group), (uids, gids) = ACCOUNTS, shift
    for path, ids, maps in ((passwd, (2, 3), (uids, gids)), (group, (2,), (gids,))):
        lines = [shifted(line.split(":"), ids, maps) for line in texts[path].splitlines()]
        theirs = {line.partition(":")[0]: line for line in lines if line}
        ours = Path(path).read_text(errors="surrogateescape").splitlines()
        theirs = {name: line for name, line in theirs.items() if name not in _OURS}
        kept = [line for line in ours if line.partition(":")[0] not in set(theirs) - {"root"}]
        text = "\n".join([*theirs.values(), *kept, ""])
        mounts.bind(file(Path(path).name, text), Path(path))


def shifted(fields: list[str], ids: Sequence[int], maps: Sequence[Ranges]) -> str:
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


def shifts(pid: int) -> Shift:
    """Return the ranges of uids and gids of a process's user namespace (user_namespaces(7))."""
    texts = [Path(f"/proc/{pid}/{kind}").read_text() for kind in ("uid_map", "gid_map")]
    uids, gids = ([_range(line) for line in text.splitlines()] for text in texts)
    return uids, gids


def _range(line: str) -> tuple[int, int, int]:
    first, here, size = map(int, line.split())
    return first, here, size


def file(name: str, text: str) -> Path:
    """Write a file that everybody can read, for this process alone."""
    path = BASE / name
    path.write_text(text, errors="surrogateescape")
    path.chmod(0o644)
    return path
