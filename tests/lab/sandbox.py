"""A throwaway host: an overlay of this machine in its own namespaces, with a power switch.

    with Lab(base=build_base()) as lab:
        lab.write("/etc/gitlab/gitlab.rb", "...")
        print(lab.run("id", user="postgres").stdout)

Absolute paths are real inside and nothing outside changes. Inside there are own processes, an own
loopback and no other network, memory file systems on /run, /tmp and /dev/shm, and the checkout,
read-only, at /lab/src. Only the root file system of the machine shows through. When the process
that made a lab ends, however it ends, the kernel kills everything in the lab and frees its disk.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Union

from tests.lab.commands import finish, release
from tests.lab.disks import CHECKOUT, disk_room
from tests.lab.errors import CommandFailed, LabError, LabRefused, LabTimeout, wait_until
from tests.lab.machine import refuse_unfit_machine, remove_control_group, resolve_inside

__all__ = ["Bind", "CommandFailed", "Lab", "LabError", "LabRefused", "LabTimeout", "wait_until"]

Stream = Union[int, IO[Any], None]

#: Debian's interpreter, so that no other Python that comes first in the caller's PATH is taken.
PYTHON = "/usr/bin/python3"
INIT = CHECKOUT / "tests/lab/init.py"
SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc")


class Bind(NamedTuple):
    """A folder of the machine that a lab sees."""

    outside: Path
    inside: str
    writable: bool = False


class Lab:
    """A throwaway host. `with Lab(...) as lab` boots it and in the end throws it away.

    base: a base layer from base.build_base(), or None for the bare machine. root: the root file
    system of another release (releases.build_root()) in place of the machine's. network: keep the
    machine's network, until unplug(). network_of: share the loopback of another lab, which must
    outlive this one: two hosts, one network. systemd: its first process is systemd, with no unit
    started. binds: more folders to show inside. disk_size: of the disk that changes go to, as in
    tmpfs(5). Raises LabRefused on an unfit machine.
    """

    def __init__(
        self,
        base: Path | None = None,
        *,
        root: Path | None = None,
        network: bool = False,
        systemd: bool = False,
        network_of: Lab | None = None,
        binds: Sequence[Bind] = (),
        disk_size: str = "4g",
        hostname: str = "lab",
    ) -> None:
        refuse_unfit_machine()
        self._room = disk_room()
        self._plan = {
            "layers": [
                *([str(self._room.unpack_layer(base))] if base else []),
                str(self._room.unpack_layer(root)) if root else "/",
            ],
            "disk": str(self._room.new_disk(disk_size)),
            "hostname": hostname,
            "network": network,
            "systemd": systemd,
            "binds": [
                [str(bind.outside), bind.inside, bind.writable]
                for bind in (Bind(CHECKOUT, "/lab/src"), *binds)
            ],
        }
        self._network_of = network_of
        self._keeper: subprocess.Popen[str] | None = None
        self._started: list[subprocess.Popen[Any]] = []
        self._pid: int | None = None

    def __enter__(self) -> Lab:
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def disk(self) -> Path:
        """The disk's folder, as tests.lab.disks.DiskRoom knows it."""
        return Path(str(self._plan["disk"]))

    @property
    def pid(self) -> int:
        """Process id, outside, of the lab's PID 1."""
        if self._pid is None:
            raise LabError("the lab is switched off")
        return self._pid

    def boot(self) -> None:
        """Switch the lab on with its unchanged disk."""
        if self._pid is not None:
            raise LabError("the lab is switched on already")
        shared = self._plan["network"] or self._network_of
        wanted = [name for name in NAMESPACES if name != "--net" or not shared]
        joined = [f"--net=/proc/{self._network_of.pid}/ns/net"] if self._network_of else []
        keeper = subprocess.Popen(
            ["nsenter", f"--mount={self._room.namespace}", *joined, "--", "unshare", *wanted, "--fork",
             "--kill-child", "--propagation", "private", "--", PYTHON, "-I", str(INIT),
             json.dumps(self._plan)],
            cwd="/", env=self.environment("root"), umask=0o022, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._keeper = keeper
        assert keeper.stdout is not None and keeper.stderr is not None
        answer = keeper.stdout.readline()
        if not answer:
            raise LabError(f"the lab did not boot:\n{keeper.stderr.read()}")
        self._pid = int(answer)
        if self._plan["systemd"]:
            state = ("systemctl", "is-system-running")
            up = ("running", "degraded")
            wait_until(lambda: self.run(*state, check=False).stdout.strip() in up, 20, "systemd")

    def power_off(self) -> None:
        """Kill everything inside at once, as a power cut does. The disk is kept for boot()."""
        keeper, self._keeper = self._keeper, None
        pid, self._pid = self._pid, None
        if keeper is None:
            return
        if pid is not None and keeper.poll() is None:
            os.kill(pid, signal.SIGKILL)
        release(keeper)
        if pid is not None and self._plan["systemd"]:
            remove_control_group(pid)

    def unplug(self) -> None:
        """Switch off, and on again without the machine's network."""
        self.power_off()
        self._plan["network"] = False
        self.boot()

    def close(self) -> None:
        """Throw the lab away. May be called twice."""
        self.power_off()
        while self._started:
            release(self._started.pop())
        if self._plan["disk"]:
            self._room.drop_disk(self.disk)
            self._plan["disk"] = ""

    def pack_disk(self, archive: Path, exclude: tuple[str, ...] = ()) -> None:
        """Switch the lab off and pack what it changed as a base layer (DiskRoom.pack_layer)."""
        self.power_off()
        self._room.pack_layer(self.disk, archive, exclude)

    def environment(self, user: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment that commands in the lab get; nothing comes from outside."""
        home = "/root" if user == "root" else self.account(user)[5]
        basis = {
            "PATH": SEARCH_PATH,
            "LANG": "C.UTF-8",
            "HOME": home,
            "USER": user,
            "LOGNAME": user,
        }
        return {**basis, **(extra or {})}

    def command(self, argv: Sequence[str], user: str | None = None, cwd: str = "/") -> list[str]:
        """The command line outside that runs `argv` inside, as `user` with that user's groups."""
        enter = ["nsenter", f"--target={self.pid}", *NAMESPACES, "--root", "--wd", "--"]
        if user is not None and user != "root":
            enter += [
                "setpriv",
                f"--reuid={user}",
                f"--regid={self.account(user)[3]}",
                "--init-groups",
                "--",
            ]
        if cwd != "/":
            enter += ["env", f"--chdir={cwd}", "--"]
        return [*enter, *argv]

    def account(self, user: str) -> list[str]:
        """The fields of one of the lab's users, as in passwd(5)."""
        for line in self.read("/etc/passwd").splitlines():
            fields = line.split(":")
            if fields[0] == user:
                return fields
        raise LabError(f"the lab has no user {user!r}")

    def popen(
        self,
        *argv: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.PIPE,
        stderr: Stream = subprocess.PIPE,
        text: bool = True,
    ) -> subprocess.Popen[Any]:
        """Start a command inside and leave it running; send_signal() reaches it."""
        process = self._start(argv, user, env, cwd, stdin, stdout, stderr, text)
        self._started.append(process)
        return process

    def _start(
        self,
        argv: Sequence[str],
        user: str | None,
        env: Mapping[str, str] | None,
        cwd: str,
        stdin: Stream,
        stdout: Stream = subprocess.PIPE,
        stderr: Stream = subprocess.PIPE,
        text: bool = True,
    ) -> subprocess.Popen[Any]:
        return subprocess.Popen(
            self.command(argv, user, cwd), env=self.environment(user or "root", env), cwd="/",
            umask=0o022, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
            encoding="utf-8" if text else None, errors="backslashreplace" if text else None,
        )  # fmt: skip

    def run(
        self,
        *argv: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        input: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and wait for it and for the end of its output.

        Raises CommandFailed when it fails and `check` is set, LabTimeout after `timeout` seconds.
        """
        process = self._start(argv, user, env, cwd, _stdin_for(input))
        return finish(process, argv, input, check, timeout)

    def run_bytes(
        self,
        *argv: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        input: bytes | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[bytes]:
        """Like run(), with bytes for input and output."""
        process = self._start(argv, user, env, cwd, _stdin_for(input), text=False)
        return finish(process, argv, input, check, timeout)

    def send_signal(self, process: subprocess.Popen[Any], number: int) -> None:
        """Send a signal to a command of popen(); the Popen object itself is an nsenter(1)."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        child = wait_until(lambda: children.read_text().split(), 10, "the command to start")[0]
        os.kill(int(child), number)

    def path(self, path: str, *, follow: bool = True) -> Path:
        """The same file seen from outside; a link at its end stays one without `follow`."""
        return resolve_inside(Path(f"/proc/{self.pid}/root"), path, follow)

    def read(self, path: str) -> str:
        return self.path(path).read_text(encoding="utf-8")

    def write(
        self,
        path: str,
        content: str | bytes,
        *,
        mode: int = 0o644,
        owner: str | None = None,
    ) -> None:
        """Write a file, and its folders if need be; `owner` is a user or user:group inside."""
        self.run("mkdir", "-p", os.path.dirname(path))
        target = self.path(path)
        target.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        target.chmod(mode)
        if owner is not None:
            self.run("chown", owner, path)


def _stdin_for(input: object | None) -> int:
    return subprocess.DEVNULL if input is None else subprocess.PIPE
