"""Frames of a copy in a sparse file: dd reads in place of rclone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gitlab_mm_backup.config.settings import Remote
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.offsite import copied_frames, rclone
from gitlab_mm_backup.offsite.copied_frames import CopiedFrames
from gitlab_mm_backup.store.frames import Frame
from gitlab_mm_backup.system.process import Command

SIZE = 70_000  # bytes of a frame
COUNT = 30


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, int]]:
    """What is read of the file there: start and bytes."""
    pieces = list[tuple[int, int]]()

    def piece(remote: Remote, start: int, length: int, *names: str) -> Command:
        assert names == ("set", "files.tar.zst")
        pieces.append((start, length))
        where = (f"if={tmp_path / 'there'}", f"skip={start}", f"count={length}")
        return Command(["dd", *where, "iflag=skip_bytes,count_bytes", "status=none"])

    monkeypatch.setattr(rclone, "read_piece", piece)
    return pieces


def copied(tmp_path: Path) -> tuple[bytes, CopiedFrames]:
    data = os.urandom(SIZE * COUNT)
    (tmp_path / "there").write_bytes(data)
    every = [
        Frame(0, 1, at, SIZE, hashlib.sha256(data[at : at + SIZE]).hexdigest())
        for at in range(0, len(data), SIZE)
    ]
    names, file = ("set", "files.tar.zst"), tmp_path / "here"
    return data, CopiedFrames(Remote("nas", "nas:a", retries=0), names, file, len(data), every)


def test_what_is_brought_is_where_it_belongs(tmp_path: Path, read: list[tuple[int, int]]) -> None:
    """Few frames are read at once, those that follow each other together; all else is a hole."""
    data, frames = copied(tmp_path)
    frames.bring([(SIZE * at, SIZE) for at in (0, 1, 5)] + [(SIZE * 7, SIZE * 20)])
    assert read[:2] == [(0, SIZE * 2), (SIZE * 5, SIZE)]
    assert [length // SIZE for _, length in read[2:]] == [copied_frames._FEW, copied_frames._FEW, 4]
    found = (tmp_path / "here").read_bytes()
    assert len(found) == len(data)
    for at in range(COUNT):
        wanted = data if at in (0, 1, 5) or 7 <= at < 27 else bytes(len(data))
        assert found[SIZE * at : SIZE * (at + 1)] == wanted[SIZE * at : SIZE * (at + 1)], at
    frames.bring([(SIZE * 29, SIZE)])
    found = (tmp_path / "here").read_bytes()
    assert found == bytes(SIZE * 29) + data[SIZE * 29 :]


@pytest.mark.parametrize("at", [0, 12, 26])
def test_another_frame_is_refused(tmp_path: Path, read: list[tuple[int, int]], at: int) -> None:
    data, frames = copied(tmp_path)
    changed = bytearray(data)
    changed[SIZE * at + 5] ^= 1
    (tmp_path / "there").write_bytes(changed)
    with pytest.raises(Failure, match="The files part is not what was written"):
        frames.bring([(0, SIZE * 27)])


def test_a_file_that_ends_before_is_refused(tmp_path: Path, read: list[tuple[int, int]]) -> None:
    data, frames = copied(tmp_path)
    (tmp_path / "there").write_bytes(data[:-1])
    with pytest.raises(Failure, match="1 bytes of the frame at"):
        frames.bring([(SIZE * 29, SIZE)])
