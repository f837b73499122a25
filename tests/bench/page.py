"""Results as tables, on a terminal and in docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.bench.bars import MEGABYTE, Group, Row, rows
from tests.bench.figures import Measured, median
from tests.bench.results import Kept
from tests.lab.disks import CHECKOUT

PAGE = CHECKOUT / "docs/performance.md"
BEGIN = "<!-- Written by make bench; changes between these two lines are lost. -->"
END = "<!-- End of what make bench wrote. -->"
TITLES = {
    "start-up": "Start-up",
    "backup": "Backup and verification",
    "restore": "Restore",
    "rehearsal": "Rehearsal",
    "nights": "Nights with 1 % more",
    "growth": "Growth",
}


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that also reads well as it is."""
    widths = [max(len(line[place]) for line in (head, *lines)) for place in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in (head, rule, *lines)
    )


def bars(found: Sequence[Row]) -> str:
    """The table of what must hold."""
    lines = [(row.what, row.bar, row.measured, "met" if row.met else "NOT MET") for row in found]
    return table(("what", "bar", "measured", ""), lines)


def figures(group: Group) -> str:
    """The table of one contest: medians of every contender."""
    lines = [_figures(name, one) for name, one in group.items()]
    return table(("", "wall, s", "CPU, s", "peak, MB", "MB", "rounds"), lines)


def _figures(name: str, one: Measured) -> Sequence[str]:
    peak = f"{one.peak / MEGABYTE:.0f}" if one.peak else ""
    if not one.samples:
        return name, "", "", peak, "", "0"
    size = median(one, "bytes") / MEGABYTE
    digits = 3 if median(one) < 1 else 2
    return (
        name,
        f"{median(one):.{digits}f}",
        f"{median(one, 'cpu'):.{digits}f}",
        peak,
        f"{size:.1f}" if size else "",
        str(len(one.samples)),
    )


def section(kept: Kept) -> str:
    """All tables."""
    return "\n\n".join(_section(kept)) + "\n"


def _section(kept: Kept) -> Iterator[str]:
    yield f"Scale {kept.scale:g}, {kept.rounds} rounds. {kept.machine}."
    yield bars(rows(kept.results))
    for name, title in TITLES.items():
        if name in kept.contests:
            contest = kept.contests[name]
            yield f"### {title}"
            yield figures(contest.group)
            yield f"{contest.when} UTC, at {contest.commit}, load {contest.load:.1f} before it."


def write(kept: Kept) -> None:
    """Replace the section of docs/performance.md that is ours."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{section(kept)}\n{END}{tail}", encoding="utf-8")
