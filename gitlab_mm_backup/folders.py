"""Folders side by side: one made next to the live one, and the two exchanged."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from .durable import sync_folder
from .errors import Failure

# Work folders of ours: root alone can look into them, and only what bears the name is removed.
WORK = ".gitlab-mm-"


def is_mount(path: Path) -> bool:
    """Tell whether something is mounted at ``path``, bind mounts too (proc(5), mountinfo).

    Comparing devices, as os.path does, misses those, and errs on plain files of an overlay.
    """
    wanted = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return any(_unescape(line.split(" ")[4]) == wanted for line in lines)


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def work_folder(live: Path, token: str) -> Path:
    """Return the place for work on ``live``: on its file system, which a rename cannot leave."""
    return (live if is_mount(live) else live.parent) / f"{WORK}{token}"


def make_work_folder(work: Path) -> None:
    """Create ``work``, private; raises Failure when the disk refuses."""
    try:
        work.mkdir(mode=0o700)
        (work / "new").mkdir(mode=0o700)
    except OSError as error:
        raise Failure(f"{work} cannot be made", str(error.strerror)) from error


def refuse_unmounted(live: Path, mounted: bool) -> None:
    """Raise Failure where a disk that was mounted at ``live`` is not: its work is out of sight."""
    if mounted and not is_mount(live):
        raise Failure(f"Nothing is mounted at {live}", "there was, when the restore was begun")


def remove_work_folder(work: str) -> None:
    """Remove a work folder and what was made in it, if it is there.

    Refuses any other folder, and one that holds what was live before (see ``exchange_back``).
    """
    path = Path(work)
    if not path.name.startswith(WORK):
        raise Failure(f"{work} is not removed", "it does not carry our mark")
    if (path / "old").exists() or (path / "leaving").exists():
        raise Failure(f"{work} is not removed", "it holds what was live before")
    if path.exists():
        shutil.rmtree(path)


def remove_previous(work: str) -> None:
    """Remove what an exchange set aside, and the work folder with it: the new state is final."""
    path = Path(work)
    if (path / "old").exists():
        shutil.rmtree(path / "old")
    remove_work_folder(work)


def empty(live: Path, keep: Path) -> None:
    """Remove all that is in ``live`` but ``keep``; a plain file is removed itself."""
    if live.is_file() and not live.is_symlink():
        live.unlink()
        return
    for entry in live.iterdir():
        if entry == keep or entry.name.startswith(WORK):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def exchange(live: Path, work: Path) -> None:
    """Put what lies in ``work``/new in the place of ``live``; the old goes to ``work``/old.

    A mount point cannot be renamed: of such a folder the entries are exchanged.  Mattermost is
    stopped meanwhile, and ``exchange_back`` puts right a half done exchange.
    """
    place = _place(live)
    leaving = work / "leaving"
    leaving.mkdir(mode=0o700)
    _move_all(_names(live), place, leaving)
    os.rename(leaving, work / "old")  # from here on all in place is new
    _move_all(os.listdir(work / "new"), work / "new", place)
    sync_folder(place)


def exchange_back(live: Path, work: Path) -> None:
    """Undo ``exchange``, whether it has happened, half happened or not begun."""
    place = _place(live)
    leaving, old = work / "leaving", work / "old"
    if old.is_dir():
        _move_all(_names(live), place, work / "new")
        os.rename(old, leaving)
    if leaving.is_dir():
        _move_all(os.listdir(leaving), leaving, place)
        leaving.rmdir()
        sync_folder(place)


def _place(live: Path) -> Path:
    return live if is_mount(live) else live.parent


def _names(live: Path) -> list[str]:
    """Return what of ``_place(live)`` is exchanged."""
    if is_mount(live):
        return [name for name in os.listdir(live) if not name.startswith(WORK)]
    return [live.name] if os.path.lexists(live) else []


def _move_all(names: list[str], source: Path, target: Path) -> None:
    for name in names:
        os.rename(source / name, target / name)
