"""The identity of this host: a random id, stored together with the ids of its machine.

A host's name is not enough: it depends on DNS, it may change, and copies of a host share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ExitCode, Failure
from ..system import files, validation
from ..system.files import STATE

log = logging.getLogger(__name__)

FILE = STATE / "host.json"
# Files of versions before 0.2: a host that has one of them has made sets.
_FORMER_STATE = ("nightly", "offsite.json", "rehearsals.jsonl", "runs.json")
UNNAMED = "name:"  # prefix of the name that replaces the id in sets of format 1 and 2
_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5)
_PRODUCT = Path("/sys/class/dmi/id/product_uuid")  # SMBIOS, readable only by root


@dataclass(frozen=True)
class Machine:
    """The ids of a machine; "" for one that is not available, as in a container."""

    machine_id: str
    product: str

    def differs(self, other: Machine) -> bool:
        """Return whether the two are different machines, by the ids that both have."""
        pairs = ((self.machine_id, other.machine_id), (self.product, other.product))
        return any(ours and theirs and ours != theirs for ours, theirs in pairs)


@dataclass(frozen=True)
class Host:
    """This host, as stored in its state directory."""

    id: str
    machine: Machine  # on which the id was created
    installation: str = ""  # of the newest backup or restore; "" if there was none
    original: str = ""  # the id that came with a copied disk, until the administrator decides
    took_over: tuple[str, ...] = ()  # hosts whose sets this host owns
    others: tuple[str, ...] = ()  # hosts that are declared not to be this one
    upgraded: bool = False  # sets from before hosts had ids exist, and have no owner yet

    def owns(self, host: str) -> bool:
        """Return whether this host owns the sets of ``host``; "" stands for records without an id."""
        if host == "":
            return self.upgraded or any(not has_id(former) for former in self.took_over)
        return host in (self.id, *self.took_over)


def has_id(host: str) -> bool:
    """Return whether ``host`` is an id, and not a name from sets without ids."""
    return not host.startswith(UNNAMED)


def shown(host: str) -> str:
    """Return a host's id, or its name if it has none."""
    return host if has_id(host) else host[len(UNNAMED) :]


def machine() -> Machine:
    """Return the ids of this machine."""
    return Machine(_first_line(_MACHINE_ID), _first_line(_PRODUCT).lower())


def _first_line(path: Path) -> str:
    try:
        with open(path, encoding="ascii") as file:
            line = file.readline(100).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if line == "uninitialized" else line


def known(path: Path | None = None) -> Host:
    """Return this host as stored, without creating an id; without an id it owns no sets.

    Raises Failure if the file cannot be read.
    """
    path = path or FILE
    noted, here = _read(path), machine()
    if noted is None:
        former = any((path.parent / name).exists() for name in _FORMER_STATE)
        return Host("", here, upgraded=former)
    if noted.machine.differs(here):
        # A host that has made no set, such as an image for many, needs no decision.
        original = noted.original or (noted.id if noted.installation else "")
        return Host("", here, noted.installation, original=original)
    return noted


def own(path: Path | None = None) -> Host:
    """Return this host; create an id if it has none, or if it is a copy of another host.

    A copy is recognised by the ids of its machine, which differ from the stored ones.  It gets a
    new id, and ``original`` is the former one.  Raises Failure if the file cannot be read or
    written.
    """
    path = path or FILE
    found = known(path)
    if found.id:
        return found
    with alone(path):
        found = known(path)
        if not found.id:
            found = replace(found, id=_new_id())
            keep(found, path)
    return found


def keep(host: Host, path: Path | None = None) -> None:
    """Store this host; raises Failure if the file cannot be written."""
    files.write_state(path or FILE, asdict(host))


def apart(host: Host, others: Iterable[str]) -> Host:
    """Return ``host``, declared to be none of ``others``."""
    return replace(host, original="", others=tuple(dict.fromkeys((*host.others, *others))))


def renewed(host: Host) -> Host:
    """Return ``host`` with a new id, for a copy whose machine has the same ids."""
    gone = (host.id, *host.took_over)
    others = tuple(dict.fromkeys((*host.others, *gone)))
    return Host(_new_id(), host.machine, host.installation, others=others)


def with_taken_over(host: Host, former: str) -> Host:
    """Return ``host`` as owner of the sets of ``former``."""
    return replace(
        host,
        original="" if host.original == former else host.original,
        took_over=tuple(dict.fromkeys((*host.took_over, former))),
        others=tuple(one for one in host.others if one != former),
    )


def settled(host: Host) -> Host:
    """Store that the owner of the sets from before hosts had ids is decided."""
    now = replace(host, upgraded=False)
    keep(now)
    return now


def _new_id() -> str:
    return secrets.token_hex(16)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock the directory of ``path``, so that no other process creates an id or a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> Host | None:
    """Return the stored host, None if there is none; raises Failure if it cannot be read."""
    try:
        return files.read_state(path, lambda value: Host(**validation.members(value, _FIELDS)))
    except FileNotFoundError:
        return None
    except files.unreadable_state as error:
        raise Failure(
            f"{path} cannot be read",
            str(getattr(error, "strerror", None) or "it is no file of this program"),
            "It identifies this host. Restore the file, or remove it; then this is a new host, and "
            "gitlab-mm host take-over assigns its sets to it.",
            ExitCode.FAILED,
        ) from None


def _machine(value: Any) -> Machine:
    checks = {"machine_id": validation.text, "product": validation.text}
    return Machine(**validation.members(value, checks))


_FIELDS: dict[str, validation.Check] = {
    "id": validation.identifier,
    "machine": _machine,
    "installation": validation.identifier,
    "original": validation.text,
    "took_over": validation.texts,
    "others": validation.texts,
    "upgraded": validation.one_of(True, False),
}


def short_hostname() -> str:
    """Return the host's own name, without DNS."""
    return socket.gethostname()


def hostname_of() -> str:
    """Return the full name from socket.getfqdn, or the host's own name if that fails.

    Linux allows names that DNS does not: of 64 letters, or with an empty label (RFC 1035).
    """
    try:
        return socket.getfqdn()
    except (OSError, UnicodeError):
        return socket.gethostname()


def full_hostname() -> str:
    """Return the host's full name, or its own name if DNS has only localhost; for messages.

    Debian's default hosts file gives a server the full name localhost.
    """
    name = hostname_of()
    return socket.gethostname() if name.partition(".")[0] in ("", "localhost") else name
