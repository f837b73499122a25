"""Verify: does a set hold what its manifest says, byte for byte and in its structure?"""

from __future__ import annotations

from . import files
from .errors import Failure
from .store.local import BackupSet, damage

ETC = "/etc/gitlab"


def verify(set_: BackupSet) -> None:
    """Read all of ``set_``; raises Failure that names everything wrong with it."""
    problems = damage(set_) or _structure(set_)
    if problems:
        raise Failure(
            f"Set {set_.name} is damaged",
            "; ".join(problems),
            "Choose another set (gitlab-mm list), and find out what damaged this one.",
        )


def _structure(set_: BackupSet) -> list[str]:
    """Look into the archives, whose bytes are known to be the ones that were written."""
    wanted, known = set_.manifest.files, set_.manifest
    folders = list(wanted.folders.values())
    contents = files.inspect(set_.file("files"), folders, known, wanted.bytes)
    files.inspect(set_.file("etc-gitlab"), [ETC], known)
    if (contents.files, contents.size) != (wanted.files, wanted.bytes):
        return [
            f"its archive has {contents.files} files with {contents.size} bytes, "
            f"not {wanted.files} with {wanted.bytes}"
        ]
    return []
