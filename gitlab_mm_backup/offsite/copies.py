"""What a copy of a set says about itself, beside the set's own manifest: the file copy.json.

The manifest of a copy is the set's own, in plain text, so that a copy is listed without any key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Failure, reason
from ..store.manifest import FILES_OF_PARTS, is_set_name
from ..system import validation

COPY = "copy.json"
ENCRYPTED = ".age"  # ends the name of a file that is encrypted
FORMAT = 2  # 1: from before sets had a host and an installation
# How a file was found whole after it was written: the remote's own hash of it, its pieces' hashes
# (of a file that went there in several, as S3 has it), or all of it read again.
CHECKS = ("sha256", "sha1", "md5", "pieces", "read back")


@dataclass(frozen=True)
class CopiedPart:
    """One part as it is in the copy: with recipients its file is encrypted."""

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


def parse(document: Any, where: str) -> Copy:
    """Return the copy in ``document``; raises Failure for anything but a whole one."""
    try:
        return Copy(**validation.members(document, _COPY, _SINCE_FORMAT_2))
    except (ValueError, TypeError) as error:
        raise Failure(
            "What a copy says of itself cannot be read", f"{where}: {reason(error)}"
        ) from None


def _set_name(value: Any) -> str:
    if not is_set_name(validation.text(value)):
        raise ValueError("not the name of a set")
    return str(value)


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
    return tuple(validation.text(one) for one in value)


_PART: Mapping[str, validation.Check] = {
    "file": validation.text,
    "bytes": validation.count,
    "sha256": validation.sha256,
    "checked": validation.one_of(*CHECKS),
}
_COPY: Mapping[str, validation.Check] = {
    "set": _set_name,
    "recipients": _recipients,
    "parts": _parts,
    "host_id": validation.identifier,
    "installation": validation.identifier,
    "format": _format,
}
_SINCE_FORMAT_2 = {"host_id", "installation"}
