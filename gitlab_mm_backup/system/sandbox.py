"""Restricted programs: bubblewrap sandbox, resource limits, system call filter, privileges.

In the sandbox the host is read-only, data directories are hidden, and only the given directories
are writable.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import pwd
import re
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Failure

# The given directories are below it in a sandbox, where /run is a private tmpfs.
INSIDE = Path("/run/gitlab-mm")
# Empty inside, except given directories: the host's data, settings, sockets, temporary files.
_HIDDEN = (
    "/etc/gitlab",
    "/opt/gitlab/etc",
    "/home",
    "/mnt",
    "/media",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/var",
)
# Capabilities for setpriv(1) to become the account; the program itself has none.
_CAPABILITIES = ("CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")
# What else an engine gives root in a container, as far as files and services need it.
_ROOTS = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL")
# The host's setpriv(1) and its libraries, inside a container.
_SETPRIV, _LIBRARIES = INSIDE / "host/setpriv", f"{INSIDE}/host/lib"
# Processes and threads of the account, on the whole host.
_PROCESSES = 1024
_OPEN_FILES = 8192
# PostgreSQL keeps a table in files of 1 GiB.
_FILE = (1 << 30) + (16 << 20)
# Private memory of one process: half of the host's, within these limits.
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
# System calls of most known sandbox escapes; no server needs them.
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
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 2, 4
# Numbers of setresuid(2) and setresgid(2) by machine and bytes of an address: amd64 and arm64.
_SET_IDS = {("x86_64", 8): (117, 119), ("aarch64", 8): (147, 149)}


@dataclass(frozen=True)
class Sandbox:
    """A bubblewrap sandbox: the writable directories by their path inside, and readable ones.

    All paths inside are below INSIDE. The program sees only its own processes, can write to
    ``folders`` and to memory, and reads the rest of the host except hidden directories. It dies
    with the process that started it.
    """

    folders: Mapping[Path, Path]  # path inside -> folder of the host, writable
    readable: Sequence[Path] = field(default=())  # of the host, although below a hidden folder
    working_folder: Path = Path("/")

    def argv(self, refusing: int, guest: Guest | None = None) -> list[str]:
        """Return the bwrap(1) prefix; the program follows it.

        ``refusing`` is the descriptor of the system call filter. Inside is the host, or ``guest``.
        """
        root = str(guest.root) if guest else "/"
        hidden = [path for path in _HIDDEN if _is_folder(f"{root}{path}")]
        return [
            *_bwrap(refusing),
            *("--ro-bind", root, "/", "--dev", "/dev", "--proc", "/proc"),
            # A tmpfs, because a plain directory would get the mode of our umask.
            *(word for path in (*hidden, str(INSIDE)) for word in ("--tmpfs", path)),
            *("--dir", "/var/tmp"),
            *(guest.needs if guest else ()),
            *(word for path in self.readable for word in ("--ro-bind", str(path), str(path))),
            *(word for to, at in self.folders.items() for word in ("--bind", str(at), str(to))),
            *("--chdir", str(self.working_folder)),
            *(word for capability in _CAPABILITIES for word in ("--cap-add", capability)),
            "--",
        ]


@dataclass(frozen=True)
class Guest:
    """The file system of a container, in which its programs run, with the C library that they need.

    ``programs`` are directories of this process that are the container's. Programs have processes
    of their own and none of the container's, no way to more rights, and die with the process that
    started them. Its images are data of others: root's programs have no more rights than an engine
    gives them.
    """

    root: Path
    programs: tuple[Path, ...]
    accounts: Mapping[Path, Path] = field(default_factory=dict)  # path inside -> file for it
    network: Path | None = None  # a file of its network namespace; None: this host's

    @property
    def needs(self) -> list[str]:
        """Return the words of bwrap(1) for the host's setpriv(1), which an image may lack."""
        files = {**self.accounts, _SETPRIV: Path("/usr/bin/setpriv"), **_libraries()}
        return [word for to, at in files.items() for word in ("--ro-bind", str(at), str(to))]

    @property
    def setpriv(self) -> list[str]:
        """Return the host's setpriv(1) as it is called inside."""
        loader, folders = _loader(), ":".join(map(str, _libraries()))
        return [f"{_LIBRARIES}0/{loader.name}", "--library-path", folders, str(_SETPRIV)]

    def argv(self, refusing: int, shared: Sequence[Path], *, as_root: bool) -> list[str]:
        """Return the bwrap(1) prefix; the program follows it.

        ``shared`` directories of this host are seen inside. Only root's programs can write.
        """
        capabilities = (*_CAPABILITIES, *_ROOTS) if as_root else _CAPABILITIES
        return [
            *_bwrap(refusing),
            *("--bind" if as_root else "--ro-bind", str(self.root), "/"),
            *("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run"),
            *self.needs,
            *(word for path in shared for word in ("--bind-try", str(path), str(path))),
            *(word for capability in capabilities for word in ("--cap-add", capability)),
            "--",
        ]


_guests: list[Guest] = []


def receive(guest: Guest) -> None:
    """Run the programs of ``guest`` inside it from now on."""
    _guests.append(guest)


def guest_of(program: str) -> Guest | None:
    """Return the container that a program belongs to; None for one of this host."""
    folders = Path(program).parents
    return next(
        (guest for guest in _guests if any(place in folders for place in guest.programs)), None
    )


def path_inside(guest: Guest | None, program: str) -> str:
    """Return a program's path in ``guest``, for one whose path here leads through its root."""
    if guest is None or guest.root not in Path(program).parents:
        return program
    return f"/{Path(program).relative_to(guest.root)}"


def _bwrap(refusing: int) -> list[str]:
    return [
        *("bwrap", "--die-with-parent", "--new-session", "--seccomp", str(refusing)),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    ]


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


@functools.lru_cache(None)
def _loader() -> Path:
    """Return this host's dynamic loader (ld.so(8))."""
    found = [*Path("/lib64").glob("ld-linux-*.so.*"), *Path("/lib").glob("ld-linux-*.so.*")]
    return Path(os.path.realpath(found[0] if found else "/lib/ld.so"))


@functools.lru_cache(None)
def _libraries() -> dict[Path, Path]:
    """Return the directories of this host's C library and others, by their path inside."""
    first = _loader().parent
    folders = dict.fromkeys([first, Path("/usr/lib") / first.name])
    return {Path(f"{_LIBRARIES}{count}"): folder for count, folder in enumerate(folders)}


def limits_prefix() -> list[str]:
    """Return the prefix of choom(1) and prlimit(1) that sets the limits.

    A lower existing limit stays: in a container root may not be allowed to raise one.
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
def syscall_filter() -> bytes:
    """Return the seccomp(2) filter that refuses system calls, in the format that bwrap(1) takes.

    No namespace can be created, so no user namespace with privileges in it. clone3 is reported as
    missing, because its flags cannot be checked; the C library then uses clone.
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
    """Add a rule, unless this architecture or its libseccomp has no such call."""
    with contextlib.suppress(RuntimeError):
        made.add_rule_exactly(action, name, *arguments)


def rights_prefix(
    account: pwd.struct_passwd | None,
    capabilities: Sequence[str] | None,
    sandbox: Sandbox | None,
    descriptor: Callable[[bytes], int],
    guest: Guest | None = None,
    shared: Sequence[Path] = (),
) -> list[str]:
    """Return the prefix that drops all privileges that a program does not need.

    It becomes ``account``, or as root keeps only ``capabilities``; None changes neither.
    ``descriptor`` makes the program inherit a file with the given bytes. A program of ``guest``
    runs inside it, where ``shared`` directories of this host are seen.
    """
    words = ["setpriv", "--no-new-privs", "--pdeathsig=KILL"]
    inner = guest.setpriv if guest else ["setpriv"]
    if sandbox is not None:
        inside = sandbox.argv(descriptor(syscall_filter()), guest)
        words += ["--", *limits_prefix(), *inside, *inner]
    elif guest is not None:
        inside = guest.argv(descriptor(syscall_filter()), shared, as_root=account is None)
        there = ["nsenter", f"--net={guest.network}", "--"] if guest.network else []
        words += ["--", *there, *inside, *inner]
    if account is not None:
        words += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        words += ["--inh-caps=-all"]
    elif capabilities is not None:
        kept = [f"+{name}" for name in capabilities]
        words += ["--inh-caps=-all", f"--bounding-set={','.join(['-all', *kept])}"]
    return [*words, "--"]


def to_read_all() -> tuple[str, ...]:
    """Return the least capabilities of this process with which root reads every file.

    A container has dac_override by default, and dac_read_search only if it was added.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    found = re.search(r"^CapPrm:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = int(found[1], 16) if found else -1
    for name, number in (("dac_read_search", 2), ("dac_override", 1)):  # capabilities(7)
        if held >> number & 1:
            return (name,)
    return ()


def leave_no_core() -> None:
    """Prevent core files of this program and its children (core(5))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A core handler (core_pattern with a pipe) may ignore the limit, but not prctl(2).
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextlib.contextmanager
def acting_as(account: str | None) -> Iterator[None]:
    """Take the effective ids of ``account`` in this thread for the block, for peer authentication.

    Other threads keep theirs. Raises Failure for an unknown account.
    """
    if account is None:
        yield
        return
    entry, (set_user, set_group) = account_entry(account), _id_setters()
    with _ending_with_its_parent():
        set_group(entry.pw_gid)
        try:
            set_user(entry.pw_uid)
            try:
                yield
            finally:
                set_user(0)
        finally:
            set_group(0)


def _id_setters() -> tuple[Callable[[int], None], Callable[[int], None]]:
    """Return what sets the effective user and group of this thread alone.

    The C library sets those of all threads (nptl(7)), so the system calls are made directly; on a
    machine whose numbers are not known, all threads change.
    """
    machine = os.uname().machine, ctypes.sizeof(ctypes.c_void_p)
    if machine not in _SET_IDS:
        return os.seteuid, os.setegid
    user, group = _SET_IDS[machine]
    return functools.partial(_set_id, user), functools.partial(_set_id, group)


def _set_id(number: int, id_: int) -> None:
    libc, same = ctypes.CDLL(None, use_errno=True), ctypes.c_long(-1)
    if libc.syscall(ctypes.c_long(number), same, ctypes.c_long(id_), same) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def _ending_with_its_parent() -> Iterator[None]:
    """Keep the signal at the end of the parent, which a change of ids takes away (prctl(2))."""
    libc, wanted, parent = ctypes.CDLL(None), ctypes.c_int(), os.getppid()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(wanted), 0, 0, 0)
    try:
        yield
    finally:
        if wanted.value:
            libc.prctl(_PR_SET_PDEATHSIG, wanted.value, 0, 0, 0)
            if os.getppid() != parent:  # it ended meanwhile
                os.kill(os.getpid(), wanted.value)


def account_entry(account: str) -> pwd.struct_passwd:
    """Return the passwd entry of ``account``; raises Failure when there is none."""
    try:
        return pwd.getpwnam(account)
    except KeyError:
        raise Failure(
            f"There is no account {account} on this host",
            hint="Run gitlab-ctl reconfigure, which creates GitLab's accounts, then try again.",
        ) from None
