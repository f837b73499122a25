"""Which host this is: a random id of ours, kept with the machine that it was made on.

A name cannot tell that: it comes from DNS, changes with it, and copies of a host share it.
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
# What versions before 0.2 left in the state folder: whoever has one of these has made sets.
_FORMER_STATE = ("nightly", "offsite.json", "rehearsals.jsonl", "runs.json")
UNNAMED = "name:"  # begins what stands for the id in sets of format 1 and 2
_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5)
_PRODUCT = Path("/sys/class/dmi/id/product_uuid")  # smbios, read by root alone


@dataclass(frozen=True)
class Machine:
    """What tells one machine from another; "" for what cannot be known here (a container)."""

    machine_id: str
    product: str

    def differs(self, other: Machine) -> bool:
        """Tell whether the two cannot be one machine, by what is known of both."""
        pairs = ((self.machine_id, other.machine_id), (self.product, other.product))
        return any(one and another and one != another for one, another in pairs)


@dataclass(frozen=True)
class Host:
    """This host, as its state folder knows it."""

    id: str
    machine: Machine  # that the id was made on
    installation: str = ""  # of the newest backup or restore; "" where there was none
    original: str = ""  # the id that came here with a copied disk, until somebody decides
    took_over: tuple[str, ...] = ()  # hosts whose sets are this one's
    others: tuple[str, ...] = ()  # hosts that somebody said are not this one
    upgraded: bool = False  # sets were made here before hosts had ids, and nobody owns them yet

    def owns(self, host: str) -> bool:
        """Tell whether sets of ``host`` are this one's; "" is in notes of before hosts had ids."""
        if host == "":
            return self.upgraded or any(not has_id(former) for former in self.took_over)
        return host in (self.id, *self.took_over)


def has_id(host: str) -> bool:
    """Tell whether sets of ``host`` carry its id; else it is known by its name of then alone."""
    return not host.startswith(UNNAMED)


def shown(host: str) -> str:
    """Return a host's id for people: what stands for one without an id is its name."""
    return host if has_id(host) else host[len(UNNAMED) :]


def machine() -> Machine:
    """Return what is known of this machine."""
    return Machine(_first_line(_MACHINE_ID), _first_line(_PRODUCT).lower())


def _first_line(path: Path) -> str:
    try:
        with open(path, encoding="ascii") as file:
            line = file.readline(100).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if line == "uninitialized" else line


def known(path: Path | None = None) -> Host:
    """Return what is known of this host, for whoever only looks: without an id it owns nothing.

    Raises Failure where the file cannot be read.
    """
    path = path or FILE
    noted, here = _read(path), machine()
    if noted is None:
        former = any((path.parent / name).exists() for name in _FORMER_STATE)
        return Host("", here, upgraded=former)
    if noted.machine.differs(here):
        # A host that has made nothing, as in an image for many, leaves nobody in doubt.
        original = noted.original or (noted.id if noted.installation else "")
        return Host("", here, noted.installation, original=original)
    return noted


def own(path: Path | None = None) -> Host:
    """Return this host; one that has no id yet gets it, and so does a copy of another.

    A copy is known by its machine, which is not the noted one.  It is a host of its own from then
    on, and remembers whose id came with its disk.  Raises Failure where the file cannot be read
    or written.
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
    """Note what is known of this host; raises Failure where that cannot be written."""
    files.write_state(path or FILE, asdict(host))


def apart(host: Host, others: Iterable[str]) -> Host:
    """Return ``host`` as none of ``others``."""
    return replace(host, original="", others=tuple(dict.fromkeys((*host.others, *others))))


def renewed(host: Host) -> Host:
    """Return ``host`` with an id of its own: a copy that the machine does not give away."""
    gone = (host.id, *host.took_over)
    others = tuple(dict.fromkeys((*host.others, *gone)))
    return Host(_new_id(), host.machine, host.installation, others=others)


def with_taken_over(host: Host, former: str) -> Host:
    """Return ``host`` as the one that has the sets of ``former`` from now on."""
    return replace(
        host,
        original="" if host.original == former else host.original,
        took_over=tuple(dict.fromkeys((*host.took_over, former))),
        others=tuple(one for one in host.others if one != former),
    )


def settled(host: Host) -> Host:
    """Note that it is decided which of the sets from before hosts had ids are this one's."""
    now = replace(host, upgraded=False)
    keep(now)
    return now


def _new_id() -> str:
    return secrets.token_hex(16)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let no other process make an id meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> Host | None:
    """Return what is noted, None where nothing is; raises Failure where it cannot be read."""
    try:
        return files.read_state(path, lambda value: Host(**validation.members(value, _FIELDS)))
    except FileNotFoundError:
        return None
    except files.unreadable_state as error:
        raise Failure(
            f"{path} cannot be read",
            str(getattr(error, "strerror", None) or "it is no file of this program"),
            "It says which host this is. Put it back, or remove it: this is a new host then, which "
            "gets its sets back by gitlab-mm host take-over.",
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
    """Return the name that the host has itself, without asking anybody."""
    return socket.gethostname()


def hostname_of() -> str:
    """Return the full name as socket.getfqdn, or the host's own where DNS cannot be asked for that.

    Linux takes names that DNS does not: of 64 letters, or with an empty label (RFC 1035).
    """
    try:
        return socket.getfqdn()
    except (OSError, UnicodeError):
        return socket.gethostname()


def full_hostname() -> str:
    """Return the host's full name, or the name that it has itself where DNS has no other.

    Debian's usual hosts file gives every server the full name localhost. For messages alone.
    """
    name = hostname_of()
    return socket.gethostname() if name.partition(".")[0] in ("", "localhost") else name
