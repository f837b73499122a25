"""Uploads of earlier days: unpacked after a restore, while Mattermost runs, newest first.

Mattermost has each upload in a directory of its day, as data/20261122/teams/..., and writes it
once. All else in its directories (avatars, emoji, plugins, ...) is there before the start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import Failure, Interrupted, reason
from ..mattermost.journal import Journal, PendingUploads
from ..mattermost.site import Site
from ..store import frame_index, prune, verify
from ..store.archive_reader import Portion
from ..store.frame_index import Slice
from ..store.frames import INDEX
from ..store.manifest import MANIFEST
from ..store.sets import BackupSet, open_set
from ..system import disk_space, files, lock, process, progress, sandbox, signals
from ..system.process import Command
from . import folder_swap, unpack, uploads_there
from .plan import RestoreOptions
from .unpack import Without
from .uploads_there import FIRST, Look

log = logging.getLogger(__name__)

# From so many bytes of earlier uploads on, Mattermost starts before they are unpacked
# (docs/performance.md).
_LARGE = 1 << 30
_BATCH = 256 << 20  # bytes of the tar, at least, that are unpacked, synced and moved at once
_OFTEN = 60  # seconds between two reports of the progress
_SHOWN = 3  # paths, in a message
_ALL = -1  # in place of the start of a slice: the whole part, which has no index


@dataclass(frozen=True)
class Batch:
    """All uploads of some days, unpacked together: a directory may come before what it is in."""

    earliest: str  # of the days
    portions: Mapping[str, Portion]  # by the name of the set of the chain, oldest first
    bytes: int  # of the tar


@dataclass(frozen=True)
class Later:
    """The uploads of a set that are unpacked later, in order, and what a restore leaves out."""

    look: Look
    days: Mapping[str, int]  # bytes of each
    batches: Sequence[Batch]
    without: Mapping[str, Without]  # by the name of the set of the chain

    @property
    def bytes(self) -> int:
        return sum(batch.bytes for batch in self.batches)


@dataclass(frozen=True)
class UploadsResult:
    """The result of unpacking earlier uploads."""

    bytes: int  # unpacked now
    there: int  # bytes that were there already
    left: int  # bytes
    seconds: float
    problems: list[str]  # in words; what is not unpacked stays recorded for the next run


def may_wait(plan: RestoreOptions, size: int) -> bool:
    """Tell whether uploads of a set with ``size`` bytes of files may come later."""
    large = plan.uploads == "auto" and size > _LARGE
    return plan.with_folders and (plan.uploads == "later" or large)


def choose(look: Look, site: Site, plan: RestoreOptions, warnings: list[str]) -> Later | None:
    """Return what is unpacked later by the plan; None for nothing.

    Adds to ``warnings`` why uploads that were to come later do not.
    """
    wish = plan.uploads
    if not may_wait(plan, look.set.manifest.files.bytes) or "data" not in site.folders.real:
        return None
    if look.set.stream is not None or look.linked:
        why = "some of them are hard links" if look.linked else "the set is not fetched before"
        words = f"All uploads are unpacked before Mattermost starts: {why}"
        warnings += [words] if wish == "later" else []
        return None
    later = _split(look)
    return later if later and (wish == "later" or later.bytes > _LARGE) else None


def _split(look: Look) -> Later | None:
    """Divide the files part of each set of the chain; None where nothing is left for later."""
    data = look.set.manifest.files.folders.get("data", "")
    days: dict[bytes, list[tuple[str, Slice]]] = {}
    without = dict[str, Without]()
    for link in look.set.chain:
        slices = _slices(link, look)
        if slices is None:
            return None
        first = [slice_ for slice_ in slices if FIRST in slice_.groups]
        for slice_ in slices:
            for day in slice_.groups:
                days.setdefault(day, []).append((link.name, slice_))
        here = [day for day in days if day != FIRST]
        without[link.name] = Without(_paths(data, here), _portion(first))
    days.pop(FIRST, None)
    batches = list(_batches(data, days))
    sizes = {day.decode(): _size(days[day], day) for day in days}
    return Later(look, sizes, batches, without) if batches else None


def _slices(link: BackupSet, look: Look) -> list[Slice] | None:
    """Return the slices of one set; a set without an index is one slice, None if in a chain."""
    if INDEX in link.manifest.parts:
        return frame_index.slices(link.file(INDEX), link.manifest.parts["files"].bytes, look.day)
    return [Slice(_ALL, _ALL, {FIRST: 0, **look.days})] if look.set.base is None else None


def _batches(data: str, days: Mapping[bytes, Sequence[tuple[str, Slice]]]) -> Iterator[Batch]:
    """Yield the days, newest first, in batches of at least _BATCH bytes."""
    together, size = list[bytes](), 0
    for day in sorted(days, reverse=True):
        together.append(day)
        size += _size(days[day], day)
        if size >= _BATCH:
            yield _batch(data, days, together, size)
            together, size = [], 0
    if together:
        yield _batch(data, days, together, size)


def _size(slices: Sequence[tuple[str, Slice]], day: bytes) -> int:
    return sum(slice_.groups[day] for _, slice_ in slices)


def _batch(
    data: str,
    days: Mapping[bytes, Sequence[tuple[str, Slice]]],
    together: Sequence[bytes],
    size: int,
) -> Batch:
    portions = {}
    for link in dict.fromkeys(link for day in together for link, _ in days[day]):
        here = [day for day in together if any(link == name for name, _ in days[day])]
        slices = {part.start: part for day in here for name, part in days[day] if name == link}
        portion = _portion([slices[start] for start in sorted(slices)])
        portions[link] = portion._replace(members=_paths(data, here))
    return Batch(together[-1].decode(), portions, size)


def _paths(data: str, days: Iterable[bytes]) -> list[str]:
    return [f"{data}/{day.decode()}" for day in sorted(days)]


def _portion(slices: Sequence[Slice]) -> Portion:
    """Return the portion that consists of ``slices``."""
    if any(slice_.start == _ALL for slice_ in slices):
        return Portion()
    return Portion([(slice_.start, slice_.length) for slice_ in slices])


def note(
    set_: BackupSet, site: Site, plan: RestoreOptions, token: str, later: Later | None
) -> None:
    """Record what is to be unpacked later, before the restore is final, and keep its set.

    Uploads of an earlier restore stay recorded until ``settle``: after a rollback of this one
    they are needed again.
    """
    journal = Journal()
    earlier = journal.uploads()
    if later is None:
        entry = PendingUploads(token, "", "", "", {}, "", "", 0)
        journal.keep_uploads([entry, *earlier] if earlier else [])
        return
    pinned = not prune.pinned(set_) and _pin(set_)
    entry = PendingUploads(
        token,
        set_.reference,
        set_.name,
        set_.identity,
        asdict(plan),
        later.look.before,
        str(_work(site, token)),
        later.bytes,
        later.bytes,
        pinned=pinned,
    )
    journal.keep_uploads([entry, *earlier])


def _pin(set_: BackupSet) -> bool:
    """Keep a set from being pruned; False where its disk is read-only."""
    try:
        prune.pin(set_)
    except Failure as failure:
        log.info("Set %s is not pinned: %s", set_.name, failure)
        return False
    return True


def settle(token: str) -> None:
    """Forget the uploads of earlier restores: their data directory is no longer live."""
    journal = Journal()
    for entry in journal.uploads():
        if entry.token != token:
            forget(entry.token)
    if journal.pending() is None:
        forget(token)


def take_over(set_: BackupSet, site: Site, later: Later, previous: Path) -> list[str]:
    """Have what the data directory ``previous`` has already, before it is removed.

    Returns, as text, why nothing is taken from there.
    """
    journal = Journal()
    entry, account = journal.pending(), sandbox.account_entry(site.account.user).pw_uid
    live = site.folders.real["data"]
    if entry is None or set_.manifest.files.account.user != site.account.user:
        return []
    log.info("Looking for uploads that are there already")
    try:
        with signals.heeded():
            taken = uploads_there.take(set_, later.look.digests, previous, live, account)
    except Failure as failure:
        return [str(failure)]
    except (Interrupted, OSError):  # they are unpacked
        return []
    days = [day.decode() for day in taken]
    left = entry.left - sum(later.days[day] for day in days)
    journal.keep_uploads([replace(entry, there=days, left=left)])
    return []


def forget(token: str) -> None:
    """Forget the uploads of one restore, and leave its set to the retention rules again."""
    journal = Journal()
    for entry in journal.uploads():
        if entry.token == token and entry.work:
            with contextlib.suppress(Failure, OSError):  # root finds it by its name
                folder_swap.remove_work_folder(entry.work)
        if entry.token == token and entry.pinned:
            with contextlib.suppress(Failure):  # it is gone
                prune.unpin(open_set(Path(entry.set)))
    journal.keep_uploads([entry for entry in journal.uploads() if entry.token != token])


def _work(site: Site, token: str) -> Path:
    """Return the work directory for uploads, on the disk of the data directory."""
    data, around = site.folders.real["data"], folder_swap.exchanged(site.folders).values()
    live = next(path for path in (data, *data.parents) if path in around)
    return folder_swap.work_folder(live, f"{token}-uploads")


def resume(
    set_: BackupSet, site: Site, journal: Journal, tell: Callable[[], object]
) -> UploadsResult | None:
    """Verify the set of a restore again, and unpack what that has left; None for nothing.

    Raises Failure where the set is not intact.
    """
    entry = journal.pending()
    if entry is None:
        return None
    look = Look(set_, entry.done or entry.before, there=entry.there)
    if set_.identity != entry.identity:
        raise Failure(f"Set {set_.name} is not the one that was restored")
    verify.verify(set_, look.each)
    return unpack_at_last(set_, site, _split(look) or Later(look, {}, (), {}), tell)


def unpack_at_last(
    set_: BackupSet, site: Site, later: Later, tell: Callable[[], object]
) -> UploadsResult:
    """Unpack what is left at the end of a complete restore; a signal interrupts only this."""
    journal, began, problems = Journal(), time.monotonic(), list[str]()
    entry = journal.pending()
    assert entry is not None
    log.info("Unpacking the uploads of earlier days while Mattermost runs")
    before, why = entry.left, ""
    there = sum(later.days.get(day, 0) for day in entry.there)
    if there:
        later.look.there = entry.there
        later = _split(later.look) or replace(later, batches=())
    try:
        with signals.heeded():
            problems = _unpack(set_, site, later, entry, tell)
    except Interrupted as interrupted:
        why = f"interrupted by {interrupted.signal_name}"
    except (Failure, OSError) as failure:
        why = reason(failure)
    entry = journal.pending()
    if why and entry is not None:
        problems.append(unfinished(entry, why))
    left = entry.left if entry is not None else 0
    return UploadsResult(before - left, there, left, round(time.monotonic() - began, 3), problems)


def unfinished(entry: PendingUploads, why: str) -> str:
    """Return the warning about uploads that are not unpacked."""
    return (
        f"{entry.words}, and are missing in Mattermost: {why}. The next backup goes on with it; to go "
        "on now: gitlab-mm restore --continue"
    )


def _unpack(
    set_: BackupSet,
    site: Site,
    later: Later,
    entry: PendingUploads,
    tell: Callable[[], object],
) -> list[str]:
    """Unpack the batches that are left; return, as text, what is not as in the set."""
    journal, told, lines = Journal(), time.monotonic(), list[str]()
    manifests = [link.path / MANIFEST for link in set_.chain]
    with (
        lock.in_use(manifests),
        _place(entry, site) as place,
        progress.of("uploads", entry.left) as advance,
    ):
        layers = unpack.upload_layers(set_)
        for batch in later.batches:
            lines += _unpack_batch(set_, site, layers, batch, place)
            entry = replace(entry, done=batch.earliest, left=entry.left - batch.bytes)
            journal.keep_uploads([entry])
            advance(batch.bytes)
            if time.monotonic() - told > _OFTEN:
                told = time.monotonic()
                tell()
    forget(entry.token)
    return list(dict.fromkeys(lines))


@contextlib.contextmanager
def _place(entry: PendingUploads, site: Site) -> Iterator[int]:
    """Yield an open new private directory on the disk of the data; it is removed at the end.

    Its parent may belong to Mattermost's account, who runs: it is used by its descriptor.
    """
    work = _work(site, entry.token)
    if str(work) != entry.work:
        detail = f"its work directory was {entry.work}, and would be {work} now"
        raise Failure(
            "The disk of the data directory is not mounted as it was", detail, "Mount it."
        )
    folder_swap.remove_work_folder(str(work))
    with files.open_directory(work.parent) as parent:
        os.mkdir(work.name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        place = os.open(work.name, flags, dir_fd=parent)
    try:
        if os.fstat(place).st_uid != 0:
            raise Failure(f"{work} was replaced by another directory")
        yield place
    finally:
        os.close(place)
        with contextlib.suppress(Failure, OSError):  # the next run removes it
            folder_swap.remove_work_folder(str(work))


def _unpack_batch(
    set_: BackupSet,
    site: Site,
    layers: Sequence[unpack.Archive],
    batch: Batch,
    place: int,
) -> list[str]:
    """Unpack one batch into ``place``, sync it, and move it into the data directory."""
    into = Path(f"/proc/{os.getpid()}/fd/{place}/unpacking")
    if disk_space.available(into.parent) < batch.bytes:
        raise Failure("The disk is full", disk_space.words(into.parent, batch.bytes))
    into.mkdir(mode=0o700)
    try:
        tree, lines = unpack.unpack_uploads(set_, site, layers, batch.portions, into)
        # Before anything of it is seen: what exists is not unpacked again after a power loss.
        process.run(Command(["sync", "--file-system", str(into)]))
        with (
            files.open_directory(site.folders.real["data"]) as live,
            files.open_directory(tree, links=True) as new,
        ):
            blocked = folder_swap.merge(new, live)
    finally:
        shutil.rmtree(into)
    if blocked:
        few = ", ".join(map(repr, blocked[:_SHOWN]))
        lines.append(f"Not unpacked, because something else is in their place: {few}")
    return lines
