"""Folders that are mount points: exchanged entry by entry, from wherever it was cut short."""

from __future__ import annotations

import json

import pytest

from tests.lab.sandbox import Lab

# Runs inside: every pair of moments at which an exchange, and then the way back, may be cut short.
CUT_SHORT = """
import itertools, json, os, shutil, sys
from pathlib import Path
from gitlab_mm_backup.restore import folder_swap as folders

live = Path(sys.argv[1])
work = folders.work_folder(live, "token")
assert folders.is_mount(live) and work.parent == live
CALLS = ("rename", "mkdir", "rmdir", "unlink")
REAL = {name: getattr(os, name) for name in CALLS}


class PowerLoss(BaseException):
    pass


def cut_short(calls, act):
    left = [calls]

    def limited(real):
        def call(*arguments, **options):
            if left[0] == 0:
                raise PowerLoss
            left[0] -= 1
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, limited(REAL[name]))
    try:
        act(live, work)
        return True
    except PowerLoss:
        return False
    finally:
        for name in CALLS:
            setattr(os, name, REAL[name])


def fill(folder, word):
    for name in ("config.json", "data/" + word, "plugins/one/x", ".hidden", "odd \\n name"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(word)


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def outside_work():
    return {name: text for name, text in tree(live).items() if not name.startswith(folders.WORK)}


def prepare():
    for entry in live.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    fill(live, "old")
    folders.make_work_folder(work, live)
    fill(work / "new", "new")
    return outside_work(), tree(work / "new")


done = 0
for there, back in itertools.product(range(40), range(40)):
    old, new = prepare()
    went = cut_short(there, folders.exchange)
    assert sorted(tree(live).values()) == ["new"] * 5 + ["old"] * 5, (there, "lost")
    returned = cut_short(back, folders.exchange_back)
    for _ in range(2):
        folders.exchange_back(live, work)
        assert outside_work() == old, (there, back, outside_work())
    folders.remove_work_folder(str(work))
    assert tree(live) == old, (there, back)
    done += 1
    if went and returned:
        break
assert went and returned and done > 200, (went, returned, done)
old, new = prepare()
folders.exchange(live, work)
assert outside_work() == new and tree(work / "old") == old
folders.remove_previous(str(work))
assert tree(live) == new
print(json.dumps(done))
"""

# Runs inside: the folders of a site, each with its work folder as a restore makes them.
A_SITE = """
import sys
from pathlib import Path
from gitlab_mm_backup.restore import folder_swap as folders, unpack
from gitlab_mm_backup.mattermost.site import Folders

home = Path("/srv/mattermost")
places = {"home": home, "data": home / "data"}
own = folders.exchanged(Folders(places, places))
works = [
    unpack.StagedFolder(live, folders.work_folder(live, f"token-{role}")) for role, live in own.items()
]


def state():
    assert folders.is_mount(home / "data"), "the disk is mounted elsewhere"
    config = (home / "config.json").read_text()
    uploads = sorted(path.name for path in (home / "data").iterdir() if path.is_file())
    return config, uploads


(home / "config.json").write_text("old")
(home / "data" / "old").touch()
for work in works:
    folders.make_work_folder(work.folder, work.live)
    work.staged.mkdir(exist_ok=True)
staged = {work.live: work.staged for work in works}
(staged[home] / "config.json").write_text("new")
(staged[home / "data"] / "new").touch()
for work in works:
    folders.exchange(work.live, work.folder)
assert state() == ("new", ["new"]), state()
if sys.argv[1] == "back":
    for work in reversed(works):
        folders.exchange_back(work.live, work.folder)
    assert state() == ("old", ["old"]), state()
    for work in works:
        folders.remove_work_folder(str(work.folder))
else:
    for work in works:
        folders.remove_previous(str(work.folder))
    assert state() == ("new", ["new"]), state()
assert not list(home.parent.glob(folders.WORK + "*")) and not list(home.rglob(folders.WORK + "*"))
"""


def inside(lab: Lab, script: str, *arguments: str) -> str:
    done = lab.run("python3", "-c", script, *arguments, env={"PYTHONPATH": "/lab/src"}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_mount_point_is_exchanged_and_put_back_from_every_moment(kind: str) -> None:
    with Lab() as lab:
        lab.run("mkdir", "-p", "/srv/mount point", "/srv/disk")
        if kind == "tmpfs":
            lab.run("mount", "-t", "tmpfs", "tmpfs", "/srv/mount point")
        else:
            lab.run("mount", "--bind", "/srv/disk", "/srv/mount point")
        assert json.loads(inside(lab, CUT_SHORT, "/srv/mount point")) > 200


@pytest.mark.parametrize("way", ["there", "back"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_disk_mounted_in_the_home_stays_where_it_is(kind: str, way: str) -> None:
    """Uploads on a disk of their own, mounted at the place where Omnibus expects them."""
    with Lab() as lab:
        lab.run("mkdir", "-p", "/srv/mattermost/data", "/srv/disk")
        if kind == "tmpfs":
            lab.run("mount", "-t", "tmpfs", "tmpfs", "/srv/mattermost/data")
        else:
            lab.run("mount", "--bind", "/srv/disk", "/srv/mattermost/data")
        inside(lab, A_SITE, way)
