"""Run a program for which links in some directories cannot be followed.

A separate program, without imports from the package: ``python3 -I -S nolinks.py DIRECTORY... --
PROGRAM ARGUMENT...``. It has private mounts in which each directory, with everything mounted below
it, has the option nosymfollow (mount(2), Linux 5.10): no path leads through a link there, even if
another account creates one. The option begins at the first directory of the path that another
account can change. Links themselves can be read. Where mounts are not possible, as in a container
without that right, the program runs all the same.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import stat
import sys
from collections.abc import Sequence

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS, unshare(2)
# mount(2)
_REMOUNT, _NO_SYMLINKS, _BIND, _ALL_BELOW, _PRIVATE = 1 << 5, 1 << 8, 1 << 12, 1 << 14, 1 << 18
_RELATIME = 1 << 21
_CANNOT = 127  # as a shell ends that cannot begin a program
_SAME = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME


def main() -> None:
    words = sys.argv[1:]
    end = words.index("--")
    shut([os.fsencode(word) for word in words[:end]])
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and what follows would inherit it
        signal.signal(ignored, signal.SIG_DFL)
    os.execvp(words[end + 1], words[end + 1 :])


def shut(folders: Sequence[bytes]) -> None:
    """Let no path of this process lead through a link in ``folders``, as far as possible."""
    libc, folders = ctypes.CDLL(None), [_changeable(path) for path in folders]
    if libc.unshare(_NEW_MOUNTS) or libc.mount(None, b"/", None, _PRIVATE | _ALL_BELOW, None):
        return
    for folder in folders:
        libc.mount(folder, folder, None, _BIND | _ALL_BELOW, None)
    for place in _mounts():
        if any(place == path or place.startswith(path + b"/") for path in folders):
            try:
                flags = os.statvfs(place).f_flag
            except OSError:  # of an account's own file system (FUSE)
                continue
            kept = flags & _SAME | (_RELATIME if flags & os.ST_RELATIME else 0)
            libc.mount(None, place, None, _REMOUNT | _BIND | _NO_SYMLINKS | kept, None)


def _changeable(folder: bytes) -> bytes:
    """Return the first directory on the way to ``folder`` in which others can replace entries.

    Its own entry is root's. It is ``folder`` where root owns all.
    """
    names = folder.split(b"/")
    for length in range(2, len(names) + 1):
        place = b"/".join(names[:length])
        try:
            status = os.lstat(place)
        except OSError:  # what is to be done there will tell
            break
        sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX  # as /tmp: root's stays
        if not sticky and (status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            return place
    return folder


def _mounts() -> list[bytes]:
    """Return all mount points; the kernel escapes blanks and the like as octal numbers."""
    with open("/proc/self/mountinfo", "rb") as lines:
        places = [line.split(b" ")[4] for line in lines]
    return [
        re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), place) for place in places
    ]


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # 1, which Python ends with, may mean that files have changed
        sys.stderr.write(f"{error}\n")
        sys.exit(_CANNOT)
