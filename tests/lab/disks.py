"""Memory disks for labs, held in a mount namespace of their own.

Every disk is a tmpfs that only this namespace knows. So it outlives labs that are switched off and
on again, and vanishes with the test process: the namespace's only process is a `cat` on a pipe
whose other end the test process alone holds. Nothing has to be cleaned up, even after a SIGKILL.

Base layers are unpacked here too. They cannot be a folder in the checkout: overlayfs refuses a
lower layer inside another (ELOOP, "overlapping lowerdir path"), and the lowest layer is all of /.
"""

from __future__ import annotations

import atexit
import functools
import subprocess
from pathlib import Path

from tests.lab.errors import LabError

CHECKOUT = Path(__file__).resolve().parents[2]
#: Empty on nearly every machine; what lies there is hidden inside the labs' namespaces only.
MOUNT_POINTS = ("/mnt", "/media", "/srv", "/boot")


@functools.cache
def disk_room() -> DiskRoom:
    """The disk room of this process, opened on first use."""
    room = DiskRoom(choose_mount_point(CHECKOUT))
    atexit.register(room.close)
    return room


def choose_mount_point(checkout: Path) -> Path:
    """The first of MOUNT_POINTS that exists and does not hold the checkout."""
    for name in MOUNT_POINTS:
        candidate = Path(name)
        if candidate.is_dir() and candidate not in checkout.parents:
            return candidate
    raise LabError(f"no folder to mount the labs' disks on: tried {', '.join(MOUNT_POINTS)}")


class DiskRoom:
    """A mount namespace with a tmpfs on `place`, where disks and base layers are folders."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._layers: dict[Path, Path] = {}
        self._disks = 0
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "cat"],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._wait_for_holder()
        self.run("mount", "-t", "tmpfs", "-o", "mode=0755,size=100%", "tmpfs", str(place))

    def _wait_for_holder(self) -> None:
        """Return when `cat` echoes, which it can do only inside the new namespace."""
        assert self._holder.stdin is not None and self._holder.stdout is not None
        try:
            self._holder.stdin.write(b"\n")
            self._holder.stdin.flush()
        except BrokenPipeError:
            pass
        if self._holder.stdout.readline() != b"\n":
            raise LabError(
                "unshare(1) could not make a mount namespace; labs need root with all capabilities"
            )

    @property
    def namespace(self) -> str:
        """The mount namespace as a file for nsenter(1)."""
        return f"/proc/{self._holder.pid}/ns/mnt"

    @property
    def outside(self) -> Path:
        """Where the test process finds `place`."""
        return Path(f"/proc/{self._holder.pid}/root", *self.place.parts[1:])

    def close(self) -> None:
        """End the namespace with all disks."""
        self._holder.communicate()

    def run(self, *argv: str) -> None:
        """Run a program of the host with the disks in sight; LabError when it fails."""
        command = ["nsenter", f"--mount={self.namespace}", "--", *argv]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            umask=0o022,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip()}")

    def new_disk(self, size: str) -> Path:
        """An empty disk of `size` (as in tmpfs(5)) with the folders upper, work and root."""
        self._disks += 1
        disk = self.place / f"disk-{self._disks}"
        self.run("mkdir", "-m", "0755", str(disk))
        self.run("mount", "-t", "tmpfs", "-o", f"mode=0755,size={size}", "tmpfs", str(disk))
        self.run("mkdir", "-m", "0755", *(str(disk / name) for name in ("upper", "work", "root")))
        return disk

    def drop_disk(self, disk: Path) -> None:
        """Forget a disk. Its memory is freed when the last namespace that used it has gone."""
        self.run("umount", "--lazy", str(disk))
        self.run("rmdir", str(disk))

    def unpack_layer(self, archive: Path) -> Path:
        """Unpack a base layer, once per process; its path in here."""
        if archive not in self._layers:
            layer = self.place / f"layer-{len(self._layers) + 1}"
            self.run("rm", "-rf", str(layer))
            self.run("mkdir", "-m", "0755", str(layer))
            self.run("tar", "-xpf", str(archive), "--zstd", "--numeric-owner", "--xattrs",
                     "--xattrs-include=*", "-C", str(layer))  # fmt: skip
            self._layers[archive] = layer
        return self._layers[archive]

    def pack_layer(self, disk: Path, archive: Path, exclude: tuple[str, ...]) -> None:
        """Write what a switched-off lab changed as a base layer, with overlayfs's marks of removal.

        `exclude` names what is left out, from the lab's root, without the leading slash.
        """
        marks = ["--xattrs-include=security.*", "--xattrs-include=trusted.overlay.opaque"]
        left_out = [f"--exclude=./{path}" for path in exclude]
        self.run("tar", "-cf", str(archive), "--zstd", "--numeric-owner", "--xattrs", *marks,
                 "--anchored", *left_out, "-C", str(disk / "upper"), ".")  # fmt: skip
