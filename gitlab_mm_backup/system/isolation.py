"""Work that is cut off from every network."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from ..errors import Failure
from . import parallel

_CLONE_NEWNET = 0x40000000  # unshare(2)
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914  # netdevice(7)
_IFF_UP = 1
_INTERFACE = struct.Struct("16sh14x")  # struct ifreq: name, flags


def cut_off(task: Callable[[], Any], cancel: Callable[[], object] = lambda: None) -> Any:
    """Run ``task`` in a thread that has no network but a loopback of its own; return its result.

    So have the programs that it starts, and its own threads (network_namespaces(7)).  Sockets
    with a path are reached as before.  Raises Failure where the kernel does not allow it.
    """
    return parallel.together(lambda: _alone(task), cancel=cancel)[0]


def _alone(task: Callable[[], Any]) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise Failure(
            "The rehearsal cannot be cut off from the network",
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
