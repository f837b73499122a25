"""A files part that several tars unpack at the same time: the tree is that of one tar."""

from __future__ import annotations

import os
import random
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import archive_reader, archive_writer, frames
from gitlab_mm_backup.store.archive_writer import EXTENDED, LISTS
from gitlab_mm_backup.system import process
from gitlab_mm_backup.system.process import Command
from tests.unit.backup.test_attributes import ACCESS, ACL, DEFAULT
from tests.unit.store.test_archive_writer import describe, make_tree

SMALL = 100_000  # bytes of a frame
PROCESSORS = 5
COMPRESSOR = process.compress(1, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", SMALL)
    monkeypatch.setattr(frames, "_HEADERS", 4096)
    monkeypatch.setattr(archive_reader, "_SHARE", SMALL)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(PROCESSORS)))


@dataclass(frozen=True)
class Part:
    """A files part with its index."""

    archive: Path
    index: Path

    @classmethod
    def of(cls, place: Path, *folders: Path, sorted_: bool = False) -> Part:
        """Pack folders as a full set does, or as one that others build on does."""
        part = cls(place / "files.tar.zst", place / "files.index")
        found = archive_writer.survey(folders)
        with open(part.archive, "wb") as file, open(part.index, "wb") as index:
            if sorted_:
                every = [path for folder in folders for path in (folder, *folder.rglob("*"))]
                with tempfile.TemporaryFile() as names:
                    names.writelines(sorted(os.fsencode(path)[1:] + b"\0" for path in every))
                    names.seek(0)
                    archive_writer.pack_named(
                        *(names, folders, found, COMPRESSOR, file.write),
                        lambda line: None,
                        index.write,
                    )
            else:
                archive_writer.pack(folders, [], found, COMPRESSOR, file.write, index=index.write)
        packed = subprocess.run(["zstd", "-cq", part.index], capture_output=True, check=True)
        part.index.write_bytes(packed.stdout)
        return part

    def unpack(self, folder: Path, into: Path, *excluded: Path, shared: bool) -> Path:
        """Unpack a folder by one tar, or shares of it at the same time."""
        into.mkdir()
        archive_reader.unpack(
            *(self.archive, str(folder), into, list(map(str, excluded)), (*LISTS, *EXTENDED)),
            index=self.index if shared else None,
        )
        return into / folder.name

    @property
    def shares(self) -> list[archive_reader.Share]:
        return archive_reader.shares(self.index, self.archive.stat().st_size, PROCESSORS)


def everything(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return all that a set keeps of each entry below and including ``root``."""
    whole = {}
    for name, facts in describe(root.parent).items():
        path = root.parent / name
        kinds = os.listxattr(path, follow_symlinks=False)
        attributes = {kind: os.getxattr(path, kind, follow_symlinks=False) for kind in kinds}
        whole[name] = (*facts, path.lstat().st_mtime_ns, attributes)
    return whole


def differing(alone: dict[str, Any], shared: dict[str, Any]) -> list[Any]:
    names = sorted({*alone, *shared})
    return [(name, alone.get(name), shared.get(name)) for name in names
            if alone.get(name) != shared.get(name)]  # fmt: skip


def grow(home: Path, seed: int) -> None:
    """Add uploads in directories of their own, with what makes directories differ."""
    some = random.Random(seed)
    for day in range(20251101, 20251109):
        for number in range(12):
            where = home / f"data/{day}/teams/noteam/channels/c{number % 3}/users/u/{day}{number}"
            where.mkdir(parents=True)
            (where / "picture.png").write_bytes(some.randbytes(some.randrange(20_000)))
    # In the order of bytes, a is before a-b, and a/b after it.
    for name in ("data/p", "data/p-1", "data/p.q", "data/p-1/-", "data/p/z", "data/p/z!"):
        (home / name).mkdir(exist_ok=True)
        for number in range(12):
            (home / name / f"{number}.bin").write_bytes(some.randbytes(12_000))
    (home / "data/large").write_bytes(some.randbytes(4 * SMALL))
    (home / "data/20251103/away").symlink_to("/var/opt/gitlab/elsewhere")
    directories = [path for path in (home, *home.rglob("*")) if path.is_dir()]
    for path in some.sample(directories, 150):
        os.chown(path, some.randrange(100, 200), 12)
        path.chmod(some.choice([0o2770, 0o2770, 0o500, 0o700, 0o1777]))
    for path in some.sample(directories, 10):
        for name, value in ((ACCESS, ACL), (DEFAULT, ACL), ("user.note", b"kept")):
            os.setxattr(path, name, value)
    for path in directories:
        when = some.randrange(10**18, 2 * 10**18)
        os.utime(path, ns=(when, when))


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = []
    for seed in range(3):
        home = tmp_path_factory.mktemp(f"home{seed}") / "mattermost"
        home.mkdir()
        make_tree(home)
        (home / "second name").unlink()  # sets with hard links are unpacked by one tar
        grow(home, seed)
        made.append(home)
    return made


@pytest.mark.parametrize("sorted_", [False, True])
def test_the_tree_is_that_of_one_tar(homes: list[Path], tmp_path: Path, sorted_: bool) -> None:
    for home in homes:
        place = tmp_path / home.parent.name
        place.mkdir()
        part = Part.of(place, home, sorted_=sorted_)
        assert len(part.shares) == PROCESSORS
        before, alone = everything(home), everything(part.unpack(home, place / "1", shared=False))
        shared = everything(part.unpack(home, place / "2", shared=True))
        # Sorted by bytes, p/z comes after p-1: tar has set the time of p by then.
        late = ["mattermost/data/p", "mattermost/data/p/z"] if sorted_ else []
        assert [name for name, *_ in differing(before, alone)] == late
        assert {name for name, *_ in differing(before, shared)} <= {*late}
        assert len(before) > 400


@pytest.mark.parametrize("backwards", [False, True])
def test_it_does_not_matter_which_share_ends_first(
    homes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    def one_by_one(archive: Path, every: list[archive_reader.Share], extract: Command) -> Any:
        ended = []
        for share in reversed(every) if backwards else every:
            with open(archive, "rb") as packed:
                ended.append(archive_reader._unpack_pieces(packed, share.slices, extract)[-1])
        return ended

    monkeypatch.setattr(archive_reader, "_at_the_same_time", one_by_one)
    for home in homes:
        place = tmp_path / home.parent.name
        place.mkdir()
        shared = Part.of(place, home).unpack(home, place / "shared", shared=True)
        assert differing(everything(home), everything(shared)) == []


def test_directories_in_several_shares_are_there_before(
    homes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two tars that make the same directory at the same time fails, but seldom."""
    home, part, found = homes[0], Part.of(tmp_path, homes[0]), list[bool]()
    begin = archive_reader._at_the_same_time

    def watched(archive: Path, shares: list[archive_reader.Share], extract: Command) -> Any:
        parents = [Path(os.fsdecode(share.first)).parent for share in shares[1:]]
        found.extend(
            (tmp_path / "into" / path.relative_to(home.parent)).is_dir() for path in parents
        )
        return begin(archive, shares, extract)

    monkeypatch.setattr(archive_reader, "_at_the_same_time", watched)
    part.unpack(home, tmp_path / "into", shared=True)
    assert found == [True] * (PROCESSORS - 1)


def test_a_directory_that_few_shares_have_is_unpacked_alone(
    homes: list[Path], tmp_path: Path
) -> None:
    home, other = homes[0], tmp_path / "other"
    (other / "empty").mkdir(parents=True)
    (other / "file").write_bytes(b"there")
    part = Part.of(tmp_path, home, other)
    for folder in (other, home / "data"):
        alone = part.unpack(folder, tmp_path / f"alone-{folder.name}", shared=False)
        shared = part.unpack(folder, tmp_path / f"shared-{folder.name}", shared=True)
        assert differing(everything(alone), everything(shared)) == []
    with pytest.raises(Failure, match="nothing of /no/such"):
        part.unpack(Path("/no/such/folder"), tmp_path / "none", shared=True)


def test_what_is_left_out_stays_out(homes: list[Path], tmp_path: Path) -> None:
    home, part = homes[0], Part.of(tmp_path, homes[0])
    cut = [Path(os.fsdecode(share.first)).relative_to(home).parts[:2] for share in part.shares[1:]]
    never = [home / "data/p", home / "config.json", *(home.joinpath(*parts) for parts in cut)]
    alone = everything(part.unpack(home, tmp_path / "alone", *never, shared=False))
    shared = everything(part.unpack(home, tmp_path / "shared", *never, shared=True))
    assert differing(alone, shared) == []
    assert len(alone) < len(everything(home)) - 50
    assert not {f"mattermost/{'/'.join(parts)}" for parts in cut} & {*shared}


def test_a_damaged_share_is_a_failure(homes: list[Path], tmp_path: Path) -> None:
    part = Part.of(tmp_path, homes[0])
    start, length = part.shares[-1].slices[-1]
    data = bytearray(part.archive.read_bytes())
    data[start + length // 2 : start + length // 2 + 400] = bytes(400)
    part.archive.write_bytes(data)
    with pytest.raises(Failure, match="zstd failed"):
        part.unpack(homes[0], tmp_path / "shared", shared=True)


def test_shares_are_all_of_the_part_and_of_like_size(homes: list[Path], tmp_path: Path) -> None:
    part = Part.of(tmp_path, homes[1])
    size, at = part.archive.stat().st_size, 0
    for share in part.shares:
        for start, length in share.slices:
            assert start == at
            at += length
        assert sum(length for _, length in share.slices) < size / PROCESSORS + 6 * SMALL
    assert at == size
    assert len(archive_reader.shares(part.index, size, 1)) == 1
    many = archive_reader.shares(part.index, size, 10_000)
    assert PROCESSORS < len(many) < 10_000 and all(len(share.slices) == 1 for share in many)
    some = [many[1].slices[0], many[3].slices[0]]
    assert archive_reader.shares(part.index, size, size, some) == [many[1], many[3]]


def test_directories_that_a_cut_divides() -> None:
    assert list(archive_reader.divided_before(b"/a/b-c.d/e")) == [
        *(b"/a", b"/a/b", b"/a/b-c", b"/a/b-c.d"),
    ]


def test_hard_links_and_old_indexes_are_for_one_tar(homes: list[Path], tmp_path: Path) -> None:
    home = tmp_path / "mattermost"
    subprocess.run(["cp", "--archive", homes[0], home], check=True)
    os.link(home / "data/large", home / "z")
    assert Part.of(tmp_path, home).shares == []
    (home / "z").unlink()
    part = Part.of(tmp_path, home)
    assert len(part.shares) == PROCESSORS
    index = subprocess.run(["zstd", "-dcq", part.index], capture_output=True, check=True).stdout
    old = re.sub(rb"(//=\d+ \d+ \d+ \d+) [0-9a-f]{64}\0", rb"\1\0", index)
    assert old != index
    part.index.write_bytes(
        subprocess.run(["zstd", "-cq"], input=old, capture_output=True, check=True).stdout
    )
    assert part.shares == []
