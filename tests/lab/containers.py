"""A host with podman, and GitLab's image and container on it.

The image is the disk of a lab with the stand-in GitLab, without what its volumes hold and what reconfigure writes.
The container has the binds of GitLab's documentation: /srv/gitlab/{config,data,logs}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.disks import disk_room
from tests.lab.errors import LabError, wait_until
from tests.lab.omnibus import Omnibus, Spec
from tests.lab.sandbox import PYTHON, Bind, Lab

VOLUMES = {"config": "/etc/gitlab", "data": "/var/opt/gitlab", "logs": "/var/log/gitlab"}
GROUPS = Path("/sys/fs/cgroup")
STORE, ROOTS = "/run/podman", "/run/roots"
ENGINE = '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
STORAGE = f'[storage]\ndriver="vfs"\nrunroot="{STORE}/run"\ngraphroot="{STORE}/graph"\n'
# Written by reconfigure, so that an image has none of it.
CONFIGURED = ("/opt/gitlab/etc", "/opt/gitlab/sv", "/opt/gitlab/service", "/opt/gitlab/init")
# As in the package; the stand-in has links to Debian's.
OWN_PROGRAMS = """
for bin in /opt/gitlab/embedded/postgresql/*/bin; do
    from=$(readlink -f "$bin")
    rm "$bin"
    cp -a "$from" "$from/../lib" "${bin%/bin}"
    # One starts only where the image's own files are.
    mkdir /usr/lib/in-the-image
    cp /bin/dash /usr/lib/in-the-image/sh
    mv "$bin/pg_dump" "$bin/pg_dump.whole"
    printf '#!/usr/lib/in-the-image/sh\\nexec %s.whole "$@"\\n' "$bin/pg_dump" >"$bin/pg_dump"
    chmod 0755 "$bin/pg_dump"
done
"""
# What a container writes to in its root file system; all else can be read by everybody.
SHIFT = """
import os, sys
first, root = int(sys.argv[1]), sys.argv[2]
def shift(path):
    found = os.lstat(path)
    os.chown(path, found.st_uid + first, found.st_gid + first, follow_symlinks=False)
    if not os.path.islink(path):
        os.chmod(path, found.st_mode & 0o7777)
for name in ("", "etc", "dev", "proc", "sys", "run", "tmp", "var", "lab", "mnt", "etc/shadow", "var/tmp"):
    shift(os.path.join(root, name))
walks = [os.walk(os.path.join(root, name)) for name in ("opt/gitlab", "usr/lib/lab-cluster")]
for place, folders, files in (found for walk in walks for found in walk):
    for name in ("", *files, *(name for name in folders if os.path.islink(os.path.join(place, name)))):
        shift(os.path.join(place, name))
"""
LIMITS = ("--ulimit", "nofile=8192:8192", "--ulimit", "nproc=2000:2000")


class Inside(Lab):
    """A container on a host, used as a lab is; the host throws it away."""

    def __init__(self, host: Lab, pid: int, *, user: bool = False) -> None:
        self._outer, self._inner, self._user = host, pid, user
        self._started = []

    @property
    def pid(self) -> int:
        """Process id, on the machine, of the container's first process."""
        return self._inner

    def command(self, argv: Sequence[str], user: str | None = None, cwd: str = "/") -> list[str]:
        """Enter the user namespace too, where the container has one."""
        words = super().command(argv, user, cwd)
        return [words[0], "--user", *words[1:]] if self._user else words


@dataclass
class Image:
    """A root file system with GitLab, and the same spec for each container of it."""

    lab: Lab
    spec: Spec


@contextmanager
def image(base: Path, spec: Spec, prepare: str = "") -> Iterator[Image]:
    """Build an image; ``prepare`` is a shell script that changes it."""
    with Lab(base=base) as lab:
        module = (PYTHON, "-m", "tests.lab.layout")
        lab.run(*module, input=spec.to_json(), cwd="/lab/src")
        for path in (*CONFIGURED, *VOLUMES.values()):
            lab.run("sh", "-c", f"rm -rf {path}; mkdir -p {path}")
        lab.run("rm", "-rf", "/opt/gitlab/embedded/nodes")
        lab.write("/assets/spec.json", spec.to_json())
        lab.run("sh", "-ec", OWN_PROGRAMS + prepare)
        lab.power_off()
        yield Image(lab, spec)


def host(base: Path, made: Image, binds: Sequence[Bind] = (), network_of: Lab | None = None) -> Lab:
    """A host with podman, which shows the image and ``binds``; boot it as a lab."""
    room = disk_room()
    groups = [path for path in sorted(GROUPS.iterdir()) if os.path.ismount(path)]
    shown = [Bind(path, str(path), True) for path in (Path("/sys"), GROUPS, *groups)]
    shown += [Bind(Path("/"), "/lab/machine"), Bind(room.unpack_layer(base), "/lab/layer")]
    shown += [Bind(made.lab.disk / "upper", "/lab/image")]
    return Lab(base=base, binds=[*shown, *binds], hostname="docker-host", network_of=network_of)


@dataclass
class Podman:
    """The engine on a host."""

    lab: Lab
    image: Image
    _count: int = field(default=0)
    _first: int = field(default=0)

    def prepare(self) -> None:
        """Configure it; storage is in memory."""
        self.lab.write("/etc/containers/containers.conf", ENGINE)
        self.lab.write("/etc/containers/storage.conf", STORAGE)
        self.lab.run("rm", "-f", "/usr/bin/psql", "/usr/bin/pg_dump", "/usr/bin/pg_restore")
        self.lab.run("sh", "-c", "rm -rf /usr/lib/postgresql /usr/lib/*-linux-gnu/libicu*")

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run podman."""
        return self.lab.run("podman", *words, check=check).stdout

    def root(self, spec: Spec) -> str:
        """A new root file system of the image, as an engine makes one for each container."""
        self._count += 1
        place = f"{ROOTS}/{self._count}"
        lower = "/lab/image:/lab/layer:/lab/machine"
        self.lab.run("mkdir", "-p", *(f"{place}/{name}" for name in ("upper", "work", "root")))
        options = f"index=off,lowerdir={lower},upperdir={place}/upper,workdir={place}/work"
        self.lab.run("mount", "-t", "overlay", "-o", options, "overlay", f"{place}/root")
        self.lab.write(f"{place}/root/assets/spec.json", spec.to_json())
        if self._first:
            self.lab.run(PYTHON, "-c", SHIFT, str(self._first), f"{place}/root")
        return f"{place}/root"

    def gitlab(
        self,
        name: str = "gitlab",
        *more: str,
        spec: Spec | None = None,
        volumes: str = "/srv/gitlab",
        ready: bool = True,
    ) -> Omnibus:
        """Run a container on volumes that are kept or empty; wait until it is ready.

        ``spec`` is of another version or with other credentials than the image's.
        """
        spec = spec or self.image.spec
        binds = []
        for folder, target in VOLUMES.items():
            self.lab.run("mkdir", "-p", f"{volumes}/{folder}")
            binds += ["--volume", f"{volumes}/{folder}:{target}"]
        names = [f"--add-host={site}:127.0.0.1" for site in _names(spec)]
        self(
            *("run", "--detach", "--name", name, "--network", "none", "--hostname", name, *LIMITS),
            *("--volume", "/lab/src:/lab/src:ro", "--workdir", "/lab/src", *binds, *names, *more),
            *("--rootfs", self.root(spec), PYTHON, "-m", "tests.lab.fakes.container"),
            "/assets/spec.json",
        )
        omnibus = Omnibus(self.inside(name), spec)
        try:
            if ready:
                omnibus.wait_until_ready(60)
        except LabError as error:
            done = self.lab.run("podman", "logs", name, check=False)
            raise LabError(f"{error}\n{done.stdout}{done.stderr}") from None
        return omnibus

    def shifted(self, first: int) -> Omnibus:
        """A container in a user namespace, whose root has the number ``first`` on the host."""
        maps = [f"--{kind}=0:{first}:65536" for kind in ("uidmap", "gidmap")]
        self.lab.run("mkdir", "-p", *(f"/srv/gitlab/{folder}" for folder in VOLUMES))
        self.lab.run("chown", "--recursive", f"{first}:{first}", "/srv/gitlab")
        # The kernel allows proc in a user namespace only where all of one is seen already.
        self.lab.run("sh", "-ec", "mkdir -p /run/proc; mount -t proc proc /run/proc")
        self._first = first
        self.gitlab("gitlab", *maps, ready=False)
        omnibus = Omnibus(self.inside("gitlab", user=True), self.image.spec)
        self._first = 0
        omnibus.wait_until_ready(60)
        return omnibus

    def stop(self, name: str) -> None:
        """Stop a container at once; on a busy machine podman itself may complain."""
        self("stop", "--time", "0", name, check=False)
        state = ("inspect", "--format", "{{.State.Status}}", name)
        wait_until(lambda: self(*state).strip() == "exited", 30, "the end of the container")

    def inside(self, name: str, *, user: bool = False) -> Inside:
        """The running container as a lab."""
        here = int(self("inspect", "--format", "{{.State.Pid}}", name))
        return Inside(self.lab, outer_pid(self.lab, here), user=user)

    def remove(self, name: str = "gitlab") -> None:
        """Take a container away, with its root file system."""
        root = json.loads(self("inspect", name))[0]["Rootfs"]
        self("rm", "--force", "--time", "0", name)
        self.lab.run("umount", root, check=False)


def _names(spec: Spec) -> list[str]:
    return [url.split("//")[1].split("/")[0] for url in (spec.gitlab_url, spec.site_url)]


def outer_pid(lab: Lab, inner: int) -> int:
    """The machine's number of a process that a lab numbers so."""
    space = os.readlink(f"/proc/{lab.pid}/ns/pid")
    for entry in Path("/proc").iterdir():
        try:
            numbers = (entry / "status").read_text().partition("NSpid:\t")[2].split("\n")[0].split()
            if len(numbers) > 2 and numbers[1] == str(inner) and _below(entry, space):
                return int(entry.name)
        except (OSError, ValueError):
            continue
    raise LabError(f"no process {inner} in the lab")


def _below(entry: Path, space: str) -> bool:
    """Whether a process is in a namespace that a lab's process made: its parent is in the lab's."""
    parent = (entry / "status").read_text().partition("PPid:\t")[2].split("\n")[0]
    return os.readlink(f"/proc/{parent}/ns/pid") == space
