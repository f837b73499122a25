"""Many small uploads: what a file costs, whatever its size.

In the server it is a program too, which makes them: `python -m tests.bench.small DIRECTORY NUMBER`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.contests import (
    CHAIN,
    CHAIN_CONFIG,
    CHAIN_SETTINGS,
    Contender,
    Run,
    Say,
    compete,
    taken,
)
from tests.bench.figures import Measured, Sample
from tests.bench.host import PATIENCE, Host
from tests.lab.sandbox import PYTHON

MADE = 200_000
IN_A_FOLDER = 500


def small(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """A full set of 200,000 small uploads and its verification, and a night in which one came."""
    folder = f"{host.gitlab.home}/data/20261001"
    program = (PYTHON, "-m", "tests.bench.small", folder, str(MADE))
    host.lab.run(*program, cwd="/lab/src", timeout=PATIENCE)
    host.lab.run("chown", "-R", "mattermost:mattermost", folder)
    host.lab.write(CHAIN_CONFIG, CHAIN_SETTINGS, mode=0o600)
    host.lab.run("install", "-d", "-m", "0700", CHAIN)
    try:
        host.clear_sets(CHAIN)
        host.ours("backup", "--config", CHAIN_CONFIG)
        contenders = [
            Contender("backup", _full(host), host.settle),
            Contender("verify", _verify(host), host.settle),
            Contender("night", _night(host, folder), host.settle),
        ]
        return compete(contenders, rounds, say)
    finally:
        host.lab.run("rm", "-rf", folder, timeout=PATIENCE)
        host.clear_sets(CHAIN)
        host.clear_sets()


def _full(host: Host) -> Run:
    def run(sample: bool) -> tuple[Sample, int]:
        host.clear_sets()
        return taken(host.ours("backup", sample=sample)[0])

    return run


def _verify(host: Host) -> Run:
    return lambda sample: taken(host.ours("verify", sample=sample)[0])


def _night(host: Host, folder: str) -> Run:
    def run(sample: bool) -> tuple[Sample, int]:
        host.lab.run("mktemp", "-p", folder)
        return taken(host.ours("backup", "--config", CHAIN_CONFIG, sample=sample)[0])

    return run


def make(folder: Path, number: int) -> None:
    """Make files of up to 700 bytes, in folders as Mattermost has them."""
    for first in range(0, number, IN_A_FOLDER):
        place = folder / f"teams/noteam/channels/{first:026}/users/{first:026}"
        place.mkdir(parents=True)
        for file in range(first, min(first + IN_A_FOLDER, number)):
            (place / f"{file:026}.txt").write_bytes(b"x" * (file % 700))


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
