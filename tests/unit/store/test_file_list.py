"""Chains of sets, with the real find, sort, tar and zstd: what is packed, and what comes back."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import random
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import file_list, manifest, verify
from gitlab_mm_backup.store.archive_rules import ListingChecker
from gitlab_mm_backup.store.file_list import FileEntry
from gitlab_mm_backup.store.frames import NameLine
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.sets import BackupSet, open_set
from gitlab_mm_backup.system import process
from tests.unit.helpers.builders import ROOT
from tests.unit.helpers.nights import House, seen_as_a_link
from tests.unit.store.test_archive_writer import (
    compress,
    describe,
    make_tree,
    plain_files,
    unpacked,
)

UPLOADS = "data/20261122/teams"


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A home with all that may be in one, and enough of it that no change is half of all."""
    home = tmp_path / "site" / "mattermost"
    make_tree(home)
    for name in ("sparse", "second name"):
        (home / name).unlink()
    (home / "double").write_bytes(b"x" * 1000)
    os.link(home / "double", home / "second name")
    (home / "plugins" / "chat").mkdir(parents=True)
    (home / "plugins/chat/server").write_bytes(os.urandom(200_000))
    for number in range(20):
        place = home / UPLOADS / f"upload-{number:02}"
        place.mkdir()
        (place / "picture.png").write_bytes(os.urandom(20_000))
    return House(home, LocalStore(tmp_path / "sets"))


def times(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): path.lstat().st_mtime_ns // 10**9
        for path in [root, *root.rglob("*")]
    }


def expect_back(house: House, set_: BackupSet, place: Path) -> None:
    """The restored tree is the live one: names, kinds, modes, owners, content, links and times."""
    place.mkdir()
    home = house.restore(set_, place)
    assert describe(home) == describe(house.home)
    assert times(home) == times(house.home)
    verify.verify(set_)
    counted = plain_files(house.home)
    assert (set_.manifest.files.files, set_.manifest.files.bytes) == (counted.files, counted.size)


def packed(set_: BackupSet) -> list[str]:
    """The plain files and links in the files part of a set, by their path in the home."""
    with tarfile.open(fileobj=io.BytesIO(unpacked(set_.file("files")))) as tar:
        home = set_.manifest.files.folders["home"]
        return sorted(
            os.path.relpath(f"/{member.name}", home)
            for member in tar.getmembers()
            if not member.isdir()
        )


def rewrite_in_place(path: Path) -> None:
    """Other content of the same size with the same time: the change itself has a time (ctime)."""
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# chains there and back


def test_a_night_holds_what_is_new_and_a_restore_gives_all(house: House, tmp_path: Path) -> None:
    full = house.night(None)
    assert full.manifest.increment is None and "files.list.zst" in {
        part.file for part in full.manifest.parts.values()
    }
    expect_back(house, full, tmp_path / "full")
    new = house.home / UPLOADS / "new upload \n"
    new.mkdir()
    (new / "report.pdf").write_bytes(b"pdf")
    night = house.night(full)
    always = ["double", "second name"]  # of one file
    assert packed(night) == sorted([f"{UPLOADS}/new upload \n/report.pdf", *always])
    assert night.manifest.increment == manifest.Increment(full.name, full.identity, 2, 3 + 1000)
    assert night.file("files").stat().st_size < full.file("files").stat().st_size / 20
    expect_back(house, night, tmp_path / "night")


def test_three_nights_of_all_that_can_happen(house: House, tmp_path: Path) -> None:
    """Removed, renamed, replaced, come back, another kind, another mode: nothing rises again."""
    home, uploads = house.home, house.home / UPLOADS
    sets = [house.night(None)]
    shutil.rmtree(uploads / "upload-00")
    (uploads / "upload-01").rename(uploads / "renamed")
    (uploads / "upload-02/picture.png").rename(uploads / "upload-02/other.png")
    (uploads / "plain").unlink()
    (uploads / "plain").mkdir()
    (uploads / "plain/inside").write_bytes(b"now a folder")
    shutil.rmtree(home / "empty folder")
    (home / "empty folder").write_bytes(b"now a file")
    sets.append(house.night(sets[-1]))
    expect_back(house, sets[-1], tmp_path / "first")
    rewrite_in_place(uploads / "upload-03/picture.png")
    (home / "config.json").chmod(0o640)
    (uploads / "plain/inside").unlink()
    (uploads / "plain").rmdir()
    (uploads / "plain").write_bytes(b"a file again")
    (uploads / "upload-00").mkdir()
    (uploads / "upload-00/picture.png").write_bytes(b"come back")
    (home / "second name").unlink()
    os.link(home / "run.sh", home / "third name")
    sets.append(house.night(sets[-1]))
    expect_back(house, sets[-1], tmp_path / "second")
    (home / "link").unlink()
    (home / "link").symlink_to("run.sh")
    shutil.rmtree(home / "plugins/chat")
    (uploads / "renamed").rename(home / "plugins/chat")
    for name in ("trailing blank ", "new\nline"):
        (uploads / name).unlink(missing_ok=True)
    sets.append(house.night(sets[-1]))
    expect_back(house, sets[-1], tmp_path / "third")
    assert [len(set_.chain) for set_ in sets] == [1, 2, 3, 4]
    assert not any(set_.manifest.increment is None for set_ in sets[1:])
    earlier = open_set(sets[1].path)
    verify.verify(earlier)  # a later night changes nothing of an earlier one


def test_same_size_and_time_is_still_a_change(house: House, tmp_path: Path) -> None:
    full = house.night(None)
    changed = house.home / UPLOADS / "upload-07/picture.png"
    rewrite_in_place(changed)
    night = house.night(full)
    assert f"{UPLOADS}/upload-07/picture.png" in packed(night)
    expect_back(house, night, tmp_path / "night")


def test_an_older_time_than_that_of_the_set_is_still_a_change(house: House, tmp_path: Path) -> None:
    """No clock is asked: a file that is put back as it was long ago is packed."""
    full = house.night(None)
    place = house.home / UPLOADS / "upload-07"
    old = place / "old"
    old.write_bytes(b"from last year")
    os.utime(old, (10**9, 10**9))
    old.rename(place / "picture.png")
    night = house.night(full)
    assert f"{UPLOADS}/upload-07/picture.png" in packed(night)
    expect_back(house, night, tmp_path / "night")


def test_where_most_is_new_the_set_is_a_full_one(house: House, tmp_path: Path) -> None:
    """After a restore, or a move to another disk, every file is another one."""
    full = house.night(None)
    moved = tmp_path / "moved"
    shutil.copytree(house.home, moved, symlinks=True)
    shutil.rmtree(house.home)
    moved.rename(house.home)
    night = house.night(full)
    assert (night.base, night.manifest.increment) == (None, None)
    expect_back(house, night, tmp_path / "night")


def test_a_disk_that_was_away_for_a_night(house: House, tmp_path: Path) -> None:
    """What is not there is gone from that night's set, and whole in the next one's."""
    full = house.night(None)
    (house.home / "plugins/chat").rename(tmp_path / "chat")
    away = house.night(full)
    expect_back(house, away, tmp_path / "away")
    (tmp_path / "chat").rename(house.home / "plugins/chat")
    back = house.night(away)
    expect_back(house, back, tmp_path / "back")


def test_what_nothing_could_unpack_is_in_no_set_of_a_chain(house: House, tmp_path: Path) -> None:
    """Neither in the full one nor in the next, which packs what the listings say."""
    name = "d" * 200
    at = os.open(house.home, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    try:
        full = house.night(None)
        os.close(os.open("file", os.O_CREAT, dir_fd=at))
        (house.home / "plugins/chat/new").write_bytes(b"new")
        night = house.night(full)
    finally:  # pytest could not remove it either
        os.close(at)
        subprocess.run(["rm", "-r", str(house.home / name)], check=True)
    assert "plugins/chat/new" in packed(night)
    for set_ in (full, night):
        verify.verify(set_)
        (tmp_path / set_.name).mkdir()
        home = house.restore(set_, tmp_path / set_.name)
        assert (home / name / name).is_dir()
        shutil.rmtree(home / name)
        assert describe(home).keys() | {"plugins/chat/new"} >= describe(house.home).keys()


def test_what_vanishes_while_it_is_packed_is_in_no_listing(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = house.night(None)
    write_names = file_list.ChangePlan.write_names

    def late(self: file_list.ChangePlan, file: object) -> None:
        write_names(self, file)  # type: ignore[arg-type]
        shutil.rmtree(house.home / UPLOADS / "leaving")
        (house.home / UPLOADS / "growing").write_bytes(b"much more than before")

    (house.home / UPLOADS / "leaving").mkdir()
    for number in range(300):
        (house.home / UPLOADS / "leaving" / f"file {number}").write_bytes(b"soon gone")
    (house.home / UPLOADS / "growing").write_bytes(b"little")
    monkeypatch.setattr(file_list.ChangePlan, "write_names", late)
    night = house.night(full)
    assert f"{UPLOADS}/growing" in packed(night)
    expect_back(house, night, tmp_path / "night")
    monkeypatch.undo()
    expect_back(house, house.night(night), tmp_path / "next")


def test_what_becomes_something_else_while_it_is_packed_stops_no_night(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = house.night(None)
    write_names, odd = file_list.ChangePlan.write_names, house.home / UPLOADS / "odd"

    def late(self: file_list.ChangePlan, file: object) -> None:
        write_names(self, file)  # type: ignore[arg-type]
        for name in ("link", "pipe", "folder", "was a link"):
            (odd / name).unlink()
        shutil.rmtree(odd / "was a folder")
        (odd / "link").symlink_to("/etc/passwd")
        os.mkfifo(odd / "pipe")
        (odd / "folder").mkdir()
        (odd / "was a folder").write_bytes(b"a file by now")
        (odd / "was a link").write_bytes(b"a file by now")

    odd.mkdir()
    for name in ("link", "pipe", "folder"):
        (odd / name).write_bytes(b"a file")
    (odd / "was a folder").mkdir()
    (odd / "was a link").symlink_to("link")
    monkeypatch.setattr(file_list.ChangePlan, "write_names", late)
    night = house.night(full)
    monkeypatch.undo()
    verify.verify(night)
    (odd / "pipe").unlink()  # no restore brings it back
    for set_ in (night, house.night(night)):
        (tmp_path / set_.name).mkdir()
        assert describe(house.restore(set_, tmp_path / set_.name)) == describe(house.home)


@pytest.mark.parametrize("kind", ["a link", "a pipe"])
def test_nothing_is_packed_through_what_takes_the_place_of_a_folder(
    kind: str, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tar gets each name, and follows the whole path."""
    full = house.night(None)
    write_names, odd = file_list.ChangePlan.write_names, house.home / UPLOADS / "odd"
    (tmp_path / "root's").mkdir()
    (tmp_path / "root's/key").write_bytes(b"what root alone may read")

    def late(self: file_list.ChangePlan, file: object) -> None:
        write_names(self, file)  # type: ignore[arg-type]
        odd.rename(tmp_path / "away")
        if kind == "a link":
            odd.symlink_to(tmp_path / "root's")
        else:
            os.mkfifo(odd)

    odd.mkdir()
    (odd / "key").write_bytes(b"its own")
    monkeypatch.setattr(file_list.ChangePlan, "write_names", late)
    night = house.night(full)
    monkeypatch.undo()
    assert b"what root alone may read" not in unpacked(night.file("files"))
    verify.verify(night)
    odd.unlink()
    expect_back(house, house.night(night), tmp_path / "next")


@pytest.mark.parametrize("children", ["packed again", "in the set before"])
def test_no_set_has_something_below_what_was_a_folder(
    children: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is exchanged all the time was a link to tar, and then a folder again."""
    odd = house.home / UPLOADS / "odd"
    odd.mkdir()
    (odd / "key").write_bytes(b"its own")
    full = house.night(None)
    monkeypatch.setattr(file_list.ListingWriter, "add_line", seen_as_a_link("odd"))
    (odd / "new").write_bytes(b"so the folder is packed")
    if children == "packed again":
        (odd / "key").write_bytes(b"another")
    else:
        (odd / "new").unlink()
    with pytest.raises(file_list.Shifted, match="odd"):
        house.night(full)


def test_a_chain_is_unpacked_by_hand_as_the_document_says(house: House, tmp_path: Path) -> None:
    uploads = house.home / UPLOADS
    (uploads / "folder/deep").mkdir(parents=True)
    (uploads / "folder/deep/file").write_bytes(b"deep")
    newest = house.night(house.night(None))
    shutil.rmtree(uploads / "folder")
    (uploads / "folder").write_bytes(b"now a file")
    (uploads / "upload-01").rename(uploads / "renamed\nin two lines")
    (uploads / "plain").unlink()
    (uploads / "plain").mkdir()
    (uploads / "plain/inside").write_bytes(b"now a folder")
    newest = house.night(newest)
    (uploads / "folder").unlink()
    (uploads / "folder").symlink_to("upload-02")
    newest = house.night(newest)
    assert len(newest.chain) == 4
    wanted, when = describe(house.home), times(house.home)
    document = (ROOT / "docs/by-hand.md").read_text()
    (script,) = (
        block for block in re.findall(r"```sh\n(.*?)```", document, re.S) if "$sets" in block
    )
    for told, here in (
        ("/var/opt/gitlab/mattermost", house.home),
        ("/root/files-then", tmp_path / "then"),
    ):
        script = script.replace(told, str(here))
    subprocess.run(["sh", "-eu", "-c", script], cwd=newest.path, check=True)
    assert describe(house.home) == wanted
    assert times(house.home) == when


# damage


Spoil = Callable[[BackupSet], object]


def flip(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    ("level", "part"),
    [(0, "files"), (0, "listing"), (1, "files"), (2, "listing"), (2, "etc-gitlab")],
)
def test_a_flipped_bit_anywhere_in_the_chain_is_found_and_named(
    level: int, part: str, house: House
) -> None:
    newest = house.night(None)
    for number in range(2):
        (house.home / UPLOADS / f"new-{number}").write_bytes(b"new")
        newest = house.night(newest)
    verify.verify(newest)
    spoilt = newest.chain[level]
    flip(spoilt.file(part))
    with pytest.raises(Failure, match="damaged") as caught:
        verify.verify(newest)
    assert f"{spoilt.file(part).name}: has a wrong checksum" in caught.value.detail
    assert (f"set {spoilt.name}, which it builds on" in caught.value.detail) == (level < 2)


def forged(set_: BackupSet, part: str, data: bytes) -> BackupSet:
    """Give a part another content, and a manifest that fits."""
    compress(set_.file(part), data)
    content = set_.file(part).read_bytes()
    parts = {
        **set_.manifest.parts,
        part: manifest.Part(
            set_.file(part).name, "", len(content), hashlib.sha256(content).hexdigest()
        ),
    }
    changed = dataclasses.replace(set_.manifest, parts=parts)
    (set_.path / manifest.MANIFEST).write_bytes(manifest.to_bytes(changed))
    (set_.path / manifest.SUMS).write_bytes(manifest.sums(changed))
    return dataclasses.replace(set_, manifest=changed)


def with_entries(set_: BackupSet, change: Callable[[FileEntry], Iterable[FileEntry]]) -> BackupSet:
    with file_list.opened(set_.file("listing")) as chunks:
        every = [record for chunk in chunks for record in chunk.split(b"\0")[:-1]]
    records = [new.record for record in every for new in change(file_list.parsed(record))]
    return forged(set_, "listing", b"".join(sorted(records)))


LISTINGS: dict[str, tuple[Callable[[FileEntry], Iterable[FileEntry]], str]] = {
    "other size": (
        lambda entry: [entry._replace(size=entry.size + (entry.kind == b"f"))],
        "its listing has",
    ),
    "file taken from below": (
        lambda entry: [] if entry.path.endswith(b"/upload-05/picture.png") else [entry],
        "its listing has",
    ),
    "told of another set": (
        lambda entry: [entry._replace(level=1) if entry.path.endswith(b"upload-05") else entry],
        "differs from its listing",
    ),
    "told of no set": (
        lambda entry: [entry._replace(level=7) if entry.path.endswith(b"upload-05") else entry],
        "more sets than it builds on",
    ),
    "a name of what is not there": (
        lambda entry: [entry._replace(level=0) if entry.kind == b"h" else entry],
        "hard link to a missing file",
    ),
    "below a link": (
        lambda entry: (
            [entry, entry._replace(path=entry.path + b"/x")] if entry.kind == b"l" else [entry]
        ),
        "below a link",
    ),
    "climbing": (
        lambda entry: (
            [entry, entry._replace(path=entry.path + b"/../x")] if entry.kind == b"l" else [entry]
        ),
        "is not a listing",
    ),
}


@pytest.mark.parametrize("forgery", LISTINGS)
def test_a_listing_that_is_not_of_these_archives_is_refused(forgery: str, house: House) -> None:
    full = house.night(None)
    (house.home / UPLOADS / "new").write_bytes(b"new")
    night = house.night(full)
    change, told = LISTINGS[forgery]
    with pytest.raises(Failure, match="damaged") as caught:
        verify.verify(with_entries(night, change))
    assert told in caught.value.detail


@pytest.mark.parametrize(
    "data",
    [
        b"/a//0 f 1 644 7 1.0 1.0 1",
        b"/a//0 f 1 644 7 1.0 1.0 1\0/a//0 f 1 644 7 1.0 1.0 1\0",
        b"/b//0 f 1 644 7 1.0 1.0 1\0/a//0 f 1 644 7 1.0 1.0 1\0",
        b"a//0 f 1 644 7 1.0 1.0 1\0",
        b"/a//0 p 1 644 7 1.0 1.0 1\0",
        b"/a/../../etc//0 f 1 644 7 1.0 1.0 1\0",
        b"/a//x f 1 644 7 1.0 1.0 1\0",
        b"/a//b//0 f 1 644 7 1.0 1.0 1\0",
        b"b/a//0 f 1 644 7 1.0 1.0 1\0",
        b"/a//0 f 1 644 7 1.0 1.0 1\0b/c//0 f 1 644 7 1.0 1.0 1\0",
        b"/a/..//0 f 1 644 7 1.0 1.0 1\0",
        b"\0",
    ],
)
def test_what_is_no_listing_is_a_failure(data: bytes) -> None:
    with pytest.raises(Failure, match="is not a listing"):
        list(file_list.checked(io.BytesIO(data)))


@pytest.mark.parametrize("size", [1, 40, 1 << 20])
def test_the_order_counts_from_one_piece_to_the_next(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_list, "_CHUNK", size)
    good = [b"/%d//0 f 1 644 7 1.0 1.0 1\0" % number for number in range(100, 200)]
    assert b"".join(file_list.checked(io.BytesIO(b"".join(good)))) == b"".join(good)
    for data in ([*good[:50], good[20]], [*good, good[-1]]):
        with pytest.raises(Failure, match="is not a listing"):
            list(file_list.checked(io.BytesIO(b"".join(data))))


def test_records_are_paired_by_their_paths() -> None:
    some = random.Random(1)
    for _ in range(300):
        ours, theirs = (
            {
                b"/%c%c" % (some.choice(b"ab"), some.choice(b"-.c")): some.randrange(2)
                for _ in range(some.randrange(7))
            }
            for _ in range(2)
        )
        own, final = (
            sorted(b"%b//%d f 1 " % entry for entry in listing.items())
            for listing in (ours, theirs)
        )
        by_path = {record.partition(b"//")[0]: record for record in final}
        wanted = [(record, by_path.get(record.partition(b"//")[0], b"")) for record in own]
        assert list(file_list._pairs(own, final)) == wanted


def test_an_archive_with_more_than_its_listing_is_refused() -> None:
    record = b"/a//0 d 1 755 7 1.0 1.0 2"
    members = [NameLine(b"d", b"rwxr-xr-x", 0, name, b"") for name in (b"a/", b"b/")]
    assert ListingChecker(iter([(record, record)]), 0).passing(members[:1]) == members[:1]
    with pytest.raises(Failure, match="differs from its listing") as caught:
        ListingChecker(iter([(record, record)]), 0).passing(members)
    assert caught.value.detail == "b'b/'"


def test_a_file_that_is_a_directory_by_now_is_left_out_of_the_earlier_archive(
    house: House,
) -> None:
    (house.home / "data/thing").write_bytes(b"a file")
    full = house.night(None)
    (house.home / "data/thing").unlink()
    (house.home / "data/thing").mkdir()
    night, data = house.night(full), str(house.home / "data")
    left_out, anything = file_list.stale(full.file("listing"), night.file("listing"), 0, data)
    assert (left_out, anything) == ([f"{data}/thing"], True)


def test_a_folder_that_cannot_be_looked_into_ends_the_backup(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next set would take all in it for removed."""
    full = house.night(None)
    find = tmp_path / "bin/find"
    find.parent.mkdir()
    find.write_text(
        "#!/bin/sh\n/usr/bin/find \"$@\"\necho 'find: /x: Input/output error' >&2\nexit 1\n"
    )
    find.chmod(0o755)
    monkeypatch.setattr(process, "PATH", f"{find.parent}:{process.PATH}")
    with pytest.raises(Failure, match="find") as caught:
        house.night(full)
    assert "Input/output error" in caught.value.detail
    assert [entry.name for entry in house.store.entries()] == [full.name]
