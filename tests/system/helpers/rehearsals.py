"""What tests of rehearsals share: a server with a good set, and a look for what a rehearsal may leave."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.errors import LabTimeout
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Spec, install
from tests.lab.sandbox import Lab, wait_until
from tests.system.helpers.faults import Fault, environment
from tests.system.helpers.faults_server import DIST, LOADER

STATE = "/var/lib/gitlab-mm-backup"
CHECKS = (
    *("checksums", "structure", "database", "rows", "references", "uploads", "previews", "indexes"),
    *("sequences", "extensions", "settings", "files", "credentials", "boot", "answers"),
)
# Names of what runs for a rehearsal alone; the last is what removes its folders.
LOOK = """
import glob, json, os, pwd
def shared_memory():
    # That of the live server grows by itself: it keeps its statistics there (since PostgreSQL 15).
    live = pwd.getpwnam("gitlab-psql").pw_uid
    found = [one for one in os.scandir("/dev/shm") if one.stat().st_uid != live]
    return sorted(one.name for one in found)
def content(path):
    try:
        return open(path, "rb").read().replace(b"\\0", b" ").decode(errors="replace")
    except OSError:
        return ""
def space(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""
pids = [one for one in os.listdir("/proc") if one.isdigit() and int(one) != os.getpid()]
words = {pid: content(f"/proc/{pid}/cmdline") for pid in pids}
print(json.dumps({
    "processes": [text for text in words.values() if any(
        name in text for name in ("bwrap", "cleanup.py", "gitlab-mm", "pg_restore", "initdb", "scratch"))],
    "namespaces": sorted({space(pid) for pid in pids} - {"", space("self")}),
    "mounts": sorted(content("/proc/self/mounts").splitlines()),
    "folders": sorted(glob.glob("/run/*gitlab-mm-*[!k]") + glob.glob("/var/lib/gitlab-mm-backup/.*")),
    "shared memory": shared_memory(),
}))
"""


@dataclass
class House:
    """A lab with Mattermost, our package and one good set."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    seed: Seed
    set: str
    before: dict[str, Any]

    def rehearse(self, *arguments: str, fault: Fault | None = None) -> Answer:
        """Run `gitlab-mm rehearse ARGUMENTS --json`; without an answer its document is empty."""
        done = self.lab.run(
            *("gitlab-mm", "rehearse", *arguments, "--json"),
            check=False,
            env=environment(fault),
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)

    def expect_nothing_left(self) -> None:
        """No cluster, folder, mount, namespace or process; what is removed after a kill -9 may take a moment."""
        left: dict[str, Any] = {}

        def gone() -> bool:
            left.clear()
            left.update({k: now for k, now in look(self.lab).items() if now != self.before[k]})
            return not left

        with contextlib.suppress(LabTimeout):  # what is left says more
            wait_until(gone, 20, "nothing to be left")
        assert left == {}, {kind: self.before[kind] for kind in left}


@contextlib.contextmanager
def house(base: Path, deb: Path, **spec: Any) -> Iterator[House]:
    """Such a lab; faults can be brought to our program in it."""
    with Lab(base=base, disk_size="1g") as lab:
        gitlab = install(lab, Spec(**spec))
        product = install_product(lab, deb)
        gitlab.sql("CREATE EXTENSION pg_trgm")
        seed = gitlab.seed()
        made = product.backup()
        lab.write(f"{DIST}/gitlab-mm-faults.pth", LOADER)
        yield House(lab, gitlab, product, seed, made, look(lab))


def look(lab: Lab) -> dict[str, Any]:
    """Processes, network namespaces, mounts and folders of rehearsals, and shared memory."""
    return dict(json.loads(lab.run("/usr/bin/python3", "-I", "-c", LOOK).stdout))


def results(answer: Answer) -> dict[str, str]:
    """Each check's result."""
    return {check["name"]: check["result"] for check in answer.document["checks"]}


def detail(answer: Answer, name: str) -> str:
    """What a check says."""
    return str({check["name"]: check["detail"] for check in answer.document["checks"]}[name])


def packets(place: House) -> str:
    """The counters of the host's network interfaces."""
    return place.lab.run("cat", "/proc/net/dev").stdout


def live(place: House) -> dict[str, Any]:
    """Everything live, and the packets that this host has sent."""
    lab = place.lab
    return {
        "state": place.gitlab.state(),
        "services": re.findall(r"\(pid \d+\)", lab.run("gitlab-ctl", "status").stdout),
        "databases": place.gitlab.sql("SELECT oid, datname FROM pg_database ORDER BY 1", "postgres"),
        "roles": place.gitlab.sql("SELECT rolname FROM pg_roles ORDER BY 1", "postgres"),
        "files": lab.run("find", "/opt/gitlab", "/etc", "/run", "-newer", f"{place.set}/manifest.json",
                         "-not", "-type", "d", "-not", "-name", "*.pyc",
                         "-not", "-name", "gitlab-mm-*.lock").stdout.splitlines(),
        "folders": lab.run("find", "/opt/gitlab", "/etc", "/run", "/srv", "/home", "-type", "d",
                           "-not", "-name", "__pycache__").stdout.splitlines(),
        "packets": packets(place),
    }  # fmt: skip
