"""Verify: read a whole set and compare its archives with the manifest and the listing."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tarfile import TarInfo
from typing import IO, NamedTuple, Optional, TypeVar

from .. import checks
from ..checks import Check, Result
from ..errors import Failure
from ..system import parallel, process
from ..system.parallel import Put
from ..system.process import DECOMPRESS, Command
from . import archive_reader, file_list, frame_index
from .archive_reader import Each, MemberContent
from .archive_rules import Known, ListingChecker, Most, line_of
from .archive_writer import Contents
from .check_records import damaged
from .file_list import LISTING
from .frame_index import Inspection, Place, Stretch
from .frames import INDEX, NameLine
from .manifest import Manifest
from .sets import BackupSet, damage, part_problem

ETC = "/etc/gitlab"
_ETC_MOST = Most(4 << 30, 100_000)  # no manifest counts it; it has some hundred kB
CONFIGURATION = "configuration"
_CONFIGURATION_MOST = Most(64 << 20, 1000)
_WORTH = 32 << 20  # bytes that are read in the time that restic needs to find a directory
_STRETCHES = 4  # for each processor, so that all of them end at about the same time
T = TypeVar("T")
# Takes the next members of an archive, and what gives the content of one.
Take = Callable[[Sequence[NameLine], Callable[[NameLine], T]], object]
# Takes each member of a set, with the content of config.json.
Note = Callable[[NameLine, Optional[bytes]], object]


class Member(NamedTuple):
    """A member of an archive that is read from end to end."""

    info: TarInfo
    read: MemberContent


def verify(set_: BackupSet, each: Note | None = None) -> None:
    """Read the whole set; raises Failure with everything that is wrong.

    ``each`` is called as by ``run_checks``.
    """
    failure = damaged(set_.name, run_checks(set_, each))
    if failure is not None:
        raise failure


def run_checks(set_: BackupSet, each: Note | None = None) -> list[Check]:
    """Read the whole set and its bases; return the result of each check.

    Checksums and archives are checked at the same time. ``each`` is called for every file,
    directory and link of a restore, with the content of config.json, or None; this counts only if
    both checks pass.
    """
    problems, structure = parallel.run_all(
        lambda: [problem for link in set_.chain for problem in _damage(link, set_)],
        lambda: checks.guarded("structure", lambda: _structure(set_, each)),
    )
    if problems:
        untold = "the files of the set differ from what was written"
        return [
            checks.failed("checksums", "; ".join(problems)),
            checks.not_run("structure", untold),
        ]
    return [checks.passed("checksums"), structure]


def _damage(set_: BackupSet, wanted: BackupSet) -> list[str]:
    if set_ is wanted:
        return damage(set_)
    return [f"set {set_.name}, which it builds on: {told}" for told in damage(set_, lent=True)]


def _structure(set_: BackupSet, each: Note | None) -> Check:
    """Check the archives."""
    if "etc-gitlab" in set_.manifest.parts:  # a standalone Mattermost has none
        with set_.open("etc-gitlab") as packed:
            _inspect_etc(packed, set_.manifest)
    configuration(set_)
    if set_.stream is not None:  # its files are checked while they are read
        return checks.passed("structure")
    return _read(set_, each, _on_all_processors)


def read_files(set_: BackupSet, each: Each) -> Check:
    """Read the files part of a set, and of those that it builds on, once; checksums are not read.

    ``each`` is called for every file, directory and link that a restore of the set brings back.
    Raises Failure for an archive that is incomplete, or has what no set of ours has.
    """
    return _read(set_, lambda line, member: each(*member), _from_end_to_end)


def _from_end_to_end(set_: BackupSet, take: Take[Member] | None) -> Contents:
    """Read the files part of one set, and return its totals."""

    def each(info: TarInfo, read: MemberContent) -> None:
        if take is not None:
            take([line_of(info)], lambda line: Member(info, read))

    if set_.source is not None:  # nothing of it is stored here
        with process.output(set_.source.files()) as (stream, _):
            return archive_reader.inspect_stream(stream, "files", *_files(set_), each)
    if set_.stream is not None:
        return set_.stream.read_by(
            lambda tar: archive_reader.inspect_stream(tar, "files", *_files(set_), each)
        )
    return archive_reader.inspect(set_.file("files"), *_files(set_), each)


def _on_all_processors(set_: BackupSet, take: Take[bytes | None] | None) -> Contents:
    """Do the same stretch by stretch, and compare members with the index; an older set has none."""
    path = f"{set_.manifest.files.folders['home']}/config.json"
    settings = os.fsencode(path)[1:]

    def is_settings(line: NameLine) -> bool:
        return line.name == settings and line.kind == b"-"

    if set_.source is not None or INDEX not in set_.manifest.parts:

        def forward(lines: Sequence[NameLine], member: Callable[[NameLine], Member]) -> None:
            if take is not None:
                take(lines, lambda line: member(line).read() if is_settings(line) else None)

        return _from_end_to_end(set_, forward)
    size, totals = set_.manifest.parts["files"].bytes, Contents()
    processors = len(os.sched_getaffinity(0))
    stretches = frame_index.everything(set_.file(INDEX), size, _STRETCHES * processors)
    tasks = (functools.partial(_inspect, set_, stretch, take is not None) for stretch in stretches)
    for contents, lines in parallel.in_order(tasks, processors):
        totals.files, totals.size = totals.files + contents.files, totals.size + contents.size
        if take is not None:
            take(lines, lambda line: _settings(set_, path) if is_settings(line) else None)
    return totals


def _settings(set_: BackupSet, path: str) -> bytes:
    """Return the content of a file of settings, which the index has."""
    found: list[bytes] = []
    _read_indexed(set_, {os.fsencode(path)}, lambda member, read: found.append(read()))
    return found[0]


def _inspect(set_: BackupSet, stretch: Stretch, wanted: bool) -> tuple[Contents, list[NameLine]]:
    """List some frames; return their totals, and their members where they are ``wanted``."""
    lines: list[NameLine] = []
    inspection = Inspection(stretch, *_files(set_), lines.append if wanted else None)
    length = sum(frame.length for frame in stretch.run.frames)
    with frame_index.unpacked(set_, stretch.run) as stream:
        with (
            parallel.part_of(stream, length) as tar,
            process.output(frame_index.LIST, stdin=tar) as (listing, _),
        ):
            tar.close()  # tar alone holds it
            inspection.read(listing)
        if stream.read(1):
            raise Failure(
                "An archive has more than its index says", f"frame at {stretch.run.start}"
            )
    return inspection.contents, lines


def inspect_pieces(set_: BackupSet, pieces: Sequence[tuple[int, int]]) -> None:
    """Read some frames of a files part that is here; raises Failure for what no set of ours has.

    ``pieces`` are the starts and lengths of slices. The frames were compared with the index.
    """
    with (
        open(set_.file("files"), "rb") as packed,
        frame_index.unzipped(packed, pieces) as (stream, _),
    ):
        archive_reader.inspect_stream(stream, "files", *_files(set_))


def read_members(set_: BackupSet, paths: Collection[str], each: Each) -> Check:
    """Read only the files ``paths`` of a set, by the index of its files part, or by restic.

    ``each`` is called for those that the set has. An older set is read from end to end. So is one
    that restic has, for many files. Raises Failure as ``read_files`` does, and where an index and
    its archive do not agree.
    """
    wanted = {os.fsencode(path) for path in paths}
    folders = {os.path.dirname(path) for path in paths}
    finder = set_.source or set_.stream
    if finder is not None and finder.folder("/") is not None:
        if len(folders) * _WORTH > set_.manifest.files.bytes:
            return read_files(set_, each)
        for folder in folders:
            _read_folder(set_, finder.folder(folder), each)
        return checks.passed("structure")
    if not all(map(_seekable, set_.chain)):
        return read_files(set_, each)
    levels = dict.fromkeys(wanted, 0)
    if set_.base is not None:
        levels = file_list.levels(_intact(set_, LISTING), wanted)
    for level, link in enumerate(set_.chain):
        here = {path for path in wanted if levels.get(path) == level}
        if here:
            _read_indexed(link, here, each)
    return checks.passed("structure")


def _seekable(set_: BackupSet) -> bool:
    indexed = INDEX in set_.manifest.parts
    return indexed and (set_.stream is None or set_.stream.piece(0, 1) is not None)


def _intact(set_: BackupSet, part: str) -> Path:
    """Return the file of a small part; raises Failure where it is damaged."""
    path = set_.file(part)
    problem = part_problem(path, set_.manifest.parts[part])
    if problem:
        raise Failure(f"{path.name} of set {set_.name} {problem}")
    return path


def _read_indexed(set_: BackupSet, wanted: Collection[bytes], each: Each) -> None:
    """Read some members of one files part, each from where its index has it."""
    with open(_intact(set_, INDEX), "rb") as index:
        runs = frame_index.find(index, set_.manifest.parts["files"].bytes, wanted)
    for run in runs:
        with frame_index.unpacked(set_, run) as stream:
            for place, content in frame_index.each_member(stream, run):
                _read_place(set_, place, content, each)


def _read_place(set_: BackupSet, place: Place, content: IO[bytes], each: Each) -> None:
    """Read one member from ``content``, which has it alone."""
    count = 0

    def take(member: TarInfo, read: MemberContent) -> None:
        nonlocal count
        count += 1
        if count > 1 or os.fsencode(f"/{member.name}") != place.path:
            raise Failure("An archive differs from its index", ascii(place.path))
        each(member, read)

    archive_reader.inspect_stream(content, "files", *_files(set_), take)
    if not count:
        raise Failure("An archive lacks a file of its index", ascii(place.path))


def _read_folder(set_: BackupSet, printed: Command | None, each: Each) -> None:
    """Read one directory that restic prints; nothing where the set does not have it."""
    assert printed is not None
    try:
        with process.output(printed) as (stream, _):
            archive_reader.inspect_stream(stream, "files", *_files(set_), each)
    except Failure as failure:
        if "not found in snapshot" not in failure.detail:
            raise


def _read(
    set_: BackupSet,
    each: Callable[[NameLine, T], object] | None,
    inspect: Callable[[BackupSet, Take[T] | None], Contents],
) -> Check:
    """Read a set by ``inspect``, and compare it with its manifest and its listing."""
    if (LISTING not in set_.manifest.parts and set_.base is None) or set_.source is not None:
        return _compared(set_, inspect(set_, _one_by_one(each) if each is not None else None))
    wanted, counted = set_.manifest.files, file_list.count(set_.file(LISTING))
    if (counted.whole.files, counted.whole.size) != (wanted.files, wanted.bytes):
        return checks.failed(
            "structure",
            f"its listing has {counted.whole.files} files with {counted.whole.size} bytes, "
            f"not {wanted.files} with {wanted.bytes}",
        )
    for level, link in enumerate(set_.chain):
        if link.manifest.files.folders != wanted.folders:
            return checks.failed("structure", f"set {link.name} has other directories")
        check = _follow(link, set_, level, counted.levels.pop(level, 0), each, inspect)
        if check.result is not Result.PASSED:
            return check
    if counted.levels:
        return checks.failed("structure", "its listing refers to more sets than it builds on")
    return checks.passed("structure")


def _one_by_one(each: Callable[[NameLine, T], object]) -> Take[T]:
    def take(lines: Sequence[NameLine], content: Callable[[NameLine], T]) -> None:
        for line in lines:
            each(line, content(line))

    return take


def configuration(set_: BackupSet) -> dict[str, bytes]:
    """Return the files of this program's configuration in a set, by their paths.

    Raises Failure where they are not exactly those that the manifest names.
    """
    known, found = set_.manifest, dict[str, bytes]()
    if CONFIGURATION not in known.parts:
        return found

    def take(member: TarInfo, read: Callable[[], bytes]) -> None:
        if member.isreg():
            found[f"/{member.name}"] = read()

    with (
        set_.open(CONFIGURATION) as packed,
        process.output(DECOMPRESS, stdin=packed) as (stream, _),
    ):
        archive_reader.inspect_stream(
            stream, CONFIGURATION, known.configuration, known, _CONFIGURATION_MOST, take
        )
    if sorted(found) != sorted(known.configuration):
        raise Failure(
            f"{CONFIGURATION} of set {set_.name} has not the files that its manifest names"
        )
    return found


def pass_on(set_: BackupSet, tar: IO[bytes], put: Put) -> None:
    """Forward the files part, each member after its checks.

    Raises Failure for a member that no set contains, and at the end where the totals differ.
    """
    contents = archive_reader.inspect_stream(tar, "files", *_files(set_), on=put)
    failure = damaged(set_.name, [_compared(set_, contents)])
    if failure is not None:
        raise failure


def _inspect_etc(packed: IO[bytes], known: Manifest) -> None:
    with process.output(DECOMPRESS, stdin=packed) as (stream, _):
        archive_reader.inspect_stream(stream, "etc-gitlab", [ETC], known, _ETC_MOST)


def _follow(
    set_: BackupSet,
    wanted: BackupSet,
    level: int,
    live: int,
    each: Callable[[NameLine, T], object] | None,
    inspect: Callable[[BackupSet, Take[T] | None], Contents],
) -> Check:
    """Compare an archive of the chain of ``wanted`` with the listings, member by member.

    ``each`` is called for the members that ``wanted`` still has from there; there must be ``live``
    of them.
    """
    with file_list.paired(set_.file(LISTING), wanted.file(LISTING), level) as pairs:
        follower = ListingChecker(pairs, level)

        def follow(lines: Sequence[NameLine], content: Callable[[NameLine], T]) -> None:
            passing = follower.passing(lines)
            if each is not None:
                _one_by_one(each)(passing, content)

        contents = inspect(set_, follow)
        follower.finish()
    if follower.live != live:
        return checks.failed(
            "structure", f"set {set_.name} has {follower.live} of what is wanted, not {live}"
        )
    return _compared(set_, contents)


def _files(set_: BackupSet) -> tuple[list[str], Known, Most]:
    """Return the most that the files part may hold."""
    packed = set_.manifest.packed
    return (
        list(set_.manifest.files.folders.values()),
        set_.manifest,
        Most(packed.bytes, packed.files),
    )


def _compared(set_: BackupSet, contents: Contents) -> Check:
    wanted = set_.manifest.packed
    if (contents.files, contents.size) != (wanted.files, wanted.bytes):
        return checks.failed(
            "structure",
            f"its archive has {contents.files} files with {contents.size} bytes, "
            f"not {wanted.files} with {wanted.bytes}",
        )
    return checks.passed("structure")
