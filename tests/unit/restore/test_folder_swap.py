"""Folders exchanged, and put back from wherever an exchange was cut short."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost.site import Folders
from gitlab_mm_backup.restore import folder_swap
from gitlab_mm_backup.system import disk_space, files
from tests.unit.helpers.apart import apart, mount


class PowerLoss(BaseException):
    """The end of everything, in the middle of an exchange."""


def tree(folder: Path) -> dict[str, str | None]:
    """Return what is in ``folder``: files with their text, and folders that are empty."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.is_file() or not any(path.iterdir())
    }


def contents(word: str) -> dict[str, str | None]:
    name = "upload" if word == "old" else "other"
    return {"mattermost/config.json": word, f"mattermost/data/{name}": word, "neighbour": "same"}


def fill(folder: Path, word: str) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "config.json").write_text(word, encoding="utf-8")
    (folder / "data" / ("upload" if word == "old" else "other")).write_text(word, encoding="utf-8")


class Place:
    """A live folder with a neighbour, and its work folder with the new one in it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "place"
        self.root.mkdir(parents=True)
        self.live = self.root / "mattermost"
        fill(self.live, "old")
        (self.root / "neighbour").write_text("same", encoding="utf-8")
        self.work = folder_swap.work_folder(self.live, "token")
        folder_swap.make_work_folder(self.work, self.live)
        fill(self.work / "new" / "mattermost", "new")

    def outside_work(self) -> dict[str, str | None]:
        return {
            name: text for name, text in tree(self.root).items() if not name.startswith(files.WORK)
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextmanager
def power_loss_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let so many changes of names happen, and no more; the block is left quietly."""
    left = [calls]

    def limited(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            if left[0] == 0:
                raise PowerLoss
            left[0] -= 1
            return real(*arguments, **options)

        patch.setattr(os, name, call)

    with monkeypatch.context() as patch:
        for name in ("rename", "mkdir", "rmdir", "unlink"):
            limited(name)
        with suppress(PowerLoss):
            yield


CALLS = range(12)  # more than an exchange, or the way back, makes


def test_an_exchange_puts_the_new_in_place_and_the_old_aside(place: Place) -> None:
    folder_swap.exchange(place.live, place.work)
    assert place.outside_work() == contents("new")
    assert tree(place.work / "old") == {
        name: text for name, text in contents("old").items() if name != "neighbour"
    }
    folder_swap.remove_previous(str(place.work))
    assert tree(place.root) == contents("new")


def test_an_exchange_can_be_taken_back(place: Place) -> None:
    folder_swap.exchange(place.live, place.work)
    folder_swap.exchange_back(place.live, place.work)
    assert place.outside_work() == contents("old")
    folder_swap.remove_work_folder(str(place.work))
    assert tree(place.root) == contents("old")


@pytest.mark.parametrize("calls", CALLS)
def test_an_exchange_cut_short_can_be_taken_back(
    calls: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with power_loss_after(calls, monkeypatch):
        folder_swap.exchange(place.live, place.work)
    folder_swap.exchange_back(place.live, place.work)
    assert place.outside_work() == contents("old")
    folder_swap.exchange_back(place.live, place.work)
    assert place.outside_work() == contents("old")
    folder_swap.remove_work_folder(str(place.work))
    assert tree(place.root) == contents("old")


@pytest.mark.parametrize("there", CALLS)
def test_a_way_back_cut_short_can_be_gone_again(
    there: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for back in CALLS:
        place = Place(tmp_path / str(back))
        with power_loss_after(there, monkeypatch):
            folder_swap.exchange(place.live, place.work)
        with power_loss_after(back, monkeypatch):
            folder_swap.exchange_back(place.live, place.work)
        folder_swap.exchange_back(place.live, place.work)
        assert place.outside_work() == contents("old"), back
        folder_swap.remove_work_folder(str(place.work))
        assert tree(place.root) == contents("old"), back


@pytest.mark.parametrize("calls", CALLS)
def test_at_no_moment_is_the_old_state_lost(
    calls: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with power_loss_after(calls, monkeypatch):
        folder_swap.exchange(place.live, place.work)
    everything = list(tree(place.root).values())
    assert everything.count("old") == everything.count("new") == 2


def test_cutting_short_reaches_every_step(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with power_loss_after(CALLS[-1], monkeypatch):
        folder_swap.exchange(place.live, place.work)
        folder_swap.exchange_back(place.live, place.work)
        finished = True
    assert finished


def test_a_folder_that_is_not_there_yet_is_put_in_place(place: Place) -> None:
    shutil.rmtree(place.live)
    folder_swap.exchange(place.live, place.work)
    assert place.outside_work() == contents("new")
    folder_swap.exchange_back(place.live, place.work)
    assert place.outside_work() == {"neighbour": "same"}


def test_an_exchange_that_has_not_begun_is_taken_back_without_a_change(place: Place) -> None:
    folder_swap.exchange_back(place.live, place.work)
    assert place.outside_work() == contents("old")
    folder_swap.remove_work_folder(str(place.work))
    folder_swap.exchange_back(place.live, place.work)
    assert tree(place.root) == contents("old")


# in place


def test_a_folder_is_emptied_but_for_our_work(place: Place) -> None:
    (place.live / "link").symlink_to(place.root / "neighbour")
    (place.live / "linked folder").symlink_to(place.root)
    (place.live / f"{files.WORK}x").mkdir()
    folder_swap.empty(place.live)
    assert sorted(os.listdir(place.live)) == [f"{files.WORK}x"]
    assert (place.root / "neighbour").read_text() == "same"


def test_emptying_a_link_removes_the_link(place: Place) -> None:
    """And not what it leads to: Mattermost's account may have put it in the directory's place."""
    place.live.rename(place.root / "theirs")
    place.live.symlink_to(place.root / "theirs")
    folder_swap.empty(place.live)
    assert not os.path.lexists(place.live)
    assert tree(place.root / "theirs")


def test_a_directory_that_became_a_link_is_not_restored(place: Place) -> None:
    folder_swap.refuse_swapped(place.live)
    place.live.rename(place.root / "theirs")
    place.live.symlink_to(place.root / "theirs")
    with pytest.raises(Failure, match="mattermost has become a link"):
        folder_swap.refuse_swapped(place.live)


def test_emptying_a_plain_file_removes_it(place: Place) -> None:
    folder_swap.empty(place.live / "config.json")
    assert sorted(os.listdir(place.live)) == ["data"]


# work folders


def test_a_work_folder_lies_beside_the_live_one_and_is_private(place: Place) -> None:
    assert place.work.parent == place.live.parent
    assert place.work.name == ".gitlab-mm-token"
    assert place.work.stat().st_mode & 0o777 == 0o700
    assert (place.work / "new").stat().st_mode & 0o777 == 0o700


def test_a_work_folder_that_cannot_be_made_is_a_failure(place: Place) -> None:
    with pytest.raises(Failure, match="cannot be made"):
        folder_swap.make_work_folder(place.work, place.live)


@pytest.mark.parametrize("name", ["mattermost", "gitlab-mm-x", ".gitlab-mm", "..", "."])
def test_nothing_without_our_mark_is_removed(name: str, place: Place) -> None:
    for remove in (folder_swap.remove_work_folder, folder_swap.remove_previous):
        with pytest.raises(Failure, match="is not removed"):
            remove(str(place.root / name))
    assert place.outside_work() == contents("old")


@pytest.mark.parametrize("inner", ["old", "leaving"])
def test_what_was_live_is_not_removed_with_the_work_folder(inner: str, place: Place) -> None:
    (place.work / inner).mkdir()
    with pytest.raises(Failure, match="holds the previous live data"):
        folder_swap.remove_work_folder(str(place.work))
    assert (place.work / inner).is_dir()


def test_half_gone_old_folders_are_not_removed_as_previous(place: Place) -> None:
    (place.work / "leaving").mkdir()
    with pytest.raises(Failure, match="holds the previous live data"):
        folder_swap.remove_previous(str(place.work))


def test_removing_twice_is_no_error(place: Place) -> None:
    for _ in range(2):
        folder_swap.remove_work_folder(str(place.work))
        folder_swap.remove_previous(str(place.work))


def test_what_cannot_be_removed_is_told_and_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", f"{path}/upload")

    folder_swap.exchange(place.live, place.work)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(Failure, match=r"is not removed: .*upload: Operation not permitted"):
        folder_swap.remove_previous(str(place.work))
    assert (place.work / "old").is_dir()


@pytest.mark.parametrize("comes", [True, False])
def test_a_disk_that_comes_or_goes_meanwhile_does_not_change_the_way_back(
    comes: bool, tmp_path: Path
) -> None:
    """As a whole, or entry by entry: as it was when the work began."""

    def attempt() -> tuple[dict[str, str | None], dict[str, str | None]]:
        place = Place(tmp_path)
        disk = place.live / "disk"
        if not comes:
            mount(disk)
            shutil.rmtree(place.work)
            folder_swap.make_work_folder(place.work, place.live)
            fill(place.work / "new", "new")
        before = place.outside_work()
        subprocess.run(["umount", str(disk)], check=True) if not comes else mount(disk)
        folder_swap.exchange(place.live, place.work)
        assert (place.live / "config.json").read_text() == "new"
        if comes:
            subprocess.run(["umount", str(place.work / "old/mattermost/disk")], check=True)
        else:
            mount(disk)
        folder_swap.exchange_back(place.live, place.work)
        return before, place.outside_work()

    before, after = apart(attempt)
    assert {**before, "mattermost/disk": None} == {**after, "mattermost/disk": None}


@pytest.mark.parametrize(
    ("inside", "remove"),
    [("old", folder_swap.remove_previous), ("new", folder_swap.remove_work_folder)],
)
def test_a_disk_that_was_mounted_meanwhile_is_not_emptied(
    place: Place, inside: str, remove: Callable[[str], None]
) -> None:
    def attempt() -> tuple[str, bool]:
        disk = place.work / inside / "data"
        mount(disk)
        (disk / "upload").touch()
        try:
            remove(str(place.work))
        except Failure as failure:
            return str(failure), (disk / "upload").exists()
        return "", (disk / "upload").exists()

    assert apart(attempt) == (
        f"{place.work} is not removed: a disk is mounted in it: {place.work / inside / 'data'}",
        True,
    )


def test_a_mount_point_is_known() -> None:
    assert disk_space.is_mount(Path("/proc"))
    assert disk_space.is_mount(Path("/proc/../proc/"))
    assert not disk_space.is_mount(Path("/proc/self"))
    assert not disk_space.is_mount(Path("/no such folder"))


def below(place: Path, *mounted: str) -> dict[str, Any]:
    """Return what is known of ``place`` while something is mounted on names within it."""

    def look() -> dict[str, Any]:
        for name in mounted:
            mount(place / name)
        return {
            "mounts": sorted(
                str(mount.relative_to(place))
                for mount in disk_space.mounts()
                if place in mount.parents
            ),
            "by entries": folder_swap.by_entries(place),
            "deeper": [str(path.relative_to(place)) for path in folder_swap.deeper_mounts(place)],
            "entries": sorted(folder_swap._entries(place)),
            "work": str(folder_swap.work_folder(place, "token").relative_to(place.parent)),
        }

    return apart(look)


def test_a_folder_without_mounts_is_renamed_as_a_whole(place: Place) -> None:
    known = below(place.live)
    assert known == {
        "mounts": [],
        "by entries": False,
        "deeper": [],
        "entries": ["config.json", "data"],
        "work": ".gitlab-mm-token",
    }


def test_of_a_folder_with_a_mount_in_it_the_other_entries_are_exchanged(place: Place) -> None:
    known = below(place.live, "disk")
    assert known["by entries"] and known["deeper"] == []
    assert known["entries"] == ["config.json", "data"]
    assert known["work"] == ".gitlab-mm-token", "beside it, where nothing is mounted"


def test_a_mount_below_an_entry_is_told_apart(place: Place) -> None:
    known = below(place.live, "disk", "data/far/disk", "data/near")
    assert known["by entries"] and known["deeper"] == ["data/far/disk", "data/near"]
    assert known["entries"] == ["config.json", "data"]


def test_a_folder_that_is_a_mount_keeps_its_work_within(place: Place) -> None:
    known = below(place.live, ".")
    assert known["by entries"] and known["deeper"] == [] and known["entries"] == []
    assert known["work"] == "mattermost/.gitlab-mm-token"


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\nb", "a\\b", "a\\040b", "é"])
def test_a_mount_of_any_name_is_found(name: str, place: Place) -> None:
    """The kernel writes blanks, tabs, line ends and backslashes as octal numbers: proc(5)."""
    assert below(place.live, name)["mounts"] == [name]


def test_what_a_file_system_keeps_for_itself_stays(place: Place) -> None:
    (place.live / "lost+found").mkdir()
    (place.live / "lost+found" / "inode").write_text("1")
    folder_swap.empty(place.live)
    assert [path.name for path in place.live.iterdir()] == ["lost+found"]
    assert not files.filled(place.live)


def test_what_lies_in_work_of_ours_fills_nothing(tmp_path: Path) -> None:
    (tmp_path / "data" / f"{files.WORK}x").mkdir(parents=True)
    (tmp_path / "data" / f"{files.WORK}x" / "new").write_text("ours")
    assert not files.filled(tmp_path / "data")
    (tmp_path / "data" / "x").mkdir()
    assert not files.filled(tmp_path / "data"), "an empty directory"
    (tmp_path / "data" / "x" / "upload").write_text("theirs")
    assert files.filled(tmp_path / "data")


def test_what_was_live_is_set_aside_in_a_folder_of_root_s_alone(place: Place) -> None:
    umask = os.umask(0)
    try:
        folder_swap.exchange(place.live, place.work)
    finally:
        os.umask(umask)
    assert described(place.work / "old")[2] == 0o700


@pytest.mark.parametrize("kind", ["nothing", "a pipe", "a file", "a link", "a broken link"])
def test_what_is_no_directory_is_not_filled(kind: str, tmp_path: Path) -> None:
    """Nor is it opened: a pipe would hold us up for ever, a link lead root elsewhere."""
    path, other = tmp_path / "data", tmp_path / "other"
    other.mkdir()
    (other / "secret").write_text("root's")
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a file":
        path.write_text("content")
    elif "link" in kind:
        path.symlink_to("nowhere" if "broken" in kind else other)
    assert not files.filled(path)


@pytest.mark.parametrize("kind", ["a pipe", "a link"])
def test_one_entry_that_is_no_directory_fills_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data" / "deep" / "it"
    path.parent.mkdir(parents=True)
    if kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path)
    assert files.filled(tmp_path / "data")


def test_a_directory_is_looked_through_however_deep_it_is(tmp_path: Path) -> None:
    """Deeper than Python calls functions, and than a path may be long."""
    at = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("deeper", dir_fd=at)
            below = os.open("deeper", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        assert not files.filled(tmp_path)
        os.close(os.open("it", os.O_CREAT, dir_fd=at))
        assert files.filled(tmp_path)
    finally:  # pytest could not remove it either
        os.close(at)
        subprocess.run(["rm", "-r", str(tmp_path / "deeper")], check=True)


def test_a_disk_that_is_not_mounted_any_more_is_missed() -> None:
    folder_swap.refuse_unmounted(Path("/proc"), True)
    folder_swap.refuse_unmounted(Path("/proc/self"), False)
    with pytest.raises(Failure, match="Nothing is mounted at /proc/self"):
        folder_swap.refuse_unmounted(Path("/proc/self"), True)


def test_a_link_to_a_mount_point_is_not_that_mount_point(tmp_path: Path) -> None:
    """Mattermost's account may put such a link in the place of a directory at any moment."""
    live = tmp_path / "data"
    live.symlink_to("/proc")
    assert folder_swap.work_folder(live, "token").parent == tmp_path
    assert not folder_swap.by_entries(live)
    assert folder_swap.deeper_mounts(live) == []
    folders = Folders({}, {"home": tmp_path, "data": live})
    assert folder_swap.exchanged(folders) == {"home": tmp_path}
    with pytest.raises(Failure, match="Nothing is mounted"):
        folder_swap.refuse_unmounted(live, True)


def test_a_link_with_our_mark_leads_nobody_away(place: Place) -> None:
    link = place.root / f"{files.WORK}planted"
    link.symlink_to(place.live)
    with pytest.raises((Failure, OSError)):
        folder_swap.remove_work_folder(str(link))
    assert place.outside_work() == contents("old")


@pytest.fixture
def open_ground(tmp_path: Path) -> Path:
    """A folder of an account's, within another one of it."""
    for folder in (tmp_path / "outer", tmp_path / "outer/inner"):
        folder.mkdir()
        os.chown(folder, 65533, 65532)
        folder.chmod(0o2775)
    return tmp_path / "outer/inner"


def described(folder: Path) -> tuple[int, int, int]:
    status = folder.stat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


def test_the_ground_of_work_is_root_s_for_its_time(open_ground: Path) -> None:
    grounds = files.grounds(open_ground / ".gitlab-mm-x")
    assert [ground.path for ground in grounds] == [str(open_ground.parent), str(open_ground)]
    for ground in grounds:
        folder_swap.shut(ground)
        folder_swap.shut(ground)
    assert described(open_ground) == described(open_ground.parent) == (0, 65532, 0o2755)
    assert files.grounds(open_ground / ".gitlab-mm-x") == []
    for ground in reversed(grounds):
        assert list(ground.named.values()) == [str(value) for value in vars(ground).values()]
        folder_swap.open_again(ground)
    assert described(open_ground) == described(open_ground.parent) == (65533, 65532, 0o2775)


@pytest.mark.parametrize(
    ("owner", "mode", "counts"),
    [
        (0, 0o755, False),
        (0, 0o1777, False),  # as /tmp: only the owner of an entry renames it
        (0, 0o1755, False),
        (0, 0o775, True),
        (0, 0o757, True),
        (65533, 0o755, True),
        (65533, 0o1777, True),  # the owner of a sticky folder renames all in it
        (65533, 0o1755, True),
    ],
)
def test_which_folder_another_account_can_change(
    owner: int, mode: int, counts: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    found = [ground.path for ground in files.grounds(folder / "work")]
    assert (str(folder) in found) is counts


def test_a_folder_that_became_a_link_is_not_shut(open_ground: Path, tmp_path: Path) -> None:
    (ground,) = files.grounds(open_ground / "x")[1:]
    open_ground.rename(tmp_path / "away")
    (tmp_path / "other").mkdir()
    os.chown(tmp_path / "other", 65533, 65533)
    open_ground.symlink_to(tmp_path / "other")
    with pytest.raises(Failure, match="cannot be restricted to root"):
        folder_swap.shut(ground)
    assert described(tmp_path / "other")[0] == 65533


def test_another_folder_in_place_of_ours_is_not_removed(place: Place) -> None:
    os.chown(place.work, 65533, 65533)
    for remove in (folder_swap.remove_work_folder, folder_swap.remove_previous):
        with pytest.raises(Failure, match="does not belong to root any more"):
            remove(str(place.work))
    assert place.work.is_dir()
