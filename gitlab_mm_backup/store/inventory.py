"""Which store the settings name."""

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
from .sets import BackupSet

Store = Union[LocalStore, ResticStore]


def open_store(settings: Settings) -> Store:
    """Return the store that ``settings`` name, as this host sees it."""
    if settings.store == "restic":
        return ResticStore(settings.restic, identity.known(), settings.bandwidth)
    return local_store(settings)


def local_store(settings: Settings) -> LocalStore:
    """Return the folder of sets that ``settings`` name, whatever the store."""
    return LocalStore(settings.sets, marked=True)


@dataclass(frozen=True)
class Lineage:
    """Who made a set, and of what."""

    installation: str  # "" in sets from before installations had an id
    host: str  # as identity.of_set has it


T = TypeVar("T", bound=BackupSet)


def lineage_of(manifest: Manifest) -> Lineage:
    return Lineage(manifest.installation, store_manifest.host_of(manifest))


def origin_of(set_: BackupSet, ring: Ring | None = None) -> Origin:
    """Return the origin of a set, in the store of this host or from elsewhere."""
    ring = ring or keys.ring()
    return ring.origin(
        set_.manifest.host_id, set_.manifest.made, set_.documents, elsewhere=set_.said is not None
    )


def own_sets(host: Host, sets: Iterable[T]) -> list[T]:
    """Return those of ``sets`` that are this host's, of whichever installation; no forged one is."""
    ring = keys.ring()
    return [
        set_
        for set_ in sets
        if host.owns(store_manifest.host_of(set_.manifest))
        and origin_of(set_, ring).kind is not Kind.FORGED
    ]


def belongs(host: Host, installation: str, lineage: Lineage) -> bool:
    """Tell whether this host may remove a set: it made it, of the installation that it has now.

    A set from before installations had an id is of whichever its host had.
    """
    return host.owns(lineage.host) and lineage.installation in ("", installation)


_FULL = re.compile(r"[0-9a-f]{32}")  # an id of ours
_FEWEST = 6  # digits of an id that name a host


@dataclass(frozen=True)
class SeenHost:
    """What a store holds of one host and installation."""

    host: str  # as identity.of_set has it
    name: str
    installation: str
    sets: int
    newest: str


def seen(store: Store) -> list[SeenHost]:
    """Return whose sets the store holds, those with the newest set first."""
    found: dict[Lineage, list[tuple[str, str]]] = {}
    for set_ in store.sets():
        found.setdefault(lineage_of(set_.manifest), []).append((set_.name, set_.manifest.host))
    known = [
        SeenHost(key.host, max(sets)[1], key.installation, len(sets), max(sets)[0])
        for key, sets in found.items()
    ]
    known += [
        SeenHost(
            manifest.host, manifest.name, manifest.installation, manifest.sets, manifest.newest
        )
        for manifest in store.others()
    ]
    return sorted(known, key=lambda host: host.newest, reverse=True)


def undecided(here: Host, known: Sequence[SeenHost]) -> list[str]:
    """Return the hosts of which nobody has said whether this is one of them, without repetition."""
    found = [here.original] if here.original else []
    found += [
        host.host for host in known if not here.owns(host.host) and host.host not in here.others
    ]
    return list(dict.fromkeys(found))


def kin(here: Host, known: Sequence[SeenHost]) -> list[SeenHost]:
    """Return the hosts in question that kept this installation, those with the newest set first.

    Of a host that knows no installation yet, each may be one.
    """
    open_ = undecided(here, known)
    wanted = ("", here.installation)
    return [
        host
        for host in known
        if host.host in open_ and (not here.installation or host.installation in wanted)
    ]


def take_over(here: Host, known: Sequence[SeenHost], wanted: str) -> tuple[Host, str]:
    """Have this host own the sets of the host ``wanted``; return it, and that host.

    It is named by its id, the first digits of that, or its name; "" is the only one in question.
    Raises Failure where that is none, or several.
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
    """Return the hosts that ``wanted`` may mean; a whole id need not have sets here."""
    by_name = {host.host for host in known if wanted in (host.name, identity.shown(host.host))}
    ids = {*(host.host for host in known), here.original, *here.others}
    by_id = {host for host in ids if len(wanted) >= _FEWEST and host.startswith(wanted)}
    found = {host for host in by_id or by_name if not here.owns(host)}
    if not found and _FULL.fullmatch(wanted) and wanted != here.id:
        found = {wanted}
    return sorted(found)


def new_identity(here: Host, known: Sequence[SeenHost]) -> tuple[Host, list[str]]:
    """Have this host be none of those in question; where there is none, it gets another id.

    Return it, and the hosts that it is not.
    """
    open_ = undecided(here, known)
    now = identity.apart(here, open_) if open_ else identity.renewed(here)
    identity.keep(now)
    return now, open_
