"""Archives of file trees: read, check and unpack tar streams."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from ..errors import Failure
from ..system import parallel, process, progress, validation
from ..system.parallel import Put
from ..system.private_files import OpenFile
from ..system.process import DECOMPRESS, Command, Finished, Sink
from . import frame_index
from .archive_rules import ForwardReader, Header, Known, Most, line_of, refuse_foreign, refuse_more
from .archive_writer import Contents, member_name
from .frame_index import Place

_CHUNK = 1 << 20
_SLASH = ord("/")
_SHARE = 256 << 20  # bytes, at least: making the directories that are in two takes a moment


class TruncatedArchive(Failure):
    """An archive ends too early, or has data that are not tar."""


class Portion(NamedTuple):
    """What to read of a files part."""

    pieces: Sequence[tuple[int, int]] | None = None  # start and bytes in the file; None: all
    members: Sequence[str] = ()  # absolute paths; none: all of the folder that is unpacked


class MemberContent:
    """The content of a regular file in an archive that is being read: taken at most once."""

    def __init__(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, forward: ForwardReader
    ) -> None:
        self._tar, self._member, self._forward = tar, member, forward

    def __call__(self) -> bytes:
        """Return all of it; raises ValueError where it is larger than a file of settings."""
        file = self._tar.extractfile(self._member)
        return file.read() if file is not None else b""

    def pieces(self) -> Iterator[bytes]:
        """Yield it piece by piece, whatever its size; raises ValueError where it ends too early."""
        left = self._member.size
        self._forward.seek(self._member.offset_data)
        while left:
            piece = self._forward.read(min(left, _CHUNK))
            if not piece:
                raise ValueError(f"it ends in the middle of {self._member.name!r}")
            self._forward.release()  # the header of this member has passed the checks
            left -= len(piece)
            yield piece


# Called for each member of an archive, with what reads it.
Each = Callable[[tarfile.TarInfo, MemberContent], object]


def inspect(
    archive: Path,
    allowed: Sequence[str],
    known: Known,
    most: Most | None = None,
    each: Each = lambda member, read: None,
) -> Contents:
    """Read a whole compressed tar, call ``each`` for its members, and return its totals.

    Raises Failure for a member that no set contains: outside the ``allowed`` absolute directories,
    a device, a set-user-id file or an escaping link that is not ``known``; and as soon as there is
    more than ``most``.
    """
    with open(archive, "rb") as packed, process.output(DECOMPRESS, stdin=packed) as (stream, _):
        return inspect_stream(stream, archive.name, allowed, known, most, each)


def inspect_stream(
    stream: IO[bytes],
    name: str,
    allowed: Sequence[str],
    known: Known,
    most: Most | None = None,
    each: Each = lambda member, read: None,
    on: Sink = lambda piece: None,
) -> Contents:
    """Do the same with a tar from a program; failures call it ``name``.

    Bytes are forwarded to ``on``, each member only after its header passed the checks.
    """
    contents = Contents()
    roots = [member_name(Path(folder)) for folder in allowed]
    forward = ForwardReader(stream, on, most.stream if most is not None else None)
    try:
        with tarfile.open(fileobj=forward, mode="r:", tarinfo=Header) as tar:
            for member in tar:
                line = line_of(member)
                refuse_foreign(line, roots, known, name)
                if member.isreg():
                    contents.files += 1
                    contents.size += validation.count(member.size)
                if most is not None:
                    refuse_more(f"/{member.name}", contents, most, name)
                each(member, MemberContent(tar, member, forward))
                forward.release()
                vars(tar)["members"] = []  # or it keeps every one
        forward.finish()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise TruncatedArchive(f"{name} is not a complete archive", str(error)) from error
    return contents


class Share(NamedTuple):
    """Some of the slices of a files part, to unpack beside other shares of it."""

    slices: Sequence[tuple[int, int]]  # start and bytes in the file
    first: bytes  # path of its first member


def shares(
    index: Path, size: int, count: int, slices: Sequence[tuple[int, int]] | None = None
) -> list[Share]:
    """Return ``count`` shares of a files part of ``size`` bytes, or of some ``slices`` of it.

    They are in its order, of about the same size, and fewer where there are fewer slices; none where
    a member may need an earlier one. Raises Failure for an index that is not valid.
    """
    places = {frame.start: frame.packed for frame in frame_index.independent(index, size)}
    firsts = dict[int, bytes]()
    with open(index, "rb") as packed:
        begins = frame_index.matching(packed, [b"//%d " % start for start in places])
        for member in map(frame_index.parsed, begins):
            if isinstance(member, Place):
                firsts[places[member.start]] = member.path
    starts = sorted(firsts)
    slices = slices or [(start, end - start) for start, end in zip(starts, [*starts[1:], size])]
    whole, done = sum(length for _, length in slices), 0
    groups: list[list[tuple[int, int]]] = []
    for start, length in slices:
        if done * count >= len(groups) * whole:
            groups.append([])
        groups[-1].append((start, length))
        done += length
    return [Share(group, firsts[group[0][0]]) for group in groups]


def divided_before(path: bytes) -> Iterator[bytes]:
    """Yield the directories that may have members both before the member ``path`` and after it.

    In an archive in the order of a walk these are those above it; in that of the bytes of the
    paths (see file_list.py), others too: a comes before a-b, but a/b after it.
    """
    for end, byte in enumerate(path):
        if byte <= _SLASH and path[:end]:
            yield path[:end]


def unpack(
    archive: Path,
    folder: str,
    into: Path,
    excluded: Iterable[str] = (),
    attributes: Iterable[str] = (),
    portion: Portion | None = None,
    index: Path | None = None,
) -> str:
    """Unpack one absolute ``folder`` of a compressed tar to ``into``/<its last name>.

    Owners are set by name where this host has the name. Modes are kept, and with tar's options
    ``attributes`` the other attributes too. ``excluded`` are absolute paths below ``folder``.
    With a ``portion`` nothing else is read. With its ``index`` an archive without hard links is
    unpacked by all processors. Returns the end of tar's warnings.
    """
    pieces, members = portion or Portion()
    extracting = functools.partial(_extracting, folder, into, excluded)
    every = _shares(archive, index, pieces) if index is not None and not members else ()
    if index is not None and len(every) > 1:
        told = _unpack_shares(archive, index, every, folder, into, extracting, attributes)
    else:
        with extracting(attributes, members) as extract, open(archive, "rb") as packed:
            told = _unpack_alone(packed, pieces, extract)
    _take_privileges(into)
    return told


def _shares(
    archive: Path, index: Path, pieces: Sequence[tuple[int, int]] | None
) -> Sequence[Share]:
    size = archive.stat().st_size
    most = sum(length for _, length in pieces) if pieces is not None else size
    count = min(len(os.sched_getaffinity(0)), most // _SHARE)
    return shares(index, size, count, pieces) if count > 1 else ()


def _unpack_alone(
    packed: IO[bytes], pieces: Sequence[tuple[int, int]] | None, extract: Command
) -> str:
    with progress.of_file("files", packed):
        if pieces is None:
            return process.pipeline(DECOMPRESS, extract, stdin=packed)[-1].err
        return _unpack_pieces(packed, pieces, extract)[-1].err


# Of tar, in a share that has nothing of the directory that is unpacked.
_NOTHING_THERE = re.compile(
    rb"tar: .*: Not found in archive|tar: Exiting with failure status due to previous errors"
)


def _unpack_shares(
    archive: Path,
    index: Path,
    every: Sequence[Share],
    folder: str,
    into: Path,
    extracting: Callable[..., contextlib.AbstractContextManager[Command]],
    attributes: Iterable[str],
) -> str:
    """Unpack shares at the same time.

    Directories in several shares are made before, because one of two tars that make the same one
    fails. They get all that a set keeps of them after: a directory that is made in one with the
    set-group-id bit would get it too, and each tar that adds to one changes its time.
    """
    plain = ("--no-same-permissions", "--no-recursion")
    with tempfile.TemporaryFile() as divided:
        members = _copy_divided(archive, index, every, folder, divided)
        with (
            extracting(plain, members) as make,
            extracting((*attributes, "--no-overwrite-dir")) as extract,
            extracting((*attributes, "--no-recursion"), members) as complete,
        ):
            ended = [_unpack_whole(divided, make)]
            ended += _at_the_same_time(archive, every, replace(extract, excused=_NOTHING_THERE))
            ended.append(_unpack_whole(divided, complete))
    return "".join(finished.err for finished in ended)


def _unpack_whole(tar: IO[bytes], extract: Command) -> Finished:
    tar.seek(0)
    return process.run(extract, stdin=tar)


def _copy_divided(
    archive: Path, index: Path, every: Sequence[Share], folder: str, tar: IO[bytes]
) -> list[str]:
    """Write the members of the directories in several shares to ``tar``; return their paths."""
    paths = {path for share in every[1:] for path in divided_before(share.first)}
    above = os.fsencode(folder)
    paths = {path for path in paths if path.startswith(above + b"/")} | {above}
    with open(index, "rb") as packed:
        runs = frame_index.find(packed, archive.stat().st_size, paths)
    copied = []
    for run in runs:
        with frame_index.unpacked_from(archive, run) as stream:
            for place, member in frame_index.each_member(stream, run):
                tar.write(member.read())
                copied.append(os.fsdecode(place.path))
    if not copied:
        raise Failure(f"{archive.name} has nothing of {folder}")
    tar.flush()
    return copied


def _at_the_same_time(archive: Path, every: Sequence[Share], extract: Command) -> list[Finished]:
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(open(archive, "rb")) for _ in every]
        begins = [share.slices[0][0] for share in every]

        def done() -> int:
            places = [os.lseek(file.fileno(), 0, os.SEEK_CUR) for file in files]
            return sum(max(0, place - begin) for place, begin in zip(places, begins))

        tasks = [
            functools.partial(_unpack_pieces, file, share.slices, extract)
            for file, share in zip(files, every)
        ]
        with progress.measured("files", archive.stat().st_size, done):
            return [ended[-1] for ended in parallel.run_all(*tasks)]


def _unpack_pieces(
    packed: IO[bytes], pieces: Sequence[tuple[int, int]], extract: Command
) -> list[Finished]:
    with frame_index.unzipped(packed, pieces, extract) as (stream, ended):
        stream.read()
    return ended


def unpack_as_it_comes(
    pass_on: Callable[[Put], object],
    folder: str,
    into: Path,
    excluded: Iterable[str] = (),
    attributes: Iterable[str] = (),
) -> str:
    """Do the same with a tar that ``pass_on`` forwards member by member after its checks."""
    with _extracting(folder, into, excluded, attributes) as extract:
        _, finished = parallel.pipe_between(pass_on, lambda good: process.run(extract, stdin=good))
    _take_privileges(into)
    return finished.err


@contextlib.contextmanager
def _extracting(
    folder: str,
    into: Path,
    excluded: Iterable[str],
    options: Iterable[str],
    members: Iterable[str] = (),
) -> Iterator[Command]:
    """Yield the tar that unpacks its input, of ``folder`` only ``members`` where there are any."""
    member = member_name(Path(folder))
    wanted = [member_name(Path(path)) for path in members] or [member]
    never = [member_name(Path(path)) for path in excluded]
    with tempfile.TemporaryFile() as many:
        # A line of an --exclude-from file cannot hold all names; an argument can, but not too many.
        plain = [name for name in never if "\n" not in name and name == name.rstrip()]
        many.writelines(os.fsencode(name) + b"\n" for name in plain)
        many.flush()
        yield Command(
            [
                "tar",
                "--extract",
                "--blocking-factor=512",
                f"--directory={into}",
                f"--strip-components={len(PurePosixPath(member).parts) - 1}",
                "--same-owner",
                "--preserve-permissions",
                "--no-wildcards",
                "--anchored",
                *(f"--exclude={name}" for name in sorted({*never} - {*plain})),
                "--exclude-from",
                OpenFile(many),
                *options,  # after what is left out, all of it, with --no-recursion too
                "--",
                *wanted,
            ]
        )


def _take_privileges(into: Path) -> None:
    """Remove set-user-id bits and pipes: backups may contain them, restores never create them."""
    # No other account could reach them: until the end the directory is for root only.
    privileged = ["find", str(into), "-type", "f", "-perm", "/6000"]
    process.run(Command([*privileged, "-exec", "chmod", "ug-s", "--", "{}", "+"]))
    process.run(Command(["find", str(into), "-type", "p", "-delete"]))
