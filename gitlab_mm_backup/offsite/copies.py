"""Copies at a remote: their description (copy.json), and listing, finding and removing them.

A copy has the set's own manifest in plain text, so that it can be listed without a key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Union

from ..config import places
from ..config.origin import SIGNATURE, Documents
from ..config.settings import Remote
from ..errors import ExitCode, Failure, reason
from ..store.manifest import FILES_OF_PARTS, MANIFEST, SUMS, Manifest, is_set_name, parse, set_name
from ..system import validation
from . import bound, ledger, rclone
from .bound import Document
from .rclone import Listed

COPY = "copy.json"
ENCRYPTED = ".age"  # ends the name of a file that is encrypted
FORMAT = 2  # 1: from before sets had a host and an installation
# How a file was checked after it was written: by the remote's hash of it, by the hashes of its pieces
# (multipart uploads of S3), or by reading it back.
CHECKS = ("sha256", "sha1", "md5", "pieces", "read back")
_PART: Mapping[str, validation.Check] = {
    "file": validation.text,
    "bytes": validation.count,
    "sha256": validation.sha256,
    "checked": validation.one_of(*CHECKS),
}
_SINCE_FORMAT_2 = {"host_id", "installation"}
_FEW = 5  # names that are told
_ABOUT = (MANIFEST, SUMS, COPY, SIGNATURE)  # files that are about a copy, and no part of it
_Told = Mapping[str, Union[Document, str, None]]  # by file: its content, or what is wrong with it


@dataclass(frozen=True)
class CopiedPart:
    """One part of a copy; with recipients its file is encrypted."""

    file: str
    bytes: int
    sha256: str
    checked: str  # one of CHECKS


@dataclass(frozen=True)
class Copy:
    """A copy of a set; ``parts`` by the part's name."""

    set: str
    recipients: tuple[str, ...]
    parts: Mapping[str, CopiedPart]
    host_id: str = ""  # as the manifest of the set has them
    installation: str = ""
    format: int = FORMAT


def to_bytes(copy: Copy) -> bytes:
    """Return the content of copy.json."""
    return (json.dumps(dataclasses.asdict(copy), indent=2) + "\n").encode()


def parse_copy(document: Any, where: str) -> Copy:
    """Return the copy in ``document``; raises Failure for an invalid one."""
    try:
        return Copy(**validation.members(document, _COPY, _SINCE_FORMAT_2))
    except (ValueError, TypeError) as error:
        raise Failure(
            "The description of a copy cannot be read", f"{where}: {reason(error)}"
        ) from None


def _parts(value: Any) -> dict[str, CopiedPart]:
    parts: dict[str, CopiedPart] = validation.each(
        validation.text, lambda part: CopiedPart(**validation.members(part, _PART))
    )(value)
    for name, part in parts.items():
        files = FILES_OF_PARTS.get(name, ())
        if part.file not in (*files, *(file + ENCRYPTED for file in files)):
            raise ValueError(f"part {ascii(name)[:40]} in the file {ascii(part.file)[:40]}")
    return parts


def _format(value: Any) -> int:
    if not 1 <= validation.count(value) <= FORMAT:
        raise ValueError(f"unknown format {value}")
    return int(value)


def _recipients(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("recipients are a list")
    return tuple(validation.text(recipient) for recipient in value)


_COPY: Mapping[str, validation.Check] = {
    "set": set_name,
    "recipients": _recipients,
    "parts": _parts,
    "host_id": validation.identifier,
    "installation": validation.identifier,
    "format": _format,
}


@dataclass(frozen=True)
class RemoteEntry:
    """A folder at a remote with a set's name: a copy, or its problem."""

    name: str
    bytes: int
    manifest: Manifest | None
    copy: Copy | None
    problem: str = ""
    said: Documents | None = None  # of one that is complete


def complete(remote: Remote) -> dict[str, int]:
    """Return the bytes of the parts of each copy with a manifest, by name, newest first.

    A location gets its marker at its first use. Raises Failure where it is not the one used
    before.
    """
    listed = _listing(remote)
    there = {
        name: sum(listed_file.bytes for file, listed_file in files.items() if file not in _ABOUT)
        for name, files in _by_folder(listed).items()
        if MANIFEST in files
    }
    if remote.path not in places.noted():
        _mark(remote, listed, there)
    return there


def _mark(remote: Remote, listed: list[Listed], there: Collection[str]) -> None:
    """Mark a location; raises Failure where all copies that this host has sent are gone."""
    sent = ledger.of(remote).sets
    mark, new = places.mark_for(_top(listed))
    if new and sent and not sent.keys() & set(there):
        raise places.not_the_one(remote.path, f"none of {len(sent)} copies is in it")
    if new:
        content = places.CONTENT
        rclone.write(remote, lambda put: put(content), len(content), mark)
    places.note(remote.path, remote.name, mark)


def entries(remote: Remote) -> list[RemoteEntry]:
    """Return all copies, complete or not, newest first."""
    folders = _folders(remote)
    if not any(MANIFEST in files for files in folders.values()):
        return [_entry(remote, name, files, {}) for name, files in folders.items()]
    found = bound.read(remote, folders, {MANIFEST: "name", COPY: "set", SIGNATURE: "signed"})
    return [
        _entry(remote, name, files, {file: told.get(name) for file, told in found.items()})
        for name, files in folders.items()
    ]


def _entry(remote: Remote, name: str, files: dict[str, Listed], told: _Told) -> RemoteEntry:
    size, where = sum(file.bytes for file in files.values()), f"{remote.name}: {name}"
    if MANIFEST not in files:
        return RemoteEntry(name, size, None, None, "its copy has no manifest yet")
    written, recorded = told.get(MANIFEST), told.get(COPY)
    if not isinstance(written, Document):
        return RemoteEntry(name, size, None, None, written or "its manifest cannot be read")
    try:
        manifest = parse(written.data, where)
    except Failure as failure:
        return RemoteEntry(name, size, None, None, str(failure))
    if not isinstance(recorded, Document):
        return RemoteEntry(name, size, None, None, recorded or f"its {COPY} cannot be read")
    copy = _record_of(recorded, where)
    if copy is None or copy.parts.keys() != manifest.parts.keys():
        return RemoteEntry(name, size, None, None, f"its {COPY} cannot be read")
    for part in copy.parts.values():
        found = files.get(part.file)
        if found is None or found.bytes != part.bytes:
            return RemoteEntry(name, size, None, None, f"{part.file} is missing or incomplete")
    said = Documents(name, written.data, _signature(files, told.get(SIGNATURE)), recorded.data)
    return RemoteEntry(name, size, manifest, copy, said=said)


def _record_of(document: Document, where: str) -> Copy | None:
    try:
        return parse_copy(document.value, where)
    except Failure:
        return None


def _signature(files: Mapping[str, Listed], told: Document | str | None) -> bytes | None:
    """Return the content of signature.json; an unreadable one becomes an invalid signature."""
    if SIGNATURE not in files:
        return None
    return told.data if isinstance(told, Document) else b""


def find(remote: Remote, wanted: str) -> RemoteEntry:
    """Return the copy of the set ``wanted``; raises Failure where it is missing or incomplete."""
    if not is_set_name(wanted):
        raise Failure(
            f"{wanted!r} is not the name of a set",
            hint=f"gitlab-mm list --from {remote.name} shows the sets there.",
            exit_code=ExitCode.USAGE,
        )
    found = entries(remote)
    for entry in found:
        if wanted == entry.name and entry.manifest is None:
            raise Failure(
                f"The copy of {entry.name} at {remote.name} is not complete", entry.problem
            )
        if wanted == entry.name:
            return entry
    raise Failure(
        f"There is no copy of {wanted} at {remote.name}",
        f"{len(found)} folders of sets in {remote.path}",
        f"gitlab-mm list --from {remote.name} shows the sets there.",
    )


def delete(remote: Remote, name: str) -> None:
    """Remove a copy, its manifest first, so that the rest does not look like a copy."""
    folder = _folders(remote).get(name, {})
    if MANIFEST in folder:
        rclone.delete(remote, name, MANIFEST)
    if folder:
        rclone.purge(remote, name)


def no_copy(remote: Remote) -> Failure:
    """Return the failure for a remote without a copy, with what is there instead."""
    paths = [PurePosixPath(file.path) for file in rclone.listing(remote)]
    message = f"There is no copy of a set at {remote.name}"
    # Several places may have some: the one with the newest.
    below = [(path.parent.name, str(path.parent.parent)) for path in paths]
    if newest := max((found for found in below if is_set_name(found[0])), default=None):
        place = remote.place(newest[1])
        return Failure(message, f"there are some in {place}", f"Give that: --from {place}")
    names = sorted({path.parts[0] for path in paths})
    few = ", ".join(names[:_FEW]) + (" and more" if len(names) > _FEW else "")
    return Failure(
        message,
        f"{remote.path} has: {few or 'nothing'}",
        "Give the directory that holds the sets, as --from nas:backups/mattermost.",
    )


def _folders(remote: Remote) -> dict[str, dict[str, Listed]]:
    """Return the folders with names of sets, newest first, each with its files by name."""
    return _by_folder(_listing(remote))


def _listing(remote: Remote) -> list[Listed]:
    """Return all files there; raises Failure where the location is not the one used before."""
    listed = rclone.listing(remote)
    places.insist(remote.path, _top(listed))
    return listed


def _top(listed: list[Listed]) -> list[str]:
    return [file.path for file in listed if "/" not in file.path]


def _by_folder(listed: list[Listed]) -> dict[str, dict[str, Listed]]:
    found: dict[str, dict[str, Listed]] = {}
    for listed_file in listed:
        folder, slash, file = listed_file.path.partition("/")
        if slash and "/" not in file and is_set_name(folder):
            found.setdefault(folder, {})[file] = listed_file
    return dict(sorted(found.items(), reverse=True))
