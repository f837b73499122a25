"""Archives of file trees: find what is unusual in them, and pack them with tar."""

from __future__ import annotations

import contextlib
import grp
import os
import posixpath
import pwd
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO

from ..system import process, progress
from ..system.files import grounds
from ..system.private_files import OpenFile, PipeEnd
from ..system.process import Command, Sink
from . import frames
from .frames import WHEN, Take, told

# Owner and group may hold spaces; the size is the number before date and time.
_VANISHED = re.compile(
    rb"tar: (.*: ((Warning: )?Cannot (stat|open|(file_has|acl_get)_\w+|[fl](list|get)xattr(at)?): "
    rb"(No such file or directory|Not a directory|Too many levels of symbolic links|"
    rb"No data available)|File removed before we read it|"
    rb"file changed as we read it|socket ignored)|Exiting with failure status due to previous errors)"
)
# Bytes of a path: Linux takes 4095 (path_resolution(7)), and a restore unpacks in a longer place.
LONGEST = 3900
# find(1) expressions for files that are not part of a set.
TOO_LONG = ("-regextype", "posix-extended", "-regex", f".{{{LONGEST}}}.+", "-prune")
BYTES = {"LC_ALL": "C"}  # so that a letter is a byte
_LISTED_FILE = re.compile(rb"-\S{9}\S? .*? *(\d+) " + WHEN)
# The pax format, because members have more than GNU's format can hold.  Without values that
# change with each run or are never restored.
_FORM = (
    "--format=posix",
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
)
LISTS = ("--acls",)
# overlayfs uses some of the user attributes.
EXTENDED = ("--xattrs", "--xattrs-include=user.*", "--xattrs-exclude=user.overlay.*")
_OWNERLESS = "n"  # in place of a file's kind


@dataclass
class Contents:
    """Number and bytes of the regular files in an archive."""

    files: int = 0
    size: int = 0  # bytes
    newest: int = field(default=0, compare=False)  # bytes of the file that was told last

    @property
    def done(self) -> int:
        """Bytes that are certainly packed: tar lists a file when it begins with it."""
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
    """Unusual files in some directories; a restore refuses those that are not listed."""

    links_out: dict[str, str]  # link -> target outside; kept as a link, its target is not packed
    special: list[str]  # devices and pipes; not packed
    privileged: list[str]  # files with set-user-id or set-group-id; unpacked without
    shared: bool = False  # one file has names in several of the folders
    far: list[str] = field(default_factory=list)  # paths too long to be unpacked, and all below
    ours: list[str] = field(default_factory=list)  # work directories of this program
    ownerless: str = ""  # a path whose owner or group is a number without a name
    folders: Sequence[Path] = ()  # the directories

    @property
    def left_out(self) -> list[str]:
        """Paths that are not packed."""
        return [*self.special, *self.far, *self.ours]

    @property
    def pipes(self) -> list[str]:
        """Those of them that the archive may contain: they were created while tar packed."""
        return self.special

    def add(self, later: Survey) -> None:
        """Add what a ``later`` search of the same directories found."""
        self.links_out.update(later.links_out)
        for mine, theirs in (
            (self.special, later.special),
            (self.privileged, later.privileged),
            (self.far, later.far),
        ):
            mine += [path for path in theirs if path not in mine]

    def learn(self, line: bytes, roots: Sequence[Path]) -> None:
        """Add what a line of tar's listing shows and the survey could not have found."""
        kind, mode = line[:1], line[1:10]
        if len(line) > LONGEST and len(long := told(line).path) > LONGEST:
            self.far.append(os.fsdecode(long))
        if kind in b"dh" or (kind == b"-" and b"s" not in mode.lower()):
            return
        packed = told(line)
        path, target = os.fsdecode(packed.path), os.fsdecode(packed.target)
        if kind == b"-":
            self.privileged.append(path)
        elif kind != b"l":
            self.special.append(path)
        elif leads_out(path, target, roots):
            self.links_out[path] = target


def survey(folders: Iterable[Path], *, owners: bool = False, ours: Iterable[str] = ()) -> Survey:
    """Search ``folders`` with find(1); ``owners``: also for files whose owner has no name.

    On a disk from another host no owner has a name. Directories of ``ours`` are not packed.
    """
    folders = tuple(folders)
    every = sorted(set(folders), key=lambda folder: -len(folder.parts))  # inner ones first
    roots = outermost(every)
    wanted = ["-type", "l", "-o", "-type", "p", "-o", "-type", "b", "-o", "-type", "c"]
    wanted += ["-o", "-type", "f", "(", "-perm", "/6000", "-o", "-links", "+1", ")"]
    lines = ["-printf", "%y%m\\0%D:%i\\0%p\\0%l\\0"]
    looks = ["(", *wanted, ")", *lines, *([",", *_ownerless(roots)] if owners else [])]
    looking = Command(
        ["find", *map(str, roots), *TOO_LONG, *lines, "-o", "(", *looks, ")"],
        environment=BYTES,
        may_exit=(0, 1),  # 1: a file has vanished
        through_no_link=_changeable(roots),
    )
    fields = os.fsdecode(process.printed(looking)).split("\0")[:-1]
    found, ownerless = Survey({}, [], [], ours=list(ours)), ""
    names: dict[str, set[Path]] = {}
    for kind, inode, path, target in zip(*(fields[start::4] for start in range(4))):
        if kind == _OWNERLESS:
            ownerless = ownerless or path
        elif len(os.fsencode(path)) > LONGEST:
            found.far.append(path)
        elif kind.startswith("f"):
            names.setdefault(inode, set()).add(next(root for root in every if _in(path, root)))
            if int(kind[1:], 8) & 0o6000:
                found.privileged.append(path)
        elif not kind.startswith("l"):
            found.special.append(path)
        elif leads_out(path, target, roots):
            found.links_out[path] = target
    shared = any(len(places) > 1 for places in names.values())
    return replace(found, shared=shared, ownerless=ownerless, folders=folders)


def _ownerless(roots: Sequence[Path]) -> list[str]:
    """Return the part of find's expression that prints files whose owner or group has no name.

    Names are looked up for owners other than those of ``roots``, which nearly all files have: for
    each file it takes longer than all the rest.
    """
    uids, gids = set[int](), set[int]()
    for root in roots:
        with contextlib.suppress(OSError, KeyError):
            status = root.lstat()
            pwd.getpwuid(status.st_uid)
            grp.getgrgid(status.st_gid)
            uids.add(status.st_uid)
            gids.add(status.st_gid)
    known_users = [word for uid in uids for word in ("-not", "-uid", str(uid))]
    known_groups = [word for gid in gids for word in ("-not", "-gid", str(gid))]
    either = ["(", *known_users, "-nouser", "-o", *known_groups, "-nogroup", ")"]
    return [*either, "-printf", f"{_OWNERLESS}\\0\\0%p\\0\\0"]


def walk(folders: Iterable[Path]) -> int:
    """Return the total size of the files in ``folders`` by a quick walk (du(1))."""
    options, roots = (
        ["--apparent-size", "--block-size=1", "--summarize", "--total"],
        outermost(folders),
    )
    counting = ["du", *options, "--", *map(str, roots)]
    count = Command(counting, may_exit=(0, 1), through_no_link=_changeable(roots))
    return int(process.run(count).out.splitlines()[-1].split("\t")[0])


def leads_out(link: str, target: str, roots: Iterable[Path]) -> bool:
    """Tell whether the symbolic ``link`` points outside ``roots``, by its text alone."""
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
    instead: tuple[Path, Sequence[str]] | None = None,
    index: Take = lambda record: None,
) -> Contents:
    """Write ``folders`` as a compressed tar to ``sink``; member names begin at the root.

    ``expected`` is the estimated size. Unusual files that tar meets are added to ``found``.
    ``instead`` is a directory with copies that replace ``excluded`` links, and their names.
    ``index`` gets the records of its index (see frames.py).

    Returns the totals. Files that change or vanish while tar reads are normal beside a running
    service (tar exits with 1); a file that cannot be read raises Failure.
    """
    contents, roots = Contents(), outermost(folders)

    def each(line: bytes) -> None:
        contents.add_line(line)
        found.learn(line, roots)

    what = _what(roots, [*map(str, excluded), *found.left_out], instead)
    with progress.measured("files", expected, lambda: contents.done):
        changeable = _changeable(roots)
        frames.pack(
            lambda listing: replace(_archive(found, listing, what), through_no_link=changeable),
            compressor,
            sink,
            each,
            index,
        )
    return contents


def _what(
    roots: Sequence[Path], never: Iterable[str], instead: tuple[Path, Sequence[str]] | None
) -> list[str]:
    """Return tar's arguments for ``roots`` without the paths ``never``."""
    return [
        "--no-wildcards",
        "--anchored",
        *(f"--exclude={member_name(Path(path))}" for path in never),
        *(_in_place(*instead) if instead else ()),
        *(["--directory=/"] if instead and roots else []),
        "--",
        *(member_name(folder) for folder in roots),
    ]


def _in_place(directory: Path, names: Sequence[str]) -> list[str]:
    """Return tar's arguments for files that come from another directory than their names say.

    The leading ./ protects them from --exclude.
    """
    away = "--transform=flags=r;s|^\\./||"
    return [away, f"--directory={directory}", *(f"./{name}" for name in names)]


def pack_named(
    names: IO[bytes],
    roots: Sequence[Path],
    found: Survey,
    compressor: Command,
    sink: Sink,
    each: Take,
    index: Take,
) -> None:
    """Write exactly the files listed in ``names`` as a compressed tar to ``sink``.

    The names end with NUL bytes, begin at the root and lie in ``roots``. ``each`` gets tar's long
    listing line by line, in the same order, and ``index`` the records of the index. Files that have
    vanished are left out.
    """

    def each_and_learn(line: bytes) -> None:
        each(line)
        found.learn(line, roots)

    what = ("--no-recursion", "--null", "--verbatim-files-from", "--files-from", OpenFile(names))
    # Unlike names that tar finds itself, each is a path whose links tar follows.
    frames.pack(
        lambda listing: replace(
            _archive(found, listing, what), excused=_VANISHED, through_no_link=roots
        ),
        compressor,
        sink,
        each_and_learn,
        index,
    )


def _archive(found: Survey, listing: PipeEnd, what: Sequence[str | OpenFile]) -> Command:
    """Return the tar command that packs ``what``; ``listing`` gets its listing."""
    return Command(
        [
            "tar",
            "--create",
            *_FORM,
            *LISTS,
            *EXTENDED,
            "--blocking-factor=512",
            # Two names of one file in two folders may end up on two disks.
            *(["--hard-dereference"] if found.shared else []),
            "--directory=/",
            "-vv",  # the listing that is counted; "c" keeps each member on one line, and names apart
            "--quoting-style=c",
            "--block-number",
            "--index-file",
            listing,
            *what,
        ],
        environment={"TZ": "UTC0"},  # or it looks for the host's zone for each line of the listing
        may_exit=(0, 1),
        spares_cache=True,
    )


def _changeable(roots: Iterable[Path]) -> list[Path]:
    """Return the directories in which, or above which, another account can create a link.

    The others, such as /etc/gitlab, need no private mounts, which cost as much as a short walk.
    """
    found = []
    for root in roots:
        try:
            theirs = bool(grounds(root / "entry"))
        except OSError:  # reported by the code that reads it
            theirs = True
        if theirs:
            found.append(root)
    return found


def outermost(folders: Iterable[Path]) -> list[Path]:
    """Return ``folders`` without those that lie in another of them."""
    every = sorted(set(folders))
    return [path for path in every if not any(other in path.parents for other in every)]


def member_name(path: Path) -> str:
    """Return the name of an absolute path in our archives."""
    return str(path).lstrip("/")
