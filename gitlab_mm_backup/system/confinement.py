"""Confinement: what a program in a sandbox may take of the host, and ask of its kernel."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
import tempfile
from typing import Any

# Processes and threads of the account, on the whole host.
_PROCESSES = 1024
_OPEN_FILES = 8192
# PostgreSQL keeps a table in files of 1 GiB.
_FILE = (1 << 30) + (16 << 20)
# What one process may have of its own: half of the memory, but enough to work on any host.
_LEAST_DATA, _MOST_DATA = 1 << 30, 4 << 30
# The first to be ended where memory runs short (proc(5), oom_score_adj).
_FIRST_VICTIM = "1000"
_LIMITS = {
    "core": resource.RLIMIT_CORE,
    "nproc": resource.RLIMIT_NPROC,
    "nofile": resource.RLIMIT_NOFILE,
    "fsize": resource.RLIMIT_FSIZE,
    "data": resource.RLIMIT_DATA,
}
# Those through which most ways out of a sandbox have led, and that no server needs.
_REFUSED = (
    *("unshare", "setns", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount"),
    *("fsconfig", "fspick", "mount_setattr", "pivot_root", "chroot", "swapon", "swapoff"),
    *("bpf", "perf_event_open", "userfaultfd", "ptrace", "process_vm_readv", "process_vm_writev"),
    *("process_madvise", "kcmp", "pidfd_getfd", "keyctl", "add_key", "request_key"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"),
    *("open_by_handle_at", "name_to_handle_at", "fanotify_init", "quotactl", "quotactl_fd"),
    *("acct", "reboot", "syslog", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *("iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "lookup_dcookie", "nfsservctl", "vhangup"),
    *("personality", "uselib"),
)
_NAMESPACES = 0x7E020000  # every CLONE_NEW* of clone(2)
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, and AF_NETLINK to ask for addresses


def words() -> list[str]:
    """Return what goes before a sandbox's own words: choom(1) and prlimit(1) with the limits.

    A limit that is lower already stays: not every root may raise one, in a container.
    """
    wanted = {
        "core": 0,
        "nproc": _PROCESSES,
        "nofile": _OPEN_FILES,
        "fsize": _FILE,
        "data": min(max(_memory() // 2, _LEAST_DATA), _MOST_DATA),
    }
    given = [f"--{name}={_lower(_LIMITS[name], value)}" for name, value in wanted.items()]
    return ["choom", f"--adjust={_FIRST_VICTIM}", "--", "prlimit", *given, "--"]


def _lower(kind: int, wanted: int) -> int:
    _, hard = resource.getrlimit(kind)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@functools.lru_cache(None)
def filter_() -> bytes:
    """Return the program (seccomp(2)) that refuses calls of the kernel, as bwrap(1) takes it.

    No namespace can be made, so no user namespace with privileges of its own either.  clone3 is
    "not there", for its flags cannot be looked at: the C library takes clone then.
    """
    import seccomp

    made = seccomp.SyscallFilter(seccomp.ALLOW)
    refused, absent = seccomp.ERRNO(errno.EPERM), seccomp.ERRNO(errno.ENOSYS)
    for name in dict.fromkeys(_REFUSED):
        _add(made, refused, name)
    _add(made, absent, "clone3")
    for bit in range(_NAMESPACES.bit_length()):
        if flag := _NAMESPACES & 1 << bit:
            _add(made, refused, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    for number in range(_FAMILIES[-1] + 1):
        if number not in _FAMILIES:
            _add(made, refused, "socket", seccomp.Arg(0, seccomp.EQ, number))
    _add(made, refused, "socket", seccomp.Arg(0, seccomp.GT, _FAMILIES[-1]))
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def _add(made: Any, action: int, name: str, *arguments: Any) -> None:
    """Add a rule, unless this host's architecture, or its libseccomp, has no such call."""
    with contextlib.suppress(RuntimeError):
        made.add_rule_exactly(action, name, *arguments)
