"""File trees: what is unusual in them, and how they are packed."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO

from . import process, progress
from .private_files import Lines, OpenFile
from .process import Command, Sink

# Owner and group may hold spaces; the size is what stands before date and time.
_VANISHED = re.compile(
    rb"tar: (.*: (Cannot (stat|open): No such file or directory|File removed before we read it|"
    rb"file changed as we read it|socket ignored)|Exiting with failure status due to previous errors)"
)
_LISTED_FILE = re.compile(rb"-\S{9}\S? .*? *(\d+) \d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? ")


@dataclass
class Contents:
    """How many plain files an archive holds, and their bytes."""

    files: int = 0
    size: int = 0  # bytes
    newest: int = field(default=0, compare=False)  # bytes of the file that was told last

    @property
    def done(self) -> int:
        """Bytes that are packed for certain: tar tells of a file when it begins with it."""
        return self.size - self.newest

    def add_line(self, line: bytes) -> None:
        """Count a line of tar's long listing: mode, owner, size, date, time, name."""
        found = _LISTED_FILE.match(line)
        if found:
            self.files += 1
            self.newest = int(found[1])
            self.size += self.newest


@dataclass(frozen=True)
class Survey:
    """What is unusual in some folders: a restore refuses all of it that is not accounted for."""

    links_out: dict[str, str]  # link -> target outside; kept as a link, its target is not packed
    special: list[str]  # devices and pipes; not packed
    privileged: list[str]  # files with set-user-id or set-group-id; unpacked without
    shared: bool = False  # one file has names in several of the folders

    @property
    def pipes(self) -> list[str]:
        """What of it an archive may hold all the same, where it was made while tar packed."""
        return self.special

    def joined(self, later: Survey) -> Survey:
        """Return what this one or a ``later`` one found: tar packs what it meets in between."""
        return Survey(
            {**self.links_out, **later.links_out},
            list(dict.fromkeys((*self.special, *later.special))),
            list(dict.fromkeys((*self.privileged, *later.privileged))),
            self.shared,
        )


def survey(folders: Iterable[Path]) -> Survey:
    """Look through ``folders`` with find(1)."""
    every = sorted(set(folders), key=lambda folder: -len(folder.parts))  # inner ones first
    roots = outermost(every)
    wanted = ["-type", "l", "-o", "-type", "p", "-o", "-type", "b", "-o", "-type", "c"]
    wanted += ["-o", "-type", "f", "(", "-perm", "/6000", "-o", "-links", "+1", ")"]
    looking = Command(
        ["find", *map(str, roots), "(", *wanted, ")", "-printf", "%y%m\\0%D:%i\\0%p\\0%l\\0"],
        may_exit=(0, 1),  # 1: something vanished meanwhile
    )
    fields = os.fsdecode(process.printed(looking)).split("\0")[:-1]
    found = Survey({}, [], [])
    names: dict[str, set[Path]] = {}
    for kind, inode, path, target in zip(*(fields[start::4] for start in range(4))):
        if kind.startswith("f"):
            names.setdefault(inode, set()).add(next(one for one in every if _in(path, one)))
            if int(kind[1:], 8) & 0o6000:
                found.privileged.append(path)
        elif not kind.startswith("l"):
            found.special.append(path)
        elif leads_out(path, target, roots):
            found.links_out[path] = target
    return replace(found, shared=any(len(places) > 1 for places in names.values()))


def walk(folders: Iterable[Path]) -> int:
    """Return the bytes of all files in ``folders``, by a quick walk (du(1))."""
    options = ["--apparent-size", "--block-size=1", "--summarize", "--total"]
    count = Command(["du", *options, "--", *map(str, outermost(folders))], may_exit=(0, 1))
    return int(process.run(count).out.splitlines()[-1].split("\t")[0])


def leads_out(link: str, target: str, roots: Iterable[Path]) -> bool:
    """Tell whether the symbolic ``link`` points outside of ``roots``, by its text alone."""
    real = PurePosixPath(posixpath.normpath(posixpath.join(posixpath.dirname(link), target)))
    return not any(_in(str(real), root) for root in roots)


def _in(path: str, root: Path) -> bool:
    return Path(path) == root or root in Path(path).parents


def pack(
    folders: Iterable[Path],
    excluded: Iterable[Path],
    found: Survey,
    compressor: Command,
    sink: Sink,
    expected: int | None = None,
) -> Contents:
    """Write ``folders`` as a compressed tar to ``sink``, its members named from the root on.

    About so many bytes are ``expected`` in it.

    Returns what was packed.  Files that change or vanish under tar are normal beside a running
    service (it exits 1 for them); anything it cannot read raises Failure.
    """
    contents, roots = Contents(), outermost(folders)
    never = [*map(str, excluded), *found.special]
    what = [
        "--no-wildcards",
        "--anchored",
        *(f"--exclude={member_name(Path(path))}" for path in never),
        "--",
        *(member_name(folder) for folder in roots),
    ]
    with progress.measured("files", expected, lambda: contents.done):
        process.pipeline(_archive(found, contents.add_line, what), compressor, sink=sink)
    return contents


def pack_named(
    names: IO[bytes],
    found: Survey,
    compressor: Command,
    sink: Sink,
    each: Callable[[bytes], None],
) -> None:
    """Write what ``names`` lists, and nothing below it, as a compressed tar to ``sink``.

    The names end with NUL bytes and begin at the root; ``each`` gets tar's long listing, line by
    line and in their order.  What has vanished meanwhile is left out.
    """
    what = ("--no-recursion", "--null", "--verbatim-files-from", "--files-from", OpenFile(names))
    archive = replace(_archive(found, each, what), excused=_VANISHED)
    process.pipeline(archive, compressor, sink=sink)


def _archive(
    found: Survey, each: Callable[[bytes], None], what: Sequence[str | OpenFile]
) -> Command:
    """Return the tar that packs ``what``, and tells ``each`` of it."""
    return Command(
        [
            "tar",
            "--create",
            "--format=gnu",
            "--blocking-factor=512",
            # Two names of one file in two folders may come to lie on two disks.
            *(["--hard-dereference"] if found.shared else []),
            "--directory=/",
            "-vv",  # the listing that is counted; "escape" keeps each member on one line
            "--quoting-style=escape",
            "--index-file",
            Lines(each),
            *what,
        ],
        environment={"TZ": "UTC0"},  # or it looks for the host's zone for each line of the listing
        may_exit=(0, 1),
        spares_cache=True,
    )


def outermost(folders: Iterable[Path]) -> list[Path]:
    """Return ``folders`` without those that lie in another of them."""
    every = sorted(set(folders))
    return [one for one in every if not any(other in one.parents for other in every)]


def member_name(path: Path) -> str:
    """Return how an archive of ours names an absolute path."""
    return str(path).lstrip("/")
