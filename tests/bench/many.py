"""Lists of many sets, and of many copies at a remote; what is in them does not matter."""

from __future__ import annotations

from pathlib import PurePosixPath

from tests.bench.contests import STARTS, Contender, Run, Say, compete, make_set, taken
from tests.bench.figures import Measured
from tests.bench.host import SETS, Host
from tests.lab.sandbox import PYTHON

SETS_MADE, COPIES_MADE = 5000, 1000
AWAY, AWAY_CONFIG = "/var/opt/gitlab/away", "/root/away.yml"


def many(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """list and status of 5,000 sets, list of 1,000 copies, and Python with click as their start."""
    host.lab.write(AWAY_CONFIG, f"offsite: [{{remote: {AWAY}, name: away}}]\n", mode=0o600)
    host.lab.run("install", "-d", "-m", "0700", AWAY)
    host.clear_sets()
    path = PurePosixPath(host.ours("backup", "--config", AWAY_CONFIG)[1]["path"])
    _copy(host, str(path), SETS_MADE)
    _copy(host, f"{AWAY}/{path.name}", COPIES_MADE)
    group = compete(
        [
            Contender("list of 5000 sets", _told(host, "gitlab-mm", "list")),
            Contender("status of 5000 sets", _told(host, "gitlab-mm", "status")),
            Contender("list of 1000 copies", _told(host, "gitlab-mm", "list", "--from", AWAY)),
        ],
        rounds,
        say,
    )
    make_set(host)
    starts = [
        Contender("list of one set", _told(host, "gitlab-mm", "list")),
        Contender("status of one set", _told(host, "gitlab-mm", "status")),
        Contender("python and click", _told(host, "/usr/bin/python3", "-c", "import click")),
    ]
    group |= compete(starts, STARTS if rounds > 1 else 1, lambda line: None)
    host.lab.run("rm", "-rf", AWAY)
    host.clear_sets(SETS)
    return group


def _copy(host: Host, path: str, number: int) -> None:
    paths = "PYTHONPATH=/usr/lib/python3/dist-packages:/lab/src"
    program = ("env", paths, PYTHON, "-m", "tests.bench.copies", path, str(number))
    host.lab.run(*program, cwd="/lab/src", timeout=600)


def _told(host: Host, *words: str) -> Run:
    """What a command takes; a state that is worth a warning is no failure of it."""
    return lambda sample: taken(host.measure(*words, sample=sample))
