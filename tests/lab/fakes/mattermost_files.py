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
    connection: Connection, root: Path, user: str, channel: str, name: str, content: bytes
) -> Row:
    """Keep an upload under its own name; a picture gets a thumbnail and a preview beside it."""
    identifier, name = new_id(), name.replace("\\", "/").rpartition("/")[2]
    day = datetime.now(timezone.utc).strftime("%Y%m%d")
    place = f"{day}/teams/noteam/channels/{channel}/users/{user}/{identifier}"
    stem, _, extension = name.rpartition(".")
    width, height = image_size(content)
    files = {"path": f"{place}/{name}", "thumbnailpath": "", "previewpath": ""}
    if width:
        files.update(
            thumbnailpath=f"{place}/{stem}_thumb.jpg", previewpath=f"{place}/{stem}_preview.jpg"
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


def write_file(path: Path, content: bytes) -> None:
    """Write an upload: folders 0750, files 0600, as Mattermost's local driver does."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def shrunk(content: bytes, kind: str) -> bytes:
    """Stands in for a smaller JPEG of a picture: right at its first and last bytes, and different for each kind."""
    return b"\xff\xd8\xff\xe0" + kind.encode() + content[16:24] + b"\xff\xd9"
