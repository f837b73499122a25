"""Namespaces: run a task with another file system tree, or without the network."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import Failure
from . import parallel

_CLONE_NEWNS = 0x00020000  # unshare(2)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 0x1, 0x2, 0x4  # mount(2)
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
# Paths that programs of this host need, those of the system's log included.
_HOST = (
    *("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "proc", "dev", "run/systemd"),
    *("etc/alternatives", "etc/hosts", "etc/ld.so.cache", "etc/localtime", "etc/ssl"),
)
_CLONE_NEWNET = 0x40000000  # unshare(2)
_Result = TypeVar("_Result")
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914  # netdevice(7)
_IFF_UP = 1
_INTERFACE = struct.Struct("16sh14x")  # struct ifreq: name, flags


@dataclass(frozen=True)
class View:
    """The files that a task sees besides this host's programs; path inside -> path of this host.

    No path inside may be below another one.
    """

    readable: Mapping[Path, Path]
    writable: Mapping[Path, Path] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)  # path inside -> content
    links: Mapping[Path, str] = field(default_factory=dict)  # path inside -> target


def within(view: View, base: Path, task: Callable[[], Any]) -> Any:
    """Run ``task`` in a thread whose file system is ``view``; return its result.

    The programs and threads that it starts have the same view (mount_namespaces(7)). ``base`` is
    an empty directory; other processes see nothing in it. Links are resolved within the view.
    Raises Failure where the kernel does not allow it.
    """
    return parallel.run_all(lambda: _alone(view, base, task))[0]


def _alone(view: View, base: Path, task: Callable[[], Any]) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise _refused("unshare", ctypes.get_errno())
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", base, "tmpfs", _MS_NOSUID | _MS_NODEV)
    base.chmod(0o755)
    for name in _HOST:
        source = Path("/") / name
        if source.is_symlink() and name.count("/") == 0:
            (base / name).symlink_to(os.readlink(source))
        elif source.exists():
            _bind(source, base / name, writable=name in ("proc", "dev", "run/systemd"))
    for inside, source in view.readable.items():
        _bind(source, _below(base, inside))
    for inside, source in view.writable.items():
        _bind(source, _below(base, inside), writable=True)
    for inside, target in view.links.items():
        _parent(_below(base, inside)).symlink_to(target)
    for inside, text in view.files.items():
        _parent(_below(base, inside)).write_text(text)
        _below(base, inside).chmod(0o644)
    _below(base, Path("/tmp")).mkdir(mode=0o1777, exist_ok=True)
    os.chroot(base)
    os.chdir("/")
    return task()


def _below(base: Path, inside: Path) -> Path:
    return base / inside.relative_to("/")


def _parent(path: Path) -> Path:
    """Create the parent directory of ``path`` with mode 0755, whatever the umask."""
    missing = [parent for parent in path.parents if not parent.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        folder.chmod(0o755)
    return path


def _bind(source: Path, target: Path, *, writable: bool = False) -> None:
    """Mount ``source`` at ``target``, read-only with nodev and nosuid unless ``writable``."""
    _parent(target)
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(str(source), target, None, _MS_BIND | _MS_REC)
    if not writable:
        _mount(None, target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def _mount(source: str | None, target: Path, kind: str | None, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), None) != 0:
        raise _refused(str(source or target), ctypes.get_errno())


def _refused(what: str, number: int) -> Failure:
    return Failure(
        "The directory cannot be mounted in place of this host's file system",
        f"{what}: {os.strerror(number)}",
        "In a container, allow it mounts (CAP_SYS_ADMIN).",
    )


@dataclass(frozen=True)
class SiteNetwork:
    """The network that Mattermost runs in where that is a container's.

    ``names`` are files for this host's paths by which names of servers are resolved there.
    """

    namespace: int  # a descriptor of it
    names: Mapping[Path, Path]


_site: list[SiteNetwork] = []
_database: list[SiteNetwork] = []


def use_site(network: SiteNetwork) -> None:
    """Make ``at_site`` use a container's network from now on."""
    _site[:] = [network]


def use_database(*network: SiteNetwork) -> None:
    """Make ``at_database`` use a container's network from now on, or with none this host's."""
    _database[:] = network


def at_site(task: Callable[[], _Result]) -> _Result:
    """Run ``task`` in the network that Mattermost runs in; return its result.

    That is this host's, or for a container the task runs in a thread that has the container's. A
    connection that it opens stays there.
    """
    return _at(_site, task)


def at_database(task: Callable[[], _Result]) -> _Result:
    """Do the same in the network in which Mattermost's PostgreSQL is reached."""
    return _at(_database, task)


def _at(networks: Sequence[SiteNetwork], task: Callable[[], _Result]) -> _Result:
    if not networks:
        return task()
    done: _Result = parallel.run_all(lambda: _there(networks[0], task))[0]
    return done


def _there(network: SiteNetwork, task: Callable[[], _Result]) -> _Result:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise _refused("unshare", ctypes.get_errno())
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE)
    for path, source in network.names.items():
        if path.exists():
            _mount(str(source), path, None, _MS_BIND)
    if libc.setns(network.namespace, _CLONE_NEWNET) != 0:
        raise _refused("the container's network", ctypes.get_errno())
    return task()


def without_network(task: Callable[[], Any], cancel: Callable[[], object] = lambda: None) -> Any:
    """Run ``task`` in a thread without network except a private loopback; return its result.

    The programs and threads that it starts have the same network (network_namespaces(7)). Sockets
    with a path work as before. Raises Failure where the kernel does not allow it.
    """
    return parallel.run_all(lambda: _network_alone(task), cancel=cancel)[0]


def _network_alone(task: Callable[[], Any]) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise Failure(
            "The restored Mattermost cannot be isolated from the network",
            os.strerror(ctypes.get_errno()),
            "In a container, allow it network namespaces (CAP_SYS_ADMIN), or set rehearse: off in "
            "config.yml.",
        )
    _raise_loopback()
    return task()


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        flags = _INTERFACE.unpack(answer)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | _IFF_UP))
