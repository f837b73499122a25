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
#: What some contests measure besides.
EXTRAS = {
    "downtime": "down, s",
    "apart": "down without loads, s",
    "files": "files part, s",
    "files_bytes": "files part, MB",
    "lock": "longest transaction, s",
}
TITLES = {
    "start-up": "Start-up",
    "backup": "Backup and verification",
    "container": "A backup in a container",
    "restore": "Restore",
    "rehearsal": "Rehearsal",
    "things": "One thing out of a set",
    "uploads": "Ten times the uploads",
    "framing": "Frames",
    "nights": "Nights with 1 % more",
    "repository": "A restic repository",
    "many": "Many sets",
    "small": "Many small uploads",
    "often": "A run every quarter of an hour",
    "growth": "Growth",
}


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is readable as plain text."""
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
    """The table of one contest: medians of every contender, and what else it measures."""
    more = [name for name in EXTRAS if any(_has(value, name) for value in group.values())]
    head = ("", "wall, s", "CPU, s", "peak, MB", "MB", *(EXTRAS[name] for name in more), "rounds")
    return table(head, [_figures(name, value, more) for name, value in group.items()])


def _has(measured: Measured, extra: str) -> bool:
    return any(extra in sample.extra for sample in measured.samples)


def _figures(name: str, measured: Measured, more: Sequence[str]) -> Sequence[str]:
    extras = [_number(measured, extra) if _has(measured, extra) else "" for extra in more]
    return (
        name,
        *(_number(measured, what) for what in ("wall", "cpu")),
        f"{measured.peak / MEGABYTE:.0f}" if measured.peak else "",
        _number(measured, "bytes"),
        *extras,
        str(len(measured.samples)),
    )


def _number(measured: Measured, what: str) -> str:
    """A median: seconds, or megabytes; "" for none."""
    if not measured.samples or not (value := median(measured, what)):
        return ""
    if what.endswith("bytes"):
        return f"{value / MEGABYTE:.1f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


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
