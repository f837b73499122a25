"""Folders as a part of a set: packed into a file, or kept in a repository as they are."""

from __future__ import annotations

from pathlib import Path

from . import files
from .increment import Packed
from .manifest import Part
from .process import compress
from .settings import Settings
from .store.local import PartWriter
from .store.restic import ResticStore
from .throttle import Throttle


def pack(
    settings: Settings,
    throttle: Throttle,
    path: Path,
    folders: list[Path],
    excluded: list[Path],
    found: files.Survey,
    expected: int | None = None,
) -> tuple[Part, files.Contents]:
    writer = PartWriter(path, throttle)
    compressor = compress(settings.files_level, settings.packers)
    contents = files.pack(folders, excluded, found, compressor, writer.write, expected)
    return writer.finish("tar, zstd"), contents


def keep(
    store: ResticStore,
    throttle: Throttle,
    staging: Path,
    folders: list[Path],
    found: files.Survey,
) -> Packed:
    """Have restic keep the folders as they are; it has its own limit in place of a throttle."""
    part, totals = store.keep_folders(staging, files.outermost(folders), found.special)
    return Packed({"files": part}, files.Contents(totals.files, totals.bytes))
