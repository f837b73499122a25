"""The package of an earlier commit against today's, in turns on one server: whether a change costs time."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import by_hand
from tests.bench.contests import Contender, Say, compete, taken
from tests.bench.figures import Measured, Sample, median, ratio
from tests.bench.host import Host
from tests.lab.base import BUILD, build_deb
from tests.lab.disks import CHECKOUT

PLACE = "/opt/earlier"
PACKAGES = f"{PLACE}/usr/lib/python3/dist-packages"
PROGRAM = f"{PLACE}/usr/bin/gitlab-mm"
KEPT = "/var/opt/gitlab/backups-kept"
PROGRAMS = {"earlier": PROGRAM, "today": "/usr/bin/gitlab-mm"}
STARTS = 15  # rounds of what takes less than a second


@dataclass(frozen=True)
class Row:
    """A job of both: the earlier one's seconds, and today's as a share of them."""

    name: str
    earlier: Measured
    today: Measured

    def __str__(self) -> str:
        figures = []
        for what, title in (("wall", "s"), ("cpu", "s CPU")):
            share = ratio(self.today, self.earlier, what)
            figures.append(
                f"{median(self.earlier, what):8.2f} {title}, x {share.median:.2f}"
                f" ({share.least:.2f} to {share.most:.2f})"
            )
        return f"{self.name:9} {'; '.join(figures)}; {len(self.today.samples)} rounds"


def _emptied(host: Host, path: str) -> None:
    host.clear_sets()
    host.settle()


def _fresh(host: Host, path: str) -> None:
    """Remove what the last restore left, and warm what the next one reads."""
    host.script(f"{by_hand.CLEAN}\n{by_hand.CLEAN_RESTORE}\n{by_hand.CLEAN_ONE_JOB}")
    host.settle(path)


def _as_it_is(host: Host, path: str) -> None:
    """Prepare nothing: a question changes nothing."""


@dataclass(frozen=True)
class Job:
    """A command that both run, each on the set that it made; `before` is not counted."""

    words: tuple[str, ...]
    before: Callable[[Host, str], object]
    rounds: int = 0  # at least

    def run(self, host: Host, program: str, path: str, sample: bool) -> tuple[Sample, int]:
        words = (path if word == "SET" else word for word in self.words)
        return taken(host.measure(PROGRAMS[program], *words, "--json", sample=sample))


JOBS = (
    Job(("backup",), _emptied),
    Job(("verify", "SET"), _fresh),
    Job(("rehearse", "SET", "--quick"), _fresh),
    Job(("restore", "SET", "--yes", "--no-safety-backup", "--search-now"), _fresh),
    Job(("list",), _as_it_is, STARTS),
    Job(("status",), _as_it_is, STARTS),
)


def measure(host: Host, commit: str, rounds: int, say: Say) -> list[Row]:
    """Measure the jobs by the package of that commit and by today's, in turns."""
    unpack(host, build(commit))
    sets = {program: _kept(host, program) for program in PROGRAMS}
    rows = []
    for job in JOBS:
        say(job.words[0])
        contenders = [
            Contender(
                program,
                functools.partial(job.run, host, program, path),
                functools.partial(job.before, host, path),
            )
            for program, path in sets.items()
        ]
        measured = compete(contenders, max(rounds, job.rounds), say)
        rows.append(Row(job.words[0], measured["earlier"], measured["today"]))
    return rows


def build(commit: str) -> Path:
    """The package of a commit, built as today's is."""
    checkout = BUILD / "bench/earlier"
    checkout.parent.mkdir(parents=True, exist_ok=True)
    if not checkout.exists():
        git = ("git", "clone", "--quiet", "--shared", "--no-checkout", str(CHECKOUT), str(checkout))
        subprocess.run(git, check=True)
    subprocess.run(("git", "-C", checkout, "fetch", "--quiet"), check=True)
    subprocess.run(("git", "-C", checkout, "checkout", "--quiet", "--force", commit), check=True)
    return build_deb(checkout, BUILD / "bench/earlier-deb")


def unpack(host: Host, deb: Path) -> None:
    """Unpack a package below PLACE; its program takes the modules from there."""
    inside = f"/root/{deb.name}"
    host.lab.path(inside).write_bytes(deb.read_bytes())
    host.lab.run("dpkg", "--extract", inside, PLACE)
    program = host.lab.path(PROGRAM)
    first, _, rest = program.read_text(encoding="utf-8").partition("\n")
    look = f"import sys\n\nsys.path.insert(0, {PACKAGES!r})\n"
    program.write_text(f"{first}\n{look}{rest}", encoding="utf-8")
    host.lab.run("python3", "-m", "compileall", "-q", PACKAGES, check=False)


def _kept(host: Host, program: str) -> str:
    """Make a set with a program, out of the way of the others; its path."""
    host.clear_sets()
    made = host.measure(PROGRAMS[program], "backup", "--json").stdout
    path, place = str(json.loads(made)["path"]), f"{KEPT}/{program}"
    host.lab.run("install", "-d", "-m", "0700", place)
    host.lab.run("mv", path, place)
    return f"{place}/{path.rpartition('/')[2]}"
