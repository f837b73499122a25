"""What ten times the uploads cost: the time to the first page, and their frames.

In the server it is a program too: `python -m tests.bench.growing HOME BYTES` packs a home directory in
frames of so many bytes, as a backup does, and prints how many bytes come out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from gitlab_mm_backup.store import archive_writer, frames
from gitlab_mm_backup.system.process import compress
from tests.bench import by_hand, contests
from tests.bench.contests import Contender, Run, Say, compete, taken
from tests.bench.figures import Measured, Sample
from tests.bench.host import Host
from tests.lab.sandbox import PYTHON

ASIDE = "/var/opt/gitlab/aside"
KEPT = 10  # one day of so many stays
RECENT = 8  # days whose uploads are there at the start, whatever else there is
WHOLE = 1 << 60  # bytes of a frame: more than there are
LEVEL = 1  # files_level


def uploads(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """The stop of a restore with search and uploads later, of a tenth of the uploads and of all."""
    data = f"{host.gitlab.home}/data"
    days = sorted(day for day in host.lab.run("ls", data).stdout.split() if day.isdigit())
    earlier = [f"{data}/{day}" for place, day in enumerate(days[:-RECENT]) if place % KEPT]
    paths = {"all uploads": contests.make_set(host)}
    host.lab.run("install", "-d", ASIDE)
    host.lab.run("mv", "-t", ASIDE, *earlier)
    try:
        paths["a tenth of them"] = str(host.ours("backup")[1]["path"])
    finally:
        host.lab.run("sh", "-c", f"mv -t {data} {ASIDE}/*")
    options = ("--search-later", "--uploads-later")
    contenders = [
        Contender(name, contests.restorer(host, path, *options), contests.fresh(host, path))
        for name, path in paths.items()
    ]
    found = compete(contenders, rounds, say)
    host.ours("restore", paths["all uploads"], "--yes", "--no-safety-backup")
    return found


def framing(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """The files packed in frames, against the same in one frame."""
    contenders = [
        Contender(name, _packer(host, size), _settled(host))
        for name, size in (("in frames", frames.LARGEST), ("by hand: in one frame", WHOLE))
    ]
    return compete(contenders, rounds, say)


def _settled(host: Host) -> Callable[[], object]:
    def before() -> None:
        host.script(by_hand.CLEAN)
        host.settle()

    return before


def _packer(host: Host, size: int) -> Run:
    argv = (PYTHON, "-m", "tests.bench.growing", host.gitlab.home, str(size))

    def run(sample: bool) -> tuple[Sample, int]:
        reading = host.measure(*argv, sample=sample, cwd="/lab/src")
        return taken(reading, int(reading.stdout))

    return run


def pack(home: Path, size: int) -> int:
    """Pack a directory in frames of at most ``size`` bytes; return the bytes with their index."""
    frames.LARGEST = size
    total = 0

    def count(piece: bytes | memoryview) -> None:
        nonlocal total
        total += len(piece)

    found = archive_writer.survey([home])
    archive_writer.pack([home], [], found, compress(LEVEL, 2), count, index=count)
    return total


if __name__ == "__main__":
    print(pack(Path(sys.argv[1]), int(sys.argv[2])))
