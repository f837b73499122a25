"""A view of this host in which a program can change, and look into, what it is given only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Below it a sandbox shows what it was given; /run is a memory file system of its own there.
INSIDE = Path("/run/gitlab-mm")
# Empty inside, but for what is given: data, settings, sockets and temporary files of the host.
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
# What setpriv(1) needs to become the account; the program itself has none.
_CAPABILITIES = ("CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")


@dataclass(frozen=True)
class Sandbox:
    """Folders by their path inside, all below INSIDE, and what stays readable of the host.

    The program sees its own processes alone, can write to ``folders`` and to memory, and reads
    the rest of the host without what is hidden.  It dies with whoever started it.
    """

    folders: Mapping[Path, Path]  # path inside -> folder of the host, writable
    readable: Sequence[Path] = field(default=())  # of the host, although below a hidden folder
    working_folder: Path = Path("/")

    def argv(self, refusing: int) -> list[str]:
        """Return the bwrap(1) prefix; the program follows it.

        ``refusing`` is the descriptor of the program that says which calls the kernel refuses.
        """
        hidden = [one for one in _HIDDEN if os.path.isdir(one) and not os.path.islink(one)]
        return [
            "bwrap",
            "--die-with-parent",
            "--new-session",
            *("--seccomp", str(refusing)),
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts"),
            *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
            # A file system, for a mere folder would have the mode of our umask.
            *(word for one in (*hidden, str(INSIDE)) for word in ("--tmpfs", one)),
            *("--dir", "/var/tmp"),
            *(word for one in self.readable for word in ("--ro-bind", str(one), str(one))),
            *(word for to, at in self.folders.items() for word in ("--bind", str(at), str(to))),
            *("--chdir", str(self.working_folder)),
            *(word for one in _CAPABILITIES for word in ("--cap-add", one)),
            "--",
        ]
