"""Who is measured against whom, in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.bench import by_hand
from tests.bench.figures import Measured, Sample
from tests.bench.host import SETS, Host, container_host
from tests.bench.meter import Reading

Say = Callable[[str], None]
#: Runs a job and returns its figures, with its memory if asked for.
Run = Callable[[bool], tuple[Sample, int]]
#: Of scale 1; xz takes longer on more than anybody waits.
MOST_FOR_XZ = 0.25
STARTS = 15  # rounds of what takes a tenth of a second
ARGPARSE_ONLY = """\
#!/usr/bin/python3
import argparse


def main():
    parser = argparse.ArgumentParser(prog="argparse-only", description="Back up and restore.")
    parser.add_argument("--version", action="version", version="argparse-only, version 1")
    verbs = parser.add_subparsers()
    for name in ("backup", "restore", "list", "verify", "rehearse", "prune", "doctor", "report"):
        verb = verbs.add_parser(name, help="Do it.")
        verb.add_argument("--json", action="store_true", help="One object.")
        verb.add_argument("--config", metavar="FILE", help="Settings.")
    parser.parse_args()


main()
"""
CHAIN = "/var/opt/gitlab/backups-chain"
CHAIN_CONFIG = "/root/chain.yml"
CHAIN_SETTINGS = f"backup_path: {CHAIN}\nfiles: incremental\nfull_every: 7d\n"

RESTIC = "/var/opt/gitlab/restic"
RESTIC_PASSWORD, RESTIC_CONFIG = "/root/restic-password", "/root/restic.yml"
RESTIC_SETTINGS = (
    f"store: restic\nrestic: {{repository: {RESTIC}, password_file: {RESTIC_PASSWORD}}}\n"
)
FOUND = "/root/found"
# Uploads whose names no other has.
ALONE = "SELECT name FROM fileinfo WHERE deleteat = 0 GROUP BY name HAVING count(*) = 1"
MILLION = """
    INSERT INTO fileinfo (id, creatorid, postid, createat, updateat, deleteat, path, name, extension,
        size, mimetype)
    SELECT 'million' || lpad(n::text, 19, '0'), '', '', 1700000000000 + n, 0, 0, 'no/' || n,
        'minutes of the meeting ' || n || '.txt', 'txt', 1000, 'text/plain'
    FROM generate_series(1, 1000000) n"""
NIGHTS_APART = 100  # from those of the contest of nights, which adds the same night's data once


@dataclass(frozen=True)
class Contender:
    """A job that is measured; `run` gets whether to measure memory, `before` is not counted."""

    name: str
    run: Run
    before: Callable[[], object] = lambda: None
    most: int = 1000  # rounds
    warm: bool = True  # whether it takes part in the round that warms up and looks at memory


def compete(contenders: Sequence[Contender], rounds: int, say: Say) -> dict[str, Measured]:
    """Measure all of them in turns, every second round in the opposite order."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    peaks = dict.fromkeys(samples, 0)
    for round_ in range(rounds + 1):
        order = contenders if round_ % 2 == 0 else list(reversed(contenders))
        for next_ in order:
            if not (next_.warm if round_ == 0 else round_ <= next_.most):
                continue
            next_.before()
            sample, peak = next_.run(round_ == 0)
            title = "warm-up" if round_ == 0 else f"round {round_}"
            say(f"  {title:8} {next_.name:24} {sample.wall:8.2f} s  {sample.cpu:8.2f} s CPU")
            if round_ == 0:
                peaks[next_.name] = peak
            else:
                samples[next_.name].append(sample)
    return {name: Measured(found, peaks[name]) for name, found in samples.items()}


def taken(reading: Reading, bytes_: int = 0, **extra: float) -> tuple[Sample, int]:
    """A reading as a sample, and its memory."""
    sample = Sample(reading.wall, reading.cpu + reading.server_cpu, bytes_, extra)
    return sample, reading.peak


def startup(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """Start-up of our command against a program that imports nothing but argparse."""
    plain = "/usr/local/bin/argparse-only"
    host.lab.write(plain, ARGPARSE_ONLY, mode=0o755)
    programs = {"gitlab-mm": "ours", plain: "argparse"}
    contenders = [
        Contender(f"{name} {option}", _starter(host, program, option))
        for option in ("--help", "--version")
        for program, name in programs.items()
    ]
    return compete(contenders, STARTS if rounds > 1 else 1, lambda line: None)


def _starter(host: Host, program: str, option: str) -> Run:
    return lambda sample: taken(host.measure(program, option, sample=sample))


def make_set(host: Host) -> str:
    """Make the only set there is; its path."""
    host.clear_sets()
    return str(host.ours("backup")[1]["path"])


def backup(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """A set and its verification, the same by hand at the same time, and the seed's script."""

    def at_once(sample: bool) -> tuple[Sample, int]:
        reading = host.script(by_hand.AT_ONCE, sample=sample)
        return taken(reading, host.bytes_of(by_hand.FOLDER))

    def clean() -> None:
        host.script(by_hand.CLEAN)
        host.settle()

    contenders = [
        Contender("ours", _backup(host), _emptied(host)),
        Contender("verify", _job(host, "verify"), lambda: host.settle(SETS)),
        Contender("by hand", at_once, clean),
        Contender("seed", lambda sample: (_seed(host), 0), clean, most=1, warm=False),
    ]
    return compete(contenders, rounds, say)


def container(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """A set of a GitLab in a container, against one of a package host with the same data."""
    with container_host(host.scale) as inner:
        package = replace(host, postmaster="")
        contenders = [
            Contender(name, _backup(server), _emptied(server))
            for name, server in (("container", inner), ("package host", package))
        ]
        return compete(contenders, rounds, say)


def _emptied(host: Host) -> Callable[[], object]:
    def before() -> None:
        host.clear_sets()
        host.settle()

    return before


def _backup(host: Host) -> Run:
    def run(sample: bool) -> tuple[Sample, int]:
        reading, told = host.ours("backup", sample=sample)
        return taken(reading, host.bytes_of(told["path"]))

    return run


def _job(host: Host, *words: str) -> Run:
    return lambda sample: taken(host.ours(*words, sample=sample)[0])


def _seed(host: Host) -> Sample:
    """The seed's three commands; above MOST_FOR_XZ on a share of the files, reckoned up by bytes."""
    parts, factor = [host.gitlab.home.lstrip("/")], 1.0
    if host.scale > MOST_FOR_XZ:
        data = f"{host.gitlab.home}/data"
        days = sorted(host.lab.run("ls", data).stdout.split())
        chosen = [f"{data}/{day}" for day in days[:: round(host.scale / MOST_FOR_XZ)]]
        factor = host.bytes_of(host.gitlab.home) / host.bytes_of(*chosen)
        parts = [folder.lstrip("/") for folder in chosen]
    database = host.script(by_hand.SEED_DATABASE)
    files = host.script(by_hand.SEED_FILES, *parts)
    etc = host.script(by_hand.SEED_ETC)
    sizes = {
        name: host.bytes_of(f"{by_hand.FOLDER}/{name}")
        for name in ("database.dump", "files.tar.xz", "etc.tar")
    }
    whole = database, etc
    return Sample(
        wall=sum(sample.wall for sample in whole) + factor * files.wall,
        cpu=sum(sample.cpu + sample.server_cpu for sample in whole) + factor * files.cpu,
        bytes=sizes["database.dump"] + sizes["etc.tar"] + round(factor * sizes["files.tar.xz"]),
        extra={"share": 1 / factor},
    )


def restore(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """A restore, with the search index at once and later, against what can be typed."""
    path = make_set(host)
    contenders = [
        *our_restores(host, path),
        Contender(
            "uploads later",
            restorer(host, path, "--search-later", "--uploads-later"),
            fresh(host, path),
        ),
        Contender(
            "by hand at its best", _typed(host, by_hand.BEST_RESTORE, path), fresh(host, path)
        ),
        Contender("recipe", _typed(host, by_hand.recipe(path), path), fresh(host, path)),
        Contender(
            "start",
            _typed(host, by_hand.START),
            lambda: host.gitlab.gitlab_ctl("stop", "mattermost"),
        ),
    ]
    return compete(contenders, rounds, say)


def our_restores(host: Host, path: str, mark: str = "") -> list[Contender]:
    """The restore with all indexes, and the one that builds those of the search afterwards."""
    ways = {"ours": "--search-now", "search later": "--search-later"}
    return [
        Contender(f"{name}{mark}", restorer(host, path, option, "--uploads-now"), fresh(host, path))
        for name, option in ways.items()
    ]


def restorer(host: Host, path: str, *options: str) -> Run:
    """A restore of ours, with the time that Mattermost does not answer."""

    def run(sample: bool) -> tuple[Sample, int]:
        words = ("restore", path, "--yes", "--no-safety-backup", *options)
        reading, told = host.ours(*words, sample=sample, ping=True)
        apart = reading.downtime - told["fill_seconds"]
        return taken(reading, downtime=reading.downtime, apart=apart)

    return run


def _typed(host: Host, text: str, *words: str) -> Run:
    def run(sample: bool) -> tuple[Sample, int]:
        ping = "answered" in text
        reading = host.script(text, *words, sample=sample, ping=ping)
        return taken(reading, downtime=reading.downtime) if ping else taken(reading)

    return run


def fresh(host: Host, path: str) -> Callable[[], object]:
    """Remove what the last restore left, and warm what the next one reads."""

    def before() -> None:
        host.script(f"{by_hand.CLEAN}\n{by_hand.CLEAN_RESTORE}\n{by_hand.CLEAN_ONE_JOB}")
        host.settle(path)

    return before


def rehearsal(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """Rehearsals against the plainest load that there is; that with all indexes up to its boot."""
    path = make_set(host)
    contenders = [
        Contender("usual", _rehearser(host, path, "--quick"), fresh(host, path)),
        Contender("whole", _rehearser(host, path, "--full"), fresh(host, path)),
        Contender("pg_restore -j1", _typed(host, by_hand.ONE_JOB, path), fresh(host, path)),
    ]
    return compete(contenders, rounds, say)


def _rehearser(host: Host, *words: str) -> Run:
    """A rehearsal up to the start of Mattermost, if it comes to that.

    Its processor time is not shown: the scratch server ends with its process namespace,
    and Linux does not account for what is left in one.
    """

    def run(sample: bool) -> tuple[Sample, int]:
        reading, _ = host.ours("rehearse", *words, sample=sample)
        boot = [at for at, text in reading.lines if "Starting Mattermost" in text]
        return Sample([*boot, reading.wall][0]), reading.peak

    return run


def nights(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """Nights with one percent more: a set that holds what is new, and one that holds all."""
    host.lab.write(CHAIN_CONFIG, CHAIN_SETTINGS, mode=0o600)
    host.lab.run("install", "-d", "-m", "0700", CHAIN)
    night = Night(host)
    contenders = [
        Contender("full", night.back_up(), night.begin),
        Contender("incremental", night.back_up("--config", CHAIN_CONFIG), night.begin),
    ]
    return compete(contenders, rounds, say)


@dataclass
class Night:
    """One percent more of posts and files each night, which each contender backs up."""

    host: Host
    begun: int = 0

    def begin(self) -> None:
        """Prepare for a contender; the first of each night finds what is new."""
        if self.begun % 2 == 0:
            self.host.grow(self.begun // 2 + 1)
        self.begun += 1
        self.host.clear_sets()
        self.host.settle()

    def back_up(self, *options: str) -> Run:
        def run(sample: bool) -> tuple[Sample, int]:
            reading, told = self.host.ours("backup", *options, sample=sample)
            seconds, bytes_ = self._files_part(told["path"])
            return taken(reading, files=seconds, files_bytes=bytes_)

        return run

    def _files_part(self, path: str) -> tuple[float, int]:
        """Seconds from the first byte of any part to the last of the files, and their bytes."""
        stat = ("stat", "--format", "%n %.9W %.9Y %s")
        inside = self.host.lab.run("find", path, "-type", "f", "-exec", *stat, "{}", "+").stdout
        parts = [line.rsplit(" ", 3) for line in inside.splitlines()]
        files = [part for part in parts if part[0].startswith(f"{path}/files")]
        began, ended = min(float(part[1]) for part in parts), max(float(part[2]) for part in files)
        return ended - began, sum(int(part[3]) for part in files)


def repository(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """A first night into an empty restic repository, and a night with one percent more."""
    host.lab.write(RESTIC_CONFIG, RESTIC_SETTINGS, mode=0o600)
    host.lab.write(RESTIC_PASSWORD, "bench\n", mode=0o600)
    depot = Depot(host)
    contenders = [
        Contender("first", depot.back_up, depot.empty),
        Contender("second", depot.back_up, depot.grow),
    ]
    return compete(contenders, rounds, say)


@dataclass
class Depot:
    """A restic repository, and the nights that went into it."""

    host: Host
    nights: int = NIGHTS_APART

    def empty(self) -> None:
        self.host.lab.run("rm", "-rf", RESTIC)
        self.host.lab.run("restic", "init", "-r", RESTIC, "-p", RESTIC_PASSWORD, timeout=60)
        self.host.settle()

    def grow(self) -> None:
        self.nights += 1
        self.host.grow(self.nights)
        self.host.settle()

    def back_up(self, sample: bool) -> tuple[Sample, int]:
        before = self.host.bytes_of(RESTIC)
        reading, _ = self.host.ours("backup", "--config", RESTIC_CONFIG, sample=sample)
        return taken(reading, self.host.bytes_of(RESTIC) - before)


def things(host: Host, rounds: int, say: Say) -> dict[str, Measured]:
    """One upload out of a set, against unpacking all of it; a search in a million uploads."""
    path = make_set(host)
    name = host.gitlab.sql(f"{ALONE} ORDER BY md5(name) LIMIT 1")[0]
    group = compete(
        [
            Contender("one upload", _extractor(host, path, name), fresh(host, path)),
            Contender("by hand: all", _typed(host, by_hand.UNPACKED, path), fresh(host, path)),
            Contender("frames", _framed(host, path), most=1, warm=False),
            Contender("by hand: one frame", _one_frame(host, path), most=1, warm=False),
        ],
        rounds,
        say,
    )
    host.gitlab.sql(MILLION)
    try:
        path = make_set(host)
        words = ("find", path, "--file", "of no upload *")
        group |= compete([Contender("find", _job(host, *words), fresh(host, path))], rounds, say)
    finally:
        host.gitlab.sql("DELETE FROM fileinfo WHERE id LIKE 'million%'")
    return group


def _extractor(host: Host, path: str, name: str) -> Run:
    def run(sample: bool) -> tuple[Sample, int]:
        host.lab.run("rm", "-rf", FOUND)
        reading, told = host.ours("extract", path, "--file", name, "--to", FOUND, sample=sample)
        assert len(told["files"]) == 1, told
        return taken(reading)

    return run


def _framed(host: Host, path: str) -> Run:
    """The bytes of the files part in frames, with its index; nothing is run."""
    parts = [f"{path}/files.tar.zst", f"{path}/files.index.zst"]
    return lambda sample: (Sample(0.0, bytes=host.bytes_of(*parts)), 0)


def _one_frame(host: Host, path: str) -> Run:
    def run(sample: bool) -> tuple[Sample, int]:
        reading = host.script(by_hand.ONE_FRAME, path)
        return Sample(reading.wall, bytes=int(reading.stdout)), 0

    return run


def growth(hosts: Sequence[Host], rounds: int, say: Say) -> dict[str, Measured]:
    """The same jobs on servers of several sizes, side by side."""
    contenders = []
    for host in hosts:
        mark = f" at {host.scale:g}"
        path = make_set(host)
        contenders += [
            Contender(f"backup{mark}", _backup(host), host.settle),
            Contender(f"verify{mark}", _job(host, "verify", path), fresh(host, path)),
            *our_restores(host, path, mark),
            Contender(f"rehearse{mark}", _rehearser(host, path), fresh(host, path), most=0),
        ]
    return compete(contenders, rounds, say)
