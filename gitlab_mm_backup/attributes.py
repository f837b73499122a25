"""Access control lists and extended attributes (acl(5), xattr(7)), which a set does not hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .files import outermost

# What somebody has set. security.* is the kernel's own, or a privilege; overlayfs keeps its notes.
_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
_SET_BY_PEOPLE = ("user.", "trusted.")
_NOTES = ("user.overlay.", "trusted.overlay.")
_EXAMPLES = 3
_DEEPEST = 200  # levels below a folder; Mattermost's own have ten


@dataclass
class Attributes:
    """Which files and directories have some: how many, and the first few."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def told(self) -> list[str]:
        """Return, in words, what a set lacks of them."""
        if not self.count:
            return []
        more = self.count - len(self.examples)
        paths = ", ".join(map(repr, self.examples)) + (f" and {more} more" if more else "")
        return [
            f"The access control lists or extended attributes of {paths} are not in the set; keep them "
            "with getfacl -R and getfattr -R -d, and set them again after a restore (setfacl --restore)"
        ]


def look(folders: Iterable[Path], excluded: Collection[Path] = ()) -> Attributes:
    """Look through ``folders``, but for what is ``excluded``; what vanishes meanwhile has none."""
    found = Attributes()
    for root in outermost(folders):
        _note(found, str(root), str(root))
        with contextlib.suppress(OSError), _opened(str(root)) as descriptor:
            _look_into(found, descriptor, str(root), excluded, _DEEPEST)
    return found


def _look_into(
    found: Attributes, directory: int, path: str, excluded: Collection[Path], levels: int
) -> None:
    """Look at what is in an open directory; each one below is opened in the one around it."""
    with os.scandir(directory) as entries:
        names = {one.name: one.is_dir(follow_symlinks=False) for one in entries}
    for name, is_directory in names.items():
        inner = os.path.join(path, name)
        _note(found, f"/proc/self/fd/{directory}/{name}", inner)
        if is_directory and levels and Path(inner) not in excluded:
            with contextlib.suppress(OSError), _opened(name, directory) as descriptor:
                _look_into(found, descriptor, inner, excluded, levels - 1)


@contextlib.contextmanager
def _opened(name: str, directory: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _note(found: Attributes, place: str, path: str) -> None:
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError:  # gone meanwhile, or on a file system that has none
        return
    if any(map(_is_meant, names)):
        found.count += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(path)


def _is_meant(name: str) -> bool:
    return name in _LISTS or (name.startswith(_SET_BY_PEOPLE) and not name.startswith(_NOTES))
