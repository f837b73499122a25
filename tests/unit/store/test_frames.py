"""The files part in frames, with the real tar and zstd, and its index; tarfile says where members are."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import archive_writer, frame_index, frames
from gitlab_mm_backup.store.archive_writer import Survey
from gitlab_mm_backup.store.frame_index import Place, Run
from gitlab_mm_backup.store.frames import Cutter, Frame
from gitlab_mm_backup.system.process import Command, compress
from tests.unit.store.test_archive_writer import make_tree

SMALL = 1 << 20  # of a frame, so that a test's tree has many
NOTHING = Survey({}, [], [])


@dataclass(frozen=True)
class Packed:
    """A files part, and what its index says."""

    data: bytes
    tar: bytes
    frames: list[Frame]
    places: list[Place]
    links: int = 0

    @property
    def members(self) -> list[tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(self.tar)) as tar:
            return list(tar)


def unzipped(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout


def pack(folder: Path) -> Packed:
    """Pack a folder as a backup does."""
    out, index = io.BytesIO(), bytearray()
    found = archive_writer.survey([folder])
    archive_writer.pack([folder], [], found, compress(1, 2), out.write, index=index.extend)
    told = list(frame_index.records(io.BytesIO(index)))
    records = [frame_index.parsed(record) for record in told if not record.startswith(b"//h")]
    return Packed(
        out.getvalue(),
        unzipped(out.getvalue()),
        [record for record in records if isinstance(record, Frame)],
        [record for record in records if isinstance(record, Place)],
        sum(int(record[3:]) for record in told if record.startswith(b"//h")),
    )


def as_tarfile_has_it(packed: Packed) -> list[Place]:
    """Return the members with the places that tarfile finds."""
    starts = [member.offset for member in packed.members]
    ends = [*starts[1:], len(packed.tar)]
    return [
        Place(os.fsencode(f"/{member.name}"), start, end - start)
        for member, start, end in zip(packed.members, starts, ends)
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", SMALL)


def consistent(packed: Packed) -> None:
    """Insist that each frame alone is its piece of the tar, and that the index has all members."""
    frame_index.check(packed.frames, len(packed.data))
    for frame in packed.frames:
        piece = packed.data[frame.packed : frame.packed + frame.packed_length]
        assert frame.sha256 == hashlib.sha256(piece).hexdigest()
        assert unzipped(piece) == packed.tar[frame.start : frame.start + frame.length]
        assert frame.length <= frames.LARGEST
    assert packed.places == as_tarfile_has_it(packed)
    assert packed.links == sum(member.islnk() for member in packed.members)


@pytest.mark.usefixtures("small")
def test_frames_end_where_members_end_and_each_is_read_alone(tmp_path: Path) -> None:
    home, sizes = tmp_path / "home", random.Random(1)
    make_tree(home)
    (home / "many").mkdir()
    for number in range(300):
        (home / f"many/{number}").write_bytes(sizes.randbytes(sizes.randrange(60_000)))
    os.link(home / "many/7", home / "many/again")
    os.setxattr(home / "many/8", "user.note", b"x" * 900)
    (home / ("deep" * 30) / ("n" * 200)).mkdir(parents=True)
    (home / ("deep" * 30) / ("n" * 200) / ("é" * 100)).write_bytes(b"long names")
    packed = pack(home)
    consistent(packed)
    assert packed.links == 2  # one of them of the tree
    inner = {frame.start for frame in packed.frames[1:]}
    big = {place.path for place in packed.places if place.length > SMALL}
    assert big == {os.fsencode(home / "sparse")} and len(packed.frames) > 8
    beginnings = {place.start for place in packed.places}
    assert len(inner - beginnings) == 2  # inside of the sparse file, which has three frames


@pytest.mark.usefixtures("small")
def test_a_larger_member_has_frames_of_its_own(tmp_path: Path) -> None:
    for name, size in (("a", 100), ("b", 2 * SMALL + 5000), ("c", 100)):
        (tmp_path / name).write_bytes(random.Random(size).randbytes(size))
    packed = pack(tmp_path)
    consistent(packed)
    large = next(place for place in packed.places if place.path.endswith(b"/b"))
    cuts = {frame.start for frame in packed.frames}
    assert {large.start, large.start + SMALL, large.start + 2 * SMALL} <= cuts
    following = [place.start for place in packed.places if place.start > large.start]
    assert not following or following[0] in cuts


@pytest.mark.usefixtures("small")
def test_odd_attributes_make_no_frame_too_large(tmp_path: Path) -> None:
    """Headers may be larger than expected; a frame is then cut inside of a member."""
    (tmp_path / "f").write_bytes(bytes(SMALL - 3000))
    os.setxattr(tmp_path / "f", "user.note", b"x" * 3500)
    (tmp_path / "g").write_bytes(b"after it")
    consistent(pack(tmp_path))


def test_an_empty_folder_is_one_frame(tmp_path: Path) -> None:
    packed = pack(tmp_path)
    consistent(packed)
    assert len(packed.frames) == 1 and len(packed.places) == 1


def test_by_hand_it_stays_one_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", SMALL)
    home, out = tmp_path / "home", tmp_path / "out"
    make_tree(home)
    archive, out = tmp_path / "files.tar.zst", tmp_path / "out"
    archive.write_bytes(pack(home).data)
    out.mkdir()
    script = 'zstd -dc "$1" | tar -x -p --acls --xattrs --same-owner -C "$2"'
    subprocess.run(["sh", "-ec", script, "sh", archive, out], check=True)
    # The pipe that a tree of every kind has is left out of archives.
    differ = ["diff", "-r", "--no-dereference", str(home), f"{out}{home}"]
    told = subprocess.run(differ, capture_output=True, text=True, check=False).stdout
    assert [line for line in told.splitlines() if not line.startswith("Only in")] == []


def test_a_compressor_that_fails_or_ends_early_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(random.Random(3).randbytes(5 << 20))
    for program in (["false"], ["true"], ["sh", "-c", "head -c 100; kill -9 $$"]):
        with pytest.raises(Failure):
            archive_writer.pack([tmp_path], [], NOTHING, Command(program), lambda piece: None)


def test_a_compressor_that_says_nothing_of_its_early_end_is_a_failure_at_once(
    tmp_path: Path,
) -> None:
    """Not after as many compressors as there are file descriptors; which thread sees it first is chance."""
    (tmp_path / "f").write_bytes(random.Random(3).randbytes(5 << 20))
    for program in (["true"], ["head", "--bytes=9"]) * 20:
        with pytest.raises(Failure, match=f"{program[0]} ended before its input did"):
            archive_writer.pack([tmp_path], [], NOTHING, Command(program), lambda piece: None)


def test_what_the_listing_cannot_say_is_raised_after_the_end_of_tar(tmp_path: Path) -> None:
    class Strange(Exception):
        pass

    class Refusing(Survey):
        def learn(self, line: bytes, roots: object) -> None:
            raise Strange

    with pytest.raises(Strange):
        archive_writer.pack(
            [tmp_path], [], Refusing({}, [], []), compress(1, 1), lambda piece: None
        )


# The cutter, by numbers: no frame is larger than LARGEST, and cuts are where members begin.


@pytest.mark.parametrize("seed", range(20))
def test_cuts_are_where_members_begin(seed: int) -> None:
    chance, cutter, at = random.Random(seed), Cutter(), 0
    starts = {}
    for _ in range(500):
        size = chance.choice([0, 10, 5000, 40 << 20, 63 << 20, 64 << 20, 200 << 20])
        cutter.add(at, size)
        starts[at] = size
        at += 1536 + -(-size // 512) * 512
    cuts = [0, *cutter.cuts, at]
    assert all(0 < after - before <= frames.LARGEST + 1536 for before, after in pairwise(cuts))
    for cut in cuts[1:-1]:
        owner = max(start for start in starts if start <= cut)
        assert cut == owner or starts[owner] + frames._HEADERS > frames.LARGEST


# Looking up members.


def record_of(frame: Frame) -> bytes:
    """The record of an index."""
    *numbers, sha256 = frame
    return b"//=%d %d %d %d" % tuple(numbers) + (f" {sha256}" if sha256 else "").encode() + b"\0"


@contextlib.contextmanager
def index_of(packed: Packed, extra: bytes = b"") -> Iterator[IO[bytes]]:
    lines = [b"%s//%d %d\0" % place for place in packed.places]
    lines += [record_of(frame) for frame in packed.frames]
    told = b"".join(lines) + extra
    with tempfile.TemporaryFile() as file:
        subprocess.run(["zstd", "-cq"], input=told, stdout=file, check=True)
        file.seek(0)
        yield file


def runs_of(packed: Packed, names: set[bytes], extra: bytes = b"", size: int = 0) -> list[Run]:
    with index_of(packed, extra) as index:
        return frame_index.find(index, size or len(packed.data), names)


@pytest.mark.usefixtures("small")
def test_members_are_found_in_few_frames(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").write_bytes(random.Random(number).randbytes(30_000))
    (tmp_path / "two\nlines").write_bytes(b"x")
    packed = pack(tmp_path)
    names = {os.fsencode(tmp_path / name) for name in ("5", "77", "two\nlines", "missing")}
    runs = runs_of(packed, names)
    found = {place.path: place for run in runs for place in run.members}
    assert found == {place.path: place for place in packed.places if place.path in names}
    assert sum(len(run.frames) for run in runs) <= 3 < len(packed.frames)
    assert runs_of(packed, {b"/missing"}) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("runs", (1, 4, 1000))
def test_all_frames_come_in_few_runs_each_member_in_one(tmp_path: Path, runs: int) -> None:
    for number in range(200):
        (tmp_path / f"{number}").write_bytes(random.Random(number).randbytes(90_000))
    packed = pack(tmp_path)
    with index_of(packed) as index:
        (tmp_path / "index").write_bytes(index.read())
    all_ = list(frame_index.everything(tmp_path / "index", len(packed.data), runs))
    assert [frame for stretch in all_ for frame in stretch.run.frames] == packed.frames
    records = [record for stretch in all_ for record in stretch.records]
    assert list(map(frame_index.parsed, records)) == packed.places
    most = {1: 8, 4: len(packed.frames) // 4, 1000: 1}[runs]
    assert max(len(stretch.run.frames) for stretch in all_) == most < len(packed.frames)
    assert [stretch.last for stretch in all_] == [False] * (len(all_) - 1) + [True]


@pytest.mark.parametrize(
    "frames_told, places, extra",
    [
        ([(0, 1024, 0, 50)], [], b""),  # less than the part has
        ([(0, 1024, 0, 60), (1024, 512, 60, 40), (1024, 512, 100, 0)], [], b""),
        ([(0, 1024, 0, 60), (512, 512, 60, 40)], [], b""),  # overlapping
        ([(0, 1024, 0, 60), (1024, 512, 50, 50)], [], b""),  # overlapping in the file
        ([(0, 65 << 20, 0, 100)], [], b""),  # larger than a frame can be
        ([(0, 0, 0, 100)], [], b""),
        ([], [(b"/f", 0, 512)], b""),
        ([(0, 1024, 0, 100)], [(b"/f", 512, 1024)], b""),  # after the end
        ([(0, 2048, 0, 100)], [(b"/f", 7, 512)], b""),  # no member begins there
        ([(0, 2048, 0, 100)], [(b"/f", 0, 1024), (b"/g", 512, 512)], b""),  # inside of another
        ([(0, 2048, 0, 100)], [(b"/f", 0, 0)], b""),
        ([(0, 2048, 0, 100)], [(b"/f", 10**17, 10**17)], b""),
        ([(0, 2048, 0, 100)], [], b"/f//a b\0"),
        ([(0, 2048, 0, 100)], [], b"/f//-512 512\0"),
    ],
)
def test_an_index_that_lies_is_refused(
    frames_told: list[tuple[int, int, int, int]], places: list[tuple[bytes, int, int]], extra: bytes
) -> None:
    hostile = Packed(
        b"", b"", [Frame(*told) for told in frames_told], [Place(*told) for told in places]
    )
    with pytest.raises(Failure, match="The index of the files is not valid"):
        runs_of(hostile, {b"/f", b"/g"}, extra, 100)


# Frames that come from elsewhere.


@pytest.mark.parametrize("size", (1, 7, 300, 1000))
def test_frames_are_compared_one_by_one(size: int) -> None:
    data = random.Random(1).randbytes(1000)
    cuts = [
        Frame(0, 1, at, length, hashlib.sha256(data[at : at + length]).hexdigest())
        for at, length in ((0, 300), (300, 1), (301, 699))
    ]

    def passed(changed: bytes) -> int:
        """Return how many bytes of frames that count were passed on."""
        got = bytearray()
        check = frames.FrameCheck(cuts, got.extend)
        with pytest.raises(Failure, match="The files part is not what was written"):
            for at in range(0, len(changed), size):
                check.take(changed[at : at + size])
            check.finish()
        return len(got)

    got = bytearray()
    check = frames.FrameCheck(cuts, got.extend)
    for at in range(0, len(data), size):
        check.take(data[at : at + size])
    check.finish()
    assert got == data
    assert passed(b"x" + data[1:]) == 300
    assert passed(data[:300] + bytes([data[300] ^ 1]) + data[301:]) == 301
    assert passed(data[:-1]) == 999
    assert passed(data + b"x") == 1000
    assert passed(b"") == 0
