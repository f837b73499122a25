"""Send one set to one remote: parts, checks of them there, and the manifest last."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from ..clock import utc
from ..config import identity, keys
from ..config.origin import SIGNATURE, Kind
from ..config.settings import Remote
from ..errors import Failure
from ..store import manifest
from ..store.manifest import MANIFEST, SUMS, Part, sums, to_bytes
from ..store.sets import BackupSet, damage
from ..system import disk_space, process, progress
from ..system.parallel import Put
from . import age, ledger, rclone
from .copies import COPY, ENCRYPTED, CopiedPart, Copy
from .copies import to_bytes as copy_bytes
from .ledger import CopyRecord, Notes, PartialCopy, SentFile
from .rclone import HASHES, Listed, RemoteFailure

log = logging.getLogger(__name__)

_PIECE = 1 << 20  # bytes read at a time
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0  # seconds before another try
T = TypeVar("T")


@dataclass(frozen=True)
class _File:
    """A file of a copy: its name there, and its source."""

    name: str
    size: int
    feed: Callable[[Put], object]


def persist(remote: Remote, act: Callable[[], T]) -> T:
    """Run ``act``; retry after connection failures, with a delay that doubles."""
    for attempt in range(remote.retries):
        try:
            return act()
        except RemoteFailure as failure:
            if failure.lasting:
                raise
            wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
            log.info("%s; retry in %.0f s", failure, wait)
        with progress.waiting("retry"):
            time.sleep(wait)
    return act()


def send(set_: BackupSet, remote: Remote, notes: Notes) -> CopyRecord:
    """Copy ``set_`` to ``remote``, and return the checks that it passed there.

    Files from an earlier run stay. Raises Failure when the copy is incomplete: then it has no
    manifest.
    """
    problems = damage(set_)
    found = keys.ring().origin(
        set_.manifest.host_id, set_.manifest.made, set_.documents, elsewhere=False
    )
    if found.kind is Kind.FORGED:
        problems.append(found.detail)
    if problems:
        raise Failure(f"{set_.name} is damaged and was not copied", "; ".join(problems))
    if remote.path.startswith("/"):  # it may be GitLab's own disk
        ways = (
            "Free some space there, or keep fewer copies: keep_time and keep_last of that remote."
        )
        needed, what = set_.manifest.bytes, f"the copy at {remote.name}"
        disk_space.refuse_without(Path(remote.path), needed, what, ways)
    log.info("Copying %s to %s", set_.name, remote.name)
    begun = notes.begun.get(set_.name)
    if begun is not None and not remote.add_only:  # an earlier run was cut short
        rclone.sweep(remote, set_.name)
    if begun is None or begun.recipients != remote.recipients:
        whose = manifest.host_of(set_.manifest)
        begun = notes.begun[set_.name] = PartialCopy(remote.recipients, {}, whose)
    wanted = _files(set_, remote)
    _bring(set_, remote, notes, begun, wanted)
    checks = _check(set_, remote, notes, begun, wanted)
    return _complete(set_, remote, notes, checks)


def _files(set_: BackupSet, remote: Remote) -> dict[str, _File]:
    """Return the files of a copy besides copy.json and the manifest; by part, SUMS first.

    SUMS is small: its hash shows which hashes the remote has.
    """
    known = sums(set_.manifest)
    found = {SUMS: _File(SUMS, len(known), lambda put: put(known))}
    empty = age.empty_size(remote.recipients) if remote.recipients else 0
    for name, part in set_.manifest.parts.items():
        found[name] = _part(set_.path / part.file, part, remote.recipients, empty)
    return found


def _part(path: Path, part: Part, recipients: tuple[str, ...], empty: int) -> _File:
    if not recipients:
        return _File(part.file, part.bytes, lambda put: _read(path, put))
    size = age.size(empty, part.bytes)
    return _File(part.file + ENCRYPTED, size, lambda put: _encrypt(path, recipients, put))


def _read(path: Path, put: Put) -> None:
    with open(path, "rb", buffering=0) as file, progress.of_file("upload", file):
        while piece := file.read(_PIECE):
            put(piece)


def _encrypt(path: Path, recipients: tuple[str, ...], put: Put) -> None:
    with open(path, "rb", buffering=0) as file, progress.of_file("upload", file):
        process.pipeline(age.encrypt(recipients), stdin=file, sink=put)


def _bring(
    set_: BackupSet, remote: Remote, notes: Notes, begun: PartialCopy, wanted: Mapping[str, _File]
) -> None:
    """Write the missing files, and record each."""
    there = {listed.path: listed.bytes for listed in _listing(set_, remote)}
    if MANIFEST in there and not begun.files:
        _refuse_anothers(set_, remote)
    for file in wanted.values():
        sent = begun.files.get(file.name)
        if sent is not None and there.get(file.name) == sent.bytes == file.size:
            continue
        begun.files[file.name] = _write(set_, remote, file)
        ledger.keep(remote, notes)


def _refuse_anothers(set_: BackupSet, remote: Remote) -> None:
    """Raise Failure where a set of another host has the name of ``set_`` there."""
    place = f"{remote.name}: {set_.name}"
    found = manifest.parse(
        persist(remote, lambda: rclone.content(remote, set_.name, MANIFEST)), place
    )
    theirs, ours = manifest.host_of(found), manifest.host_of(set_.manifest)
    if (theirs, found.installation) != (ours, set_.manifest.installation):
        raise Failure(
            f"{remote.name} has a set of another host that is called {set_.name}",
            f"there: host {identity.shown(theirs)}, installation {found.installation or 'unknown'}; "
            f"here: host {identity.shown(ours)}, installation "
            f"{set_.manifest.installation or 'unknown'}",
            "Neither was changed. Give each host its own directory (offsite in config.yml).",
        )


def _write(set_: BackupSet, remote: Remote, file: _File) -> SentFile:
    def once() -> SentFile:
        digests = [hashlib.new(hash_name) for hash_name in HASHES]

        def feed(put: Put) -> None:
            def pass_on(piece: bytes | memoryview) -> None:
                for digest in digests:
                    digest.update(piece)
                put(piece)

            file.feed(pass_on)

        rclone.write(remote, feed, file.size, set_.name, file.name)
        return SentFile(
            file.size, {hash_name: digest.hexdigest() for hash_name, digest in zip(HASHES, digests)}
        )

    return persist(remote, once)


def _listing(set_: BackupSet, remote: Remote, hashed: int | None = None) -> list[Listed]:
    return persist(remote, lambda: rclone.listing(remote, set_.name, hashed=hashed))


def _check(
    set_: BackupSet, remote: Remote, notes: Notes, begun: PartialCopy, wanted: Mapping[str, _File]
) -> dict[str, str]:
    """Return by part how each file was checked; a damaged one is sent again next time."""
    size = sum(file.size for file in wanted.values())
    there = {listed.path: listed for listed in _listing(set_, remote, hashed=size)}
    small = there.get(SUMS)
    hashing = bool(small and small.hashes)
    checks = {}
    for name, file in wanted.items():
        sent, found = begun.files[file.name], there.get(file.name)
        check = _how(set_, remote, file.name, sent, found, hashing)
        if not check:
            del begun.files[file.name]
            ledger.keep(remote, notes)
            raise Failure(
                f"{file.name} arrived damaged at {remote.name}",
                f"{found.bytes if found else 0} bytes of {sent.bytes}",
                "The next run sends it again. If this happens again, do not rely on this remote.",
            )
        checks[name] = check
    return checks


def _how(
    set_: BackupSet, remote: Remote, name: str, sent: SentFile, found: Listed | None, hashing: bool
) -> str:
    """Return the check that a file passed, of copies.CHECKS; "" when it is damaged."""
    if found is None or found.bytes != sent.bytes:
        return ""
    for hash_name in HASHES:
        if hash_name in found.hashes:
            return hash_name if found.hashes[hash_name] == sent.hashes[hash_name] else ""
    if hashing:
        return "pieces"
    return (
        "read back"
        if persist(remote, lambda: _digest(set_, remote, name)) == sent.hashes["sha256"]
        else ""
    )


def _digest(set_: BackupSet, remote: Remote, name: str) -> str:
    digest = hashlib.sha256()
    with rclone.explained(remote, f"{name} cannot be read from {remote.name}"):
        process.pipeline(rclone.read(remote, set_.name, name), sink=digest.update)
    return digest.hexdigest()


def _complete(
    set_: BackupSet, remote: Remote, notes: Notes, checks: Mapping[str, str]
) -> CopyRecord:
    """Write copy.json, the signature of both, and then the manifest, which completes the copy.

    It is signed with this host's key, whoever made the set: sets here are in a directory that only
    root can write to.
    """
    begun = notes.begun[set_.name]
    parts = {}
    for name, part in set_.manifest.parts.items():
        file = part.file + (ENCRYPTED if remote.recipients else "")
        sent = begun.files[file]
        parts[name] = CopiedPart(file, sent.bytes, sent.hashes["sha256"], checks[name])
    whose = set_.manifest
    copy = copy_bytes(Copy(set_.name, remote.recipients, parts, whose.host_id, whose.installation))
    of_set = to_bytes(set_.manifest)
    signature = keys.own(identity.own().id).sign(set_.name, of_set, copy)
    for file, data in ((COPY, copy), (SIGNATURE, signature), (MANIFEST, of_set)):
        _write_whole(set_, remote, file, data)
    there = CopyRecord(
        utc(datetime.now(timezone.utc)),
        sum(part.bytes for part in parts.values()),
        tuple(sorted(set(checks.values()))),
        set_.base.name if set_.base else "",
        **ledger.whose(set_.manifest),
    )
    notes.sets[set_.name] = there
    del notes.begun[set_.name]
    ledger.keep(remote, notes)
    return there


def _write_whole(set_: BackupSet, remote: Remote, name: str, data: bytes) -> None:
    _write(set_, remote, _File(name, len(data), lambda put: put(data)))
    if persist(remote, lambda: rclone.content(remote, set_.name, name)) != data:
        raise Failure(
            f"{name} arrived damaged at {remote.name}",
            hint="The next run sends it again.",
        )
