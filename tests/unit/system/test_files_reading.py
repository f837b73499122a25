"""Reading what another account can replace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.system import files


def test_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff content")
    assert files.read_regular(tmp_path / "file") == b"\xff content"


def test_as_much_as_is_allowed_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert files.read_regular(tmp_path / "file", 4) == b"1234"
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(Failure, match="larger than 0 MiB"):
        files.read_regular(tmp_path / "file", 4)


def test_a_sparse_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Failure, match="larger than 32 MiB"):
        files.read_regular(tmp_path / "file")


def test_a_link_is_not_opened_unless_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with files.open_regular(tmp_path / "link", links=True) as file:
        assert file.read() == b"content"
    with pytest.raises(Failure, match="it is a link"), files.open_regular(tmp_path / "link"):
        pass


def test_a_link_only_where_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(Failure, match="it is a link"):
        files.read_regular(tmp_path / "link")
    assert files.read_regular(tmp_path / "link", links=True) == b"content"


def test_a_link_that_comes_between_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("/etc/shadow")
    monkeypatch.setattr("os.path.islink", lambda path: False)
    with pytest.raises(OSError):
        files.read_regular(tmp_path / "link")


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_plain_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o020600, os.makedev(1, 5))
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with pytest.raises((Failure, OSError)):
        files.read_regular(path)
