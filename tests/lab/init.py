"""PID 1 of a lab: builds the root file system, moves into it, then waits for orphans and its end.

Started by sandbox.py in new namespaces, as `python3 -I init.py PLAN`, where PLAN is a JSON object:
{"disk": folder with upper, work and root, "layers": lower layers, topmost first (the last is the
host's "/" or a root file system of its own), "hostname": name,
"network": bool, "systemd": bool, "binds": [[outside, inside, writable], ...]}. Once the lab is up
it prints its process id as the host counts. Standard input is the lifeline: at its end of file the
lab ends at once, so that no lab outlives the process that made it. With "systemd" this program
becomes systemd, below a control group of its own named like CGROUP and the process id.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
MNT_DETACH = 2  # umount2(2)
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # netdevice(7)
CLONE_NEWCGROUP = 0x02000000  # unshare(2)
POWER_OFF = 0x4321FEDC  # reboot(2); within a PID namespace it ends that alone
CGROUP = "lab-"
SYSTEMD = "/lib/systemd/systemd"
# No service of the machine starts by itself.
TARGET = "[Unit]\nDescription=Lab\nAllowIsolate=yes\n"


def mount(*arguments: str) -> None:
    """Call mount(8); raises CalledProcessError, its message is on stderr."""
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL)


def mount_tmpfs(target: Path, mode: str) -> None:
    target.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", str(target))


def mount_root(plan: dict[str, Any]) -> Path:
    """Lay the overlay: the lab's disk over its base layers over a root file system."""
    disk = Path(plan["disk"])
    lower = ":".join(plan["layers"])
    # Without redirect_dir a folder from a lower layer cannot be renamed (EXDEV).
    options = (
        f"redirect_dir=on,index=off,lowerdir={lower},upperdir={disk}/upper,workdir={disk}/work"
    )
    mount("-t", "overlay", "-o", options, "overlay", str(disk / "root"))
    return disk / "root"


def mount_kernel_folders(root: Path) -> None:
    """Own /proc, /dev, /run and /tmp; no block devices, and the kernel's switches read-only."""
    mount("-t", "proc", "proc", str(root / "proc"))
    for switches in (root / "proc/sys", root / "proc/sysrq-trigger"):
        if switches.exists():  # not every kernel has sysrq
            mount("--bind", "-o", "ro", str(switches), str(switches))
    device_folder = root / "dev"
    mount_tmpfs(device_folder, "0755")
    for name in DEVICES:
        (device_folder / name).touch()
        mount("--bind", f"/dev/{name}", str(device_folder / name))
    (device_folder / "pts").mkdir()
    mount(
        "-t",
        "devpts",
        "-o",
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
        "devpts",
        str(device_folder / "pts"),
    )
    links = {
        "ptmx": "pts/ptmx",
        "fd": "/proc/self/fd",
        "stdin": "fd/0",
        "stdout": "fd/1",
        "stderr": "fd/2",
    }
    for name, target in links.items():
        (device_folder / name).symlink_to(target)
    mount_tmpfs(device_folder / "shm", "1777")
    mount_tmpfs(root / "tmp", "1777")
    mount_tmpfs(root / "run", "0755")
    (root / "run/lock").mkdir()
    (root / "run/lock").chmod(0o1777)


def mount_binds(root: Path, binds: list[tuple[str, str, bool]]) -> None:
    for outside, inside, writable in binds:
        target = root / inside.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        mount("--bind", "-o", "rw" if writable else "ro", outside, str(target))


def name_host(root: Path, hostname: str) -> None:
    socket.sethostname(hostname)
    (root / "etc/hostname").write_text(f"{hostname}\n", encoding="ascii")
    (root / "etc/hosts").write_text(
        f"127.0.0.1 localhost\n127.0.1.1 {hostname}\n::1 localhost\n", encoding="ascii"
    )


def keep_name_servers(root: Path) -> None:
    """Put resolv.conf where its link points to, if that is in /run, which the lab has emptied."""
    real = Path(os.path.realpath("/etc/resolv.conf"))
    if real.is_file() and real.parts[1] == "run":
        copy = root / real.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(real.read_bytes())


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def pivot_into(root: Path) -> None:
    """Make `root` the root and drop the host's, with "." twice as in pivot_root(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir(root)
    if libc.pivot_root(b".", b".") != 0 or libc.umount2(b".", MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), f"cannot move into {root}")
    os.chdir("/")


def reap_orphans(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def hold() -> None:
    """Reap orphans until the lifeline ends; then the kernel kills all in this namespace."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, reap_orphans)
    reap_orphans()
    while os.read(0, 1):
        pass


def mount_control_groups(root: Path, name: str) -> None:
    """Show systemd /sys without a way to change it, and a control group of the lab's own."""
    mount("-t", "sysfs", "-o", "ro", "sysfs", str(root / "sys"))
    groups = root / "sys/fs/cgroup"
    mount("-t", "cgroup2", "cgroup2", str(groups))
    (groups / name).mkdir()
    (groups / name / "cgroup.procs").write_text("0", encoding="ascii")
    subprocess.run(["umount", str(groups)], check=True, stdin=subprocess.DEVNULL)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWCGROUP) != 0:
        raise OSError(ctypes.get_errno(), "no control groups of its own")
    mount("-t", "cgroup2", "cgroup2", str(groups))
    (root / "etc/systemd/system/lab.target").write_text(TARGET, encoding="ascii")


def become_systemd() -> None:
    """Go on as systemd; a child watches the lifeline, for systemd does not."""
    if os.fork() == 0:
        while os.read(0, 1):
            pass
        ctypes.CDLL(None).reboot(POWER_OFF)
        os._exit(0)
    os.dup2(1, 0)
    environment = {"container": "lab", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    os.execve(SYSTEMD, [SYSTEMD, "--system", "--unit=lab.target"], environment)


def main() -> None:
    plan = json.loads(sys.argv[1])
    outer_pid = os.readlink("/proc/self")  # /proc is still the host's here
    root = mount_root(plan)
    mount_kernel_folders(root)
    mount_binds(root, plan["binds"])
    if plan["systemd"]:
        mount_control_groups(root, CGROUP + outer_pid)
    name_host(root, plan["hostname"])
    if plan["network"]:
        keep_name_servers(root)
    else:
        raise_loopback()
    pivot_into(root)
    print(outer_pid, flush=True)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if plan["systemd"]:
        become_systemd()
    hold()


if __name__ == "__main__":
    main()
