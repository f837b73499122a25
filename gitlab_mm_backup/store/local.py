"""The local store: sets as directories of this host, and the writer of their parts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..config import places
from ..config.identity import Host
from ..config.origin import SIGNATURE
from ..config.places import cannot_write
from ..errors import Failure
from ..system import disk_space, lock
from ..system.files import replace_file, sync_folder
from .manifest import MANIFEST, SUMS, Manifest, Part, is_of, is_set_name, sums, to_bytes
from .sets import BackupSet, Listing, SetEntry, SetStore, Sign, open_set

_DIRTY = 32 << 20  # bytes in the page cache before writing to disk is started
# An unfinished set; the next run removes those of killed runs.
_INCOMPLETE = ".incomplete-"
_DEAD = 2 * 86400  # seconds: no backup takes as long


class PartWriter:
    """Sink for one part: writes, counts and hashes its input, and syncs once at the end.

    Raises Failure before the disk has less than its reserve left (see system/disk_space.py).
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._path = path
        self._guard = disk_space.Guard(descriptor, path.parent)
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        self._sent = 0  # of these the disk was told to take them

    def write(self, piece: bytes | memoryview) -> None:
        self._guard.pass_(len(piece))
        self._sha256.update(piece)
        self.bytes += len(piece)
        try:
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
            if self.bytes - self._sent >= _DIRTY:
                self._let_go()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the file, complete or not."""
        self._file.close()

    def finish(self, form: str) -> Part:
        try:
            os.fsync(self._file.fileno())
            self._let_go()
        except OSError as error:
            raise cannot_write(self._path, error) from error
        finally:
            self._file.close()
        return Part(self._path.name, form, self.bytes, self._sha256.hexdigest())

    def _let_go(self) -> None:
        """Start writing cached pages to disk, and drop them from the page cache.

        They are not read again soon; GitLab and Mattermost need the memory.
        """
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._sent = self.bytes


class LocalStore(SetStore):
    """A directory of sets.

    One that is ``marked`` is recognized by its marker file (see places.py): without it nothing is
    read or written.
    """

    def __init__(
        self, folder: Path, *, marked: bool = False, listing: Callable[[], Listing] = Listing
    ) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._marked = marked
        self._listing = listing
        self._host = ""  # the id of the host that asks; "" where that is not known
        self.where = str(self.folder)

    def serve(self, host: Host) -> None:
        """Set whose unfinished sets ``sweep`` may remove; hosts may share the directory."""
        self._host = host.id

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Yield a private directory for the parts of a new set, removed without ``complete``."""
        self.prepare()
        staging = self.folder / (_INCOMPLETE + name)
        try:
            staging.mkdir(mode=0o700)
        except OSError as error:
            raise places.cannot_use(staging, error) from error
        try:
            places.refuse_open(staging)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def complete(
        self,
        staging: Path,
        manifest: Manifest,
        base: BackupSet | None = None,
        sign: Sign | None = None,
    ) -> BackupSet:
        """Make ``staging`` a set: checksums, the manifest last, then its final name.

        ``sign`` makes the signature, unless ``staging`` already has one.
        """
        final = self.folder / manifest.name
        _refuse_taken(final, manifest)
        try:
            replace_file(staging / SUMS, sums(manifest))
            if sign is not None:
                replace_file(staging / SIGNATURE, sign(manifest.name, to_bytes(manifest)))
            replace_file(staging / MANIFEST, to_bytes(manifest))
            os.rename(staging, final)
            sync_folder(self.folder)
        except OSError as error:
            raise cannot_write(final, error) from error
        return BackupSet(final, manifest, base)

    def entries(self) -> list[SetEntry]:
        """Return all sets, complete or damaged, newest first."""
        self._trusted()
        try:
            names = sorted((path.name for path in self.folder.iterdir()), reverse=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Failure(f"{self.folder} cannot be read", str(error.strerror)) from error
        listing = self._listing()
        found = [self._entry(name, listing) for name in names if is_set_name(name)]
        listing.keep()
        return found

    def named(self, name: str) -> BackupSet:
        self._trusted()
        return self._open(name)

    def _open(self, name: str, listing: Listing | None = None) -> BackupSet:
        set_ = open_set(self.folder / name, listing=listing)
        if set_.name != name:
            raise Failure(f"Folder {name} holds another set", f"its manifest says {set_.name}")
        return set_

    @contextlib.contextmanager
    def fetched(self, set_: BackupSet, parent: Path) -> Iterator[BackupSet]:
        """Yield the set with all its parts on this host; it cannot be removed within the block.

        The sets that it builds on cannot be removed either. Raises Failure where one is gone.
        """
        with lock.in_use(link.path / MANIFEST for link in set_.chain if link.source is None):
            yield set_

    def delete(self, set_: BackupSet) -> None:
        """Remove a set of this store, its manifest first, so that no partial set looks valid.

        Raises Failure while another set builds on it.
        """
        if set_.path.parent != self.folder:
            raise Failure(f"{set_.path} is not in {self.folder}", "only sets there are removed")
        needing = [
            other.name for other in self.sets() if other.base and other.base.name == set_.name
        ]
        if needing:
            raise Failure(f"Set {set_.name} is not removed", f"{', '.join(needing)} builds on it")
        doomed = self.folder / (_INCOMPLETE + set_.name)
        try:
            with lock.unused(set_.path / MANIFEST) as unused:
                if not unused:
                    raise Failure(
                        f"Set {set_.name} is not removed",
                        "a rehearsal is reading it",
                        "The next prune removes it.",
                    )
                os.rename(set_.path, doomed)
                shutil.rmtree(doomed)
        except OSError as error:
            raise Failure(f"{set_.path} cannot be removed", str(error.strerror)) from error

    def sweep(self) -> list[str]:
        """Remove the leftovers of interrupted runs; return problems as text.

        Unfinished sets of other hosts in the same directory are left alone unless they are old.
        """
        problems = []
        for left in sorted(self.folder.glob(_INCOMPLETE + "*")):
            if not is_of(left.name, self._host) and not _is_old(left):
                continue
            try:
                shutil.rmtree(left)
            except OSError as error:
                problems.append(f"{left}, no longer a set, cannot be removed: {error.strerror}")
        return problems

    def reclaim(self) -> list[str]:
        """Free the space of removed sets: nothing to do here, ``delete`` has done it."""
        return []

    def prepare(self) -> None:
        """Create the directory and check its disk space; the next prune reports leftovers."""
        self._trusted()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise places.cannot_use(self.folder, error) from error
        self._trusted()
        if self._marked:
            places.use(self.folder)
        self.sweep()

    def _trusted(self) -> None:
        """Refuse a directory that is not the previous one, or that another account created."""
        if self._marked:
            places.insist(str(self.folder), places.names_in(self.folder))
        places.refuse_untrusted(self.folder)

    def _entry(self, name: str, listing: Listing) -> SetEntry:
        try:
            return SetEntry(name, self._open(name, listing), "")
        except Failure as failure:
            return SetEntry(name, None, str(failure))


def _is_old(left: Path) -> bool:
    """Tell whether an unfinished set has not been touched for so long that its run must be dead."""
    try:
        return time.time() - left.stat().st_mtime > _DEAD
    except OSError:
        return False


def _refuse_taken(final: Path, manifest: Manifest) -> None:
    """Raise Failure where the name is taken: no manifest is ever overwritten."""
    if not final.exists():
        return
    theirs = "no set that can be read"
    with contextlib.suppress(Failure):
        found = open_set(final).manifest
        theirs = f"of host {found.host_id or found.host}, installation {found.installation}"
    raise Failure(
        f"{final} already exists",
        f"it is {theirs}; the new one is of host {manifest.host_id or manifest.host}, installation "
        f"{manifest.installation}",
        "Neither was changed. Give each host its own directory, then try again.",
    )
