"""What was measured, kept in build/ so that one contest can be run again by itself."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.bars import Results
from tests.bench.figures import Measured, Sample
from tests.lab.base import BUILD
from tests.lab.disks import CHECKOUT

FILE = BUILD / "bench/results.json"


@dataclass(frozen=True)
class Contest:
    """One contest: when, of which state of the project, beside how much other work."""

    when: str
    commit: str
    load: float  # processes that wanted a processor in the last minute before it, getloadavg(3)
    group: Mapping[str, Measured]


@dataclass
class Kept:
    """All contests at one scale on one machine."""

    scale: float
    rounds: int
    machine: str
    contests: dict[str, Contest] = field(default_factory=dict)

    @property
    def results(self) -> Results:
        return {name: contest.group for name, contest in self.contests.items()}

    def add(self, name: str, group: Mapping[str, Measured], load: float) -> None:
        """Keep a contest, in place of an earlier one."""
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        self.contests[name] = Contest(when, commit(), load, group)
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def load(scale: float, rounds: int) -> Kept:
    """What was kept, if it is of the same scale and rounds; else nothing yet."""
    kept = Kept(scale, rounds, machine())
    if FILE.exists():
        found = json.loads(FILE.read_text(encoding="utf-8"))
        if (found["scale"], found["rounds"], found["machine"]) == (scale, rounds, kept.machine):
            kept.contests = {name: _contest(contest) for name, contest in found["contests"].items()}
    return kept


def _contest(found: dict[str, Any]) -> Contest:
    group = {
        name: Measured([Sample(**sample) for sample in value["samples"]], value["peak"])
        for name, value in found["group"].items()
    }
    return Contest(found["when"], found["commit"], found["load"], group)


def commit() -> str:
    """The commit that is checked out, with a mark where files differ from it."""
    return _told("git", "-c", "safe.directory=*", "describe", "--always", "--dirty=, changed")


def machine() -> str:
    """What the numbers were measured on."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    release = re.search(r'PRETTY_NAME="(.+)"', Path("/etc/os-release").read_text())
    disk = _told("stat", "--file-system", "--format", "%T", str(CHECKOUT))
    return (
        f"{release[1] if release else platform.platform()}, Linux {platform.release()}, {os.cpu_count()} cores"
        f" ({cpu[1] if cpu else platform.machine()}), {memory:.0f} GiB of memory, {disk}"
    )


def _told(*argv: str) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    return done.stdout.strip()
