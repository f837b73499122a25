"""Verify: read a whole set and compare its archives with the manifest and the listing."""

from __future__ import annotations

from collections.abc import Callable
from tarfile import TarInfo
from typing import IO

from .. import checks
from ..checks import Check, Result
from ..errors import Failure
from ..system import parallel, process
from ..system.parallel import Put
from ..system.process import DECOMPRESS
from . import archive_reader, archive_writer, file_list
from .archive_reader import Each, MemberContent, Most
from .check_records import damaged
from .file_list import LISTING
from .manifest import Manifest
from .sets import BackupSet, damage

ETC = "/etc/gitlab"
_ETC_MOST = Most(4 << 30, 100_000)  # no manifest counts it; it has some hundred kB
CONFIGURATION = "configuration"
_CONFIGURATION_MOST = Most(64 << 20, 1000)


def verify(set_: BackupSet) -> None:
    """Read the whole set; raises Failure with everything that is wrong."""
    failure = damaged(set_.name, run_checks(set_))
    if failure is not None:
        raise failure


def run_checks(set_: BackupSet, each: Each = lambda member, read: None) -> list[Check]:
    """Read the whole set and its bases; return the result of each check.

    Checksums and archives are checked at the same time. ``each`` is called for every file,
    directory and link of a restore; this counts only if both checks pass.
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


def _structure(set_: BackupSet, each: Each) -> Check:
    """Check the archives."""
    if "etc-gitlab" in set_.manifest.parts:  # a standalone Mattermost has none
        with set_.open("etc-gitlab") as packed:
            _inspect_etc(packed, set_.manifest)
    configuration(set_)
    if set_.stream is not None:  # its files are checked while they are read
        return checks.passed("structure")
    return read_files(set_, each)


def read_files(set_: BackupSet, each: Each) -> Check:
    """Read the files part of a set, and of those that it builds on, once; checksums are not read.

    ``each`` is called for every file, directory and link that a restore of the set brings back.
    Raises Failure for an archive that is incomplete, or has what no set of ours has.
    """
    if set_.source is not None:  # nothing of it is stored here
        with process.output(set_.source.files()) as (stream, _):
            contents = archive_reader.inspect_stream(stream, "files", *_files(set_), each)
        return _compared(set_, contents)
    if LISTING not in set_.manifest.parts and set_.base is None:
        return _compared(set_, archive_reader.inspect(set_.file("files"), *_files(set_), each))
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
        check = _follow(link, set_, level, counted.levels.pop(level, 0), each)
        if check.result is not Result.PASSED:
            return check
    if counted.levels:
        return checks.failed("structure", "its listing refers to more sets than it builds on")
    return checks.passed("structure")


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


def _follow(set_: BackupSet, wanted: BackupSet, level: int, live: int, each: Each) -> Check:
    """Compare an archive of the chain of ``wanted`` with the listings, member by member.

    ``each`` is called for the members that ``wanted`` still has from there; there must be ``live``
    of them.
    """
    with (
        file_list.opened(set_.file(LISTING)) as own,
        file_list.opened(wanted.file(LISTING)) as final,
    ):
        follower = file_list.ListingChecker(own, final, level)

        def follow(member: TarInfo, read: MemberContent) -> None:
            if follower.passes(member):
                each(member, read)

        contents = archive_reader.inspect(set_.file("files"), *_files(set_), follow)
        follower.finish()
    if follower.live != live:
        return checks.failed(
            "structure", f"set {set_.name} has {follower.live} of what is wanted, not {live}"
        )
    return _compared(set_, contents)


def _files(set_: BackupSet) -> tuple[list[str], archive_reader.Known, Most]:
    """Return the most that the files part may hold."""
    packed = set_.manifest.packed
    return (
        list(set_.manifest.files.folders.values()),
        set_.manifest,
        Most(packed.bytes, packed.files),
    )


def _compared(set_: BackupSet, contents: archive_writer.Contents) -> Check:
    wanted = set_.manifest.packed
    if (contents.files, contents.size) != (wanted.files, wanted.bytes):
        return checks.failed(
            "structure",
            f"its archive has {contents.files} files with {contents.size} bytes, "
            f"not {wanted.files} with {wanted.bytes}",
        )
    return checks.passed("structure")
