"""What must hold: each bar, what was measured for it, and whether it is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.bench.figures import Measured, Ratio, median, ratio

Group = Mapping[str, Measured]
#: Contests by name; one that did not run is not in it.
Results = Mapping[str, Group]
MEGABYTE = 1_000_000
PEAK = 150  # megabytes


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    bar: str
    measured: str
    met: bool


def rows(results: Results) -> list[Row]:
    """A line for every bar whose contest ran."""
    found: list[Row] = []
    for name, lines in LINES.items():
        if name in results:
            found += lines(results[name])
    memory = _memory(results)
    return [*found, *([memory] if memory else [])]


def _line(what: str, bar: float, found: Ratio, shown: str = "") -> Row:
    spread = (
        f" ({found.least:.3g} to {found.most:.3g}, n={found.rounds})"
        if found.rounds > 1
        else " (n=1)"
    )
    return Row(what, f"≤ {shown or f'{bar:g}'}", f"{found.median:.3g}{spread}", found.median <= bar)


def _backup(group: Group) -> Iterator[Row]:
    ours, hand = group["ours"], group["by hand"]
    if group["seed"].samples:
        share = group["seed"].samples[0].extra["share"]
        note = "" if share == 1 else f", its xz on {share:.0%} of the files, reckoned up"
        found = ratio(ours, group["seed"])
        times = f"1/{1 / found.median:.0f} (n={found.rounds}{note})"
        yield Row(
            "backup, wall, against the seed's script", "≤ 1/50", times, found.median <= 1 / 50
        )
        found = ratio(ours, group["seed"], "bytes")
        yield _line("backup, bytes, against the seed's xz and -Fc", 1.05, found)
    title = "against the same by hand at the same time"
    yield _line(f"backup, wall, {title}", 0.75, ratio(ours, hand))
    yield _line(f"backup, CPU, {title}", 1.0, ratio(ours, hand, "cpu"))
    title = "verification of a finished set, wall, against its backup"
    yield _line(title, 0.2, ratio(group["verify"], ours))


def _container(group: Group) -> Iterator[Row]:
    title = "backup of a GitLab in a container, wall, against a package host"
    yield _line(title, 1.1, ratio(group["container"], group["package host"]))


def _restore(group: Group) -> Iterator[Row]:
    ours, recipe = group["ours"], group["recipe"]
    title = "restore, wall, against"
    best = ratio(ours, group["by hand at its best"])
    yield _line(f"{title} `pg_restore -j` and unpack by hand at their best", 0.8, best)
    yield _line(f"{title} the serial recipe by hand", 0.6, ratio(ours, recipe))
    title = "stop to answered ping with `--search-later`, against the serial recipe by hand"
    yield _line(title, 0.4, ratio(group["search later"], recipe, "downtime"))
    title = title.replace("later`", "later --uploads-later`")
    yield _line(title, 0.15, ratio(group["uploads later"], recipe, "downtime"))
    apart, start = median(ours, "apart"), median(group["start"])
    told = f"{apart:.2f} s, of which Mattermost's own start is {start:.2f} s"
    title = "downtime of a restore without the loads, beyond Mattermost's own start"
    yield Row(title, "< 3 s", told, apart - start < 3)


def _rehearsal(group: Group) -> Iterator[Row]:
    plain, title = group["pg_restore -j1"], "without boot, wall, against `pg_restore -j1`"
    usual, whole = ratio(group["usual"], plain), ratio(group["whole"], plain)
    yield _line(f"rehearsal (search index left out) {title}", 0.35, usual)
    yield _line(f"rehearsal (whole) {title}", 1.0, whole)


def _nights(group: Group) -> Iterator[Row]:
    title, pair = "a night with 1 % new files, incremental against full, files part,", group
    wall = ratio(pair["incremental"], pair["full"], "files")
    yield _line(f"{title} wall", 0.08, wall)
    size = ratio(pair["incremental"], pair["full"], "files_bytes")
    yield _line(f"{title} bytes", 0.013, size)


def _repository(group: Group) -> Iterator[Row]:
    title = "a night with 1 % new files and posts in a restic repository, against the first,"
    yield _line(f"{title} wall", 0.22, ratio(group["second"], group["first"]))
    yield _line(f"{title} bytes", 0.05, ratio(group["second"], group["first"], "bytes"))


def _often(group: Group) -> Iterator[Row]:
    for name, title in (("chain", "incremental sets"), ("restic", "restic")):
        changed, same = group[f"{name}, changed"], group[f"{name}, unchanged"]
        told = f"run every quarter of an hour, {title},"
        seconds = median(changed, "cpu")
        yield Row(f"{told} CPU of one processor's", "≤ 5 %", f"{seconds / 900:.2%}", seconds <= 45)
        yield _line(f"{told} nothing changed, CPU", 0.4, ratio(same, changed, "cpu"))
        (watched,) = group[f"{name}, locks"].samples
        lock, strong = watched.extra["lock"], watched.extra["strong"]
        words = f"{lock:.2f} s, {'locks for reading alone' if not strong else 'OTHER LOCKS'}"
        bar = "locks for reading, ≤ 10 s"
        yield Row(f"{told} longest transaction", bar, words, lock <= 10 and not strong)


def _many(group: Group) -> Iterator[Row]:
    for what, most in (
        ("list of 5000 sets", 1),
        ("status of 5000 sets", 1),
        ("list of 1000 copies", 5),
    ):
        seconds = median(group[what])
        yield Row(f"{what}, wall", f"< {most} s", f"{seconds:.2f} s", seconds < most)
    for verb in ("list", "status"):
        found = ratio(group[f"{verb} of one set"], group["python and click"])
        yield _line(
            f"start of `gitlab-mm {verb}`, wall, against `python3 -c 'import click'`", 3, found
        )


def _small(group: Group) -> Iterator[Row]:
    found = ratio(group["verify"], group["backup"])
    yield _line("verification of 200,000 small uploads, wall, against their backup", 0.5, found)
    found = ratio(group["night"], group["backup"])
    yield _line(
        "incremental night of one upload among 200,000, wall, against all of them", 0.6, found
    )


def _things(group: Group) -> Iterator[Row]:
    title = "one upload out of a set, wall, against `zstd -dc` and `tar -x` of all"
    yield _line(title, 0.05, ratio(group["one upload"], group["by hand: all"]))
    found = ratio(group["frames"], group["by hand: one frame"], "bytes")
    yield _line("files part in frames with its index, bytes, against one frame", 1.01, found)
    seconds = median(group["find"])
    title = "`find --file` in a set with 1,000,000 uploads, none of which fits"
    yield Row(title, "≤ 2 s", f"{seconds:.2f} s", seconds <= 2)


def _uploads(group: Group) -> Iterator[Row]:
    found = ratio(group["all uploads"], group["a tenth of them"], "downtime")
    title = "stop to answered ping with `--search-later --uploads-later`, ten times the uploads"
    yield _line(title, 1.15, found)


def _framing(group: Group) -> Iterator[Row]:
    whole = group["by hand: in one frame"]
    title = "files packed in frames with their index"
    yield _line(f"{title}, wall, against one frame", 1.02, ratio(group["in frames"], whole))
    yield _line(f"{title}, CPU", 1.02, ratio(group["in frames"], whole, "cpu"))


def _startup(group: Group) -> Iterator[Row]:
    for option in ("--help", "--version"):
        found = ratio(group[f"ours {option}"], group[f"argparse {option}"])
        title = f"start of `gitlab-mm {option}`, wall, against an argparse-only program"
        yield _line(title, 1.6, found)


def sizes(group: Group, job: str) -> list[tuple[float, Measured]]:
    """A job of the contest of sizes, by scale."""
    title = f"{job} at "
    found = [
        (float(name[len(title) :]), value)
        for name, value in group.items()
        if name.startswith(title)
    ]
    return sorted(found, key=lambda pair: pair[0])


def _growth(group: Group) -> Iterator[Row]:
    for job in ("backup", "verify", "ours"):
        (small, least), *_, (large, most) = sizes(group, job)
        bar = large / small * 1.15
        name = "restore" if job == "ours" else job
        title = f"growth of {name}, wall, from {small / large:g} of the size to 1"
        yield _line(title, bar, ratio(most, least), f"{large / small:g} · 1.15 = {bar:g}")
    (small, least), *_, (large, most) = sizes(group, "ours")
    found = ratio(most, least, "apart")
    yield _line(f"downtime without the loads, from {small / large:g} of the size to 1", 1.15, found)


def _memory(results: Results) -> Row | None:
    peaks = {
        f"{name}: {value}": measured.peak
        for name, group in results.items()
        for value, measured in group.items()
        if measured.peak and not any(value.startswith(word) for word in NOT_OURS)
    }
    if not peaks:
        return None
    worst = max(peaks, key=lambda name: peaks[name])
    told = f"{peaks[worst] / MEGABYTE:.0f} MB ({worst})"
    title = "peak memory of our process and its children, without PostgreSQL, at every size"
    return Row(title, f"≤ {PEAK} MB", told, peaks[worst] <= PEAK * MEGABYTE)


NOT_OURS = ("python", "by hand", "seed", "recipe", "start", "pg_restore", "argparse")
LINES: Mapping[str, Callable[[Group], Iterator[Row]]] = {
    "start-up": _startup,
    "backup": _backup,
    "container": _container,
    "restore": _restore,
    "rehearsal": _rehearsal,
    "things": _things,
    "uploads": _uploads,
    "framing": _framing,
    "nights": _nights,
    "repository": _repository,
    "often": _often,
    "many": _many,
    "small": _small,
    "growth": _growth,
}
