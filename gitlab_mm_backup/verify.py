"""Verify: does a set hold what its manifest says, byte for byte and in its structure?"""

from __future__ import annotations

from collections.abc import Sequence

from . import checks, files, process
from .checks import Check, Result
from .errors import Failure
from .files import Each
from .store.local import BackupSet, damage

ETC = "/etc/gitlab"


def verify(set_: BackupSet) -> None:
    """Read all of ``set_``; raises Failure that names everything wrong with it."""
    failure = damaged(set_, examine(set_))
    if failure is not None:
        raise failure


def damaged(set_: BackupSet, found: Sequence[Check]) -> Failure | None:
    """Return what to tell where a check failed."""
    problems = [check.detail for check in found if check.result is Result.FAILED]
    if not problems:
        return None
    return Failure(
        f"Set {set_.name} is damaged",
        "; ".join(problems),
        "Choose another set (gitlab-mm list), and find out what damaged this one.",
    )


def examine(set_: BackupSet, each: Each = lambda member, read: None) -> list[Check]:
    """Read all of ``set_`` and return what became of each check.

    Bytes are summed and archives looked into at the same time.  ``each`` is told of every member
    of the files part; what it hears counts only if both checks pass.
    """
    problems, structure = process.together(
        lambda: damage(set_),
        lambda: checks.guarded("structure", lambda: _structure(set_, each)),
    )
    if problems:
        untold = "what the set holds is not what was written"
        return [
            checks.failed("checksums", "; ".join(problems)),
            checks.not_run("structure", untold),
        ]
    return [checks.passed("checksums"), structure]


def _structure(set_: BackupSet, each: Each) -> Check:
    """Look into the archives."""
    wanted, known = set_.manifest.files, set_.manifest
    folders = list(wanted.folders.values())
    contents = files.inspect(set_.file("files"), folders, known, wanted.bytes, each)
    if "etc-gitlab" in known.parts:  # a standalone Mattermost has none
        files.inspect(set_.file("etc-gitlab"), [ETC], known)
    if (contents.files, contents.size) != (wanted.files, wanted.bytes):
        return checks.failed(
            "structure",
            f"its archive has {contents.files} files with {contents.size} bytes, "
            f"not {wanted.files} with {wanted.bytes}",
        )
    return checks.passed("structure")
