"""Access control lists and extended attributes: kept, or told; and links that lead out."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gitlab_mm_backup.backup import attributes, description
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.manifest import parse, to_bytes
from gitlab_mm_backup.store.restic_set import BY_RESTIC
from gitlab_mm_backup.store.sets import BackupSet
from tests.unit.helpers.builders import PACKAGE, make_manifest
from tests.unit.helpers.nights import House

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
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
NOTE = b"x\0=\n\xff"
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/plain").write_bytes(b"x")
    return tmp_path / "data"


def test_files_without_any_are_not_told(tree: Path) -> None:
    assert attributes.look([tree]).told == []


@pytest.mark.parametrize(
    ("name", "value", "kept", "is_told"),
    [
        ("user.note", b"x", {"user": 1}, False),
        ("trusted.note", b"x", {}, True),
        (ACCESS, ACL, {"acl": 1}, False),
        ("trusted.overlay.opaque", b"y", {}, False),
        ("user.overlay.opaque", b"y", {}, False),
        ("security.note", b"x", {}, False),
    ],
)
def test_what_somebody_has_set_is_kept_or_told(
    name: str, value: bytes, kept: dict[str, int], is_told: bool, tree: Path
) -> None:
    os.setxattr(tree / "deep/plain", name, value)
    found = attributes.look([tree])
    assert found.kept == kept
    assert [repr(str(tree / "deep/plain")) in warning for warning in found.told] == [True] * is_told


def test_a_directory_and_the_folder_itself_may_have_some(tree: Path) -> None:
    for path in (tree, tree / "deep"):
        os.setxattr(path, "trusted.note", b"x")
    assert attributes.look([tree]).examples == [str(tree), str(tree / "deep")]


def test_the_first_few_are_named(tree: Path) -> None:
    for number in range(7):
        (tree / f"{number}").write_bytes(b"")
        os.setxattr(tree / f"{number}", "trusted.note", b"x")
    (told,) = attributes.look([tree]).told
    assert "and 4 more" in told


def test_neither_links_nor_what_is_excluded_are_looked_into(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    for path in (tmp_path / "outside/file", tree / "deep/plain"):
        path.write_bytes(b"")
        os.setxattr(path, "user.note", b"x")
    (tree / "link").symlink_to(tmp_path / "outside")
    assert attributes.look([tree], [tree / "deep"]).kept == {}


def test_a_tree_that_is_too_deep_ends_somewhere(tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    try:
        assert attributes.look([tmp_path]).kept == {}
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


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A home in which files, and directories, have all that somebody can set, and the kernel."""
    home, sets = tmp_path / "mattermost", tmp_path / "sets"
    sets.mkdir()
    (home / "data").mkdir(parents=True)
    for name in ("config.json", "data/plain", b"data/\xff odd \n"):
        path = home / os.fsdecode(name)
        path.write_bytes(b"{}" + b" " * 900)
        os.setxattr(path, "user.note", NOTE)
        os.setxattr(path, "user.overlay.note", b"x")
        os.setxattr(path, "trusted.note", b"x")
        os.setxattr(path, "security.capability", CAPABILITY)
        os.setxattr(path, ACCESS, ACL)
    os.setxattr(home / "data", DEFAULT, ACL)
    os.setxattr(home, "user.note", NOTE)
    return House(home, LocalStore(sets))


FILE = {"user.note": NOTE, ACCESS: ACL}


def of(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def restored(house: House, set_: BackupSet, place: Path) -> Path:
    place.mkdir()
    return house.restore(set_, place)


def expect_kept(home: Path) -> None:
    assert [of(path) for path in (home, home / "data")] == [{"user.note": NOTE}, {DEFAULT: ACL}]
    for name in ("config.json", "data/plain", os.fsdecode(b"data/\xff odd \n")):
        assert of(home / name) == FILE


def test_they_come_back_and_nothing_that_gives_rights_to_a_program(
    house: House, tmp_path: Path
) -> None:
    expect_kept(restored(house, house.night(None), tmp_path / "there"))


def test_a_change_of_them_alone_is_in_the_night_after(house: House, tmp_path: Path) -> None:
    (house.home / "data/ballast").write_bytes(os.urandom(9000))
    for path in (house.home / "config.json", house.home / "data/plain"):
        os.removexattr(path, "user.note")
    first = house.night(None)
    for path in (house.home / "config.json", house.home / "data/plain"):
        os.setxattr(path, "user.note", NOTE)
    os.removexattr(house.home, "user.note")
    os.setxattr(house.home, "user.note", NOTE)
    second = house.night(first)
    assert second.base is not None
    expect_kept(restored(house, second, tmp_path / "there"))


def changed(set_: BackupSet, **fields: object) -> BackupSet:
    return dataclasses.replace(set_, manifest=dataclasses.replace(set_.manifest, **fields))  # type: ignore[arg-type]


def test_lists_with_numbers_of_accounts_stay_out_on_another_host(
    house: House, tmp_path: Path
) -> None:
    """restic keeps numbers alone, and a salvage has no names: here they may be somebody else's."""
    set_ = house.night(None)
    files = dataclasses.replace(set_.manifest.parts["files"], form=BY_RESTIC[1])
    by_number: tuple[dict[str, object], ...] = (
        {"parts": {**set_.manifest.parts, "files": files}},
        {"salvaged": ("config.json",)},
    )
    for number, fields in enumerate(by_number):
        place = tmp_path / f"{number}"
        expect_kept(restored(house, changed(set_, **fields), place))
        strange = changed(set_, **fields, host_id="f" * 32)
        home = restored(house, strange, tmp_path / f"strange {number}")
        assert [of(home / name) for name in ("data/plain", "data")] == [{"user.note": NOTE}, {}]


def test_what_a_list_names_that_is_not_here_is_told() -> None:
    warned = "tar: srv/a: Warning: Cannot acl_from_text: Invalid argument\ntar: srv/b: more"
    (told,) = attributes.Keeping(Path("/srv"), True, True).told({"acl": 1}, False, warned)
    assert told.endswith("does not have, as that of srv/a are not put back")


IN_RAMFS = f"""
import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})
import json, os; from pathlib import Path; from gitlab_mm_backup.backup import attributes
os.chmod(sys.argv[1], 0o700)
keeping = attributes.keeping(Path(sys.argv[1]), Path("/srv"))
told = [keeping.told(kept, False, "") for kept in ({{"acl": 2, "user": 1}}, {{}})]
print(json.dumps([keeping.options(False), *told]))
"""


def test_a_file_system_that_holds_none_is_told(tmp_path: Path) -> None:
    mounted = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        'mount -t ramfs none "$1"; exec "$0" -c "$2" "$1"',
    ]
    done = subprocess.run(
        [*mounted, sys.executable, tmp_path, IN_RAMFS], check=True, stdout=subprocess.PIPE
    )
    options, told, without = json.loads(done.stdout)
    assert (options, without) == ([], [])
    assert [warning.startswith("The file system of /srv cannot hold") for warning in told] == [
        True,
        True,
    ]


def test_a_manifest_counts_them_and_one_without_any_is_as_before() -> None:
    made = make_manifest(attributes={"acl": 2, "user": 7})
    assert parse(to_bytes(made), "it").attributes == {"acl": 2, "user": 7}
    assert "attributes" not in json.loads(to_bytes(make_manifest()))
