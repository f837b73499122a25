"""Sets in a restic repository: a set exists when the snapshot with its manifest exists."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..config import identity
from ..config.identity import Host
from ..config.origin import Documents
from ..config.settings import Restic
from ..errors import ExitCode, Failure
from ..system import lock, process
from ..system.files import replace_file
from ..system.process import printed
from ..system.redaction import Secret
from . import manifest
from .local import LocalStore
from .manifest import MANIFEST, Manifest, Part, is_set_name, parse, to_bytes
from .restic import ID_SHOWN, Repository, ResticSnapshot, SnapshotSummary, Write
from .restic_set import (
    BY_RESTIC,
    DATABASE,
    DUMP,
    FILES,
    MANIFEST_TAG,
    ResticSet,
    Snapshots,
    fetch,
    refuse_without_room,
)
from .sets import BackupSet, Others, SetEntry, SetStore, Sign

log = logging.getLogger(__name__)

STATE = Path("/var/lib/gitlab-mm-backup/restic")  # what this host knows of the sets there
TAG = "gitlab-mm-backup"  # of all snapshots of ours; those of one set have its name as well
_HOST, _INSTALLATION = "host:", "installation:"  # begin the tags with these ids
_SIGNED = "signed:"  # begins the tag with the signature of the manifest
_FORMS = {DATABASE: "pg_dump custom, restic", FILES: BY_RESTIC[0]}
_FETCHED = ".gitlab-mm-fetched-"
_INCOMPLETE = ".incomplete-"
_NO_TREE = "0" * 64
_Result = TypeVar("_Result")


class ResticStore(SetStore):
    """The sets in a restic repository: of one host, or of all hosts if none is given.

    A set is three snapshots: its dump, its folders, and last the directory with its manifest and
    small parts. The manifest has the tree ids of the others, so they cannot be replaced.
    """

    def __init__(
        self,
        access: Restic,
        host: Host,
        folder: Path = STATE,
        environment: Mapping[str, Secret] | None = None,
    ) -> None:
        self.folder = folder
        self.host = host
        self._named = access.host  # the host whose sets are meant, where config.yml says so
        # For people, and for restic to find the parent snapshot: a name that does not depend on DNS.
        self._host_name = access.host or identity.short_hostname()
        self.where = f"restic repository {access.repository or '(see environment_file)'}"
        self.repository = Repository(access, environment)
        self._known: Mapping[_Key, Snapshots] | None = None
        self._spare: list[ResticSnapshot] = []  # of dumps that gave way and were made again
        self._forgot = False

    def serve(self, host: Host) -> None:
        self.host = host

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Yield a private directory for the small parts; without ``complete`` nothing is stored."""
        staging = self.folder / (_INCOMPLETE + name)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self.folder.glob(_INCOMPLETE + "*"):
                shutil.rmtree(left)
            staging.mkdir(mode=0o700)
        except OSError as error:
            raise Failure(f"{staging} cannot be written", str(error.strerror)) from error
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if not (self.folder / name).is_dir():
                self._drop_half(name)

    def keep_dump(self, staging: Path, write: Write[_Result]) -> tuple[Part, _Result]:
        """Store the output of ``write``; where it fails, no manifest refers to what was stored."""
        tags = self._tags(_name_of(staging), DATABASE)
        taken, result = self.repository.keep_stream(write, DUMP, self._host_name, tags)
        return _part(DATABASE, DUMP, taken), result

    def keep_folders(
        self, staging: Path, folders: Iterable[Path], never: Iterable[str]
    ) -> tuple[Part, SnapshotSummary]:
        """Store ``folders`` without the paths ``never``; only changes are read."""
        tags = self._tags(_name_of(staging), FILES)
        taken = self.repository.keep_folders(folders, never, self._host_name, tags)
        return _part(FILES, FILES, taken), taken

    def complete(
        self,
        staging: Path,
        manifest: Manifest,
        base: BackupSet | None = None,
        sign: Sign | None = None,
    ) -> BackupSet:
        """Complete the set: the manifest, with the tree ids of the other parts, is stored last.

        There is no ``base``, because restic deduplicates. The signature is a tag of the manifest's
        snapshot, so that a list of snapshots shows it.
        """
        self._known = None
        key = _Key(self.host.id, manifest.name)
        kept = self._snapshots().get(key, {})
        try:
            trees = {part: kept[part].tree for part in _FORMS}
        except KeyError as missing:
            part = missing.args[0]
            raise Failure(f"The repository does not have {part} of set {manifest.name}") from None
        parts = {
            name: replace(stored, sha256=trees.get(name, stored.sha256))
            for name, stored in manifest.parts.items()
        }
        manifest = replace(manifest, parts=parts)
        data = to_bytes(manifest)
        replace_file(staging / MANIFEST, data)
        tags = self._tags(manifest.name, MANIFEST_TAG, manifest.installation)
        tags += _signed(sign(manifest.name, data)) if sign else ()
        taken = self.repository.keep_folders([staging], [], self._host_name, tags)
        # The same as in a list of the repository, which would take a third of a second.
        of_manifest = ResticSnapshot(taken.id, _NO_TREE, self._host_name, tags, (str(staging),))
        kept = {**kept, MANIFEST_TAG: of_manifest}
        self._known = {**self._snapshots(), key: kept}
        self._note(kept, manifest.name, data)
        return self._set(kept, manifest, data)

    def entries(self) -> list[SetEntry]:
        return self._opened(self._meant())

    def every(self) -> list[SetEntry]:
        return self._opened(self._complete())

    def _opened(self, wanted: Mapping[_Key, Snapshots]) -> list[SetEntry]:
        found = []
        for key, kept in wanted.items():
            try:
                found.append(SetEntry(key.name, self._open(key.name, kept), ""))
            except Failure as failure:
                found.append(SetEntry(key.name, None, str(failure)))
        return found

    def others(self) -> list[Others]:
        """Return the hosts whose sets ``entries`` leaves out, by their tags alone."""
        meant, found = self._meant(), dict[str, list[_Key]]()
        for key in self._complete():
            if key not in meant:
                found.setdefault(key.host, []).append(key)
        known = self._snapshots()
        lines = []
        for host, keys in found.items():
            newest = max(keys, key=lambda key: key.name)
            snapshot = known[newest][MANIFEST_TAG]
            lines.append(
                Others(host, snapshot.host, _tag(snapshot, _INSTALLATION), len(keys), newest.name)
            )
        return lines

    def named(self, name: str) -> BackupSet:
        """Return the set of that name: of this host, or the only one with this name."""
        found = {key: kept for key, kept in self._complete().items() if key.name == name}
        own = {key: kept for key, kept in found.items() if self.host.owns(key.host)}
        chosen = own or found
        if len(chosen) > 1:
            raise Failure(
                f"Several hosts have a set {name} in {self.where}",
                ", ".join(sorted(identity.shown(key.host) for key in chosen)),
                "Name the host: host, below restic: in /etc/gitlab-mm-backup/config.yml.",
                ExitCode.USAGE,
            )
        if not chosen:
            raise Failure(
                f"There is no set {name}", f"in {self.where}", "gitlab-mm list shows the sets."
            )
        return self._open(name, next(iter(chosen.values())))

    def delete(self, set_: BackupSet) -> None:
        """Forget the snapshots of a set, the manifest's first: no partial set looks valid."""
        key = _Key(manifest.host_of(set_.manifest), set_.name)
        kept = self._snapshots().get(key, {})
        if set_.source is None or MANIFEST_TAG not in kept:
            raise Failure(f"Set {set_.name} is not in {self.where}", "only sets there are removed")
        self._known = None
        self.repository.forget([kept[MANIFEST_TAG]])
        self._forgot = True
        shutil.rmtree(set_.path, ignore_errors=True)
        self.repository.forget([snapshot for tag, snapshot in kept.items() if tag != MANIFEST_TAG])

    def sweep(self) -> list[str]:
        """Forget snapshots that interrupted runs of this host left; return problems as text."""
        own = [kept for key, kept in self._snapshots().items() if self.host.owns(key.host)]
        halves = [
            snapshot for kept in own if MANIFEST_TAG not in kept for snapshot in kept.values()
        ]
        halves += self._spare
        if not halves:
            return []
        try:
            self._known = None
            self.repository.forget(halves)
            self._forgot = True
        except Failure as failure:
            return [f"Leftovers of an interrupted run could not be removed: {failure}"]
        return []

    def reclaim(self) -> list[str]:
        """Free the space of forgotten snapshots; return problems as text."""
        if not self._forgot:
            return []
        try:
            self.repository.prune()
        except Failure as failure:
            return [
                f"The disk space of removed sets could not be freed in the repository: {failure}"
            ]
        return []

    @contextlib.contextmanager
    def fetched(
        self, set_: BackupSet, parent: Path, but: Collection[str] = ()
    ) -> Iterator[BackupSet]:
        """Yield the set, ``but`` some parts, in a private directory in ``parent``, removed at the end.

        Files that are left out are read when they are unpacked, so each byte is read once. Data
        that restic cannot read is a problem of the set, which ``verify`` reports.
        """
        if not isinstance(set_.source, ResticSet):
            yield set_
            return
        refuse_without_room(set_.manifest, parent, but)
        folder = parent / f"{_FETCHED}{secrets.token_hex(4)}"
        with process.temporary_folders(folder):
            for left in parent.glob(_FETCHED + "*"):  # of a run that ended with the power
                with lock.unused(left) as free:
                    if free:
                        shutil.rmtree(left)
            folder.mkdir(mode=0o700)
            log.info("Fetching set %s", set_.name)
            near = LocalStore(folder)
            with lock.in_use([folder]):
                with near.create(set_.name) as staging:
                    parts, problems = fetch(set_.source, staging, but)
                    made = near.complete(staging, replace(set_.manifest, parts=parts))
                stream = set_.source if FILES in but else None
                said = set_.documents
                yield replace(made, kept_as=set_.name, problems=problems, stream=stream, said=said)

    def _tags(self, name: str, part: str, installation: str = "") -> tuple[str, ...]:
        of = (f"{_INSTALLATION}{installation}",) if installation else ()
        return (TAG, name, part, f"{_HOST}{self.host.id}", *of)

    def _meant(self) -> dict[_Key, Snapshots]:
        """Return the complete sets, newest first: this host's, or all where it has none here.

        Sets of a host named in config.yml are included.
        """
        every = self._complete()
        meant = {
            key: kept
            for key, kept in every.items()
            if self.host.owns(key.host) or self._is_named(key, kept)
        }
        return meant or every

    def _is_named(self, key: _Key, kept: Snapshots) -> bool:
        return self._named in (key.host, kept[MANIFEST_TAG].host)

    def _complete(self) -> dict[_Key, Snapshots]:
        every = self._snapshots()
        order = sorted(every, key=lambda key: (key.name, key.host), reverse=True)
        return {key: every[key] for key in order if MANIFEST_TAG in every[key]}

    def _snapshots(self) -> dict[_Key, Snapshots]:
        """Return all snapshots of sets: those of each set by what they hold of it."""
        if self._known is None:
            known: dict[_Key, dict[str, ResticSnapshot]] = {}
            self._spare = []
            for snapshot in self.repository.snapshots("", TAG):
                name = next((tag for tag in snapshot.tags if is_set_name(tag)), "")
                key = _Key(_tag(snapshot, _HOST) or f"name:{snapshot.host}", name)
                for kind in (MANIFEST_TAG, DATABASE, FILES):
                    if name and kind in snapshot.tags:
                        before = known.setdefault(key, {}).get(kind)
                        self._spare += [before] if before and self.host.owns(key.host) else []
                        known[key][kind] = snapshot
            self._known = dict(known)
        return dict(self._known)

    def _open(self, name: str, kept: Snapshots) -> BackupSet:
        """Return a set from its snapshots; raises Failure when they do not match its manifest."""
        data = self._manifest(name, kept)
        manifest = parse(data, f"set {name}")
        if manifest.name != name:
            raise Failure(f"Snapshots of set {name} hold another set", manifest.name)
        for part in _FORMS:
            tree = kept[part].tree if part in kept else None
            if tree != manifest.parts[part].sha256:
                raise Failure(
                    f"Set {name} is not complete",
                    f"its snapshot of the {part} is "
                    + ("another one" if tree else "not in the repository"),
                    "Choose another set (gitlab-mm list).",
                )
        return self._set(kept, manifest, data)

    def _set(self, kept: Snapshots, manifest: Manifest, data: bytes) -> BackupSet:
        name, source = manifest.name, ResticSet(self.repository, kept, manifest)
        said = Documents(name, data, _signature(kept[MANIFEST_TAG]))
        return BackupSet(self.folder / name, manifest, None, source, kept_as=name, said=said)

    def _manifest(self, name: str, kept: Snapshots) -> bytes:
        """Return the manifest in a snapshot, which never changes: this host caches it."""
        snapshot = kept[MANIFEST_TAG]
        try:
            return self._copy(name, kept).read_bytes()
        except OSError:
            path = f"{snapshot.paths[0]}/{MANIFEST}"
            data = printed(self.repository.dump(snapshot, path))
        if parse(data, f"set {name}").name == name:
            self._note(kept, name, data)
        return data

    def _copy(self, name: str, kept: Snapshots) -> Path:
        return self.folder / name / f"manifest-{kept[MANIFEST_TAG].id[:ID_SHOWN]}.json"

    def _note(self, kept: Snapshots, name: str, data: bytes) -> None:
        copy = self._copy(name, kept)
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(copy, data)

    def _drop_half(self, name: str) -> None:
        """Forget the snapshots of a failed set, and remove its locks; the next prune retries."""
        self._known = None
        try:
            halves = list(self._snapshots().get(_Key(self.host.id, name), {}).values())
            if halves:
                self.repository.forget(halves)
            self.repository.unlock()  # of a program that was killed, because another one failed
        except Failure as failure:
            log.info("Files of set %s are not removed yet: %s", name, failure)


@dataclass(frozen=True)
class _Key:
    """Identifies a set in the repository."""

    host: str  # as manifest.host_of has it
    name: str


def _tag(snapshot: ResticSnapshot, start: str) -> str:
    """Return the value of the tag with that prefix, "" without one."""
    return next((tag[len(start) :] for tag in snapshot.tags if tag.startswith(start)), "")


def _signed(signature: bytes) -> tuple[str, ...]:
    return (_SIGNED + base64.urlsafe_b64encode(signature).decode(),)


def _signature(snapshot: ResticSnapshot) -> bytes | None:
    """Return the content of signature.json, None where the set was not signed."""
    tag = _tag(snapshot, _SIGNED)
    try:
        return base64.urlsafe_b64decode(tag) if tag else None
    except binascii.Error:
        return b""  # which is not a valid signature


def _name_of(staging: Path) -> str:
    return staging.name[len(_INCOMPLETE) :]


def _part(name: str, file: str, taken: SnapshotSummary) -> Part:
    return Part(file, _FORMS[name], taken.bytes, _NO_TREE)
