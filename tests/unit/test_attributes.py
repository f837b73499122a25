"""What is told of access control lists, extended attributes, and links that lead out."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from gitlab_mm_backup import attributes, description

# An access control list (acl(5)) that lets user 65534 read, as the kernel keeps it.
_ENTRIES = (
    (1, 6, 0xFFFFFFFF),
    (2, 4, 65534),
    (4, 4, 0xFFFFFFFF),
    (16, 4, 0xFFFFFFFF),
    (32, 0, 0xFFFFFFFF),
)
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, number) for tag, permissions, number in _ENTRIES
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/plain").write_bytes(b"x")
    return tmp_path / "data"


def test_files_without_any_are_not_told(tree: Path) -> None:
    assert attributes.look([tree]).told == []


@pytest.mark.parametrize(
    ("name", "value", "is_told"),
    [
        ("user.note", b"x", True),
        ("trusted.note", b"x", True),
        ("system.posix_acl_access", ACL, True),
        ("trusted.overlay.opaque", b"y", False),
        ("security.note", b"x", False),
    ],
)
def test_what_somebody_has_set_is_told(name: str, value: bytes, is_told: bool, tree: Path) -> None:
    os.setxattr(tree / "deep/plain", name, value)
    told = attributes.look([tree]).told
    assert [repr(str(tree / "deep/plain")) in one for one in told] == ([True] if is_told else [])


def test_a_directory_and_the_folder_itself_may_have_some(tree: Path) -> None:
    for path in (tree, tree / "deep"):
        os.setxattr(path, "user.note", b"x")
    assert attributes.look([tree]).examples == [str(tree), str(tree / "deep")]


def test_the_first_few_are_named(tree: Path) -> None:
    for number in range(7):
        (tree / f"{number}").write_bytes(b"")
        os.setxattr(tree / f"{number}", "user.note", b"x")
    (told,) = attributes.look([tree]).told
    assert "and 4 more" in told


def test_neither_links_nor_what_is_excluded_are_looked_into(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    for path in (tmp_path / "outside/file", tree / "deep/plain"):
        path.write_bytes(b"")
        os.setxattr(path, "user.note", b"x")
    (tree / "link").symlink_to(tmp_path / "outside")
    assert attributes.look([tree], [tree / "deep"]).count == 0


def test_a_tree_that_is_too_deep_ends_somewhere(tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    try:
        assert attributes.look([tmp_path]).count == 0
    finally:  # what pytest removes old directories with goes down by recursion
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


@pytest.mark.parametrize(
    ("target", "matters"),
    [
        ("{outside}", True),
        ("../outside", True),
        ("/nowhere", False),  # nothing is lost with it
        ("/usr/bin/env", False),
        ("/usr/../{outside}", True),
    ],
)
def test_a_link_is_told_where_something_is_lost_with_it(
    target: str, matters: bool, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    to = target.format(outside=tmp_path / "outside")
    assert description.matters(str(tree / "link"), to) is matters
