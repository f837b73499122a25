"""Writing: the old file or the new one, and nothing else."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from gitlab_mm_backup.system import files


def test_a_new_file_is_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        files.replace_file(tmp_path / "file", b"content")
    finally:
        os.umask(umask)
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o600)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_owner_and_mode_are_given_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    rename = os.rename

    def look(source: str, target: str, **folders: int) -> None:
        status = os.stat(source, dir_fd=folders["src_dir_fd"])
        seen.append((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)))
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", look)
    files.replace_file(tmp_path / "file", b"content", 65534, 12, 0o640)
    assert seen == [(65534, 12, 0o640)]


def test_it_is_born_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    born, chown, umask = list[int](), os.fchown, os.umask(0)

    def look(descriptor: int, uid: int, gid: int) -> None:
        born.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        chown(descriptor, uid, gid)

    monkeypatch.setattr(os, "fchown", look)
    try:
        files.replace_file(tmp_path / "file", b"content", mode=0o644)
    finally:
        os.umask(umask)
    assert born == [0o600]


def test_a_folder_behind_a_link_is_written_to_and_synced(tmp_path: Path) -> None:
    """As /etc/gitlab may be one; ``opened`` alone follows none unless it is told to."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    files.replace_file(tmp_path / "link" / "file", b"content")
    files.sync_folder(tmp_path / "link")
    assert (tmp_path / "folder" / "file").read_bytes() == b"content"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"keep")
    (tmp_path / "file").symlink_to("target")
    files.replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "target").read_bytes() == b"keep"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("call", ["fchown", "fchmod", "fsync", "rename"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **_folders: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space left"):
        files.replace_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_the_content_is_synced_before_the_name_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        size = os.fstat(descriptor).st_size if kind == "file" else 0
        calls.append(f"sync {kind} {size}" if size else f"sync {kind}")
        fsync(descriptor)

    def note_rename(source: str, target: str, **folders: int) -> None:
        calls.append("rename")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    files.replace_file(tmp_path / "file", b"content")
    assert calls == ["sync file 7", "rename", "sync folder"]


def test_a_folder_that_is_exchanged_meanwhile_gets_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").mkdir()
    with files.open_directory(tmp_path / "folder") as folder:
        (tmp_path / "folder").rename(tmp_path / "away")
        (tmp_path / "folder").symlink_to("other")
        files.replace_in(folder, "file", b"content", 0, 0, 0o600)
    assert (tmp_path / "away/file").read_bytes() == b"content"
    assert not any((tmp_path / "other").iterdir())


def test_a_link_is_not_opened_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(OSError), files.open_directory(tmp_path / "link"):
        pass
    with files.open_directory(tmp_path / "link", links=True) as folder:
        assert os.fstat(folder).st_ino == (tmp_path / "folder").stat().st_ino


def test_no_link_is_followed_on_the_way_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("folder")
    with files.open_directory(tmp_path / "folder/inner") as found:
        assert os.path.samestat(os.fstat(found), os.stat(tmp_path / "folder/inner"))
    before = len(os.listdir("/proc/self/fd"))
    for name in ("link", "link/inner", "folder/none"):
        with pytest.raises(OSError), files.open_directory(tmp_path / name):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


NOT = 0xFFFFFFFF  # a number, where an entry has none
ATTRIBUTES = {"user.note": b"x\0", "trusted.note": b"y"}
# An access control list (acl(5)) that lets user 65534 read, as the kernel keeps it.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, NOT), (2, 4, 65534), (4, 4, NOT), (16, 4, NOT), (32, 0, NOT))
)


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def test_a_file_that_is_alike_has_the_attributes_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"{}")
    for name, value in {**ATTRIBUTES, "system.posix_acl_access": ACL}.items():
        os.setxattr(path, name, value)
    mode, kept = path.stat().st_mode & 0o7777, {"user.note": b"x\0", "system.posix_acl_access": ACL}
    files.replace_file(path, b"{ }", mode=mode, alike=True)
    assert (path.read_bytes(), attributes(path)) == (b"{ }", kept)
    assert path.stat().st_mode & 0o7777 == mode
    (tmp_path / "link").symlink_to(path)
    for name in ("link", "new"):  # what a link leads to may be anybody's
        files.replace_file(tmp_path / name, b"", alike=True)
        assert attributes(tmp_path / name) == {}
    with files.open_directory(tmp_path) as folder:
        files.replace_in(folder, path.name, b"", 0, 0, 0o600)
    assert attributes(path) == {}
    os.setxattr(path, "user.note", b"x")
    files.replace_file(path, b"")
    assert attributes(path) == {}


def test_only_roots_own_links_are_followed_on_the_way(tmp_path: Path) -> None:
    hers = tmp_path / "hers"
    hers.mkdir()
    (hers / "link").symlink_to("/")
    assert files.led_by_root(Path("/usr/share/new"))
    (tmp_path / "fine").symlink_to("/usr/share")
    led = files.led_by_root
    assert led(tmp_path / "fine" / "new") and led(hers / "link" / "usr" / "new")
    os.chown(hers, 65534, 65534)
    assert not led(hers / "new") and not led(hers / "link" / "usr" / "new")
    os.lchown(tmp_path / "fine", 65534, 65534)
    assert not led(tmp_path / "fine" / "new")


@pytest.mark.parametrize(
    ("mode", "owner", "led"),
    [
        (0o755, 0, True),
        (0o1777, 0, True),  # as /tmp: what is root's there stays root's
        (0o1777, 65534, False),
        (0o777, 0, False),
        (0o775, 0, False),
        (0o757, 0, False),
        (0o700, 65534, False),
    ],
)
def test_whoever_can_change_a_directory_on_the_way_leads(
    tmp_path: Path, mode: int, owner: int, led: bool
) -> None:
    place = tmp_path / "place"
    (place / "inner").mkdir(parents=True, mode=0o700)
    place.chmod(mode)
    os.chown(place, owner, owner)
    assert files.led_by_root(place / "inner") is led
    assert files.led_by_root(place / "new") is led
    assert files.led_by_root(place), "what it leads to is another question"


def test_a_way_without_an_end_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert not files.led_by_root(tmp_path / "one" / "x")
    with pytest.raises(FileNotFoundError):
        files.led_by_root(tmp_path / "missing" / "x")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/up").symlink_to("../inner")
    assert files.led_by_root(tmp_path / "inner/up/up/new")
