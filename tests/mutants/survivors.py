"""Which changes may go unnoticed, and the table of what came of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tests.mutants.changes import Mutant

LIST = Path(__file__).with_name("survivors.txt")
EQUIVALENT = "equivalent: "  # begins why a change changes no behaviour
LEAST = 95  # of 100 that change behaviour are to be killed
_HEAD = (
    f"{'module':16} {'mutants':>8} {'equivalent':>11} {'killed':>7} {'survivors':>10} {'of 100':>7}"
)


def read(path: Path = LIST) -> dict[str, str]:
    """Return the changes that may live, each with why: below it, indented.

    Raises ValueError for one without a reason, and for one that is listed twice.
    """
    found: dict[str, str] = {}
    change = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith((" ", "\t")) and change:
            found[change] = f"{found[change]} {line.strip()}".strip()
        elif line.strip() and not line.startswith("#"):
            change = line.strip()
            if change in found:
                raise ValueError(f"{path} has twice: {change}")
            found[change] = ""
    if silent := [change for change, why in found.items() if not why]:
        raise ValueError(f"{path} does not say why: {'; '.join(silent)}")
    return found


def judge(
    mutants: Sequence[Mutant],
    survived: Collection[Mutant],
    listed: Mapping[str, str],
    known: Collection[Mutant],
) -> tuple[str, bool]:
    """Return the table with what is to be done, and whether all is well."""
    alive = {mutant.words for mutant in survived}
    equal = {words for words, why in listed.items() if why.startswith(EQUIVALENT)}
    rows, good = [], True
    for name in [*dict.fromkeys(mutant.module for mutant in mutants), ""]:
        of_it = [mutant.words for mutant in mutants if name in ("", mutant.module)]
        killed = sum(words not in alive for words in of_it)
        behave = sum(words in alive and words not in equal for words in of_it)
        share = 100 * killed / (killed + behave) if killed + behave else 100.0
        good = share >= LEAST  # of all, which come last
        same = len(of_it) - killed - behave
        row = f"{len(of_it):8} {same:11} {killed:7} {behave:10} {share:7.1f}"
        rows.append(f"{name or 'all':16} {row}")
    lines = [_HEAD, *rows]
    lines += _with_head(f"Fewer than {LEAST} of 100 are killed.", [] if good else [""])
    unlisted = [
        mutant.words for mutant in mutants if mutant.words in alive and mutant.words not in listed
    ]
    lines += _with_head("Noticed by no test, and not in survivors.txt:", unlisted)
    gone = sorted(listed.keys() - {mutant.words for mutant in known})
    gone += sorted(
        mutant.words for mutant in mutants if mutant.words in listed and mutant.words not in alive
    )
    lines += _with_head("In survivors.txt, but there no more, or noticed:", gone)
    lines += _with_head(
        "Listed:", [f"{words}\n      {listed[words]}" for words in sorted(alive & listed.keys())]
    )
    return "\n".join(lines), good and not unlisted and not gone


def _with_head(head: str, lines: Sequence[str]) -> list[str]:
    return ["", head, *(f"  {line}" for line in lines if line)] if lines else []
