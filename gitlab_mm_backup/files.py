"""Archives of file trees: pack, look into, unpack."""

from __future__ import annotations

import functools
import os
import posixpath
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from . import process, progress, untrusted
from .errors import Failure
from .forward import Forward
from .private_files import Lines, OpenFile
from .process import DECOMPRESS, Command, Sink

_CHUNK = 1 << 20
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
        *(f"--exclude={_member(Path(path))}" for path in never),
        "--",
        *(_member(folder) for folder in roots),
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


class Known(Protocol):
    """What a backup found unusual and has told: a Survey, or a manifest."""

    @property
    def links_out(self) -> Mapping[str, str]: ...

    @property
    def privileged(self) -> Sequence[str]: ...


# Told of each member of an archive as it passes, with the means to read it there and then.
Each = Callable[[tarfile.TarInfo, Callable[[], bytes]], None]


def inspect(
    archive: Path,
    allowed: Sequence[str],
    known: Known,
    most: int | None = None,
    each: Each = lambda member, read: None,
) -> Contents:
    """Read all of a compressed tar, tell ``each`` of its members, and return what it holds.

    Raises Failure for a member that a set of ours cannot have: outside the ``allowed`` absolute
    folders, a device; a file with set-user-id, or a link that leads out, that is not ``known``;
    and as soon as files have more than ``most`` bytes.
    """
    with open(archive, "rb") as packed, process.output(DECOMPRESS, stdin=packed) as (stream, _):
        return inspect_stream(stream, archive.name, allowed, known, most, each)


def inspect_stream(
    stream: IO[bytes],
    name: str,
    allowed: Sequence[str],
    known: Known,
    most: int | None = None,
    each: Each = lambda member, read: None,
) -> Contents:
    """Do the same with a tar that some program prints; failures call it ``name``."""
    contents = Contents()
    roots = [_member(Path(folder)) for folder in allowed]
    try:
        with tarfile.open(fileobj=Forward(stream), mode="r:") as tar:
            for member in tar:
                _refuse_foreign(member, roots, known, name)
                if member.isreg():
                    contents.files += 1
                    contents.size += untrusted.count(member.size)
                if most is not None and contents.size > most:
                    raise _foreign(name, member, f"with it there are over {most} bytes")
                each(member, functools.partial(_content, tar, member))
                vars(tar)["members"] = []  # or it keeps every one
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise Failure(f"{name} is not a whole archive", str(error)) from error
    while stream.read(_CHUNK):
        pass
    return contents


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file is not None else b""


def _refuse_foreign(
    member: tarfile.TarInfo,
    roots: list[str],
    known: Known,
    archive: str,
) -> None:
    reason = ""
    path = f"/{member.name}"
    if member.isdir() and any(_below(root, member.name) for root in roots):
        return  # restic's tars have the folders above as well; nothing unpacks them
    if not _within(member.name, roots):
        reason = "its name leads out of the folders of the set"
    elif not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        reason = "it is no file, folder or link"
    elif member.islnk() and not _within(member.linkname, roots):
        reason = "it is a hard link that leads out of the set"
    elif member.isreg() and member.mode & 0o6000 and path not in known.privileged:
        reason = "it has the set-user-id or set-group-id bit, and the manifest does not know it"
    elif member.issym() and _unknown_way_out(path, member.linkname, roots, known.links_out):
        reason = "it is a link that leads out of the set, and the manifest does not know it"
    if reason:
        raise _foreign(archive, member, reason)


def _unknown_way_out(path: str, target: str, roots: list[str], links: Mapping[str, str]) -> bool:
    absolute = [Path("/", root) for root in roots]
    return links.get(path) != target and leads_out(path, target, absolute)


def _foreign(archive: str, member: tarfile.TarInfo, reason: str) -> Failure:
    return Failure(
        f"{archive} holds what no backup of ours holds",
        f"{member.name!r}: {reason}",
        "Nothing was unpacked. Do not use this set; find out where it comes from.",
    )


def _within(name: str, roots: list[str]) -> bool:
    """Tell whether a member lies in one of ``roots``; a name that is not plain does in none.

    By text alone: there may be a million of them, for each of which a Path would be made.
    """
    if name.startswith("/") or ".." in name.split("/"):
        return False
    return any(name == root or _below(name, root) for root in roots)


def _below(name: str, folder: str) -> bool:
    return folder in ("", ".") or name.startswith(f"{folder}/")


def unpack(archive: Path, folder: str, into: Path, excluded: Iterable[str] = ()) -> None:
    """Unpack one absolute ``folder`` of a compressed tar to ``into``/<its last name>.

    Owners are given by name where this host knows the name, modes are kept.  ``excluded`` are
    absolute paths below ``folder``.
    """
    member = _member(Path(folder))
    never = [_member(Path(path)) for path in excluded]
    with tempfile.TemporaryFile() as many, open(archive, "rb") as packed:
        # A line of such a file cannot hold all names; an argument can, but there may be too many.
        plain = [name for name in never if "\n" not in name and name == name.rstrip()]
        many.writelines(os.fsencode(name) + b"\n" for name in plain)
        many.flush()
        extract = Command(
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
                "--",
                member,
            ]
        )
        with progress.of_file("files", packed):
            process.pipeline(DECOMPRESS, extract, stdin=packed)
    # Nobody can have reached them: the folder is root's alone until all is in place.
    privileged = ["find", str(into), "-type", "f", "-perm", "/6000"]
    process.run(Command([*privileged, "-exec", "chmod", "ug-s", "--", "{}", "+"]))


def outermost(folders: Iterable[Path]) -> list[Path]:
    """Return ``folders`` without those that lie in another of them."""
    every = sorted(set(folders))
    return [one for one in every if not any(other in one.parents for other in every)]


def _member(path: Path) -> str:
    return str(path).lstrip("/")
