"""The manifest of a set, and the two files that prove it: SHA256SUMS and signature.json."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .. import clock
from ..config.identity import UNNAMED
from ..errors import Failure
from ..system import validation
from . import properties
from .properties import Properties

# 1: from before sets had a host and an installation; 2: of these, one whose files part builds on
# another set. A program that does not know a format must not restore from it.
FORMAT = 3
_INCREMENTAL_FORMAT = 2
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
# <seconds since 1970>_<year>_<month>_<day>_<Mattermost version>-<host>, as GitLab names its own
# backups; the host by the first digits of its id, so that no two hosts give one name (since format 3).
_NAME = re.compile(r"\d{10}_\d{4}_\d{2}_\d{2}_[0-9A-Za-z.+~-]+")
NAMES = "names"  # the part by which people, places and uploads are found without the dump
# The files that a part can be in: as a set has it, and as a repository does.
FILES_OF_PARTS = {
    "database": ("database.dump.zst", "database.dump"),
    "files": ("files.tar.zst", "files"),
    "etc-gitlab": ("etc-gitlab.tar.zst",),
    "settings": ("settings.json",),
    "listing": ("files.list.zst",),
    "index": ("files.index.zst",),
    "configuration": ("configuration.tar.zst",),
    NAMES: ("names.copy.zst", "names.copy"),
}
_HOST_DIGITS = 6  # of a host's id in the names of its sets
_OF_HOST = re.compile(rf"-([0-9a-f]{{{_HOST_DIGITS}}})$")


@dataclass(frozen=True)
class Part:
    """One file of a set."""

    file: str
    form: str  # how to read it: "pg_dump custom, zstd", "tar, zstd", "json"
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Database:
    """The dumped database, as seen by the dump's snapshot."""

    name: str
    server: str  # PostgreSQL's version, as 16.11
    encoding: str
    collate: str
    ctype: str
    bytes: int  # on the server's disk
    rows: Mapping[str, int]  # schema.table -> rows

    @property
    def bytes_to_load(self) -> int:
        """Disk space that a load needs: PostgreSQL sorts index data in temporary files."""
        return self.bytes * 5 // 4


@dataclass(frozen=True)
class FileOwner:
    """The account that owned the files: names count, numbers find its files on another host."""

    user: str
    group: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Files:
    """The archived folders of Mattermost."""

    folders: Mapping[str, str]  # home, data ... -> absolute path at the time of the backup
    account: FileOwner  # that Mattermost ran as
    environment_folder: str  # absolute path, "" where the service had none
    files: int  # that a restore of the set brings back
    bytes: int
    filled: Sequence[str] | None = None  # roles with anything in them; None in format 1 and 2
    mounted: Sequence[str] = ()  # roles whose folder was a mount point


@dataclass(frozen=True)
class Increment:
    """What the files part of an incremental set holds, relative to its base."""

    base: str  # name of that set, in the same store
    manifest: str  # SHA-256 of that set's manifest.json, and so of all its parts
    files: int  # plain files in the part
    bytes: int


@dataclass(frozen=True)
class Contents:
    """What people would miss, counted in the dump's snapshot, without deleted entries."""

    teams: int
    users: int  # without bots
    posts: int
    uploads: int
    upload_bytes: int
    last_post: str | None  # RFC 3339, UTC

    @property
    def empty(self) -> bool:
        """Tell whether this Mattermost has never been used."""
        return not (self.teams or self.users or self.posts or self.uploads)

    @property
    def counts(self) -> dict[str, int]:
        """The counts by their names."""
        return {
            "teams": self.teams,
            "users": self.users,
            "posts": self.posts,
            "uploads": self.uploads,
            "bytes of uploads": self.upload_bytes,
        }


@dataclass(frozen=True)
class Credentials:
    """GitLab's OAuth application in this set; the secret itself lies in settings.json."""

    client_id: str
    verified: bool | None  # None: GitLab did not answer


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
    privileged: Sequence[str] = ()  # files with set-user-id or set-group-id, restored without
    salvaged: Sequence[str] | None = None  # what was lost with the program; None: it was there
    purpose: str = "backup"  # or "safety": the state before a restore, never "the latest set"
    increment: Increment | None = None  # None: the files part holds all
    installation: str = ""  # Mattermost's own id of itself (DiagnosticId); "" where it is not known
    host_id: str = ""  # of the host that made it; "" in sets of format 1 and 2
    contents: Contents | None = None  # None in sets of format 1 and 2
    shrunken: Sequence[str] = ()  # what collapsed, as "posts: 0 of 8000": see shrinkage
    fuller: str = ""  # name of the set that it fell short of
    told: Sequence[str] = ()  # what the run warned of: what the set cannot hold, or lacks
    properties: Properties | None = None  # of the database; None: not recorded (before format 3)
    pipes: Sequence[str] = ()  # devices and pipes, left out; a new one may be packed
    attributes: Mapping[str, int] = field(default_factory=dict)  # acl, user -> files that have some
    note: str = ""  # of the administrator, one line
    configuration: Sequence[str] = ()  # files of this program's own, in the part of that name
    left_out: Mapping[str, str] = field(default_factory=dict)  # of these -> why not in the set
    format: int = FORMAT

    @property
    def packed(self) -> Increment | Files:
        """Number and bytes of the files in the files part itself."""
        return self.increment or self.files

    @property
    def links_out(self) -> Mapping[str, str]:
        return self.links

    @functools.cached_property
    def made(self) -> datetime:
        return clock.parse_moment(self.started)

    @property
    def safety(self) -> bool:
        return self.purpose == "safety"

    @property
    def empty(self) -> bool:
        """Tell whether this set's Mattermost was never used; an old set shows it by row counts."""
        if self.contents is not None:
            return self.contents.empty
        rows = {name.rpartition(".")[2]: count for name, count in self.database.rows.items()}
        return not any(rows.get(table) for table in ("teams", "posts", "fileinfo"))

    @property
    def rows(self) -> int:
        return sum(self.database.rows.values())

    @property
    def bytes(self) -> int:
        """Bytes of all parts together."""
        return sum(part.bytes for part in self.parts.values())


def name_for(moment: datetime, mattermost: str, host_id: str) -> str:
    """Return a set's name for a start ``moment``; the date in it is local time, as GitLab's is."""
    version = re.sub(r"[^0-9A-Za-z.+~-]", "-", mattermost)
    day = f"{int(moment.timestamp()):010d}_{moment.astimezone():%Y_%m_%d}"
    return f"{day}_{version}-{host_id[:_HOST_DIGITS]}"


def is_of(name: str, host_id: str) -> bool:
    """Tell whether this host gave a set that name; before format 3 names had no host."""
    found = _OF_HOST.search(name)
    return found is None or found[1] == host_id[:_HOST_DIGITS]


def is_set_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def to_bytes(manifest: Manifest) -> bytes:
    """Return the content of manifest.json; bytes that are not UTF-8 are kept, escaped."""
    document = dataclasses.asdict(manifest)
    for name, value in _NOT_GIVEN.items():  # as programs of before have it
        if document[name] == value:
            del document[name]
    if manifest.format < FORMAT:
        for name in _SINCE_FORMAT_3:
            del document[name]
        for name in _FILES_SINCE_FORMAT_3:
            del document["files"][name]
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return f"{text}\n".encode(errors="backslashreplace")


def sums(manifest: Manifest) -> bytes:
    """Return the content of SHA256SUMS: every part and the manifest itself, for sha256sum -c."""
    lines = [f"{part.sha256}  {part.file}" for part in manifest.parts.values()]
    lines.append(f"{hashlib.sha256(to_bytes(manifest)).hexdigest()}  {MANIFEST}")
    return ("\n".join(lines) + "\n").encode()


def parse(data: bytes, where: str) -> Manifest:
    """Return the manifest in ``data``; ``where`` names it in failures.

    Raises Failure for an incomplete manifest or an unknown format: later steps rely on the type of
    every value, and on names that do not lead out of the set.
    """
    try:
        document = validation.from_json(data)
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")
        found = document.get("format")
        if isinstance(found, int) and found > FORMAT:
            raise Failure(
                "This set was made by a newer gitlab-mm-backup",
                f"{where} has format {found}, this program reads up to {FORMAT}",
                "Install the newer gitlab-mm-backup, then try again.",
            )
        return Manifest(**validation.members(document, *_wanted(found)))
    except ValueError as error:
        raise Failure(
            "A set's manifest cannot be read",
            f"{where}: {str(error)[:200]}",
            "The set is damaged; choose another one (gitlab-mm list shows them).",
        ) from None


def _wanted(found: Any) -> tuple[Mapping[str, validation.Check], set[str]]:
    """Return the members of a manifest of that format, and which of them are optional."""
    optional = {"purpose", "salvaged"}
    if found == FORMAT:
        new = {**_MANIFEST, **_SINCE_FORMAT_3, "increment": _increment, **_LATER}
        return new, {*optional, "increment", *_LATER}
    old = {**_MANIFEST, "files": lambda value: Files(**validation.members(value, _FILES))}
    return {**old, "increment": _increment} if found == _INCREMENTAL_FORMAT else old, optional


def set_name(value: Any) -> str:
    """Check a set's name in a document; raises ValueError for anything else."""
    if not is_set_name(validation.text(value)):
        raise ValueError(f"not the name of a set: {ascii(value)[:40]}")
    return str(value)


def _parts(value: Any) -> dict[str, Part]:
    parts: dict[str, Part] = validation.each(
        validation.text, lambda part: Part(**validation.members(part, _PART))
    )(value)
    for name, part in parts.items():
        if part.file not in FILES_OF_PARTS.get(name, ()):
            raise ValueError(f"part {ascii(name)[:40]} in the file {ascii(part.file)[:40]}")
    return parts


def _format(value: Any) -> int:
    if not 1 <= validation.count(value) <= FORMAT:
        raise ValueError(f"unknown format {value}")
    return int(value)


def _folders(value: Any) -> dict[str, str]:
    folders: dict[str, str] = validation.each(validation.text, validation.path)(value)
    if "home" not in folders:
        raise ValueError("the home directory is missing")
    return folders


def _increment(value: Any) -> Increment:
    return Increment(**validation.members(value, _INCREMENT))


_PART = {
    "file": validation.text,
    "form": validation.text,
    "bytes": validation.count,
    "sha256": validation.sha256,
}
_DATABASE = {
    **dict.fromkeys(("server", "encoding", "collate", "ctype"), validation.line),
    "name": validation.text,
    "bytes": validation.count,
    "rows": validation.each(validation.text, validation.count),
}
_ACCOUNT = {
    "user": validation.text,
    "group": validation.text,
    "uid": validation.count,
    "gid": validation.count,
}
_FILES = {
    "folders": _folders,
    "account": lambda value: FileOwner(**validation.members(value, _ACCOUNT)),
    "environment_folder": lambda value: validation.path(value) if value != "" else "",
    "files": validation.count,
    "bytes": validation.count,
}
_FILES_SINCE_FORMAT_3 = {"filled": validation.texts, "mounted": validation.texts}
_CONTENTS = {
    **dict.fromkeys(("teams", "users", "posts", "uploads", "upload_bytes"), validation.count),
    "last_post": lambda value: value if value is None else validation.instant(value),
}
_INCREMENT = {
    "base": set_name,
    "manifest": validation.sha256,
    "files": validation.count,
    "bytes": validation.count,
}
_CREDENTIALS = {"client_id": validation.text, "verified": validation.one_of(True, False, None)}
_MANIFEST: dict[str, validation.Check] = {
    **dict.fromkeys(("tool", "kind", "gitlab", "mattermost", "host"), validation.line),
    "name": set_name,
    "started": validation.instant,
    "seconds": validation.seconds,
    "database": lambda value: Database(**validation.members(value, _DATABASE)),
    "files": lambda value: Files(**validation.members(value, {**_FILES, **_FILES_SINCE_FORMAT_3})),
    "credentials": lambda value: Credentials(**validation.members(value, _CREDENTIALS)),
    "parts": _parts,
    "links": validation.each(validation.path, validation.bytes_as_text),
    "privileged": validation.paths,
    "salvaged": lambda value: value if value is None else validation.texts(value),
    "purpose": validation.one_of("backup", "safety"),
    "format": _format,
}
_SINCE_FORMAT_3: dict[str, validation.Check] = {
    "installation": validation.identifier,
    "host_id": validation.identifier,
    "contents": lambda value: value and Contents(**validation.members(value, _CONTENTS)),
    "shrunken": validation.texts,
    "fuller": lambda value: set_name(value) if value else "",
    "told": validation.texts,
    "pipes": validation.paths,
}
# Of a format 3 set, but not of the first ones.
_LATER: dict[str, validation.Check] = {
    "properties": properties.parse,
    "attributes": validation.each(validation.one_of("acl", "user"), validation.count),
    "note": validation.line,
    "configuration": validation.paths,
    "left_out": validation.each(validation.path, validation.line),
}
_NOT_GIVEN: dict[str, Any] = {
    **dict.fromkeys(("increment", "salvaged", "properties")),
    **{"attributes": {}, "note": "", "configuration": (), "left_out": {}},
}


def host_of(manifest: Manifest) -> str:
    """Return the id of the host that made a set; an old set has its name instead."""
    return manifest.host_id or f"{UNNAMED}{manifest.host}"
