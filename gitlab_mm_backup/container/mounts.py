"""Mounts of a container, brought into this process's own mount namespace (open_tree(2))."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Failure, reason
from ..system import parallel

_CLONE_NEWNS = 0x00020000  # unshare(2), setns(2)
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # mount(2)
_MS_NOSUID, _MS_NODEV = 0x2, 0x4
_MNT_DETACH = 2  # umount2(2)
# Numbers of system calls since Linux 5.2 and 5.12, the same on all machines.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_FROM_EMPTY_PATH = 0x4
_NO_SUID, _NO_DEVICES, _NO_LINKS = 0x2, 0x4, 0x200000  # MOUNT_ATTR_*
_ATTRIBUTES = struct.Struct("QQQQ")  # struct mount_attr
_MOST = 1 << 20  # bytes of a file of settings; a larger one is none


@dataclass(frozen=True)
class Taken:
    """What was taken out of a container: its trees as descriptors, and small files by path."""

    root: int
    trees: Mapping[str, int]
    texts: Mapping[str, str]

    def close(self) -> None:
        for descriptor in (self.root, *self.trees.values()):
            os.close(descriptor)


def take(pid: int, trees: Sequence[str], texts: Sequence[str], *, volumes: bool = True) -> Taken:
    """Return copies of mounts of the container of process ``pid``, with all below them.

    Paths, and links on the way, are resolved inside the container. What does not exist there is left
    out. Without ``volumes`` the root is that of the image alone. Raises Failure where the kernel does
    not allow it.
    """
    try:
        found: Taken = parallel.run_all(lambda: _taken(pid, trees, texts, volumes))[0]
    except OSError as error:
        raise Failure(
            "The container's file system cannot be opened",
            f"process {pid}: {reason(error)}",
            "gitlab-mm needs root's rights on the host itself (CAP_SYS_ADMIN, CAP_SYS_CHROOT, "
            "CAP_SYS_PTRACE). Run it there, and not inside another container.",
        ) from None
    return found


def of_host(paths: Mapping[str, str]) -> dict[str, int]:
    """Return copies of this host's mounts by key; what is no directory is left out."""
    try:
        return {key: _clone(path) for key, path in paths.items() if os.path.isdir(path)}
    except OSError as error:
        raise Failure("The container's volumes cannot be opened", reason(error)) from None


def _taken(pid: int, trees: Sequence[str], texts: Sequence[str], volumes: bool) -> Taken:
    """Enter the container's mount namespace with this thread alone, which then ends."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(space), os.stat("/proc/self/ns/mnt")):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))  # its number is reused
        _called("unshare", _CLONE_NEWNS)  # a thread that shares its root directory cannot enter
        _called("setns", space, _CLONE_NEWNS)
        os.fchdir(root)
        os.chroot(".")
        opened = {path: _clone(path) for path in trees if os.path.isdir(path)}
        return Taken(_clone("/", below=volumes), opened, {path: _text(path) for path in texts})
    finally:
        os.close(root)
        os.close(space)


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return file.read(_MOST).decode(errors="surrogateescape")
    except OSError:
        return ""


def _clone(path: str, *, below: bool = True) -> int:
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if below else 0)
    return _system_call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)


def leave_host() -> None:
    """Give this thread, and those that it starts, mounts of their own (mount_namespaces(7))."""
    try:
        _called("unshare", _CLONE_NEWNS)
        _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    except OSError as error:
        raise Failure(
            "No private mounts can be made, through which a container is reached",
            reason(error),
            "Run gitlab-mm as root on the host itself (it needs CAP_SYS_ADMIN).",
        ) from None


def attach(tree: int, target: Path, *, links: bool = True) -> None:
    """Mount ``tree`` of a container at ``target``, without devices and set-user-ID programs.

    Without ``links`` no path leads through a link in it; Linux before 5.12 follows them.
    """
    wanted = _NO_SUID | _NO_DEVICES | (0 if links else _NO_LINKS)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.pack(wanted, 0, _MS_PRIVATE, 0))
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    with contextlib.suppress(OSError):
        _system_call(_MOUNT_SETATTR, tree, b"", flags, attributes, _ATTRIBUTES.size)
    _system_call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_FROM_EMPTY_PATH)


def mount_memory(target: Path) -> None:
    """Mount an empty file system in memory at ``target``, for root alone."""
    _mount("tmpfs", str(target), "tmpfs", _MS_NOSUID | _MS_NODEV)
    target.chmod(0o700)


def bind(source: Path, target: Path) -> None:
    """Show ``source``, with all that is mounted below it, at ``target`` too."""
    _mount(str(source), str(target), None, _MS_BIND | _MS_REC)


def make_place(path: Path, stash: Path) -> None:
    """Let the directory ``path`` exist, in this mount namespace alone.

    Its nearest parent that exists is replaced by a directory in memory with the same entries;
    ``stash`` is an empty directory for the original.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    if not missing:
        return
    parent = missing[-1].parent
    if parent == Path("/"):
        _replace_root(stash)
    else:
        bind(parent, stash)
        mount_memory(parent)
        parent.chmod(stash.stat().st_mode & 0o7777)
        for entry in sorted(stash.iterdir()):
            _mirror(entry, parent / entry.name)
    for folder in reversed(missing):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)


def _replace_root(place: Path) -> None:
    """Move this mount namespace to a root directory in memory, in which ``/`` has the same entries."""
    entries = sorted(Path("/").iterdir())
    mount_memory(place)
    place.chmod(0o755)
    for entry in entries:
        _mirror(entry, place / entry.name)
    os.chdir(place)
    _called("pivot_root", b".", b".")
    _called("umount2", b".", _MNT_DETACH)  # the old one, which is over the new one now
    os.chdir("/")
    detach(place)


def detach(target: Path) -> None:
    """Unmount what is at ``target``, for good once nothing uses it; nothing may be mounted there."""
    with contextlib.suppress(OSError):
        _called("umount2", os.fsencode(target), _MNT_DETACH)


def _mirror(entry: Path, target: Path) -> None:
    if entry.is_symlink():
        target.symlink_to(os.readlink(entry))
        return
    if entry.is_dir():
        target.mkdir()
    else:
        target.touch()
    bind(entry, target)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _called("mount", *words, ctypes.c_ulong(flags), None)


def _called(name: str, *arguments: object) -> None:
    """Call a function of the C library; raises OSError where it fails."""
    _checked(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))


def _system_call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _checked(libc.syscall(ctypes.c_long(number), *words))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
