"""What a set says about itself: the manifest, and the two files that prove it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .errors import Failure

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
# <seconds since 1970>_<year>_<month>_<day>_<Mattermost version>, as GitLab names its own backups.
_NAME = re.compile(r"\d{10}_\d{4}_\d{2}_\d{2}_[0-9A-Za-z.+~-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """One file of a set."""

    file: str
    form: str  # how to read it: "pg_dump custom, zstd", "tar, zstd", "json"
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Database:
    """The dumped database, as it was in the dump's own snapshot."""

    name: str
    server: str  # PostgreSQL's version, as 16.11
    encoding: str
    collate: str
    ctype: str
    bytes: int  # on the server's disk
    rows: Mapping[str, int]  # schema.table -> rows


@dataclass(frozen=True)
class Account:
    """The account that owned the files: names count, numbers find its files on another host."""

    user: str
    group: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Files:
    """The archived folders of Mattermost."""

    folders: Mapping[str, str]  # home, data ... -> absolute path at the time of the backup
    account: Account  # that Mattermost ran as
    environment_folder: str  # absolute path, "" where the service had none
    files: int
    bytes: int


@dataclass(frozen=True)
class Credentials:
    """GitLab's OAuth application in this set; the secret itself lies in settings.json."""

    client_id: str
    verified: bool | None  # None: nobody could be asked


@dataclass(frozen=True)
class Manifest:
    """A set's own description; ``parts`` by name (database, files, etc-gitlab, settings)."""

    name: str
    tool: str
    kind: str
    gitlab: str
    mattermost: str
    host: str
    started: str  # RFC 3339, UTC
    seconds: float
    database: Database
    files: Files
    credentials: Credentials
    parts: Mapping[str, Part]
    links: Mapping[str, str]  # symbolic links that lead out of what is packed -> their targets
    purpose: str = "backup"  # or "safety": the state before a restore, never "the latest set"
    format: int = FORMAT

    @property
    def made(self) -> datetime:
        return datetime.fromisoformat(self.started.replace("Z", "+00:00"))

    @property
    def safety(self) -> bool:
        return self.purpose == "safety"

    @property
    def rows(self) -> int:
        return sum(self.database.rows.values())

    @property
    def bytes(self) -> int:
        """Bytes of all parts together."""
        return sum(part.bytes for part in self.parts.values())


def name_for(moment: datetime, mattermost: str) -> str:
    """Return a set's name for a start ``moment``; the date in it is local time, as GitLab's is."""
    version = re.sub(r"[^0-9A-Za-z.+~-]", "-", mattermost)
    return f"{int(moment.timestamp()):010d}_{moment.astimezone():%Y_%m_%d}_{version}"


def is_set_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def utc(moment: datetime) -> str:
    """Return ``moment`` as RFC 3339 in UTC, to the second."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_bytes(manifest: Manifest) -> bytes:
    """Return the content of manifest.json."""
    return (json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False) + "\n").encode()


def sums(manifest: Manifest) -> bytes:
    """Return the content of SHA256SUMS: every part and the manifest itself, for sha256sum -c."""
    lines = [f"{part.sha256}  {part.file}" for part in manifest.parts.values()]
    lines.append(f"{hashlib.sha256(to_bytes(manifest)).hexdigest()}  {MANIFEST}")
    return ("\n".join(lines) + "\n").encode()


def parse(data: bytes, where: str) -> Manifest:
    """Return the manifest in ``data``; ``where`` names it in failures.

    Raises Failure for anything but a whole manifest of a format that this program knows.
    """
    try:
        document = json.loads(data)
        found = document["format"]
        if isinstance(found, int) and found > FORMAT:
            raise Failure(
                "This set was made by a newer gitlab-mm-backup",
                f"{where} has format {found}, this program reads up to {FORMAT}",
                "Install the newer gitlab-mm-backup, then try again.",
            )
        return _from_document(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(
            "A set's manifest cannot be read",
            f"{where}: {type(error).__name__}: {error}",
            "The set is damaged; choose another one (gitlab-mm list shows them).",
        ) from error


def _from_document(document: Any) -> Manifest:
    values = dict(document)
    values["database"] = Database(**values["database"])
    account = Account(**values["files"]["account"])
    values["files"] = Files(**{**values["files"], "account": account})
    values["credentials"] = Credentials(**values["credentials"])
    values["parts"] = {name: Part(**part) for name, part in values["parts"].items()}
    manifest = Manifest(**values)
    _validate(manifest)
    return manifest


def _validate(manifest: Manifest) -> None:
    """Refuse what later steps would have to trust: names that leave the set, odd numbers."""
    if not isinstance(manifest.format, int) or not 1 <= manifest.format <= FORMAT:
        raise ValueError(f"unknown format {manifest.format!r}")
    if not is_set_name(manifest.name):
        raise ValueError(f"not the name of a set: {manifest.name!r}")
    for name, part in manifest.parts.items():
        _validate_part(name, part)
    for table, rows in manifest.database.rows.items():
        if not isinstance(rows, int) or rows < 0:
            raise ValueError(f"table {table} has no proper row count")
    if manifest.purpose not in ("backup", "safety"):
        raise ValueError(f"unknown purpose {manifest.purpose!r}")
    for role, folder in manifest.files.folders.items():
        if not folder.startswith("/") or ".." in folder.split("/"):
            raise ValueError(f"folder {role} is not an absolute path: {folder!r}")
    if "home" not in manifest.files.folders:
        raise ValueError("no home folder is named")
    manifest.made  # noqa: B018 - raises for a date that is none


def _validate_part(name: str, part: Part) -> None:
    if "/" in part.file or part.file in ("", ".", "..", MANIFEST, SUMS) or "\n" in part.file:
        raise ValueError(f"part {name} has an impossible file name {part.file!r}")
    if not isinstance(part.bytes, int) or part.bytes < 0 or not _SHA256.fullmatch(part.sha256):
        raise ValueError(f"part {name} has no proper size and checksum")
