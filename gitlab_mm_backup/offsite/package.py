"""This program's own package, next to the sets and copies: an empty machine installs it from there."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.settings import Remote
from ..errors import ExitCode, Failure, reason
from ..mattermost import trust
from ..store.inventory import Store
from ..store.local import LocalStore
from ..system import disk_space, files, process
from ..system.files import STATE
from ..system.parallel import Put
from ..system.process import Command
from . import copies, rclone

NAME = "gitlab-mm-backup"
FILE = f"{NAME}.deb"
SUM = f"{FILE}.sha256"
KEPT = STATE / FILE  # the one that was put next to the copies
_CACHE = Path("/var/cache/apt/archives")
_LARGEST = 32 << 20  # bytes; it has some 400 kB


@dataclass(frozen=True)
class Package:
    """The package that is installed on this host."""

    version: str  # as dpkg has it
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def sum(self) -> bytes:
        """The content of the file for sha256sum --check."""
        return f"{self.sha256}  {FILE}\n".encode()


def find(given: Path | None = None) -> Package | None:
    """Return the package of the installed version: ``given``, kept before, or in apt's cache.

    None where there is none. Raises Failure where ``given`` is another one.
    """
    installed = _installed()
    for path in _candidates() if given is None else [given]:
        data = _read(path)
        if installed and _version(data) == installed:
            return Package(installed, data)
    if given is None:
        return None
    raise Failure(
        f"{given} is not the package that is installed here",
        f"wanted: {NAME} {installed or '(not installed as a package)'}",
        "Give the .deb that this version was installed from.",
        ExitCode.USAGE,
    )


def _installed() -> str:
    """Return the version of the installed package, "" where dpkg knows none."""
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", NAME]
    said = process.run(Command(asked, may_exit=(0, 1))).out.split()
    return said[1] if said[:1] == ["installed"] else ""


def _candidates() -> Iterator[Path]:
    """Yield the files that root alone can have put there."""
    for path in (KEPT, *sorted(_CACHE.glob(f"{NAME}_*.deb"), reverse=True)):
        if trust.roots_alone(path) is not None:
            yield path


def _read(path: Path) -> bytes:
    """Return the content of a file; b"" where it cannot be read, or is too large."""
    try:
        return files.read_regular(path, _LARGEST, links=True)
    except (OSError, Failure):
        return b""


def _version(data: bytes) -> str:
    """Return the version of a package of this program, "" for any other file."""
    copy = KEPT.with_suffix(".new")  # only root can change it
    try:
        files.replace_file(copy, data)
        said = process.run(Command(["dpkg-deb", "--field", str(copy), "Package", "Version"])).out
    except (OSError, Failure):
        return ""
    finally:
        copy.unlink(missing_ok=True)
    fields = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    return fields.get("Version", "") if fields.get("Package") == NAME else ""


def put(found: Package, store: Store, remotes: Sequence[Remote]) -> tuple[list[str], list[str]]:
    """Put the package and its checksum next to the sets here and the copies at each remote.

    Returns the directories and remotes that have it, and problems as text.
    """
    with contextlib.suppress(OSError):  # the next call has to be given it then
        files.replace_file(KEPT, found.data)
    places, problems = list[str](), list[str]()
    ways = {remote.path: functools.partial(_send, found, remote) for remote in remotes}
    if isinstance(store, LocalStore) and store.folder.is_dir():
        ways = {str(store.folder): functools.partial(_write, found, store.folder), **ways}
    for place, way in ways.items():
        try:
            way()
            places.append(place)
        except (OSError, Failure) as error:
            problems.append(f"{FILE} cannot be put into {place}: {reason(error)}")
    return places, problems


def _write(found: Package, folder: Path) -> None:
    for name, data in ((FILE, found.data), (SUM, found.sum)):
        files.replace_file(folder / name, data)


def _send(found: Package, remote: Remote) -> None:
    """Write it to a remote, unless it is there; raises Failure."""
    if remote.path.startswith("/"):
        disk_space.refuse_unmounted(Path(remote.path))
    copies.complete(remote)  # the place is the one of before, or gets its mark
    there = {listed.path: listed.bytes for listed in rclone.listing(remote)}
    same = there.get(FILE) == len(found.data) and there.get(SUM) == len(found.sum)
    if same and rclone.content(remote, SUM) == found.sum:
        return
    for name, data in ((FILE, found.data), (SUM, found.sum)):
        feed = functools.partial(_feed, data)
        rclone.write(remote, feed, len(data), name)


def _feed(data: bytes, put_: Put) -> None:
    put_(data)
