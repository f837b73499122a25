"""Lineages: the sets that one host made of one installation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from ..config import keys
from ..config.identity import Host
from ..config.keys import Ring
from ..config.origin import Kind, Origin
from . import manifest as store_manifest
from .local import BackupSet
from .manifest import Manifest


@dataclass(frozen=True)
class Lineage:
    """Who made a set, and of what."""

    installation: str  # "" in sets from before installations had an id
    host: str  # as identity.of_set has it


T = TypeVar("T", bound=BackupSet)


def of(manifest: Manifest) -> Lineage:
    return Lineage(manifest.installation, store_manifest.host_of(manifest))


def origin_of(one: BackupSet, ring: Ring | None = None) -> Origin:
    """Return the origin of a set, in the store of this host or from elsewhere."""
    ring = ring or keys.ring()
    return ring.origin(
        one.manifest.host_id, one.manifest.made, one.documents, elsewhere=one.said is not None
    )


def own(host: Host, sets: Iterable[T]) -> list[T]:
    """Return those of ``sets`` that are this host's, of whichever installation; no forged one is."""
    ring = keys.ring()
    return [
        one
        for one in sets
        if host.owns(store_manifest.host_of(one.manifest))
        and origin_of(one, ring).kind is not Kind.FORGED
    ]


def belongs(host: Host, installation: str, lineage: Lineage) -> bool:
    """Tell whether this host may remove a set: it made it, of the installation that it has now.

    A set from before installations had an id is of whichever its host had.
    """
    return host.owns(lineage.host) and lineage.installation in ("", installation)
