"""Uploads of earlier days: unpacked after a restore, while Mattermost runs, newest first.

Mattermost has each upload in a directory of its day, as data/20261122/teams/..., and writes it
once. All else in its directories (avatars, emoji, plugins, ...) is there before the start.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..config import settings
from ..errors import Failure, Interrupted, reason
from ..mattermost.journal import Journal, PendingUploads
from ..mattermost.site import Site
from ..store import inventory, prune, verify
from ..store.archive_reader import Portion
from ..store.file_list import LISTING
from ..store.manifest import MANIFEST
from ..store.sets import BackupSet, open_set
from ..system import disk_space, files, lock, process, progress, sandbox, signals
from ..system.process import Command
from . import earlier_uploads, folder_swap, unpack
from .earlier_uploads import Batch, Later, Look, split
from .plan import RestoreOptions
from .unpack import StagedFolder

log = logging.getLogger(__name__)

# From so many bytes of earlier uploads on, Mattermost starts before they are unpacked
# (docs/performance.md).
_LARGE = 1 << 30
_OFTEN = 60  # seconds between two reports of the progress
_SHOWN = 3  # paths, in a message


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
    unframed = look.set.stream is not None and look.set.frames is None
    if unframed or look.linked:
        why = "some of them are hard links" if look.linked else "the set is not fetched before"
        words = f"All uploads are unpacked before Mattermost starts: {why}"
        warnings += [words] if wish == "later" else []
        return None
    later = split(look)
    return later if later and (wish == "later" or later.bytes > _LARGE) else None


def fetch(set_: BackupSet, portion: Portion | None) -> None:
    """Have some frames of a set elsewhere here, and check them; nothing for a set that is here.

    Raises Failure where they are not what was written, or have what no set of ours has.
    """
    if set_.frames is not None and portion is not None and portion.pieces:
        set_.frames.bring(portion.pieces)
        verify.inspect_pieces(set_, portion.pieces)


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
    pinned = _pin(set_.reference)
    entry = PendingUploads(
        token,
        set_.reference,
        set_.name,
        _identity(set_),
        asdict(plan),
        later.look.before,
        str(_work(site, token)),
        later.bytes,
        later.bytes,
        pinned=pinned,
    )
    journal.keep_uploads([entry, *earlier])


def _identity(set_: BackupSet) -> str:
    """Return SHA-256 of its manifest as it was written: a copy here may have parts of other form."""
    return hashlib.sha256(set_.documents.manifest).hexdigest()


def _kept(reference: str) -> BackupSet:
    """Return the set, where it is kept."""
    if "/" in reference:
        return open_set(Path(reference))
    return inventory.open_store(settings.load()).named(reference)


def _pin(reference: str) -> bool:
    """Keep a set from being pruned; False where it is pinned, or in no place of this host's."""
    try:
        set_ = _kept(reference)
        if prune.pinned(set_):
            return False
        prune.pin(set_)
    except Failure as failure:
        log.info("Set %s is not pinned: %s", reference, failure)
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


def take_over(
    set_: BackupSet, site: Site, later: Later, works: Mapping[str, StagedFolder]
) -> list[str]:
    """Have what the previous data directory has already, before it is removed.

    Returns, as text, why nothing is taken from there.
    """
    journal = Journal()
    entry, account = journal.pending(), sandbox.account_entry(site.account.user).pw_uid
    live, previous = site.folders.real["data"], unpack.previous_data(site, works)
    if entry is None or set_.manifest.files.account.user != site.account.user:
        return []
    log.info("Looking for uploads that are there already")
    try:
        with signals.heeded():
            if set_.frames is not None and LISTING in set_.manifest.parts:
                later.look.read_listing()
            taken = earlier_uploads.take(set_, later.look.digests, previous, live, account)
    except Failure as failure:
        return [str(failure)]
    except (Interrupted, OSError):
        return []  # they are unpacked
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
                prune.unpin(_kept(entry.set))
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

    Of a set elsewhere only what is left is verified, as it comes. Raises Failure where the set is
    not intact.
    """
    entry = journal.pending()
    if entry is None:
        return None
    look = Look(set_, entry.done or entry.before, there=entry.there)
    if _identity(set_) != entry.identity:
        raise Failure(f"Set {set_.name} is not the one that was restored")
    if set_.frames is None:  # or each frame is checked when it comes
        verify.verify(set_, look.each)
    later = split(look)
    return unpack_at_last(set_, site, later or Later(look, {}, (), {}), tell)


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
        later = split(later.look) or replace(later, batches=())
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
    """Unpack one batch into ``place``, sync it, and move it into the data directory.

    Of a set elsewhere it is fetched before.
    """
    fetch(set_, batch.portions.get(set_.name))
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
