"""Archives that are unpacked as they come: tar gets nothing that has not been looked at."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import archive_reader, archive_rules
from gitlab_mm_backup.store.archive_reader import MemberContent
from gitlab_mm_backup.store.archive_rules import Most
from gitlab_mm_backup.store.archive_writer import Contents, Survey
from gitlab_mm_backup.system import process
from gitlab_mm_backup.system.process import Command
from tests.unit.store.test_archive_writer import HOSTILE, KNOWN, ROOT, describe, member

NAMES = st.text(alphabet="ab é\\n*", min_size=1, max_size=120)


def tar_of(*infos: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(random.Random(info.name).randbytes(info.size)))
    return plain.getvalue()


def good() -> list[tarfile.TarInfo]:
    return [member(ROOT, tarfile.DIRTYPE, mode=0o755), member(f"{ROOT}/good", size=4, mode=0o644)]


def passed_on(data: bytes, known: Survey = KNOWN, most: Most | None = None) -> bytes:
    """Return what of ``data`` comes through, though a failure ends it."""
    through = bytearray()
    stream = io.BufferedReader(io.BytesIO(data))
    try:
        archive_reader.inspect_stream(stream, "x", [f"/{ROOT}"], known, most, on=through.extend)
    except Failure:
        assert len(through) < len(data)
    return bytes(through)


def names(data: bytes) -> list[str]:
    """Return the members of what may end in the middle."""
    with tarfile.open(fileobj=io.BytesIO(data + bytes(1024))) as tar:
        return tar.getnames()


@given(
    st.lists(st.tuples(NAMES, st.integers(0, 3000)), max_size=8),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_an_archive_of_ours_comes_through_as_it_is(files: list[tuple[str, int]], form: int) -> None:
    data = tar_of(
        *good(), *(member(f"{ROOT}/{name}", size=size) for name, size in files), form=form
    )
    assert passed_on(data) == data


@pytest.mark.parametrize("bad", HOSTILE, ids=lambda member: f"{member.name} {member.type.decode()}")
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_nothing_comes_through_from_the_first_bad_member_on(
    bad: tarfile.TarInfo, form: int
) -> None:
    before = tar_of(*good(), form=form)[: 3 * 512]  # two headers, and four bytes in a block
    through = passed_on(tar_of(*good(), bad, member(f"{ROOT}/after", size=9), form=form))
    assert before.startswith(through)
    assert names(through) == [ROOT, f"{ROOT}/good"]


def test_what_is_too_much_does_not_come_through() -> None:
    data = tar_of(*good(), member(f"{ROOT}/bomb", size=50_000))
    assert names(passed_on(data, most=Most(50_003, 2))) == [ROOT, f"{ROOT}/good"]
    assert names(passed_on(data, most=Most(50_004, 1))) == [ROOT, f"{ROOT}/good"]
    assert names(passed_on(data, most=Most(50_004, 2))) == [ROOT, f"{ROOT}/good", f"{ROOT}/bomb"]


class Zeros(io.RawIOBase):
    """Zeros without end, after some bytes."""

    def __init__(self, begin: bytes) -> None:
        super().__init__()
        self._begin, self.given = begin, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._begin[: len(buffer)].ljust(len(buffer), b"\0")
        self._begin = self._begin[len(buffer) :]
        buffer[:] = piece
        self.given += len(buffer)
        return len(buffer)


def endless_header(kind: bytes) -> bytes:
    """A header whose text would have a terabyte."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 40
    return info.tobuf(tarfile.GNU_FORMAT)


def many(kind: bytes) -> bytes:
    return member(f"{ROOT}/a", kind, mode=0o755).tobuf() * 2_000


BOMBS = {
    "zeros after its end": b"",
    "a name that never ends": endless_header(tarfile.GNUTYPE_LONGNAME),
    "the target of a link that never ends": endless_header(tarfile.GNUTYPE_LONGLINK),
    "attributes that never end": endless_header(tarfile.XHDTYPE),
    "attributes of all members that never end": endless_header(tarfile.XGLTYPE),
    "a file that never ends": tar_of(*good())[:1536] + endless_header(tarfile.REGTYPE),
    "a folder with a content that never ends": endless_header(tarfile.DIRTYPE),
    "folders without end": many(tarfile.DIRTYPE),
}


def test_an_archive_may_have_folders_links_and_long_names_beside_its_files() -> None:
    """For each file, and for a hundred thousand folders without any, some headers of 8 KiB."""
    assert Most(0, 0).stream == 819_200_000
    assert Most(1_000_000, 3).stream == 819_200_000 + 1_000_000 + 3 * 81_920


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_never_ends_is_cut_off(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_rules, "_FOLDERS", 100)
    zeros = Zeros(BOMBS[bomb])
    most = Most(1_000_000, 3)
    with pytest.raises(Failure):
        archive_reader.inspect_stream(io.BufferedReader(zeros), "x", [f"/{ROOT}"], KNOWN, most)
    assert zeros.given < most.stream + (4 << 20)


def test_what_hides_behind_a_header_that_is_none_does_not_come_through() -> None:
    data = tar_of(*good())[: 3 * 512]  # whose last byte waits for the next header
    hidden = tar_of(member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="/etc"))
    assert passed_on(data + b"no header".ljust(512, b".") + hidden) == data[:-1]
    assert passed_on(data + bytes(512) + hidden) == data + bytes(512)


def test_a_large_file_comes_through_piece_by_piece() -> None:
    size, most = 5_000_000, 0
    data = tar_of(*good(), member(f"{ROOT}/large", size=size))

    def weigh(piece: memoryview) -> None:
        nonlocal most
        most = max(most, len(piece))

    stream = io.BufferedReader(io.BytesIO(data))
    found = archive_reader.inspect_stream(stream, "x", [f"/{ROOT}"], KNOWN, on=weigh)
    assert found == Contents(2, size + 4)
    assert most <= 1 << 20


def unpack(data: bytes, into: Path) -> None:
    def pass_on(put: Callable[[bytes | memoryview], object]) -> None:
        stream = io.BufferedReader(io.BytesIO(data))
        archive_reader.inspect_stream(stream, "x", [f"/{ROOT}"], KNOWN, on=put)

    into.mkdir()
    archive_reader.unpack_as_it_comes(pass_on, f"/{ROOT}", into)


def test_a_tree_comes_as_it_would_from_a_file(tmp_path: Path) -> None:
    data = tar_of(
        *good(),
        member(f"{ROOT}/large", size=5_000_000, mode=0o600),
        member(f"{ROOT}/suid", size=3, mode=0o4755),
        member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="good"),
    )
    known = Survey({}, [], [f"/{ROOT}/suid"])
    (tmp_path / "x.tar").write_bytes(data)
    pack = Command(["zstd", "--quiet", "--stdout", str(tmp_path / "x.tar")])
    (tmp_path / "x").write_bytes(process.printed(pack))
    (tmp_path / "one").mkdir()
    archive_reader.unpack(tmp_path / "x", f"/{ROOT}", tmp_path / "one")
    (tmp_path / "two").mkdir()

    def pass_on(put: Callable[[bytes | memoryview], object]) -> None:
        with open(tmp_path / "x.tar", "rb") as stream:
            archive_reader.inspect_stream(stream, "x", [f"/{ROOT}"], known, on=put)

    archive_reader.unpack_as_it_comes(pass_on, f"/{ROOT}", tmp_path / "two")
    assert describe(tmp_path / "two") == describe(tmp_path / "one")
    assert os.stat(tmp_path / "two" / Path(ROOT).name / "suid").st_mode & 0o6000 == 0


def test_what_is_bad_is_told_and_not_that_tar_missed_the_rest(tmp_path: Path) -> None:
    large = member(f"{ROOT}/large", size=3_000_000)
    evil = member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="/etc")
    with pytest.raises(Failure, match="holds what no backup of ours holds"):
        unpack(tar_of(*good(), large, evil), tmp_path / "into")
    assert not os.path.lexists(tmp_path / "into" / Path(ROOT).name / "link")


def test_a_tar_that_fails_is_blamed(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    data = tar_of(*good(), *(member(f"{ROOT}/{number}", size=900_000) for number in range(9)))

    def pass_on(put: Callable[[bytes | memoryview], object]) -> None:
        stream = io.BufferedReader(io.BytesIO(data))
        archive_reader.inspect_stream(stream, "x", [f"/{ROOT}"], KNOWN, on=put)

    with pytest.raises(Failure, match="tar failed"):
        archive_reader.unpack_as_it_comes(pass_on, "/no/such/folder", tmp_path / "into")


def test_each_member_is_told_and_can_be_read_there_and_then() -> None:
    data = tar_of(*good(), member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="good"))
    read: dict[str, bytes] = {}

    def note(member: tarfile.TarInfo, content: Callable[[], bytes]) -> None:
        read[member.name] = b"" if member.issym() else content()

    stream = io.BufferedReader(io.BytesIO(data))
    archive_reader.inspect_stream(stream, "x", [f"/{ROOT}"], KNOWN, each=note)
    first = good()[1]
    content = random.Random(first.name).randbytes(first.size)
    assert read == {ROOT: b"", f"{ROOT}/good": content, f"{ROOT}/link": b""}


def test_a_member_can_be_read_in_pieces_and_the_next_one_after_it() -> None:
    sizes = {"empty": 0, "block": 512, "odd": 3_000_001, "last": 7}
    data = tar_of(*(member(f"{ROOT}/{name}", size=size) for name, size in sizes.items()))
    read: dict[str, bytes] = {}

    def note(member: tarfile.TarInfo, content: MemberContent) -> None:
        pieces = list(content.pieces())
        assert all(len(piece) <= 1 << 20 for piece in pieces)
        read[member.name.rpartition("/")[2]] = b"".join(pieces)

    through = bytearray()
    stream = io.BufferedReader(io.BytesIO(data))
    archive_reader.inspect_stream(stream, "x", [f"/{ROOT}"], KNOWN, each=note, on=through.extend)
    assert read == {
        name: random.Random(f"{ROOT}/{name}").randbytes(size) for name, size in sizes.items()
    }
    assert bytes(through) == data
    for end in (2_000_000, 700):
        with pytest.raises(archive_reader.TruncatedArchive):
            short = io.BufferedReader(io.BytesIO(data[:end]))
            archive_reader.inspect_stream(short, "x", [f"/{ROOT}"], KNOWN, each=note)


@pytest.mark.parametrize("name", ["", ".", "var", "var/opt"])
def test_a_directory_above_is_passed_over(name: str) -> None:
    data = tar_of(member(name, tarfile.DIRTYPE, mode=0o755), *good())
    assert passed_on(data) == data


def test_an_absolute_name_is_refused_where_every_folder_is_allowed() -> None:
    stream = io.BufferedReader(io.BytesIO(tar_of(member("/etc/evil", mode=0o644))))
    with pytest.raises(Failure, match="holds what no backup of ours holds"):
        archive_reader.inspect_stream(stream, "x", ["/"], KNOWN)
    stream = io.BufferedReader(io.BytesIO(tar_of(member("etc/good", mode=0o644))))
    assert archive_reader.inspect_stream(stream, "x", ["/"], KNOWN) == Contents(1, 0)


def leaving_out(tmp_path: Path, files: list[str], *without: str) -> set[str]:
    """Return which files are unpacked when some are to be left out."""
    data = tar_of(*good(), *(member(f"{ROOT}/{name}", mode=0o644) for name in files))
    (tmp_path / "into").mkdir()

    def pass_on(put: Callable[[bytes | memoryview], object]) -> None:
        archive_reader.inspect_stream(io.BytesIO(data), "x", [f"/{ROOT}"], KNOWN, on=put)

    excluded = [f"/{ROOT}/{name}" for name in without]
    archive_reader.unpack_as_it_comes(pass_on, f"/{ROOT}", tmp_path / "into", excluded)
    return {path.name for path in (tmp_path / "into" / Path(ROOT).name).iterdir()} - {"good"}


def test_what_is_left_out_is_just_that_whatever_its_name(tmp_path: Path) -> None:
    """A list of tar's has one name a line, and loses the blanks at the end of it."""
    files = ["a", "a\nb", "c", "c ", "d", "d\t", "e*", "ee", "f"]
    without = ["a\nb", "c ", "d\t", "e*", "f"]
    assert leaving_out(tmp_path, files, *without) == {"a", "c", "d", "ee"}


def test_more_can_be_left_out_than_a_command_line_holds(tmp_path: Path) -> None:
    many = [f"{number:06}{'x' * 120}" for number in range(30_000)]  # over 4 MB
    assert leaving_out(tmp_path, ["a", many[0], many[-1]], *many) == {"a"}


FIELDS = ("mtime", "name", "mode", "size", "type", "linkname")


def _header(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: bytes,
    size: bytes,
    mtime: bytes,
    magic: bytes,
    wrong: int,
) -> bytes:
    """Return a block of 512 bytes with these fields, whose sum is `wrong` by so much."""
    block = bytearray(512)
    for at, field in (
        (0, name),
        (100, mode),
        (124, size),
        (136, mtime),
        (156, kind),
        (257, magic),
        (345, prefix),
    ):
        block[at : at + len(field)] = field
    block[157:162] = b"to/it"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) + wrong)
    return bytes(block)


GOOD_MODE, GOOD_SIZE, GOOD_TIME = b"0000644\0", b"00000000017\0", b"15030347471\0"
HEADERS = st.builds(
    _header,
    st.binary(max_size=100),
    st.binary(max_size=155),
    st.sampled_from([bytes([kind]) for kind in b"\x0001234567xgLKSDN"]),
    st.one_of(
        st.just(GOOD_MODE),
        st.sampled_from([b" 644 \0  ", b"junk", b"\x80\0\0\0\0\0\1\0", b"-000644\0"]),
    ),
    st.one_of(
        st.just(GOOD_SIZE),
        st.sampled_from([b"\x80\0\0\0\0\0\0\0\0\0\1\0", b"0000x17\0", b"_00017", b"-0017\0"]),
    ),
    st.one_of(
        st.just(GOOD_TIME),
        st.sampled_from([b"", b" 17 \0", b"junk", b"\x80\0\0\0\0\0\0\0\0\0\1\0", b"\xff" * 12]),
    ),
    st.sampled_from([b"ustar\x0000", b"ustar  \0", b""]),
    st.one_of(st.just(0), st.sampled_from([1, -1])),
)


def read_by(kind: type[tarfile.TarInfo], block: bytes) -> object:
    try:
        header = kind.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        return type(error)
    return [getattr(header, field) for field in FIELDS]


@settings(max_examples=500)
@given(HEADERS)
def test_a_header_is_read_as_tarfile_reads_it(block: bytes) -> None:
    assert read_by(archive_rules.Header, block) == read_by(tarfile.TarInfo, block)


@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("prefix", [b"", b"pre/fix"])
@pytest.mark.parametrize("name", [b"name", b"name/", b"n" * 100, b"caf\xe9"])
@pytest.mark.parametrize("kind", [bytes([kind]) for kind in b"\x000125xgLKS"])
def test_each_kind_of_header_is_read_as_tarfile_reads_it(
    kind: bytes, name: bytes, prefix: bytes, wrong: int
) -> None:
    block = _header(name, prefix, kind, GOOD_MODE, GOOD_SIZE, GOOD_TIME, b"ustar\x0000", wrong)
    assert read_by(archive_rules.Header, block) == read_by(tarfile.TarInfo, block)


@pytest.mark.parametrize("block", [b"", bytes(512), bytes(100)])
def test_what_is_no_header_is_refused_as_tarfile_refuses_it(block: bytes) -> None:
    with pytest.raises(tarfile.TarError) as theirs:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    with pytest.raises(type(theirs.value)):
        archive_rules.Header.frombuf(block, "utf-8", "surrogateescape")
