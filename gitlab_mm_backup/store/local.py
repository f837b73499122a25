"""Sets in a folder of this host: complete with a manifest, or not there at all."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..config.identity import Host
from ..config.origin import SIGNATURE, Documents
from ..errors import ExitCode, Failure
from ..system import files, lock
from ..system.files import replace_file, sync_folder
from . import ground, places
from .manifest import MANIFEST, SUMS, Manifest, Part, is_of, is_set_name, parse, sums, to_bytes
from .part import cannot_write
from .source import Source, Stream, cut_short

# A set in the making; the next run removes what a killed one left under this name.
_INCOMPLETE = ".incomplete-"
_DEAD = 2 * 86400  # seconds: no backup takes as long
_LENT = ("files", "listing")
Sign = Callable[[str, bytes], bytes]  # a set's name, its manifest.json -> its signature.json
LONGEST_CHAIN = 100  # sets, of which each but the first builds on the one before


@dataclass(frozen=True)
class BackupSet:
    """A complete set; one that builds on another is complete with that alone.

    With a ``source`` its parts are elsewhere, and ``path`` is the folder for what this host knows
    of it.  ``reference`` finds it in its store.
    """

    path: Path
    manifest: Manifest
    base: BackupSet | None = None  # the set beside it that its files part builds on
    source: Source | None = None
    kept_as: str = ""  # its name in a store whose sets have no folder of their own
    problems: tuple[str, ...] = ()  # found when it was fetched
    stream: Stream | None = None  # its files part alone is elsewhere, and comes when it is unpacked
    said: Documents | None = None  # by a set that is elsewhere, or came from there

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def reference(self) -> str:
        return self.kept_as or str(self.path)

    def open(self, part: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Yield the content of a part other than database and files; raises Failure."""
        if self.source is not None:
            return self.source.open(part)
        try:
            return open(self.file(part), "rb")
        except OSError as error:
            raise Failure(f"{self.file(part)} cannot be read", str(error.strerror)) from error

    @property
    def documents(self) -> Documents:
        """What it says of itself, byte for byte; what cannot be read is empty."""
        if self.said is not None:
            return self.said
        manifest = files.read_or_none(self.path / MANIFEST)
        return Documents(self.name, manifest or b"", files.read_or_none(self.path / SIGNATURE))

    @property
    def chain(self) -> tuple[BackupSet, ...]:
        """All sets that a restore of this one reads, the oldest first and this one last."""
        return (*(self.base.chain if self.base else ()), self)

    @property
    def lent(self) -> list[Part]:
        """The parts that sets which build on this one are restored from."""
        return [part for name, part in self.manifest.parts.items() if name in _LENT]

    @property
    def identity(self) -> str:
        """SHA-256 of manifest.json, and so of all parts: a set that builds on this one has it."""
        return hashlib.sha256(files.read_regular(self.path / MANIFEST, links=True)).hexdigest()

    def file(self, part: str) -> Path:
        """Return the file of ``part``; raises Failure when the set has no such part."""
        try:
            return self.path / self.manifest.parts[part].file
        except KeyError:
            raise Failure(f"Set {self.name} holds no part {part}") from None


@dataclass(frozen=True)
class Entry:
    """A line of the list: a set, or a folder that looks like one and what is wrong with it."""

    name: str
    set: BackupSet | None
    problem: str


@dataclass(frozen=True)
class Others:
    """Sets of another host in a store that does not list them."""

    host: str  # as identity.of_set has it
    name: str  # of the host
    installation: str
    sets: int
    newest: str  # name of the newest


class Listing(abc.ABC):
    """What every store can tell of its sets."""

    where: str  # the store, for people
    folder: Path  # for the sets, or for what this host knows of them

    def others(self) -> list[Others]:
        """Return whose sets ``entries`` leaves out; a folder shows them all."""
        return []

    @abc.abstractmethod
    def serve(self, host: Host) -> None:
        """Know which host asks, by what it has learnt meanwhile."""

    @abc.abstractmethod
    def entries(self) -> list[Entry]:
        """Return all sets, complete or damaged, newest first."""

    def every(self) -> list[Entry]:
        """Return all sets of all hosts, newest first, also those that ``entries`` leaves out."""
        return self.entries()

    def sets(self) -> list[BackupSet]:
        """Return the complete sets, newest first."""
        return [entry.set for entry in self.entries() if entry.set is not None]

    def find(self, wanted: str) -> BackupSet:
        """Return the set called ``wanted``: a name, or a path to a set.

        One in a directory that others than root can change is from elsewhere.  Raises Failure when
        there is none or when it is not complete.
        """
        if "/" in wanted:
            one = open_set(Path(wanted))
            ours = one.path.parent == self.folder or ground.only_roots(one.path)
            return one if ours else replace(one, said=one.documents)
        if not is_set_name(wanted):
            raise Failure(
                f"{wanted!r} is neither the name of a set nor a path",
                hint="gitlab-mm list shows the sets; a path must hold a slash.",
                exit_code=ExitCode.USAGE,
            )
        return self.named(wanted)

    @abc.abstractmethod
    def named(self, name: str) -> BackupSet:
        """Return the set of that name; raises Failure when it is not there, or not complete."""


class LocalStore(Listing):
    """A folder of sets.

    One that is ``marked`` is known again by its mark (see places.py): where that is missing nothing
    is read, and nothing is made.
    """

    def __init__(self, folder: Path, *, marked: bool = False) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._marked = marked
        self._host = ""  # the id of the host that asks; "" where that is not known
        self.where = str(self.folder)

    def serve(self, host: Host) -> None:
        """Know whose unfinished sets may be removed; a folder shows every host the same."""
        self._host = host.id

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Yield a private folder for the parts of a new set; without ``complete`` it vanishes."""
        self.prepare()
        staging = self.folder / (_INCOMPLETE + name)
        try:
            staging.mkdir(mode=0o700)
        except OSError as error:
            raise ground.cannot_use(staging, error) from error
        try:
            ground.refuse_open(staging)
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
        """Make the parts in ``staging`` a set: checksums, manifest last, then its own name.

        ``sign`` makes its signature, where ``staging`` does not have one that came with it.
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

    def entries(self) -> list[Entry]:
        """Return all sets, complete or damaged, newest first."""
        self._trusted()
        try:
            names = sorted((one.name for one in self.folder.iterdir()), reverse=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Failure(f"{self.folder} cannot be read", str(error.strerror)) from error
        return [self._entry(name) for name in names if is_set_name(name)]

    def named(self, name: str) -> BackupSet:
        self._trusted()
        one = open_set(self.folder / name)
        if one.name != name:
            raise Failure(f"Folder {name} holds another set", f"its manifest says {one.name}")
        return one

    @contextlib.contextmanager
    def fetched(self, one: BackupSet, parent: Path) -> Iterator[BackupSet]:
        """Yield the set with all its parts on this host, for the time of the block.

        Nobody removes it meanwhile, nor what it builds on.  Raises Failure where that is done already.
        """
        with lock.in_use(each.path / MANIFEST for each in one.chain if each.source is None):
            yield one

    def delete(self, one: BackupSet) -> None:
        """Remove a set of this store: its manifest's name first, so that no half set is left.

        Raises Failure while another set builds on it.
        """
        if one.path.parent != self.folder:
            raise Failure(f"{one.path} is not in {self.folder}", "only sets there are removed")
        needing = [
            other.name for other in self.sets() if other.base and other.base.name == one.name
        ]
        if needing:
            raise Failure(f"Set {one.name} is not removed", f"{', '.join(needing)} builds on it")
        doomed = self.folder / (_INCOMPLETE + one.name)
        try:
            with lock.unused(one.path / MANIFEST) as unused:
                if not unused:
                    raise Failure(
                        f"Set {one.name} is not removed",
                        "a rehearsal is reading it",
                        "The next prune removes it.",
                    )
                os.rename(one.path, doomed)
                shutil.rmtree(doomed)
        except OSError as error:
            raise Failure(f"{one.path} cannot be removed", str(error.strerror)) from error

    def sweep(self) -> list[str]:
        """Remove what earlier runs left half made or half removed; return, in words, what stays.

        What another host is making in the same folder is left to it, but for what is old.
        """
        problems = []
        for left in sorted(self.folder.glob(_INCOMPLETE + "*")):
            if not is_of(left.name, self._host) and not _is_old(left):
                continue
            try:
                shutil.rmtree(left)
            except OSError as error:
                problems.append(f"{left}, no set any more, cannot be removed: {error.strerror}")
        return problems

    def reclaim(self) -> list[str]:
        """Give back the room of what was removed, as ``delete`` has done; return problems."""
        return []

    def prepare(self) -> None:
        """Have the folder, and room in it; what cannot be removed is told by the next prune."""
        self._trusted()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ground.cannot_use(self.folder, error) from error
        self._trusted()
        if self._marked:
            places.use(self.folder)
        self.sweep()

    def _trusted(self) -> None:
        """Refuse a folder that is not the one of before, or that somebody else put here."""
        if self._marked:
            places.insist(str(self.folder), places.names_in(self.folder))
        ground.refuse_untrusted(self.folder)

    def _entry(self, name: str) -> Entry:
        try:
            return Entry(name, self.named(name), "")
        except Failure as failure:
            return Entry(name, None, str(failure))


def _is_old(left: Path) -> bool:
    """Tell whether nobody has worked on an unfinished set for so long that its run is dead."""
    try:
        return time.time() - left.stat().st_mtime > _DEAD
    except OSError:
        return False


def _refuse_taken(final: Path, manifest: Manifest) -> None:
    """Raise Failure where another set has the name: no manifest is ever overwritten."""
    if not final.exists():
        return
    theirs = "no set that can be read"
    with contextlib.suppress(Failure):
        found = open_set(final).manifest
        theirs = f"of host {found.host_id or found.host}, installation {found.installation}"
    raise Failure(
        f"{final} is there already",
        f"it is {theirs}; the new one is of host {manifest.host_id or manifest.host}, installation "
        f"{manifest.installation}",
        "Neither was changed. Give each host a folder of its own, then try again.",
    )


def open_set(path: Path, longest: int = LONGEST_CHAIN, identity: str = "") -> BackupSet:
    """Return the set at ``path``; raises Failure when it, or one it builds on, is not complete.

    One that is wanted by its ``identity`` must be that very set, before anything of it counts.
    """
    path = Path(os.path.abspath(path))
    if not path.is_dir():
        raise Failure(
            f"There is no set {path.name}", f"{path} is no folder", "gitlab-mm list shows the sets."
        )
    try:
        data = files.read_regular(path / MANIFEST, links=True)
    except FileNotFoundError:
        raise Failure(
            f"Set {path.name} is not complete",
            f"it has no {MANIFEST}",
            "Its backup did not end well; choose another set (gitlab-mm list).",
        ) from None
    except OSError as error:
        raise Failure(f"Set {path.name} cannot be read", str(error.strerror)) from error
    if identity and hashlib.sha256(data).hexdigest() != identity:
        raise Failure(f"{path} is not the set of then", f"its {MANIFEST} is another, or damaged")
    manifest = parse(data, str(path / MANIFEST))
    return BackupSet(path, manifest, _open_base(path, manifest, longest - 1))


def _open_base(path: Path, manifest: Manifest, longest: int) -> BackupSet | None:
    """Return the set that the one at ``path`` builds on: the very one, with all of its files."""
    if manifest.increment is None:
        return None
    name = manifest.increment.base
    place = Path(os.path.realpath(path)).parent / name
    wrong = f"Set {manifest.name} is not complete: it builds on set {name}"
    if not longest:
        raise Failure(wrong, f"and that on more than {LONGEST_CHAIN} others; ours never do")
    try:
        base = open_set(place, longest, manifest.increment.manifest)
    except Failure as failure:
        raise Failure(
            wrong,
            str(failure),
            f"Put {name}, and what it builds on, into {place.parent}; or choose another set.",
        ) from failure
    told = cut_short(base.path, base.lent)
    if told:
        raise Failure(wrong, told, "Choose another set (gitlab-mm list).")
    return base
