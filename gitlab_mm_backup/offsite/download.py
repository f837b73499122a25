"""Download copies: each part is decrypted and checked while it is read."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

from ..config.origin import SIGNATURE
from ..config.settings import GITLAB, Remote, Settings, remote_named
from ..errors import ExitCode, Failure
from ..store import frame_index
from ..store.archive_reader import TruncatedArchive
from ..store.file_list import LISTING
from ..store.frames import INDEX
from ..store.local import LocalStore, PartWriter
from ..store.manifest import Manifest, Part
from ..store.sets import BackupSet
from ..system import disk_space, lock, process, progress
from ..system.files import replace_file
from ..system.parallel import Put, pipe_between
from ..system.process import DECOMPRESS, Command, Sink
from ..system.redaction import Secret
from . import age, copies, gitlab_upload, rclone
from .copied_frames import CopiedFrames
from .copies import CopiedPart, RemoteEntry
from .upload import persist

log = logging.getLogger(__name__)

T = TypeVar("T")
FILES = "files"
_SPARE = 64 << 20  # bytes to leave free in addition to the download
_LONGEST_CHAIN = 1000  # links; a manifest that names itself must not be followed for ever


def place(settings: Settings, wanted: str) -> Remote:
    """Return the remote that ``--from`` names: of config.yml by name or path, gitlab, rclone's.

    Raises Failure for anything else.
    """
    for remote in settings.offsite:
        if wanted in (remote.name, remote.path) and remote.name != GITLAB:
            return remote
    if wanted == GITLAB:
        if settings.upload is None:
            raise Failure(
                "GitLab has no upload target for its backups",
                "gitlab.yml has no backup.upload section",
                "Name another remote: an rclone remote with a path, or an absolute path.",
                ExitCode.USAGE,
            )
        return gitlab_upload.remote(settings.upload, rclone.version())
    try:
        return remote_named(wanted)
    except ValueError as error:
        known = ", ".join([GITLAB, *(remote.name for remote in settings.offsite)])
        raise Failure(
            f"{wanted} is not a place for copies",
            f"it {error}; configured in config.yml and GitLab: {known}",
            exit_code=ExitCode.USAGE,
        ) from None


def fetch(
    remote: Remote,
    wanted: RemoteEntry,
    store: LocalStore,
    identity: Secret | None,
) -> BackupSet:
    """Bring a copy into ``store``, with what it builds on.

    It must be the copy that was found: another one of its name may be there by now. Its bases are
    checked against it. Sets that the store already has are not fetched. Raises Failure when a copy
    differs from its manifest; then the store is unchanged.
    """
    links = _chain(remote, wanted)
    missing = [link for link in links if held(store, manifest_of(link)) is None]
    for link in missing:
        refuse_locked(remote, link, identity)
    if missing:
        refuse_without_room(store, sum(manifest_of(link).bytes for link in missing))
    for link in missing:
        log.info("Fetching %s from %s", link.name, remote.name)
        _fetch(remote, link, store, identity, manifest_of(link).parts)
    return store.find(links[-1].name)


@contextlib.contextmanager
def fetched(
    remote: Remote, wanted: str, scratch: Path, identity: Secret | None
) -> Iterator[BackupSet]:
    """Download the copy of ``wanted`` into a directory in ``scratch``, removed at the end."""
    with _passing(scratch) as store:
        found = copies.find(remote, wanted)
        yield replace(fetch(remote, found, store, identity), said=found.said)


@contextlib.contextmanager
def streamed(
    remote: Remote,
    entry: RemoteEntry,
    scratch: Path,
    identity: Secret | None,
    without: Collection[str] = (),
    *,
    by_frames: bool = False,
) -> Iterator[BackupSet]:
    """Do the same, except the files of the set and its bases, which are read when they are needed.

    The parts ``without`` are not fetched either. With ``by_frames`` the set has its frames, where
    its index proves each of them.
    """
    with _passing(scratch) as store:
        links = _chain(remote, entry)
        for link in links:
            refuse_locked(remote, link, identity)
        wanted = {link.name: _beside_files(link, without, whole=link is entry) for link in links}
        refuse_without_room(
            store, sum(part.bytes for parts in wanted.values() for part in parts.values())
        )
        near = None
        for link in links:
            log.info(
                "Fetching %s from %s, its files only when they are needed", link.name, remote.name
            )
            here = _fetch(remote, link, store, identity, wanted[link.name])
            stream = _part_of(remote, link, FILES, identity)
            near = replace(here, base=near, kept_as=link.name, stream=stream, said=link.said)
        assert near is not None
        if by_frames and has_frames(entry):
            near = replace(near, frames=_frames(near, _part_of(remote, entry, FILES, identity)))
        yield near


def has_frames(entry: RemoteEntry) -> bool:
    """Tell whether frames of a copy can be read: it is not encrypted, and has all files itself."""
    manifest, copy = manifest_of(entry), entry.copy
    readable = copy is not None and not copy.recipients
    return readable and manifest.increment is None and INDEX in manifest.parts


def _frames(set_: BackupSet, part: _Part) -> CopiedFrames | None:
    """Return the frames of a set whose index is here; None where that does not prove them."""
    index, size = set_.file(INDEX), part.part.bytes
    try:
        every = frame_index.independent(index, size)
        why = "its index has no checksums of frames, or there are hard links"
    except Failure as failure:
        every, why = [], str(failure)
    if every:
        names = part.set, part.there.file
        return CopiedFrames(part.remote, names, set_.file(FILES), size, every)
    log.info("The files of %s are read as a whole: %s", set_.name, why)
    return None


def _beside_files(
    link: RemoteEntry, without: Collection[str], *, whole: bool
) -> Mapping[str, Part]:
    """Return the parts to fetch of a copy whose files are not: all, or those that find files."""
    parts = manifest_of(link).parts.items()
    wanted = {name: part for name, part in parts if name != FILES and name not in without}
    return {name: part for name, part in wanted.items() if whole or name in (LISTING, INDEX)}


@contextlib.contextmanager
def _passing(scratch: Path) -> Iterator[LocalStore]:
    """Yield a store in ``scratch`` that is removed at the end of the block."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".gitlab-mm-fetched-", dir=scratch))
    with process.temporary_folders(folder), lock.in_use([folder]):
        yield LocalStore(folder)


def _chain(remote: Remote, wanted: RemoteEntry) -> list[RemoteEntry]:
    """Return the copy and its bases, the oldest first."""
    links = [wanted]
    while (increment := manifest_of(links[0]).increment) and len(links) < _LONGEST_CHAIN:
        links.insert(0, copies.find(remote, increment.base))
    return links


def manifest_of(entry: RemoteEntry) -> Manifest:
    assert entry.manifest is not None  # a copy that is found is complete
    return entry.manifest


def held(store: LocalStore, wanted: Manifest, *, repacked: bool = False) -> BackupSet | None:
    """Return exactly this set if it is in the store, None if there is none of its name.

    With ``repacked`` its parts have another form here. Raises Failure when the name belongs to
    another set here.
    """
    for entry in store.entries():
        if entry.name == wanted.name and entry.set is not None:
            here = entry.set.manifest
            if (replace(here, parts=wanted.parts) if repacked else here) == wanted:
                return entry.set
            raise Failure(f"{store.folder} has another set that is called {wanted.name}")
    return None


def refuse_locked(remote: Remote, entry: RemoteEntry, identity: Secret | None) -> None:
    """Raise Failure for a copy without its key, and for a plain one where ours are encrypted.

    Anyone who can write there could put a plain one there, without a key.
    """
    if entry.copy is not None and not entry.copy.recipients and (identity or remote.recipients):
        raise Failure(
            f"The copy of {entry.name} at {remote.name} is not encrypted",
            "copies there must be encrypted (recipients in config.yml), or --identity was given",
            "Take another copy (gitlab-mm list --from). If this one is older than the encryption: "
            f"give the path, without --identity: --from {remote.path}",
            ExitCode.USAGE,
        )
    if entry.copy is not None and entry.copy.recipients and identity is None:
        raise Failure(
            f"The copy of {entry.name} at {remote.name} is encrypted",
            f"to {'; '.join(entry.copy.recipients)}",
            "Give the file of a private key of one of these: --identity FILE",
            ExitCode.USAGE,
        )


def refuse_without_room(store: LocalStore, needed: int) -> None:
    """Raise Failure where ``needed`` bytes do not fit in the directory of sets."""
    disk_space.refuse_without(store.folder, needed + _SPARE, "the copy here")


def _fetch(
    remote: Remote,
    entry: RemoteEntry,
    store: LocalStore,
    identity: Secret | None,
    parts: Mapping[str, Part],
) -> BackupSet:
    with store.create(entry.name) as staging:
        for name, part in parts.items():
            there = _part_of(remote, entry, name, identity)
            persist(remote, functools.partial(there.keep, staging / part.file))
        if entry.said is not None and entry.said.signature is not None:
            replace_file(staging / SIGNATURE, entry.said.signature)
        return store.complete(staging, manifest_of(entry))


def _part_of(remote: Remote, entry: RemoteEntry, name: str, identity: Secret | None) -> _Part:
    copy = entry.copy
    assert copy is not None
    locked = identity if copy.recipients else None
    return _Part(remote, entry.name, copy.parts[name], manifest_of(entry).parts[name], locked)


@dataclass(frozen=True)
class _Part:
    """A part of a copy, decrypted and checked while it is read."""

    remote: Remote
    set: str
    there: CopiedPart
    part: Part
    identity: Secret | None

    def keep(self, path: Path) -> None:
        """Download it into a file."""
        path.unlink(missing_ok=True)
        writer = PartWriter(path)
        try:
            self._read(writer.write)
        finally:
            made = writer.finish(self.part.form)
        self._compare(made.sha256)

    def read_by(self, take: Callable[[IO[bytes]], T]) -> T:
        """Have ``take`` read its tar, without storing it."""

        def unpack(packed: IO[bytes]) -> T:
            try:
                with process.output(DECOMPRESS, stdin=packed) as (tar, _):
                    return take(tar)
            except Failure as failure:
                if isinstance(failure, TruncatedArchive) or failure.message.startswith(
                    DECOMPRESS.program
                ):
                    raise self._damaged(failure.detail) from None
                raise

        def give(put: Put) -> None:
            digest = hashlib.sha256()

            def pass_on(piece: memoryview) -> None:
                digest.update(piece)
                put(piece)

            self._read(pass_on)
            self._compare(digest.hexdigest())

        return pipe_between(give, unpack)[1]

    def piece(self, start: int, length: int) -> Command | None:
        """Return the rclone that prints a piece; an encrypted file is opened from its beginning on."""
        if self.identity is not None:
            return None
        return rclone.read_piece(self.remote, start, length, self.set, self.there.file)

    def folder(self, path: str) -> None:
        """Return None: a remote knows nothing of what is in a part."""

    def _read(self, sink: Sink) -> None:
        commands: list[Command] = [rclone.read(self.remote, self.set, self.there.file)]
        if self.identity is not None:
            commands.append(age.decrypt(self.identity))
        left = self.part.bytes
        what = f"{self.there.file} cannot be read from {self.remote.name}"

        def take(piece: memoryview) -> None:
            nonlocal left
            left -= len(piece)
            if left < 0:
                raise self._damaged(f"it has more than {self.part.bytes} bytes")
            sink(piece)
            advance(len(piece))

        with (
            progress.of(self.there.file, self.part.bytes) as advance,
            rclone.explained(self.remote, what),
            age.explained(self.there.file),
        ):
            process.pipeline(*commands, sink=take)
        if left:
            raise self._damaged(f"{left} of {self.part.bytes} bytes are missing")

    def _compare(self, sha256: str) -> None:
        if sha256 != self.part.sha256:
            raise self._damaged(f"the checksum of its {self.part.bytes} bytes differs")

    def _damaged(self, detail: str) -> Failure:
        return Failure(
            f"The copy of {self.set} at {self.remote.name} is damaged",
            f"{self.there.file}: {detail}",
            "Nothing was changed. Choose another copy: gitlab-mm list --from",
        )
