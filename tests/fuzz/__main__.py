"""Makes odd hosts, and holds each against what a backup, a rehearsal and a restore on another host make of it.

make fuzz                            # 200 hosts; about an hour
make fuzz SEED=7 HOSTS=20
make fuzz SEED=7 HOSTS=1 FIRST=13    # that one of them again
make fuzz ODD=build/fuzz/7-13.json   # one that was written down

A host that fails is written down, and made smaller: oddities are dropped while it still fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import cycle
from tests.fuzz.hosts import Host, dealt
from tests.lab.base import BUILD, build_base, build_deb
from tests.lab.errors import LabError

FOLDER = BUILD / "fuzz"
SHOWN = 20  # problems of a host
ATTEMPTS = 12  # cycles that one failure may take to become smaller


def attempt(host: Host, base: Path, deb: Path) -> cycle.Outcome:
    """Run one host; what breaks the cycle itself is a problem too."""
    try:
        return cycle.run(host, base, deb)
    except (LabError, AssertionError, cycle.BadOddity, ValueError) as error:
        return cycle.Outcome([f"{type(error).__name__}: {error}"])


def smaller(host: Host, base: Path, deb: Path) -> tuple[Host, cycle.Outcome | None]:
    """Drop oddities while the host still fails: halves first, then one after the other."""
    outcome, left, size = None, ATTEMPTS, max(1, len(host.oddities) // 2)
    while left > 0 and len(host.oddities) > 1:
        tags = [oddity.tag for oddity in host.oddities]
        for start in range(0, len(tags), size):
            left -= 1
            candidate = host.without(set(tags[start : start + size]))
            tried = attempt(candidate, base, deb) if candidate.oddities and left >= 0 else None
            if tried is not None and tried.problems:
                host, outcome = candidate, tried
                break
        else:
            if size == 1:
                break
            size //= 2
        size = min(size, max(1, len(host.oddities) // 2))
    return host, outcome


def chosen(seed: int, first: int, count: int, odd: str) -> list[tuple[str, Host]]:
    """The hosts to run, by name: one that was written down, or some that a seed gives."""
    if odd:
        return [(Path(odd).stem, cycle.reading(Path(odd)))]
    numbered = list(enumerate(dealt(seed, first + count)))
    return [(f"{seed}-{number}", host) for number, host in numbered[first:]]


def report(name: str, host: Host, outcome: cycle.Outcome) -> None:
    """Say what came of a host, and write it down where it failed."""
    kinds = ", ".join(oddity.kind for oddity in host.oddities)
    codes = " ".join(f"{verb} {code}" for verb, code in outcome.codes.items())
    print(f"{name}: {codes}, {outcome.seconds:.0f} s: {kinds}", flush=True)
    more = len(outcome.problems) - SHOWN
    shown = [*outcome.problems[:SHOWN], *([f"and {more} more"] if more > 0 else []), *outcome.notes]
    for text in shown:
        print(f"  {text}", flush=True)
    if outcome.problems:
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(host.to_json(), indent=1), encoding="utf-8")
        print(f"  again: make fuzz ODD={os.path.relpath(path)}", flush=True)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz")
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--odd", default="", help="a host that was written down")
    parser.add_argument("--as-drawn", action="store_true", help="do not make failing hosts smaller")
    asked = parser.parse_args(words)
    base, deb = build_base(), build_deb()
    failed, hosts = [], chosen(asked.seed, asked.first, asked.hosts, asked.odd)
    for name, host in hosts:
        outcome = attempt(host, base, deb)
        report(name, host, outcome)
        if outcome.problems:
            failed.append(name)
            if not asked.as_drawn and not asked.odd:
                host, last = smaller(host, base, deb)
                if last is not None:
                    report(f"{name}-smaller", host, last)
    print(f"{len(hosts)} hosts; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
