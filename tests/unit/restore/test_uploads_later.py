"""Uploads in two passes: the tree is the same as in one, whatever the form of the set."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.restore import earlier_uploads, folder_swap, unpack, uploads_later
from gitlab_mm_backup.restore.earlier_uploads import Look
from gitlab_mm_backup.restore.plan import RestoreOptions
from gitlab_mm_backup.store import frames, verify
from gitlab_mm_backup.store.archive_rules import line_of
from gitlab_mm_backup.store.frames import INDEX
from gitlab_mm_backup.store.sets import BackupSet
from gitlab_mm_backup.system import files
from tests.unit.helpers.nights import House
from tests.unit.store.test_file_list import house
from tests.unit.store.test_frame_reading import elsewhere

__all__ = ["house"]
DAYS = ("20251224", "20260102", "20260103", "20260704", "20261120")
RECENT, LATER = DAYS[-1], DAYS[:-1]
ACCOUNT = os.getuid()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a few uploads, and a batch for each day."""
    monkeypatch.setattr(frames, "LARGEST", 100_000)
    monkeypatch.setattr(frames, "_HEADERS", 4096)
    monkeypatch.setattr(earlier_uploads, "_BATCH", 1)


@pytest.fixture
def sites(house: House) -> House:
    """The house, with uploads of several days, of which one needs many frames."""
    for day in DAYS:
        for number in range(12 if day == DAYS[2] else 2):
            place = house.home / "data" / day / "teams/noteam" / f"{number:02}"
            place.mkdir(parents=True)
            (place / "a file.bin").write_bytes(os.urandom(30_000))
            os.utime(place / "a file.bin", ns=(10**18 + 7, 10**18 + number * 10**9 + 7))
    (house.home / "data/users").mkdir(exist_ok=True)
    (house.home / "data/users/avatar.png").write_bytes(b"avatar")
    (house.home / "data/2026").mkdir()
    (house.home / "data/2026/not a day").write_bytes(b"first")
    (house.home / "data" / LATER[0]).chmod(0o2750)
    return house


def plain(made: House) -> BackupSet:
    return made.night(None)


def chain(made: House) -> BackupSet:
    """Three nights: earlier uploads come, go, and change their kind."""
    first = made.night(None)
    data = made.home / "data"
    (data / LATER[1] / "teams/noteam/00/more").write_bytes(os.urandom(50_000))
    (data / LATER[0] / "teams/noteam/01/a file.bin").unlink()
    second = made.night(first)
    (data / "20260301/new").mkdir(parents=True)
    (data / "20260301/new/one").write_bytes(b"one")
    (data / LATER[3] / "teams/noteam/00/a file.bin").unlink()
    (data / LATER[3] / "teams/noteam/00/a file.bin").symlink_to("../01")
    return made.night(second)


def without_index(made: House) -> BackupSet:
    """As sets were before they had frames."""
    set_ = made.night(None)
    parts = {name: part for name, part in set_.manifest.parts.items() if name != INDEX}
    return dataclasses.replace(set_, manifest=dataclasses.replace(set_.manifest, parts=parts))


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything in a tree; of a directory above all days the time does not count."""
    found = dict[str, tuple[object, ...]]()
    for path in [root, *root.rglob("*")]:
        status, name = path.lstat(), str(path.relative_to(root))
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        target = os.readlink(path) if path.is_symlink() else ""
        seconds = 0 if name == "data" else status.st_mtime_ns // 10**9
        found[name] = status.st_mode, status.st_uid, status.st_gid, seconds, content, target
    return found


def looked(set_: BackupSet, **changes: Any) -> Look:
    look = Look.at(set_)
    look = dataclasses.replace(look, **changes)
    verify.read_files(set_, lambda member, content: look.each(line_of(member), None))
    return look


MAKES: list[Callable[[House], BackupSet]] = [plain, chain, without_index]


@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.__name__)
def test_two_passes_bring_what_one_does(
    sites: House, tmp_path: Path, make: Callable[[House], BackupSet]
) -> None:
    set_ = make(sites)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    whole = sites.restore(set_, tmp_path / "one")
    later = earlier_uploads.split(looked(set_))
    assert later is not None
    home = sites.restore(set_, tmp_path / "two", later.without)
    data, site = home / "data", sites.site(tmp_path / "two")
    assert {path.name for path in data.iterdir()} >= {RECENT, "users", "2026"}
    assert not any((data / day).exists() for day in LATER)
    place, order = tmp_path / "place", list[str]()
    for batch in later.batches:
        place.mkdir()
        layers = unpack.upload_layers(set_)
        tree, _ = unpack.unpack_uploads(set_, site, layers, batch.portions, place)
        order += sorted(os.listdir(tree), reverse=True)
        assert batch.earliest == order[-1]
        with files.open_directory(tree) as new, files.open_directory(data) as live:
            assert folder_swap.merge(new, live) == []
        shutil.rmtree(place)
    assert order == sorted(order, reverse=True)
    assert described(home) == described(whole)


def test_only_frames_that_are_needed_are_read(sites: House) -> None:
    """Before the start, and for each day: no frame of the one that has many."""
    set_ = plain(sites)
    later = earlier_uploads.split(looked(set_))
    assert later is not None
    whole = set_.manifest.parts["files"].bytes
    many = next(batch for batch in later.batches if batch.earliest == LATER[2])
    portions = [later.without[set_.name].portion, many.portions[set_.name]]
    first, day = (sum(length for _, length in portion.pieces or ()) for portion in portions)
    assert 360_000 < day < 700_000
    assert first < whole - day + 250_000


def test_what_is_recorded_as_done_is_not_divided_again(sites: House) -> None:
    set_ = plain(sites)
    every = earlier_uploads.split(looked(set_))
    rest = earlier_uploads.split(looked(set_, before=LATER[2], there=(LATER[0],)))
    assert every is not None and rest is not None
    assert [batch.earliest for batch in every.batches] == sorted(LATER, reverse=True)
    assert [batch.earliest for batch in rest.batches] == [LATER[1]]
    assert earlier_uploads.split(looked(set_, before=LATER[0])) is None


@pytest.mark.parametrize(
    ("plan", "large", "waits"),
    [
        (RestoreOptions(uploads="later"), 1 << 60, True),
        (RestoreOptions(uploads="later", parts=("database", "config")), 1 << 60, False),
        (RestoreOptions(uploads="now"), 1, False),
        (RestoreOptions(), 1, True),
        (RestoreOptions(), 1 << 60, False),
    ],
)
def test_when_uploads_wait(
    sites: House,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plan: RestoreOptions,
    large: int,
    waits: bool,
) -> None:
    monkeypatch.setattr(uploads_later, "_LARGE", large)
    warnings: list[str] = []
    look, site = looked(plain(sites)), sites.site(tmp_path)
    assert (uploads_later.choose(look, site, plan, warnings) is not None) == waits
    assert not warnings


@pytest.mark.parametrize(("wish", "told"), [("later", 1), ("auto", 0)])
def test_hard_links_among_uploads_do_not_wait(
    sites: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str, told: int
) -> None:
    """The other name may be in what comes first, or in another batch."""
    monkeypatch.setattr(uploads_later, "_LARGE", 1)
    upload = sites.home / "data" / LATER[0] / "teams/noteam/00/a file.bin"
    os.link(upload, sites.home / "data/users/same")
    warnings: list[str] = []
    look, site = looked(plain(sites)), sites.site(tmp_path)
    assert look.linked
    assert uploads_later.choose(look, site, RestoreOptions(uploads=wish), warnings) is None
    assert len(warnings) == told


def test_streams_do_not_wait(sites: House, tmp_path: Path) -> None:
    set_ = dataclasses.replace(plain(sites), stream=cast(Any, object()))
    warnings: list[str] = []
    plan = RestoreOptions(uploads="later")
    assert uploads_later.choose(Look.at(set_), sites.site(tmp_path), plan, warnings) is None
    assert "not fetched before" in warnings[0]


def fill(folder: Path, text: str, *paths: str) -> int:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


@pytest.mark.parametrize("flag", [True, False], ids=["renameat2", "NFS"])
def test_merge_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: bool
) -> None:
    """Of a file, a directory, a link in the place of one, and what is there in part."""
    if not flag:

        def refused(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

        monkeypatch.setattr(
            ctypes, "CDLL", lambda *_, **__: type("libc", (), {"renameat2": refused})()
        )
    new, live = tmp_path / "new", tmp_path / "live"
    source = fill(new, "new", "a/b/c", "a/b/d", "e/f", "g/h", "i", "j/k")
    (new / "link").symlink_to("i")
    target = fill(live, "live", "a/b/c", "i")
    (tmp_path / "away").mkdir()
    (live / "e").symlink_to(tmp_path / "away")
    (live / "j").write_text("live")
    assert sorted(folder_swap.merge(source, target)) == ["e", "j"]
    texts = {path: (live / path).read_text() for path in ("a/b/c", "a/b/d", "g/h", "i", "j")}
    assert texts == {"a/b/c": "live", "a/b/d": "new", "g/h": "new", "i": "live", "j": "live"}
    assert os.readlink(live / "link") == "i"
    assert not list((tmp_path / "away").iterdir())
    for descriptor in (source, target):
        os.close(descriptor)


@pytest.mark.parametrize("away", [False, True], ids=["here", "elsewhere"])
def test_what_is_there_is_moved(sites: House, tmp_path: Path, away: bool) -> None:
    """Of a set elsewhere its listing shows what it has, and some frames are read to compare bytes."""
    set_ = elsewhere(plain(sites), tmp_path) if away else plain(sites)
    look, data, live = Look.at(set_), sites.home / "data", tmp_path / "live"
    if away:
        look.read_listing()
    else:
        look = looked(set_)
    live.mkdir()
    os.utime(data / LATER[1] / "teams/noteam/00/a file.bin", (1, 1))
    (data / LATER[2] / "one more").touch()
    assert earlier_uploads.take(set_, look.digests, data, live, ACCOUNT + 1) == []
    taken = earlier_uploads.take(set_, look.digests, data, live, ACCOUNT)
    assert [day.decode() for day in taken] == [LATER[3], LATER[0]]
    assert sorted(os.listdir(live)) == [LATER[0], LATER[3]]
    assert not (data / LATER[0]).exists() and (data / LATER[1]).exists()


def test_a_listing_shows_the_same_as_the_archive(sites: House) -> None:
    """Of a set elsewhere it is all there is; a day with a symbolic link differs, which is safe."""
    (sites.home / "data" / LATER[1] / "link").symlink_to("teams")
    set_ = plain(sites)
    of_archive, of_listing = looked(set_), Look.at(set_)
    of_listing.read_listing()
    days = {os.fsencode(day) for day in LATER}
    assert of_archive.digests.keys() == of_listing.digests.keys() == days
    differing = {day for day in days if of_archive.digests[day] != of_listing.digests[day]}
    assert differing == {os.fsencode(LATER[1])}


def test_other_bytes_of_the_same_size_and_time(sites: House, tmp_path: Path) -> None:
    set_ = plain(sites)
    look, data, live = looked(set_), sites.home / "data", tmp_path / "live"
    live.mkdir()
    file = data / LATER[0] / "teams/noteam/00/a file.bin"
    status = file.stat()
    for name in ("00", "01"):
        (data / LATER[0] / f"teams/noteam/{name}/a file.bin").write_bytes(b"x" * status.st_size)
        os.utime(
            data / LATER[0] / f"teams/noteam/{name}/a file.bin",
            ns=(0, status.st_mtime_ns + int(name) * 10**9),
        )
    with pytest.raises(Failure, match="has other bytes"):
        earlier_uploads.take(set_, look.digests, data, live, ACCOUNT)
    assert not os.listdir(live)
