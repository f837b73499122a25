"""Stores and owners: which store the settings name, and who made each set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, Union

from ..config import identity, keys
from ..config.identity import Host
from ..config.keys import Ring
from ..config.origin import Kind, Origin
from ..config.settings import Settings
from ..errors import ExitCode, Failure
from . import manifest as store_manifest
from .local import LocalStore
from .manifest import Manifest
from .restic_store import ResticStore
from .sets import BackupSet, Others

Store = Union[LocalStore, ResticStore]
T = TypeVar("T", bound=BackupSet)
_FULL = re.compile(r"[0-9a-f]{32}")  # an id of ours
_FEWEST = 6  # digits of an id that name a host


def open_store(settings: Settings) -> Store:
    """Return the configured store, with this host's identity."""
    if settings.store == "restic":
        return ResticStore(settings.restic, identity.known())
    return local_store(settings)


def local_store(settings: Settings) -> LocalStore:
    """Return the configured local directory of sets, whatever the store."""
    return LocalStore(settings.sets, marked=True)


@dataclass(frozen=True)
class Lineage:
    """The host that made a set, and its Mattermost installation."""

    installation: str  # "" in sets from before installations had an id
    host: str  # as manifest.host_of has it


def lineage_of(manifest: Manifest) -> Lineage:
    return Lineage(manifest.installation, store_manifest.host_of(manifest))


def origin_of(set_: BackupSet, ring: Ring | None = None) -> Origin:
    """Return the origin of a set, in the store of this host or from elsewhere."""
    ring = ring or keys.ring()
    return ring.origin(
        set_.manifest.host_id, set_.manifest.made, set_.documents, elsewhere=set_.said is not None
    )


def own_sets(host: Host, sets: Iterable[T]) -> list[T]:
    """Return those of ``sets`` that this host made, of any installation; no forged ones."""
    ring = keys.ring()
    return [
        set_
        for set_ in sets
        if host.owns(store_manifest.host_of(set_.manifest))
        and origin_of(set_, ring).kind is not Kind.FORGED
    ]


def belongs(host: Host, installation: str, lineage: Lineage) -> bool:
    """Tell whether this host may remove a set: it made it, of its current installation.

    A set from before installations had ids counts as of its host's.
    """
    return host.owns(lineage.host) and lineage.installation in ("", installation)


@dataclass(frozen=True)
class SeenHost:
    """What a store holds of one host and installation."""

    host: str  # as manifest.host_of has it
    name: str
    installation: str
    sets: int
    newest: str


def seen(sets: Iterable[BackupSet], others: Iterable[Others]) -> list[SeenHost]:
    """Return the owners of ``sets``, and ``others`` of the store; the newest set's first."""
    found: dict[Lineage, list[tuple[str, str]]] = {}
    for set_ in sets:
        found.setdefault(lineage_of(set_.manifest), []).append((set_.name, set_.manifest.host))
    known = [
        SeenHost(key.host, max(sets)[1], key.installation, len(sets), max(sets)[0])
        for key, sets in found.items()
    ]
    known += [
        SeenHost(
            manifest.host, manifest.name, manifest.installation, manifest.sets, manifest.newest
        )
        for manifest in others
    ]
    return sorted(known, key=lambda host: host.newest, reverse=True)


def undecided(here: Host, known: Sequence[SeenHost]) -> list[str]:
    """Return the hosts that may be this one and that the administrator has not decided about."""
    found = [here.original] if here.original else []
    found += [
        host.host for host in known if not here.owns(host.host) and host.host not in here.others
    ]
    return list(dict.fromkeys(found))


def kin(here: Host, known: Sequence[SeenHost]) -> list[SeenHost]:
    """Return the undecided hosts of this installation, those with the newest set first.

    A host that has no installation yet may be any of them.
    """
    open_ = undecided(here, known)
    wanted = ("", here.installation)
    return [
        host
        for host in known
        if host.host in open_ and (not here.installation or host.installation in wanted)
    ]


def take_over(here: Host, known: Sequence[SeenHost], wanted: str) -> tuple[Host, str]:
    """Make this host the owner of the sets of host ``wanted``; return this host and that one.

    ``wanted`` is an id, its first digits, or a name; "" for the only undecided one. Raises Failure
    where none or several match.
    """
    open_ = undecided(here, known)
    only = [here.original] if here.original else open_
    found = _named(here, known, wanted) if wanted else only
    if len(found) != 1:
        raise Failure(
            f"{'Several hosts match' if found else 'No host matches'}",
            ", ".join(map(identity.shown, found or open_)) or "there are no sets of another host",
            "Give the id of one; to see them: gitlab-mm host.",
            ExitCode.USAGE,
        )
    now = identity.with_taken_over(here, found[0])
    identity.keep(now)
    return now, found[0]


def _named(here: Host, known: Sequence[SeenHost], wanted: str) -> list[str]:
    """Return the hosts that match ``wanted``; a complete id matches even without sets here."""
    by_name = {host.host for host in known if wanted in (host.name, identity.shown(host.host))}
    ids = {*(host.host for host in known), here.original, *here.others}
    by_id = {host for host in ids if len(wanted) >= _FEWEST and host.startswith(wanted)}
    found = {host for host in by_id or by_name if not here.owns(host)}
    if not found and _FULL.fullmatch(wanted) and wanted != here.id:
        found = {wanted}
    return sorted(found)


def new_identity(here: Host, known: Sequence[SeenHost]) -> tuple[Host, list[str]]:
    """Declare this host to be none of the undecided ones; without any it gets a new id.

    Returns this host, and the hosts that it is not.
    """
    open_ = undecided(here, known)
    now = identity.apart(here, open_) if open_ else identity.renewed(here)
    identity.keep(now)
    return now, open_
