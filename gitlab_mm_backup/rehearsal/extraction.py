"""Uploads of a set, written to a directory under their original names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from tarfile import TarInfo

from ..checks import Result
from ..errors import Failure, reason
from ..store import verify
from ..store.archive_reader import MemberContent
from ..store.sets import BackupSet
from ..system import humanize
from .output_folder import OutputFolder
from .search import Upload

Wanted = dict[str, list[Upload]]  # by the absolute paths that their files had
Place = Callable[[Upload], Sequence[str]]  # the directories of an upload, below the one given
_SMALL = 200 << 10  # bytes of a file that is kept in memory
_PASSES = 2  # a hard link comes after the file that it is another name of


class _CannotWrite(Failure):
    """The directory takes no more, unlike a set that cannot be read."""


@dataclass(frozen=True)
class Extracted:
    """An upload that was written."""

    upload: Upload
    file: str  # its name in the directory
    bytes: int


@dataclass
class Extraction:
    """What was written, and what was not."""

    folder: OutputFolder
    place: Place
    written: list[Extracted] = field(default_factory=list)
    missing: list[Upload] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    small: dict[str, bytes] = field(default_factory=dict)  # kept in memory, by their paths

    @property
    def bytes(self) -> int:
        return sum(extracted.bytes for extracted in self.written)


def together(_: Upload) -> Sequence[str]:
    """Return no directories: all uploads are written side by side."""
    return ()


def extract(
    set_: BackupSet,
    uploads: Sequence[Upload],
    folder: OutputFolder,
    small: Iterable[str] = (),
    place: Place = together,
) -> Extraction:
    """Write each of ``uploads`` to its ``place`` in ``folder``, reading the files part once.

    ``small`` are paths below the data directory of files to keep in memory, where they are small.
    An upload that the set lacks is ``missing``, and the rest is written. So it is where the files
    part is damaged, up to the damage. Raises Failure where the directory cannot be written.
    """
    made = Extraction(folder, place)
    _refuse_without_room(uploads, folder)
    wanted, data = _by_path(set_, uploads), _data(set_)
    kept = {f"{data}/{path}": path for path in small}
    try:
        for _ in range(_PASSES):
            wanted = _read(set_, wanted, kept, made) if wanted or kept else wanted
            kept = {}
    except _CannotWrite:
        raise
    except Failure as failure:
        made.problems.append(f"The files of {set_.name} could not be read to their end: {failure}")
    done = {extracted.upload.id for extracted in made.written}
    made.missing = [upload for upload in uploads if upload.id not in done]
    return made


def _refuse_without_room(uploads: Sequence[Upload], folder: OutputFolder) -> None:
    needed, free = sum(max(upload.size, 0) for upload in uploads), folder.available()
    if needed > free:
        raise Failure(
            "Not enough disk space for the uploads",
            f"{humanize.size(needed)} are needed; {folder.path} has {humanize.size(free)} free",
            "Free some space, or give a directory on another disk: --to DIR.",
        )


def _data(set_: BackupSet) -> str:
    folders = set_.manifest.files.folders
    return folders.get("data", f"{folders['home']}/data")


def _by_path(set_: BackupSet, uploads: Sequence[Upload]) -> Wanted:
    data, wanted = _data(set_), Wanted()
    for upload in uploads:
        wanted.setdefault(f"{data}/{upload.path}", []).append(upload)
    return wanted


def _read(set_: BackupSet, wanted: Wanted, kept: Mapping[str, str], made: Extraction) -> Wanted:
    """Write the ``wanted`` ones that are regular files in the set, and keep the small ones.

    Returns those that are further names of another file (hard links), by its path.
    """
    linked = Wanted()

    def take(member: TarInfo, content: MemberContent) -> None:
        path = f"/{member.name}"
        uploads = wanted.pop(path, None)
        if path in kept and member.isreg() and member.size <= _SMALL:
            made.small[kept[path]] = content()
        elif uploads and member.isreg():
            _write(uploads, content, made)
        elif uploads and member.islnk():
            linked.setdefault(f"/{member.linkname}", []).extend(uploads)

    check = verify.read_files(set_, take)
    if check.result is Result.FAILED:
        made.problems.append(f"The files of {set_.name}: {check.detail}")
    return linked


def _write(uploads: Sequence[Upload], content: MemberContent, made: Extraction) -> None:
    """Write one file for each of ``uploads``, which share a file in the set."""
    with contextlib.ExitStack() as opened:
        try:
            files = [
                opened.enter_context(
                    made.folder.create(upload.name, upload.made, made.place(upload))
                )
                for upload in uploads
            ]
            size = 0
            for piece in content.pieces():
                size += len(piece)
                for file, _ in files:
                    file.write(piece)
        except OSError as error:
            raise _CannotWrite(f"{made.folder.path} cannot be written", reason(error)) from error
    made.written += [Extracted(upload, name, size) for upload, (_, name) in zip(uploads, files)]
