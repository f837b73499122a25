"""The server that is measured: GitLab and Mattermost in a lab whose data lies on a real disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import by_hand
from tests.bench.meter import Reading
from tests.lab.base import BUILD, build_base, build_deb
from tests.lab.containers import Podman, image
from tests.lab.containers import host as podman_host
from tests.lab.errors import LabError
from tests.lab.installed_package import install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import PYTHON, Bind, Lab

DISKS = BUILD / "bench/disks"
#: What is written a lot, by GitLab and by us; all else is in memory, as in every lab.
ON_DISK = ("/var/opt/gitlab", "/var/lib/gitlab-mm-backup")
POSTMASTER = "/var/opt/gitlab/postgresql/data/postmaster.pid"
PING = "http://127.0.0.1:8065/api/v4/system/ping"
SETS = "/var/opt/gitlab/backups/mattermost"
PATIENCE = 7200.0  # seconds: xz takes its time
#: As Omnibus sets its PostgreSQL where gitlab.rb says nothing (shared buffers: a quarter of memory).
SERVER_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "5min",
    "checkpoint_completion_target": "0.9",
    "maintenance_work_mem": "16MB",
    "work_mem": "16MB",
}


@dataclass(frozen=True)
class Host:
    """A running server with data in it."""

    lab: Lab
    gitlab: Omnibus
    scale: float
    sets: str = SETS
    data: str = "/var/opt/gitlab"  # where the lab has GitLab's files
    postmaster: str = POSTMASTER  # "": the server's own time is not measured

    def measure(
        self, *argv: str, sample: bool = False, ping: bool = False, cwd: str = "/"
    ) -> Reading:
        """Run a command inside; what it took. Raises LabError when it fails (4 is done, with warnings)."""
        request = {
            "argv": argv,
            "cwd": cwd,
            "sample": sample,
            "postmaster": self.postmaster,
            "ping": PING if ping else "",
        }
        meter = (PYTHON, "-m", "tests.bench.meter")
        answer = self.lab.run(
            *meter, input=json.dumps(request), cwd="/lab/src", timeout=PATIENCE
        ).stdout
        reading = Reading(**json.loads(answer))
        if reading.code not in (0, 4):
            said = "\n".join(line for _, line in reading.lines[-20:])
            raise LabError(f"{' '.join(argv)}: exit code {reading.code}\n{reading.stdout}\n{said}")
        return reading

    def ours(
        self, *arguments: str, sample: bool = False, ping: bool = False
    ) -> tuple[Reading, dict[str, Any]]:
        """Run `gitlab-mm ARGUMENTS --json -v`; what it took and what it answered."""
        command = ("gitlab-mm", *arguments, "--json", "-v")
        reading = self.measure(*command, sample=sample, ping=ping)
        return reading, json.loads(reading.stdout)

    def script(self, text: str, *words: str, sample: bool = False, ping: bool = False) -> Reading:
        """Run what somebody types, in bash; `words` are $1, $2 ...

        Without pipefail: pg_restore does not read a dump to its very end, which zstd takes ill.
        """
        shell = ("bash", "-eu", "-c", f"{by_hand.NAMES}\n{text}", "by-hand")
        return self.measure(*shell, *words, sample=sample, ping=ping)

    def settle(self, *inputs: str) -> None:
        """Have nothing left to write, and what will be read in memory: the same start for everybody."""
        self.gitlab.sql("CHECKPOINT", "postgres")
        own = [f"{self.data}/mattermost", f"{self.data}/postgresql/data/base"]
        everything = [*own, "/etc/gitlab", *inputs]
        self.lab.run("sync", timeout=600)
        read = ("find", *everything, "-type", "f", "-exec", "cat", "{}", "+")
        self.lab.run("sh", "-c", '"$@" >/dev/null', "sh", *read, check=False, timeout=600)

    def bytes_of(self, *paths: str) -> int:
        """Bytes of files and folders."""
        told = self.lab.run("du", "--bytes", "--summarize", "--total", *paths).stdout
        return int(told.splitlines()[-1].split()[0])

    def clear_sets(self, folder: str = "") -> None:
        """Remove all sets; the mark by which the place is known again stays."""
        every = ("-mindepth", "1", "-not", "-name", ".place-of-gitlab-mm-*", "-delete")
        self.lab.run("find", folder or self.sets, *every, check=False, timeout=600)

    def grow(self, night: int) -> None:
        """Add a night's posts and files to what is there."""
        fill(self.lab, self.gitlab, self.scale, night)


@contextlib.contextmanager
def host(scale: float) -> Iterator[Host]:
    """A server with data of this scale; lab and disk go with the block."""
    disk = DISKS / f"{os.getpid()}-{scale:g}"
    shutil.rmtree(disk, ignore_errors=True)
    binds = []
    for place in ON_DISK:
        folder = disk / place.strip("/").replace("/", "-")
        folder.mkdir(parents=True)
        binds.append(Bind(folder, place, writable=True))
    try:
        with Lab(base=build_base(), binds=binds, hostname="bench") as lab:
            gitlab = install(lab, Spec())
            install_product(lab, build_deb())
            _set_server(lab, gitlab)
            gitlab.gitlab_ctl("stop", "mattermost")
            fill(lab, gitlab, scale)
            gitlab.gitlab_ctl("start", "mattermost")
            gitlab.wait_until_ready()
            yield Host(lab, gitlab, scale)
    finally:
        shutil.rmtree(disk, ignore_errors=True)


@contextlib.contextmanager
def container_host(scale: float) -> Iterator[Host]:
    """The same server in a podman container, with our package on its host."""
    disk = DISKS / f"{os.getpid()}-container-{scale:g}"
    shutil.rmtree(disk, ignore_errors=True)
    places = ("/srv", "/var/backups", "/var/lib/gitlab-mm-backup")
    shown = [Bind(disk / place.strip("/").replace("/", "-"), place, True) for place in places]
    for bind in shown:
        bind.outside.mkdir(parents=True)
    try:
        with image(build_base(), Spec()) as made, podman_host(build_base(), made, shown) as lab:
            podman = Podman(lab, made)
            podman.prepare()
            gitlab = podman.gitlab()
            install_product(lab, build_deb())
            _set_server(lab, gitlab)
            gitlab.gitlab_ctl("stop", "mattermost")
            fill(gitlab.lab, gitlab, scale)
            gitlab.gitlab_ctl("start", "mattermost")
            gitlab.wait_until_ready()
            sets = "/var/backups/gitlab/mattermost"
            yield Host(lab, gitlab, scale, sets, "/srv/gitlab/data", "")
    finally:
        shutil.rmtree(disk, ignore_errors=True)


def remove_remains() -> None:
    """Remove the disks of runs that were killed."""
    for disk in DISKS.glob("*-*"):
        if not Path(f"/proc/{disk.name.split('-')[0]}").exists():
            shutil.rmtree(disk, ignore_errors=True)


def _set_server(lab: Lab, gitlab: Omnibus) -> None:
    megabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    for name, value in {**SERVER_SETTINGS, "shared_buffers": f"{megabytes // 4}MB"}.items():
        gitlab.sql(f"ALTER SYSTEM SET {name} = '{value}'", "postgres")
    gitlab.gitlab_ctl("restart", "postgresql")
    gitlab.restart_mattermost()


def fill(lab: Lab, gitlab: Omnibus, scale: float, night: int = 0) -> None:
    """Put data, or a night's growth, into a server; rows and files at the same time."""
    made = (PYTHON, "-m", "tests.bench.data", f"--scale={scale:g}", f"--night={night}")
    rows = lab.popen(
        *made, f"--database={gitlab.database}", cwd="/lab/src", stdout=None, stderr=None
    )
    lab.run(*made, f"--home={gitlab.home}", cwd="/lab/src", timeout=PATIENCE)
    if rows.wait(PATIENCE) != 0:
        raise LabError("the rows could not be made")
    # Of what is there already not even the time of the last change may move.
    lab.run("chown", "-R", "--from=root", "mattermost:mattermost", gitlab.home)
