"""The parts of one set in a restic repository: read in place, or fetched to this host."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, TypeVar

from ..errors import Failure
from ..system import disk_space, progress
from ..system.parallel import pipe_between
from ..system.process import Command, compress, forward, pipeline, printed, written_by
from .local import PartWriter
from .manifest import MANIFEST, Manifest, Part, to_bytes
from .restic import Repository, RepositoryLocked, ResticSnapshot

MANIFEST_TAG, DATABASE, FILES = "manifest", "database", "files"  # the third tag of a snapshot
DUMP = "database.dump"
# The forms of the files part in the repository, and after download.
BY_RESTIC = ("folders, restic", "tar of folders, zstd")
_PACKING = compress(1, min(4, os.cpu_count() or 1))
T = TypeVar("T")
Snapshots = Mapping[str, ResticSnapshot]  # of one set, by their third tag


@dataclass(frozen=True)
class ResticSet:
    """The parts of one set in the repository."""

    repository: Repository
    snapshots: Snapshots
    manifest: Manifest

    def problems(self) -> list[str]:
        """Read the whole set with restic, and check the rest of the repository for damage."""
        problems: list[str] = []
        look_around = functools.partial(self.repository.check, date.today())
        for task in (look_around, self._read_manifest, self._read_dump):
            try:
                task()
            except RepositoryLocked:
                raise  # says nothing about the set
            except Failure as failure:
                problems.append(str(failure))
        return problems

    def _read_manifest(self) -> None:
        """Compare the stored manifest with the copy on this host."""
        if self._content(MANIFEST) != to_bytes(self.manifest):
            raise Failure(f"The stored {MANIFEST} differs")

    def _content(self, file: str) -> bytes:
        """Return the content of a file in the snapshot of small parts."""
        return printed(self._small(file))

    def _small(self, file: str) -> Command:
        place = self.snapshots[MANIFEST_TAG]
        return self.repository.dump(place, f"{place.paths[0]}/{file}")

    def _read_dump(self) -> None:
        """Read the dump; restic checks the hash of each piece."""
        count, wanted = 0, self.manifest.parts[DATABASE].bytes

        def weigh(piece: memoryview) -> None:
            nonlocal count
            count += len(piece)

        pipeline(self.dump(), sink=weigh)
        if count != wanted:
            raise Failure(f"The dump has {count} bytes, should have {wanted}")

    def dump(self) -> Command:
        return self.repository.dump(self.snapshots[DATABASE], f"/{DUMP}")

    def files(self) -> Command:
        return self.repository.dump(self.snapshots[FILES], "/")

    def folder(self, path: str) -> Command:
        return self.repository.dump(self.snapshots[FILES], path)

    def piece(self, start: int, length: int) -> None:
        """Return None: its files are in no frames, but restic finds each of them."""

    def read_by(self, take: Callable[[IO[bytes]], T]) -> T:
        """Have ``take`` read the tar of the files; restic checks the hash of each piece."""
        with _shown(FILES, self.manifest.parts[FILES]):
            _, taken = pipe_between(lambda put: pipeline(self.files(), sink=put), take)
        return taken

    @contextlib.contextmanager
    def open(self, part: str) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryFile() as file:  # for a program to read
            pipeline(self._small(self.manifest.parts[part].file), sink=file.write)
            file.seek(0)
            yield file


def _shown(name: str, part: Part) -> contextlib.AbstractContextManager[None]:
    """Show the progress of restic's output of a part."""
    return progress.measured(name, part.bytes, lambda: written_by("restic"))


def refuse_without_room(manifest: Manifest, parent: Path, but: Collection[str] = ()) -> None:
    parts = manifest.parts.items()
    needed = sum(part.bytes for name, part in parts if name not in but)
    disk_space.refuse_without(
        parent,
        needed,
        "the set, which is downloaded first",
        "Free some space, or give another place: scratch_dir in /etc/gitlab-mm-backup/config.yml.",
    )


def fetch(
    source: ResticSet, staging: Path, but: Collection[str] = ()
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Write the parts of a set, ``but`` some, in the form of a local set; return all parts.

    Also returns what could not be read, as text.
    """
    parts: dict[str, Part] = {name: source.manifest.parts[name] for name in but}
    problems = []
    ways = {
        DATABASE: ("database.dump.zst", "pg_dump custom, zstd", source.dump()),
        FILES: ("files.tar.zst", BY_RESTIC[1], source.files()),
    }
    for name, (file, form, program) in ways.items():
        if name in but:
            continue
        writer = PartWriter(staging / file)
        try:
            with _shown(name, source.manifest.parts[name]):
                pipeline(program, _PACKING, sink=writer.write)
        except Failure as failure:
            problems.append(f"{name}: {failure}")
        parts[name] = writer.finish(form)
    for name, part in source.manifest.parts.items():
        if name not in ways:
            writer = PartWriter(staging / part.file)
            try:
                with source.open(name) as content:
                    forward(content, writer.write)
            except Failure as failure:
                problems.append(f"{name}: {failure}")
            writer.finish(part.form)
            parts[name] = part
    return parts, tuple(problems)
