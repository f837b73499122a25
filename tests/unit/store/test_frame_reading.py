"""Members of sets read by their index, alone and all of them; sets are made as a night makes them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tarfile import TarInfo
from typing import IO, Any, cast

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import frame_index, frames, verify
from gitlab_mm_backup.store.archive_reader import MemberContent
from gitlab_mm_backup.store.frame_index import Place, Run
from gitlab_mm_backup.store.frames import Frame
from gitlab_mm_backup.store.sets import BackupSet
from gitlab_mm_backup.system.process import Command
from tests.unit.helpers.nights import House
from tests.unit.store.test_file_list import UPLOADS, forged, house
from tests.unit.store.test_frames import record_of

__all__ = ["house"]
SMALL = 100_000  # bytes of a frame: the house has 0.6 MB


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", SMALL)
    monkeypatch.setattr(frames, "_HEADERS", 4096)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of files parts that were read by an index, run by run."""
    lengths: list[int] = []
    unpacked = frame_index.unpacked

    @contextlib.contextmanager
    def watched(set_: BackupSet, run: Run) -> Iterator[IO[bytes]]:
        lengths.append(run.length)
        with unpacked(set_, run) as stream:
            yield stream

    monkeypatch.setattr(frame_index, "unpacked", watched)
    return lengths


def read(set_: BackupSet, *paths: Path) -> dict[str, bytes]:
    """Read some files of a set; a further name of a file comes as the path of that."""
    found = {}

    def take(member: TarInfo, content: MemberContent) -> None:
        path = f"/{member.name}"
        if path in map(str, paths):
            assert path not in found, "twice"
            link = os.fsencode(f"/{member.linkname}")
            found[path] = link if member.islnk() else b"".join(content.pieces())

    assert verify.read_members(set_, [str(path) for path in paths], take).detail == ""
    return found


def test_few_frames_are_read_for_one_file(house: House, fetched: list[int]) -> None:
    full = house.night(None)
    path = house.home / UPLOADS / "upload-07/picture.png"
    assert read(full, path) == {str(path): path.read_bytes()}
    assert len(fetched) == 1 and fetched[0] <= 2 * SMALL < full.file("files").stat().st_size / 3


def test_all_files_come_back_each_once(house: House, fetched: list[int]) -> None:
    full = house.night(None)
    plain = [path for path in house.home.rglob("*") if path.is_file() and not path.is_symlink()]
    found = read(full, *plain)
    for path in plain:
        content = found[str(path)]
        linked = content.startswith(os.fsencode(house.home))
        other = Path(os.fsdecode(content)) if linked else path
        assert other.read_bytes() == path.read_bytes() and os.path.samefile(other, path)
        assert other == path or found[str(other)] == path.read_bytes()
    assert len(found) == len(plain)
    assert sum(fetched) <= full.file("files").stat().st_size


def test_a_larger_file_than_a_frame_comes_whole(house: House, fetched: list[int]) -> None:
    large = house.home / "data/large"
    large.write_bytes(os.urandom(3 * SMALL))
    full = house.night(None)
    beside = house.home / UPLOADS / "upload-03/picture.png"
    assert read(full, large, beside) == {str(path): path.read_bytes() for path in (large, beside)}
    verify.verify(full)


def test_each_file_of_a_chain_comes_from_the_set_that_has_it(
    house: House, fetched: list[int]
) -> None:
    full = house.night(None)
    pictures = [house.home / UPLOADS / f"upload-{number:02}/picture.png" for number in range(4)]
    before = pictures[0].read_bytes()
    pictures[0].write_bytes(b"another one")
    pictures[1].unlink()
    night = house.night(full)
    found = read(night, *pictures, house.home / "nowhere")
    assert found == {
        str(path): path.read_bytes() for path in (pictures[0], pictures[2], pictures[3])
    }
    assert read(full, pictures[0]) == {str(pictures[0]): before}
    verify.verify(night)


def without_index(set_: BackupSet) -> BackupSet:
    parts = {name: part for name, part in set_.manifest.parts.items() if name != frames.INDEX}
    return dataclasses.replace(set_, manifest=dataclasses.replace(set_.manifest, parts=parts))


def test_an_older_set_is_read_from_end_to_end(house: House, fetched: list[int]) -> None:
    old = without_index(house.night(None))
    path = house.home / UPLOADS / "upload-07/picture.png"
    assert read(old, path) == {str(path): path.read_bytes()} and fetched == []
    assert verify.read_files(old, lambda member, content: None).detail == ""


def index_of(set_: BackupSet) -> list[Frame | Place]:
    with open(set_.file(frames.INDEX), "rb") as packed:
        every = frame_index.matching(packed, [b"//"])
        return [frame_index.parsed(record) for record in every if not record.startswith(b"//h")]


def with_index(set_: BackupSet, change: Callable[[list[Place], list[Frame]], object]) -> BackupSet:
    """Forge an index, with the manifest that fits."""
    known = index_of(set_)
    places = [record for record in known if isinstance(record, Place)]
    cuts = [record for record in known if isinstance(record, Frame)]
    change(places, cuts)
    records = [b"%s//%d %d\0" % place for place in places]
    records += map(record_of, cuts)
    return forged(set_, frames.INDEX, b"".join(records))


def exchange(places: list[Place], cuts: list[Frame]) -> None:
    """Give the pictures of two uploads each other's paths."""
    one, two = [number for number, place in enumerate(places) if place.path.endswith(b".png")][4:6]
    places[one], places[two] = (
        places[one]._replace(path=places[two].path),
        places[two]._replace(path=places[one].path),
    )


def move(places: list[Place], cuts: list[Frame]) -> None:
    """Say of each picture that it begins a block later."""
    for number, place in enumerate(places):
        if place.path.endswith(b".png"):
            places[number] = place._replace(start=place.start + 512, length=place.length - 512)


def shift(places: list[Place], cuts: list[Frame]) -> None:
    """Say of each frame but the first that it begins earlier in the file."""
    for number in range(1, len(cuts)):
        before = cuts[number - 1]
        cuts[number - 1] = before._replace(packed_length=before.packed_length - 7)
        cuts[number] = cuts[number]._replace(
            packed=cuts[number].packed - 7, packed_length=cuts[number].packed_length + 7
        )


@pytest.mark.parametrize("lie", [exchange, move, shift])
def test_a_lie_is_found_where_a_file_is_read_and_by_a_verification(
    lie: Callable[[list[Place], list[Frame]], object], house: House
) -> None:
    full = with_index(house.night(None), lie)
    pictures = [house.home / UPLOADS / f"upload-{number:02}/picture.png" for number in range(20)]
    with pytest.raises(Failure):
        read(full, *pictures)
    with pytest.raises(Failure, match="damaged"):
        verify.verify(full)


def drop(places: list[Place], cuts: list[Frame]) -> None:
    places.pop(9)


def drop_last(places: list[Place], cuts: list[Frame]) -> None:
    places.pop()


def add(places: list[Place], cuts: list[Frame]) -> None:
    half = places[9].length // 1024 * 512
    places[9:10] = [
        places[9]._replace(length=half),
        Place(b"/nothing", places[9].start + half, places[9].length - half),
    ]


def swallow(places: list[Place], cuts: list[Frame]) -> None:
    """Say of one member that it has the next one too."""
    places[9:11] = [places[9]._replace(length=places[9].length + places[10].length)]


@pytest.mark.parametrize("lie", [drop, drop_last, add, swallow])
def test_a_verification_finds_that_an_index_has_other_members(
    lie: Callable[[list[Place], list[Frame]], object], house: House
) -> None:
    with pytest.raises(Failure, match="damaged"):
        verify.verify(with_index(house.night(None), lie))


def test_a_frame_that_unpacks_to_more_than_the_index_says_is_found(house: House) -> None:
    """Nothing but zeros is added, which tar itself would not mind; a bomb is made of them."""
    full = house.night(None)
    zeros = subprocess.run(["zstd", "-cq"], input=bytes(10 << 20), capture_output=True, check=True)
    data = full.file("files").read_bytes() + zeros.stdout
    full.file("files").write_bytes(data)
    part = dataclasses.replace(
        full.manifest.parts["files"], bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    parts = {**full.manifest.parts, "files": part}
    full = dataclasses.replace(full, manifest=dataclasses.replace(full.manifest, parts=parts))

    def longer(places: list[Place], cuts: list[Frame]) -> None:
        cuts[-1] = cuts[-1]._replace(packed_length=len(data) - cuts[-1].packed)

    with pytest.raises(Failure, match="more than its index says"):
        verify.verify(with_index(full, longer))


def test_a_damaged_index_is_not_used(house: House) -> None:
    full = house.night(None)
    os.truncate(full.file(frames.INDEX), 30)
    with pytest.raises(Failure, match=r"files.index.zst of set .* has 30 bytes"):
        read(full, house.home / "double")


class Elsewhere:
    """A files part that is read by dd, in place of a remote."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def piece(self, start: int, length: int) -> Command:
        where = (f"if={self.file}", f"skip={start}", f"count={length}")
        return Command(["dd", *where, "iflag=skip_bytes,count_bytes", "status=none"])

    def folder(self, path: str) -> None:
        """It knows nothing of directories."""


def elsewhere(set_: BackupSet, tmp_path: Path) -> BackupSet:
    """Have the files part elsewhere."""
    away = tmp_path / "away"
    os.rename(set_.file("files"), away)
    return dataclasses.replace(set_, stream=cast(Any, Elsewhere(away)))


def spoil(file: Path, at: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte[0] ^ 1]))


def test_a_frame_from_elsewhere_is_compared_before_it_is_read(house: House, tmp_path: Path) -> None:
    """A changed one is refused, although zstd's own checksum may fit; the others are read."""
    there = elsewhere(house.night(None), tmp_path)
    cuts = [record for record in index_of(there) if isinstance(record, Frame)]
    paths = [house.home / UPLOADS / f"upload-{number:02}/picture.png" for number in range(12)]
    assert read(there, *paths) == {str(path): path.read_bytes() for path in paths}
    spoil(tmp_path / "away", cuts[2].packed + 4)  # zstd's header of the frame
    good, bad = dict[str, bytes](), list[Path]()
    for path in paths:
        try:
            good.update(read(there, path))
        except Failure as failure:
            assert failure.message == "The files part is not what was written"
            bad.append(path)
    assert good and bad


def test_an_index_of_before_has_no_sums(house: House, tmp_path: Path) -> None:
    """What it finds is read as before: zstd alone looks at it."""
    there = elsewhere(
        with_index(
            house.night(None),
            lambda places, cuts: cuts.__setitem__(
                slice(None), [frame._replace(sha256="") for frame in cuts]
            ),
        ),
        tmp_path,
    )
    path = house.home / UPLOADS / "upload-07/picture.png"
    assert read(there, path) == {str(path): path.read_bytes()}
