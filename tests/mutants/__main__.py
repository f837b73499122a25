"""Changes the modules that decide, a bit at a time, and asks the unit tests whether they notice.

make mutants                        # every change; some minutes on two cores
make mutants ONLY=backup.schedule,restore.undo_log
python -m tests.mutants --sample 20 # so many, always the same, against the tests of its name alone: CI

mutmut leaves alone what is outside of functions or decorated, cosmic-ray starts a Python for each
change and writes it into the checkout, and neither drops a raise; hence this.

A change that no test notices fails the run, unless survivors.txt has it and says why it may live.
What a change there is called holds no line's number.  The result goes into build/mutants.txt.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.mutants import alone, changes, survivors, trials
from tests.mutants.changes import Mutant

MODULES = (
    "config.identity",
    "config.retention",
    "store.manifest",
    "system.validation",
    "store.archive_reader",
    "sso.stored_secret",
    "restore.undo_log",
    "restore.version_rules",
    "backup.schedule",
    "mattermost.trust",
    "system.files",
    "offsite.bound",
    "restore.folder_swap",
)
REPORT = trials.TOP / "build" / "mutants.txt"
_SEED = 18


def every(names: Sequence[str]) -> list[Mutant]:
    found = []
    for name in names:
        found += changes.of_module(name, trials.module(name).source)
    return found


def run(mutants: Sequence[Mutant], jobs: int, sample: bool) -> set[Mutant]:
    """Return those that no test noticed."""
    names = dict.fromkeys(mutant.module for mutant in mutants)
    modules = {name: trials.module(name, own=sample) for name in names}
    survived = set()
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folder = Path(place)
        watched = {} if sample else modules
        reach = {name: trials.reach(module, folder) for name, module in watched.items()}
        work = ((mutant, _trial(modules, mutant, reach)) for mutant in mutants)
        for number, (mutant, killed) in enumerate(trials.all_of(work, jobs, folder), 1):
            if not killed:
                survived.add(mutant)
            if number % 100 == 0:
                print(f"{number} of {len(mutants)}", file=sys.stderr, flush=True)
    return survived


def _trial(
    modules: Mapping[str, trials.Module], mutant: Mutant, reach: Mapping[str, trials.Reach]
) -> Callable[[Path], int]:
    name = mutant.module
    return functools.partial(trials.survives, modules[name], mutant, reach.get(name))


def _lot(mutant: Mutant) -> str:
    """Return what draws a change: not its place, or each new line elsewhere would draw others."""
    return hashlib.sha256(f"{_SEED} {mutant.words}".encode()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--only", default="", help="modules, with commas between them")
    parser.add_argument("--sample", type=int, default=0, help="so many changes; 0: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    wanted = parser.parse_args()
    names = [name for name in wanted.only.split(",") if name] or list(MODULES)
    if strange := sorted(set(names) - set(MODULES)):
        parser.error(f"no such modules: {', '.join(strange)}")
    mutants = every(names)
    if wanted.sample:
        mutants = sorted(mutants, key=_lot)[: wanted.sample]
    listed = survivors.read()
    survived = run(mutants, wanted.jobs, wanted.sample > 0)
    text, ok = survivors.judge(mutants, survived, listed, every(MODULES))
    print(text)
    if not wanted.sample and not wanted.only:
        REPORT.write_text(text + "\n", encoding="utf-8")
    return 0 if ok else 1


if __name__ == "__main__":
    alone.without_writing()
    sys.exit(main())
