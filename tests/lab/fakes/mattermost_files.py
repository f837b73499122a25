"""Uploads: files below the data folder, and their rows in fileinfo."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from .mattermost_data import Row, insert, new_id, times
from .pool import Connection

PNG = b"\x89PNG\r\n\x1a\n"
MIME_TYPES = {
    "png": "image/png",
    "txt": "text/plain; charset=utf-8",
    "pdf": "application/pdf",
    "md": "text/markdown; charset=utf-8",
}


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG, (0, 0) for anything else."""
    if not content.startswith(PNG):
        return 0, 0
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def store_file(
    connection: Connection,
    root: Path,
    user: str,
    channel: str,
    name: str,
    content: bytes,
    version: tuple[int, ...],
) -> Row:
    """Keep an upload under its own name; a picture gets a thumbnail and a preview beside it."""
    identifier, name = new_id(), name.replace("\\", "/").rpartition("/")[2]
    day = datetime.now(timezone.utc).strftime("%Y%m%d")
    place = f"{day}/teams/noteam/channels/{channel}/users/{user}/{identifier}"
    stem, _, extension = name.rpartition(".")
    width, height = image_size(content)
    files = {"path": f"{place}/{name}", "thumbnailpath": "", "previewpath": ""}
    if width:
        kind = "jpg" if version < (6,) else "png"  # of the picture's own type since 6.0
        files.update(
            thumbnailpath=f"{place}/{stem}_thumb.{kind}",
            previewpath=f"{place}/{stem}_preview.{kind}",
        )
    for key, path in files.items():
        if path:
            write_file(root / path, content if key == "path" else shrunk(content, key))
    row = {
        "id": identifier,
        "creatorid": user,
        "postid": "",
        **times(),
        **files,
        "name": name,
        "extension": extension,
    }
    described = {
        "size": len(content),
        "mimetype": MIME_TYPES.get(extension.lower(), "application/octet-stream"),
        "width": width,
        "height": height,
        "haspreviewimage": bool(width),
        "content": "",
    }
    return insert(connection, "fileinfo", {**row, **described})


def store_emoji(connection: Connection, root: Path, user: str, name: str, content: bytes) -> Row:
    """Keep an emoji that people made."""
    row = {"id": new_id(), **times(), "creatorid": user, "name": name}
    write_file(root / "emoji" / row["id"] / "image", content)
    return insert(connection, "emoji", row)


def write_file(path: Path, content: bytes) -> None:
    """Write an upload: folders 0750, files 0600, as Mattermost's local driver does."""
    for folder in reversed(path.parents):
        if not folder.is_dir():
            folder.mkdir(0o750)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def shrunk(content: bytes, kind: str) -> bytes:
    """Stands in for a smaller JPEG of a picture: right at its first and last bytes, and different for each kind."""
    return b"\xff\xd8\xff\xe0" + kind.encode() + content[16:24] + b"\xff\xd9"
