"""Measures our commands against what can be typed by hand, in a lab on a real disk.

sudo make bench                     # every contest, about half an hour on two cores
sudo make bench SCALE=1             # with all of the data, an hour and a half
sudo make bench ONLY=restore,nights
sudo make bench AGAINST=v0.1.0      # today's package against that of an earlier commit, job by job

What is measured is kept in build/bench/results.json; once every contest has run at this scale,
the tables go into docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence

from tests.bench import against, bars, contests, growing, many, often, page, results, small
from tests.bench.host import Host, host, remove_remains
from tests.lab.errors import LabError

#: Each measures on one server; the contest of sizes has several.
CONTESTS = {
    "start-up": contests.startup,
    "backup": contests.backup,
    "container": contests.container,
    "restore": contests.restore,
    "rehearsal": contests.rehearsal,
    "things": contests.things,
    "uploads": growing.uploads,
    "framing": growing.framing,
    "nights": contests.nights,
    "repository": contests.repository,
    "often": often.often,
    "many": many.many,
    "small": small.small,
}
GROWTH = "growth"
SIZES = (0.25, 0.5, 1.0)


def say(text: str) -> None:
    """Print the progress."""
    print(text, file=sys.stderr, flush=True)


def run(kept: results.Kept, wanted: Sequence[str]) -> list[str]:
    """Run the contests; gives those that could not be run.

    Those of nights come last, for they make the data grow.
    """
    load, failed = os.getloadavg()[0], []
    say(f"making data at scale {kept.scale:g}")
    with host(kept.scale) as server:
        for name in sorted(wanted, key=("nights", "repository", "often").__contains__):
            say(name)
            try:
                if name == GROWTH:
                    group = compare_sizes(server, kept.rounds)
                else:
                    group = CONTESTS[name](server, kept.rounds, say)
            except LabError as error:
                say(f"bench: {name}: {error}")
                failed.append(name)
            else:
                kept.add(name, group, load)
    return failed


def compare_sizes(server: Host, rounds: int) -> bars.Group:
    """Run the contest of sizes, with smaller servers beside the one that is there."""
    with contextlib.ExitStack() as smaller:
        scales = [size * server.scale for size in SIZES[:-1]]
        hosts = [smaller.enter_context(host(scale)) for scale in scales]
        return contests.growth([*hosts, server], rounds, say)


def main(arguments: Sequence[str] | None = None) -> int:
    names = (*CONTESTS, GROWTH)
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"of {', '.join(names)}, with commas between")
    parser.add_argument("--against", default="", help="an earlier commit, in place of all contests")
    chosen = parser.parse_args(arguments)
    wanted = [name for name in names if name in (chosen.only or ",".join(names)).split(",")]
    unknown = {*filter(None, chosen.only.split(","))} - {*names}
    if unknown:
        parser.error(
            f"--only: no contest {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    began = time.monotonic()
    remove_remains()
    if chosen.against:
        with host(chosen.scale) as server:
            print(*against.measure(server, chosen.against, chosen.rounds, say), sep="\n")
        return 0
    kept = results.load(chosen.scale, chosen.rounds)
    failed = run(kept, wanted)
    print(page.section(kept))
    print(f"measured in {time.monotonic() - began:.0f} s")
    if failed:
        sys.exit(f"bench: not measured: {', '.join(failed)}")
    if set(names) == set(kept.contests):
        page.write(kept)
    return 0 if all(row.met for row in bars.rows(kept.results)) else 1


if __name__ == "__main__":
    sys.exit(main())
