"""Access control lists and extended attributes (acl(5), xattr(7)) of a set."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..store.archive_writer import EXTENDED, LISTS, outermost

ACL, USER = "acl", "user"  # kinds that a set holds, as its manifest counts them
_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
# security.* is the kernel's, or a privilege; overlayfs uses some of the others.
_LOST = "trusted."
_NOTES = ("user.overlay.", "trusted.overlay.")
_EXAMPLES = 3
_DEEPEST = 200  # levels below a folder; Mattermost's own have ten
# A list equal to mode 0700: the kernel then stores only the mode (posix_acl_xattr.h).
_NOBODY = 0xFFFFFFFF
_OWN_MODE = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry) for entry in ((1, 7, _NOBODY), (4, 0, _NOBODY), (32, 0, _NOBODY))
)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PROBE = "user.gitlab-mm"
_STRANGERS = re.compile(r"^tar: (.*): Warning: Cannot acl_from_text", re.MULTILINE)


@dataclass
class Attributes:
    """Files and directories with attributes: counts, and the first few that a set cannot hold."""

    kept: dict[str, int] = field(default_factory=dict)  # kind -> files and directories
    lost: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def told(self) -> list[str]:
        """Return, as text, which attributes a set lacks."""
        if not self.lost:
            return []
        more = self.lost - len(self.examples)
        paths = ", ".join(map(repr, self.examples)) + (f" and {more} more" if more else "")
        return [
            f"The extended attributes trusted.* of {paths} are not in the set; save them with "
            "getfattr -R -d -m '^trusted', and set them again after a restore (setfattr --restore)"
        ]


def look(folders: Iterable[Path], excluded: Collection[Path] = ()) -> Attributes:
    """Search ``folders`` except what is ``excluded``; files that vanish have none."""
    found, never = Attributes(), set(map(str, excluded))
    for root in map(str, outermost(folders)):
        _note(found, root, root)
        with contextlib.suppress(OSError):
            _look_into(found, os.open(root, _DIRECTORY), root, never, _DEEPEST)
    return found


def _look_into(
    found: Attributes, directory: int, path: str, excluded: Collection[str], levels: int
) -> None:
    """Search an open directory and close it; each subdirectory is opened in its parent."""
    try:
        with os.scandir(directory) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in names:
            inner = f"{path}/{name}"
            _note(found, f"/proc/self/fd/{directory}/{name}", inner)
            if is_directory and levels and inner not in excluded:
                with contextlib.suppress(OSError):
                    opened = os.open(name, _DIRECTORY, dir_fd=directory)
                    _look_into(found, opened, inner, excluded, levels - 1)
    finally:
        os.close(directory)


def _note(found: Attributes, place: str, path: str) -> None:
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError:  # it has vanished, or its file system has none
        return
    if not names:  # as nearly all
        return
    for kind in {_kind(name) for name in names} - {""}:
        if kind != _LOST:
            found.kept[kind] = found.kept.get(kind, 0) + 1
            continue
        found.lost += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(path)


def _kind(name: str) -> str:
    if name in _LISTS:
        return ACL
    if name.startswith(_NOTES):
        return ""
    return USER if name.startswith("user.") else _LOST if name.startswith(_LOST) else ""


@dataclass(frozen=True)
class Keeping:
    """Which attributes of a set can be restored at a place."""

    place: Path  # for people
    lists: bool  # its file system holds them
    extended: bool

    def options(self, by_number: bool) -> tuple[str, ...]:
        """Return tar's options; with ``by_number``, lists may name other accounts here."""
        lists = LISTS if self.lists and not by_number else ()
        return (*lists, *(EXTENDED if self.extended else ()))

    def told(self, kept: Mapping[str, int], by_number: bool, warned: str) -> list[str]:
        """Return, as text, the ``kept`` attributes that are not restored, with tar's warnings."""
        words = []
        for kind, held, name in (
            (ACL, self.lists, "access control lists"),
            (USER, self.extended, "extended attributes"),
        ):
            if kept.get(kind) and not held:
                words.append(
                    f"The file system of {self.place} cannot hold {name}: those of the set"
                )
        if kept.get(ACL) and self.lists and by_number:
            words.append("The set is of another host, and has the accounts of its access control "
                         "lists by number: these lists")  # fmt: skip
        strangers = _STRANGERS.findall(warned)
        if strangers:
            words.append(
                "Access control lists that name accounts which this host does not have, as that of "
                f"{strangers[0]}"
            )
        return [f"{what} are not put back" for what in words]


def keeping(directory: Path, place: Path) -> Keeping:
    """Test the disk of ``place`` in an empty private ``directory`` on it."""
    return Keeping(place, _takes(directory, _LISTS[0], _OWN_MODE), _takes(directory, _PROBE, b""))


def _takes(directory: Path, name: str, value: bytes) -> bool:
    try:
        os.setxattr(directory, name, value)
        if name == _PROBE:
            os.removexattr(directory, name)
    except OSError as error:
        return error.errno != errno.ENOTSUP
    return True
