"""Stores and owners: which store the settings name, who made each set, and what a listing keeps."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union

from .. import version
from ..config import identity, keys, origin
from ..config.identity import Host
from ..config.keys import Ring
from ..config.origin import SIGNATURE, Documents, Kind, Origin
from ..config.settings import Settings
from ..errors import ExitCode, Failure
from ..system import files
from ..system.files import STATE, replace_file
from . import manifest as store_manifest
from .local import LocalStore
from .manifest import MANIFEST, Contents, FileOwner, Files, Increment, Manifest, Part, parse
from .restic_store import ResticStore
from .sets import BackupSet, Listing, Others

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
    return LocalStore(settings.sets, marked=True, listing=KeptListing)


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
    if set_.checked is not None and set_.said is None:
        return origin.trusting(set_.checked, ring.trusted)
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


KEPT = STATE / "listing.json"
_ENOUGH = 50  # sets that were read anew before the file is written again
_MOST_KEPT = 20_000


# Fields that a list asks for seldom, and that are the larger part of a manifest.
_LATER = (
    "database",
    "credentials",
    "links",
    "privileged",
    "properties",
    "pipes",
    "attributes",
    "configuration",
    "left_out",
)
_AT_ONCE = tuple(field.name for field in dataclasses.fields(Manifest) if field.name not in _LATER)


class KeptManifest(Manifest):
    """A manifest of which a list needs little: the rest is read from the set, if it is the same."""

    __hash__ = Manifest.__hash__

    def __eq__(self, other: object) -> bool:
        """Compare as if it had been read at once: Python asks this one first, on either side."""
        if not isinstance(other, Manifest):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(Manifest)]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def rows(self) -> int:
        return int(self.__dict__["_rows"])

    def complete(self) -> None:
        """Read all fields; raises Failure where the manifest is not the one that was listed."""
        path: Path = self.__dict__["_path"]
        try:
            data = files.read_regular(path / MANIFEST, links=True)
        except OSError as error:
            raise Failure(f"Set {path.name} cannot be read", str(error.strerror)) from error
        if hashlib.sha256(data).hexdigest() != self.__dict__["_identity"]:
            raise Failure(
                f"Set {path.name} was changed just now",
                f"its {MANIFEST} is another",
                "gitlab-mm list shows the sets.",
            )
        self.__dict__.update(vars(parse(data, str(path / MANIFEST))))


class _Later:
    """A field of a manifest that is read when it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, manifest: KeptManifest, owner: type) -> Any:
        manifest.complete()
        return manifest.__dict__[self._name]


for _name in _LATER:
    setattr(KeptManifest, _name, _Later(_name))


class KeptListing(Listing):
    """A listing that takes what it needs of a manifest from an earlier one.

    Every manifest and signature is read; what is left out is to parse and to check the same bytes
    again, by their SHA-256. A file that only root can read has the results, with a checksum.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self._path = path or KEPT
        self._known = _read_kept(self._path)
        self._now: dict[str, Any] = {}  # identity of a set -> rows, fields, checks by signature
        self._new = 0

    def manifest(self, data: bytes, identity: str, path: Path) -> Manifest:
        known = self._known.get(identity)
        if known is None:
            made = super().manifest(data, identity, path)
            self._now[identity] = [
                made.rows,
                [_plain(getattr(made, name)) for name in _AT_ONCE],
                {},
            ]
            self._new += 1
            return made
        self._now[identity] = known
        rows, values, _ = known
        kept = KeptManifest.__new__(KeptManifest)
        fields = kept.__dict__
        fields.update(zip(_AT_ONCE, values), _rows=rows, _path=path, _identity=identity)
        _revive(fields)
        return kept

    def origin(self, data: bytes, identity: str, set_: BackupSet) -> Origin | None:
        signature = files.read_or_none(f"{set_.path}/{SIGNATURE}")
        if signature is None:
            return Origin(Kind.UNSIGNED)
        checks, by = self._now[identity][2], hashlib.sha256(signature).hexdigest()
        if by not in checks:
            found = origin.check(Documents(set_.name, data, signature))
            checks.clear()  # of a signature that was replaced
            checks[by] = [found.kind.value, found.key, found.detail]
            self._new += 1
        kind, key, detail = checks[by]
        return Origin(Kind(kind), key, detail)

    def keep(self) -> None:
        """Write the file where enough is new; it is not told where that fails."""
        if self._new < _ENOUGH or os.geteuid() != 0:
            return
        others = [(key, value) for key, value in self._known.items() if key not in self._now]
        kept = {**dict(others[: max(0, _MOST_KEPT - len(self._now))]), **self._now}
        text = json.dumps([_head(), kept], separators=(",", ":")).encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        with contextlib.suppress(OSError):
            replace_file(self._path, digest + b"\n" + text)


def _head() -> list[Any]:
    """Return what must be the same for a file to be used: another version may read other fields."""
    return [version.tool(), list(_AT_ONCE)]


def _read_kept(path: Path) -> dict[str, Any]:
    """Return what a listing kept; {} where there is no file, or one that is not whole and root's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != 0 or status.st_mode & 0o077:
                return {}
            digest, _, text = file.read().partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            return {}
        head, kept = json.loads(text)
        return dict(kept) if head == _head() else {}
    except (OSError, ValueError):
        return {}


def _plain(value: Any) -> Any:
    """Return a field of a manifest for JSON: an object as the list of its fields."""
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, (list, tuple)) else value


def _revive(fields: dict[str, Any]) -> None:
    """Turn the lists of ``_plain`` into objects again."""
    for name in ("salvaged", "shrunken", "told"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    fields["parts"] = {name: Part(*values) for name, values in fields["parts"].items()}
    folders, account, environment, number, size, filled, mounted = fields["files"]
    roles = None if filled is None else tuple(filled)
    owner = FileOwner(*account)
    fields["files"] = Files(folders, owner, environment, number, size, roles, tuple(mounted))
    if fields["increment"]:
        fields["increment"] = Increment(*fields["increment"])
    if fields["contents"]:
        fields["contents"] = Contents(*fields["contents"])
