"""Copies of sets at a remote: list them, and remove one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Union

from ..config.origin import SIGNATURE, Documents
from ..config.settings import Remote
from ..errors import ExitCode, Failure
from ..store import places
from ..store.manifest import MANIFEST, SUMS, Manifest, is_set_name, parse
from . import bound, copies, ledger, rclone
from .bound import Document
from .copies import COPY, Copy
from .rclone import Listed

_ABOUT = (MANIFEST, SUMS, COPY, SIGNATURE)  # files that are about a copy, and no part of it


@dataclass(frozen=True)
class Entry:
    """A folder at a remote that is named as a set is: a copy, or what is wrong with it."""

    name: str
    bytes: int
    manifest: Manifest | None
    copy: Copy | None
    problem: str = ""
    said: Documents | None = None  # of one that is complete


def complete(remote: Remote) -> dict[str, int]:
    """Return the bytes of the parts of each copy that has a manifest, by name, newest first.

    A place that is used for the first time gets its mark.  Raises Failure for one that is not the
    one of before.
    """
    listed = _listing(remote)
    there = {
        name: sum(one.bytes for file, one in files.items() if file not in _ABOUT)
        for name, files in _by_folder(listed).items()
        if MANIFEST in files
    }
    if remote.path not in places.noted():
        _mark(remote, listed, there)
    return there


def _mark(remote: Remote, listed: list[Listed], there: Collection[str]) -> None:
    """Mark a place; one that has lost all copies which this host had sent is another one."""
    sent = ledger.of(remote).sets
    mark, new = places.mark_for(_top(listed))
    if new and sent and not sent.keys() & set(there):
        raise places.not_the_one(remote.path, f"none of {len(sent)} copies is in it")
    if new:
        content = places.CONTENT
        rclone.write(remote, lambda put: put(content), len(content), mark)
    places.note(remote.path, remote.name, mark)


def entries(remote: Remote) -> list[Entry]:
    """Return all copies, complete or not, newest first."""
    folders = _folders(remote)
    if not any(MANIFEST in files for files in folders.values()):
        return [_entry(remote, name, files, {}) for name, files in folders.items()]
    found = bound.read(remote, folders, {MANIFEST: "name", COPY: "set", SIGNATURE: "signed"})
    return [
        _entry(remote, name, files, {file: told.get(name) for file, told in found.items()})
        for name, files in folders.items()
    ]


_Told = Mapping[str, Union[Document, str, None]]  # by file: its content, or what is wrong with it


def _entry(remote: Remote, name: str, files: dict[str, Listed], told: _Told) -> Entry:
    size, where = sum(one.bytes for one in files.values()), f"{remote.name}: {name}"
    if MANIFEST not in files:
        return Entry(name, size, None, None, "its copy has no manifest yet")
    written, recorded = told.get(MANIFEST), told.get(COPY)
    if not isinstance(written, Document):
        return Entry(name, size, None, None, written or "its manifest cannot be read")
    try:
        manifest = parse(written.data, where)
    except Failure as failure:
        return Entry(name, size, None, None, str(failure))
    if not isinstance(recorded, Document):
        return Entry(name, size, None, None, recorded or f"its {COPY} cannot be read")
    copy = _record(recorded, where)
    if copy is None or copy.parts.keys() != manifest.parts.keys():
        return Entry(name, size, None, None, f"its {COPY} cannot be read")
    for part in copy.parts.values():
        found = files.get(part.file)
        if found is None or found.bytes != part.bytes:
            return Entry(name, size, None, None, f"{part.file} is missing or cut short")
    said = Documents(name, written.data, _signature(files, told.get(SIGNATURE)), recorded.data)
    return Entry(name, size, manifest, copy, said=said)


def _record(document: Document, where: str) -> Copy | None:
    try:
        return copies.parse(document.value, where)
    except Failure:
        return None


def _signature(files: Mapping[str, Listed], told: Document | str | None) -> bytes | None:
    """Return the content of signature.json; of one that cannot be read, what is no signature."""
    if SIGNATURE not in files:
        return None
    return told.data if isinstance(told, Document) else b""


def find(remote: Remote, wanted: str) -> Entry:
    """Return the copy of the set ``wanted``; raises Failure where it is not there, or not whole."""
    if not is_set_name(wanted):
        raise Failure(
            f"{wanted!r} is not the name of a set",
            hint=f"gitlab-mm list --from {remote.name} shows the sets there.",
            exit_code=ExitCode.USAGE,
        )
    found = entries(remote)
    for one in found:
        if wanted == one.name and one.manifest is None:
            raise Failure(f"The copy of {one.name} at {remote.name} is not complete", one.problem)
        if wanted == one.name:
            return one
    raise Failure(
        f"There is no copy of {wanted} at {remote.name}",
        f"{len(found)} folders of sets in {remote.path}",
        f"gitlab-mm list --from {remote.name} shows the sets there.",
    )


def delete(remote: Remote, name: str) -> None:
    """Remove a copy: its manifest first, so that what is left of it is no copy any more."""
    folder = _folders(remote).get(name, {})
    if MANIFEST in folder:
        rclone.delete(remote, name, MANIFEST)
    if folder:
        rclone.purge(remote, name)


def _folders(remote: Remote) -> dict[str, dict[str, Listed]]:
    """Return the folders named as sets are, newest first, each with its files by name."""
    return _by_folder(_listing(remote))


def _listing(remote: Remote) -> list[Listed]:
    """Return all files there; raises Failure where the place is not the one of before."""
    listed = rclone.listing(remote)
    places.insist(remote.path, _top(listed))
    return listed


def _top(listed: list[Listed]) -> list[str]:
    return [one.path for one in listed if "/" not in one.path]


def _by_folder(listed: list[Listed]) -> dict[str, dict[str, Listed]]:
    found: dict[str, dict[str, Listed]] = {}
    for one in listed:
        folder, slash, file = one.path.partition("/")
        if slash and "/" not in file and is_set_name(folder):
            found.setdefault(folder, {})[file] = one
    return dict(sorted(found.items(), reverse=True))
