"""What may be in an archive of ours: which members, how much of them, and what its listing says.

With what reads it for these checks: a pipe for tarfile, and quick headers.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tarfile import TarInfo
from typing import IO, NamedTuple, Protocol

from ..errors import Failure
from .archive_writer import Contents, leads_out
from .frames import NameLine

_PRIVILEGED = re.compile(rb"[sS]")  # in a mode as ls(1) has it
# A tar's bytes for a member beside its content, members for a file (an upload has folders of its
# own), and those that a tree has without any.
_A_MEMBER, _MEMBERS, _FOLDERS = 8 << 10, 10, 100_000
_CHUNK = 1 << 20
ALONE = b" 1"  # ends the record of a file that has one name only: no hard links
Pair = tuple[bytes, bytes]  # records of listings
# The most bytes to read at once: of a header, or of a file of settings.
_LARGEST = 64 << 20

# Kinds of a header whose fields lie where POSIX has them: a file, a folder, links, and what
# precedes a header that has a longer name or more attributes (pax, GNU).
_PLAIN_KINDS = frozenset(b"0125xgLK")
_NUMBERS = slice(100, 108), slice(124, 136), slice(136, 148), slice(148, 156)


class Known(Protocol):
    """The unusual files that a backup found and listed: a Survey, or a manifest."""

    @property
    def links_out(self) -> Mapping[str, str]: ...

    @property
    def privileged(self) -> Sequence[str]: ...

    @property
    def pipes(self) -> Sequence[str]: ...


class Most(NamedTuple):
    """The most that a part may hold."""

    bytes: int  # of its files
    files: int

    @property
    def stream(self) -> int:
        """Return the largest size of its archive, with headers, links and long names."""
        return self.bytes + _A_MEMBER * (_MEMBERS * self.files + _FOLDERS)


class ForwardReader(io.RawIOBase):
    """Forward-only file over a pipe, for tarfile: seek() skips ahead; checked bytes go on.

    tarfile's own stream mode copies each skipped byte three times; this copies it once. Bytes are
    forwarded to ``on`` in order; bytes that were read wait for ``release``.
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
        """Return the next ``size`` bytes, fewer only at the end; raises ValueError for too many."""
        if size > _LARGEST:
            raise ValueError(f"a header or a file of settings has {size} bytes")
        piece = self._stream.read(size)
        self._go_on(len(piece))
        self._held += piece
        return piece

    def release(self) -> None:
        """Forward the bytes read so far: their member passed the checks."""
        if self._held:
            self._on(memoryview(self._held))
            self._held = bytearray()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Forward the bytes up to ``offset``, or up to the end.

        They are the content of a file whose header passed the checks. Raises
        io.UnsupportedOperation for a position further back.
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
        """Forward the rest; raises ValueError where it is more than the zero blocks of an end."""
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


class Header(tarfile.TarInfo):
    """A tar header of which only the fields are read that a check needs.

    tarfile reads sixteen fields and sums the bytes twice, which takes half of the time of a check.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
        """Return the header in a block of 512 bytes; tarfile reads the unusual ones."""
        if len(buf) != tarfile.BLOCKSIZE or buf[156] not in _PLAIN_KINDS:
            return super().frombuf(buf, encoding, errors)
        try:
            mode, size, mtime, noted = (int(buf[field].rstrip(b"\0 "), 8) for field in _NUMBERS)
        except ValueError:  # not octal: 8 GiB and more in GNU's form
            return super().frombuf(buf, encoding, errors)
        # Each byte of the sum itself counts as a space.
        if noted != sum(buf) - sum(buf[148:156]) + 8 * 0x20:
            return super().frombuf(buf, encoding, errors)
        header = cls(_text(buf[:100], encoding, errors))
        header.mode, header.size, header.mtime = mode, size, mtime
        header.type = bytes(buf[156:157])
        header.linkname = _text(buf[157:257], encoding, errors)
        if buf[345] and buf[156] not in b"LK":
            header.name = f"{_text(buf[345:500], encoding, errors)}/{header.name}"
        if header.type == tarfile.DIRTYPE:
            header.name = header.name.rstrip("/")
        return header


def _text(field: bytes | bytearray, encoding: str, errors: str) -> str:
    return field.partition(b"\0")[0].decode(encoding, errors)


def line_of(member: TarInfo) -> NameLine:
    """Return a member as tar's own listing has it."""
    kinds = (member.isreg(), member.isdir(), member.issym(), member.islnk(), member.isfifo())
    kind = next((kind for kind, is_ in zip((b"-", b"d", b"l", b"h", b"p"), kinds) if is_), b"c")
    return NameLine(
        kind,
        stat.filemode(member.mode)[1:].encode(),
        member.size,
        os.fsencode(member.name),
        os.fsencode(member.linkname),
        b"%d" % math.floor(member.mtime),
    )


def refuse_more(last: str, contents: Contents, most: Most, archive: str) -> None:
    """Raise Failure where an archive holds more than it may up to the path ``last``."""
    if contents.size > most.bytes:
        raise _foreign(archive, last, f"with it there are over {most.bytes} bytes")
    if contents.files > most.files:
        raise _foreign(archive, last, f"with it there are over {most.files} files")


def refuse_foreign(line: NameLine, roots: list[str], known: Known, archive: str) -> None:
    """Raise Failure for a member that no set contains; ``roots`` are names of members."""
    reason = ""
    path, target = os.fsdecode(line.path), os.fsdecode(line.target)
    name = path[1:]
    if line.kind == b"d" and any(_below(root, name) for root in roots):
        return  # restic's tars have the folders above as well; nothing unpacks them
    if not _within(name, roots):
        reason = "its name leads out of the folders of the set"
    elif line.kind == b"p" and path in known.pipes:
        return  # made while tar packed; nothing restores it
    elif line.kind not in b"-dlh":
        reason = "it is not a file, folder or link"
    elif line.kind == b"h" and not _within(target, roots):
        reason = "it is a hard link that leads out of the set"
    elif line.kind == b"-" and _PRIVILEGED.search(line.mode) and path not in known.privileged:
        reason = "it has the set-user-id or set-group-id bit, and the manifest does not list it"
    elif line.kind == b"l" and _unknown_way_out(path, target, roots, known.links_out):
        reason = "it is a link that leads out of the set, and the manifest does not list it"
    if reason:
        raise _foreign(archive, path, reason)


def _unknown_way_out(path: str, target: str, roots: list[str], links: Mapping[str, str]) -> bool:
    absolute = [Path("/", root) for root in roots]
    return links.get(path) != target and leads_out(path, target, absolute)


def _foreign(archive: str, path: str, reason: str) -> Failure:
    return Failure(
        f"{archive} holds what no backup of ours holds",
        f"{path[1:]!r}: {reason}",
        "Nothing was changed. Do not use this set; find out where it comes from.",
    )


def _within(name: str, roots: list[str]) -> bool:
    """Tell whether a member lies in one of ``roots``; False for a name with . or .. in it.

    Compares text: there may be a million members, and a Path for each is slow.
    """
    if name.startswith("/") or ".." in name.split("/"):
        return False
    return any(name == root or _below(name, root) for root in roots)


def _below(name: str, folder: str) -> bool:
    return folder in ("", ".") or name.startswith(f"{folder}/")


def key_of(record: bytes) -> bytes:
    """Return what a record of a listing is sorted by: its path and two slashes."""
    return record[: record.index(b"//") + 2]


class ListingChecker:
    """Compare the members of an archive with ``file_list.paired`` records of two sets of a chain.

    The first is the archive's own set, at ``level``; in the second, the requested one, files may
    have changed since.
    """

    def __init__(self, pairs: Iterator[Pair], level: int) -> None:
        self._pairs = pairs
        self._here = b"//%d " % level
        self._linked: set[bytes] = set()  # live files with further names
        self.live = 0  # members that the wanted set still has from here

    def passing(self, members: Sequence[NameLine]) -> Sequence[NameLine]:
        """Return which of the archive's next ``members`` are in the final state.

        Raises Failure where the archive has other members than its listing.
        """
        members = [member for member in members if member.kind != b"p"]  # made while tar packed
        pairs = list(itertools.islice(self._pairs, len(members)))
        begins = [
            b"%b%bf %d " % (member.path, self._here, member.size)
            if member.kind == b"-"
            else b"%b%b%b " % (member.path, self._here, member.kind)
            for member in members
        ]
        records = [record for record, _ in pairs]
        if not all(map(bytes.startswith, records, begins)) or len(records) < len(members):
            same = map(bytes.startswith, records, begins)
            at = next((at for at, agrees in enumerate(same) if not agrees), len(records))
            raise Failure("An archive differs from its listing", ascii(members[at].name))
        live = [
            (member, record) for member, (record, last) in zip(members, pairs) if self._here in last
        ]
        for member, record in live:
            if member.kind == b"h" and b"/" + member.target not in self._linked:
                raise Failure("An archive has a hard link to a missing file", ascii(member.name))
            if member.kind == b"-" and not record.endswith(ALONE):
                self._linked.add(member.path)
        self.live += len(live)
        return [member for member, _ in live]

    def finish(self) -> None:
        """Raise Failure where the archive has ended before its listing."""
        for record, _ in self._pairs:
            raise Failure("An archive lacks a file of its listing", ascii(key_of(record)[:-2]))
