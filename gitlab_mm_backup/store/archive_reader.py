"""Archives of file trees: looked into, and unpacked."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, Protocol

from ..errors import Failure
from ..system import parallel, process, progress, validation
from ..system.parallel import Put
from ..system.private_files import OpenFile
from ..system.process import DECOMPRESS, Command, Sink
from .archive_writer import Contents, leads_out, member_name

_CHUNK = 1 << 20
# Bytes that are read at once: of a header, or of a file of settings.
_LARGEST = 64 << 20


class ForwardReader(io.RawIOBase):
    """What a program prints, as a file that can only go on.

    tarfile's own way with pipes makes three copies of each byte that it passes over; this makes one.
    All of it is passed ``on``, in its order; but what has been read waits for ``release``.
    """

    def __init__(
        self,
        stream: IO[bytes],
        on: Callable[[memoryview], object] = lambda piece: None,
        most: int | None = None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._on = on
        self._most = most  # bytes that it may have
        self._held = bytearray()
        self._at = 0
        self._waste = memoryview(bytearray(_CHUNK))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer at the end alone; raises ValueError for too many."""
        if size > _LARGEST:
            raise ValueError(f"a header or a file of settings has {size} bytes")
        piece = self._stream.read(size)
        self._go_on(len(piece))
        self._held += piece
        return piece

    def release(self) -> None:
        """Pass on what has been read: it is as it should be."""
        if self._held:
            self._on(memoryview(self._held))
            self._held = bytearray()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Pass on what lies before ``offset``; at the end there may be less.

        That is the content of a file, and as good as its header.  Raises io.UnsupportedOperation
        for a way back.
        """
        if whence != io.SEEK_SET or offset < self._at:
            raise io.UnsupportedOperation("a pipe has no way back")
        while self._at < offset:
            passed = self._stream.readinto(self._waste[: offset - self._at])  # type: ignore[attr-defined]
            if not passed:
                break
            self._go_on(passed)
            self._pass_on(self._waste[:passed])
        return self._at

    def finish(self) -> None:
        """Pass on what is left; raises ValueError where that is more than the zeros of an end."""
        rest = iter(lambda: self._stream.read(_CHUNK), b"")
        for piece in itertools.chain([bytes(self._held)], rest):
            self._go_on(len(piece))
            if piece.count(0) != len(piece):
                raise ValueError("there is data after its end, or an invalid header")
            self._on(memoryview(piece))

    def _go_on(self, count: int) -> None:
        self._at += count
        if self._most is not None and self._at > self._most:
            raise ValueError(f"it goes on after {self._most} bytes, all that its set can have")

    def _pass_on(self, piece: memoryview) -> None:
        if self._held:  # what comes before it still waits
            self._held += piece
        else:
            self._on(piece)


# A tar's bytes for a member beside its content, members for a file (an upload has folders of its
# own), and those that a tree has without any.
_A_MEMBER, _MEMBERS, _FOLDERS = 8 << 10, 10, 100_000


class TruncatedArchive(Failure):
    """An archive ends too early, or holds what is none."""


class Known(Protocol):
    """What a backup found unusual and has told: a Survey, or a manifest."""

    @property
    def links_out(self) -> Mapping[str, str]: ...

    @property
    def privileged(self) -> Sequence[str]: ...

    @property
    def pipes(self) -> Sequence[str]: ...


class Most(NamedTuple):
    """What a part may hold at most."""

    bytes: int  # of its files
    files: int

    @property
    def stream(self) -> int:
        """Return the bytes that its archive may have, with folders, links and long names."""
        return self.bytes + _A_MEMBER * (_MEMBERS * self.files + _FOLDERS)


# Told of each member of an archive as it passes, with the means to read it there and then.
Each = Callable[[tarfile.TarInfo, Callable[[], bytes]], None]


def inspect(
    archive: Path,
    allowed: Sequence[str],
    known: Known,
    most: Most | None = None,
    each: Each = lambda member, read: None,
) -> Contents:
    """Read all of a compressed tar, tell ``each`` of its members, and return what it holds.

    Raises Failure for a member that a set of ours cannot have: outside the ``allowed`` absolute
    folders, a device; a file with set-user-id, or a link that leads out, that is not ``known``;
    and as soon as there is more than ``most``.
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
    """Do the same with a tar that some program prints; failures call it ``name``.

    It is passed ``on``, but nothing of it before what stands there has been found good.
    """
    contents = Contents()
    roots = [member_name(Path(folder)) for folder in allowed]
    forward = ForwardReader(stream, on, most.stream if most is not None else None)
    try:
        with tarfile.open(fileobj=forward, mode="r:") as tar:
            for member in tar:
                _refuse_foreign(member, roots, known, name)
                if member.isreg():
                    contents.files += 1
                    contents.size += validation.count(member.size)
                if most is not None and contents.size > most.bytes:
                    raise _foreign(name, member, f"with it there are over {most.bytes} bytes")
                if most is not None and contents.files > most.files:
                    raise _foreign(name, member, f"with it there are over {most.files} files")
                each(member, functools.partial(_content, tar, member))
                forward.release()
                vars(tar)["members"] = []  # or it keeps every one
        forward.finish()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise TruncatedArchive(f"{name} is not a complete archive", str(error)) from error
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
    elif member.isfifo() and path in known.pipes:
        return  # made while tar packed; nothing restores it
    elif not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        reason = "it is not a file, folder or link"
    elif member.islnk() and not _within(member.linkname, roots):
        reason = "it is a hard link that leads out of the set"
    elif member.isreg() and member.mode & 0o6000 and path not in known.privileged:
        reason = "it has the set-user-id or set-group-id bit, and the manifest does not list it"
    elif member.issym() and _unknown_way_out(path, member.linkname, roots, known.links_out):
        reason = "it is a link that leads out of the set, and the manifest does not list it"
    if reason:
        raise _foreign(archive, member, reason)


def _unknown_way_out(path: str, target: str, roots: list[str], links: Mapping[str, str]) -> bool:
    absolute = [Path("/", root) for root in roots]
    return links.get(path) != target and leads_out(path, target, absolute)


def _foreign(archive: str, member: tarfile.TarInfo, reason: str) -> Failure:
    return Failure(
        f"{archive} holds what no backup of ours holds",
        f"{member.name!r}: {reason}",
        "Nothing was changed. Do not use this set; find out where it comes from.",
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


def unpack(
    archive: Path,
    folder: str,
    into: Path,
    excluded: Iterable[str] = (),
    attributes: Iterable[str] = (),
) -> str:
    """Unpack one absolute ``folder`` of a compressed tar to ``into``/<its last name>.

    Owners are given by name where this host knows the name, modes are kept, and with the options
    ``attributes`` of tar's what else a file has.  ``excluded`` are absolute paths below ``folder``.
    Returns the end of what tar warned of.
    """
    with (
        _extracting(folder, into, excluded, attributes) as extract,
        open(archive, "rb") as packed,
        progress.of_file("files", packed),
    ):
        *_, finished = process.pipeline(DECOMPRESS, extract, stdin=packed)
    _take_privileges(into)
    return finished.err


def unpack_as_it_comes(
    pass_on: Callable[[Put], object],
    folder: str,
    into: Path,
    excluded: Iterable[str] = (),
    attributes: Iterable[str] = (),
) -> str:
    """Do the same with the tar that ``pass_on`` puts, piece by piece as it finds it good."""
    with _extracting(folder, into, excluded, attributes) as extract:
        _, finished = parallel.pipe_between(pass_on, lambda good: process.run(extract, stdin=good))
    _take_privileges(into)
    return finished.err


@contextlib.contextmanager
def _extracting(
    folder: str, into: Path, excluded: Iterable[str], attributes: Iterable[str]
) -> Iterator[Command]:
    """Yield the tar that unpacks what it reads."""
    member = member_name(Path(folder))
    never = [member_name(Path(path)) for path in excluded]
    with tempfile.TemporaryFile() as many:
        # A line of such a file cannot hold all names; an argument can, but there may be too many.
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
                *attributes,
                "--no-wildcards",
                "--anchored",
                *(f"--exclude={name}" for name in sorted({*never} - {*plain})),
                "--exclude-from",
                OpenFile(many),
                "--",
                member,
            ]
        )


def _take_privileges(into: Path) -> None:
    """Take away the bits and the pipes that a backup may have met, and no restore brings back."""
    # Nobody can have reached them: the folder is root's alone until all is in place.
    privileged = ["find", str(into), "-type", "f", "-perm", "/6000"]
    process.run(Command([*privileged, "-exec", "chmod", "ug-s", "--", "{}", "+"]))
    process.run(Command(["find", str(into), "-type", "p", "-delete"]))
