"""Valid values to start from, for tests that then spoil them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gitlab_mm_backup.config.identity import Host, Machine
from gitlab_mm_backup.store.local import LocalStore, PartWriter
from gitlab_mm_backup.store.manifest import (
    FILES_OF_PARTS,
    Contents,
    Credentials,
    Database,
    FileOwner,
    Files,
    Increment,
    Manifest,
    Part,
)
from gitlab_mm_backup.store.prune import Owner
from gitlab_mm_backup.store.sets import BackupSet

INSTALLATION = "ymxcb3gnyfgqdrykq3jhwbe8zr"  # of Mattermost, as it calls itself
HOST = Host("1f3a9c2e5b7d4860a1b2c3d4e5f60718", Machine("", ""), INSTALLATION)
OWNER = Owner(HOST, INSTALLATION)
NAME = "1795310000_2026_11_22_10.11.4"
ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "gitlab_mm_backup"


def make_manifest(**changes: Any) -> Manifest:
    """Return a manifest as a backup writes it."""
    values: dict[str, Any] = {
        "name": NAME,
        "tool": "0.1.0",
        "kind": "omnibus",
        "gitlab": "18.11.9",
        "mattermost": "10.11.4",
        "host": "git.example.org",
        "started": "2026-11-22T01:13:20Z",
        "seconds": 12.345,
        "database": Database(
            "mattermost_production",
            "16.11",
            "UTF8",
            "C.UTF-8",
            "C.UTF-8",
            bytes=8 << 20,
            rows={"public.users": 3, "public.posts": 41},
        ),
        "files": Files(
            folders={"home": "/var/opt/gitlab/mattermost", "data": '/srv/Grüße an "alle"'},
            account=FileOwner("mattermost", "mattermost", 994, 994),
            environment_folder="/opt/gitlab/etc/mattermost/env",
            files=7,
            bytes=4096,
            filled=("home", "data"),
        ),
        "credentials": Credentials("0123456789abcdef", True),
        "parts": {
            "database": Part("database.dump.zst", "pg_dump custom, zstd", 10, "a" * 64),
            "settings": Part("settings.json", "json", 2, "b" * 64),
        },
        "installation": INSTALLATION,
        "host_id": HOST.id,
        "contents": Contents(1, 3, 41, 5, 2048, "2026-11-22T01:10:00Z"),
        "links": {"/var/opt/gitlab/mattermost/data/old uploads": "/srv/old"},
    }
    return Manifest(**{**values, **changes})


def write_parts(staging: Path, contents: dict[str, bytes]) -> dict[str, Part]:
    """Write ``contents`` (part name -> bytes) into a staging folder; return the parts."""
    parts = {}
    for name, content in contents.items():
        writer = PartWriter(staging / FILES_OF_PARTS[name][0])
        writer.write(content)
        parts[name] = writer.finish("bytes")
        assert parts[name].sha256 == hashlib.sha256(content).hexdigest()
    return parts


def make_set(
    folder: Path,
    name: str = NAME,
    contents: dict[str, bytes] | None = None,
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> BackupSet:
    """Make a complete set in ``folder``."""
    store = LocalStore(folder)
    if contents is None:
        contents = {"database": b"rows\n" * 50, "settings": b"{}"}
    with store.create(name) as staging:
        parts = write_parts(staging, contents)
        return store.complete(staging, change(make_manifest(name=name, parts=parts)))


def make_set_on(base: BackupSet, name: str, contents: dict[str, bytes] | None = None) -> BackupSet:
    """Make a set beside ``base`` that builds on it."""
    increment = Increment(base.name, base.identity, files=1, bytes=5)
    made = make_set(
        base.path.parent,
        name,
        contents,
        lambda manifest: dataclasses.replace(manifest, increment=increment),
    )
    return dataclasses.replace(made, base=base)
