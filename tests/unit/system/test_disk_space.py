"""Disk space: what must stay free, against the disk that the tests themselves run on."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store.local import PartWriter
from gitlab_mm_backup.system import disk_space
from gitlab_mm_backup.system.disk_space import Size

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _default_again() -> Iterator[None]:
    yield
    disk_space.leave(None)


@pytest.fixture
def quiet() -> Iterator[Path]:
    """A directory in memory: on the disk of the tests others remove large files meanwhile."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def leave_but(folder: Path, usable: int) -> None:
    """Have so many bytes more free than must stay so; others write to the disk meanwhile."""
    disk_space.leave(Size(bytes=disk_space.free(folder) - usable))


def test_the_default_is_a_share_but_not_more_than_enough(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    total = disk.f_blocks * disk.f_frsize
    assert disk_space.reserve(tmp_path) == min(total * 5 // 100, 2 << 30)
    disk_space.leave(Size(percent=10))
    assert disk_space.reserve(tmp_path) == total * 10 // 100
    disk_space.leave(Size())
    assert (disk_space.reserve(tmp_path), disk_space.unchecked()) == (0, True)


def test_what_fits_only_with_the_reserve_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "not/there/yet"
    leave_but(tmp_path, 500 * MIB)
    disk_space.refuse_without(folder, 100 * MIB, "a set")
    with pytest.raises(Failure, match="Not enough disk space for a set") as caught:
        disk_space.refuse_without(folder, 900 * MIB, "a set", "Buy a disk.")
    assert "900.0 MiB needed" in caught.value.detail and "must stay free" in caught.value.detail
    assert (caught.value.hint, "min_free" in disk_space.WAYS) == ("Buy a disk.", True)
    disk_space.leave(Size())
    disk_space.refuse_without(folder, 900 * MIB, "a set")


def test_a_file_ends_before_the_reserve_is_touched(quiet: Path) -> None:
    leave_but(quiet, 100 * MIB)
    writer = PartWriter(quiet / "part")
    writer.write(bytes(MIB))
    disk_space.leave(Size(bytes=disk_space.free(quiet) - MIB))
    with pytest.raises(disk_space.NearlyFull) as caught:
        for _ in range(20):
            writer.write(bytes(MIB))
    assert writer.bytes <= 5 * MIB, "it looked too late"
    assert str(quiet) in caught.value.detail
    another = PartWriter(quiet / "another")
    with pytest.raises(disk_space.NearlyFull):
        another.write(b"x")
    disk_space.leave(Size())
    another.write(b"x")
    for progress in (writer, another):
        progress.finish("bytes")


def test_a_program_that_writes_is_watched(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    over = threading.Event()
    over.set()
    disk_space.leave(Size(bytes=1 << 60))
    disk_space.watch(descriptor, tmp_path, over)  # it has ended in time
    over.clear()
    with pytest.raises(disk_space.NearlyFull):
        disk_space.watch(descriptor, tmp_path, over)
    disk_space.leave(Size())
    disk_space.watch(descriptor, tmp_path, over)
    os.close(descriptor)
