"""Shrinkage: whether a new set holds so much less than a fuller one that somebody must look."""

from __future__ import annotations

from ..postgresql import contents
from ..store.manifest import Manifest
from ..system import humanize

_FEW = 4  # of a thing; half of fewer is no news, none of them is


def against(new: Manifest, fuller: Manifest, percent: int) -> list[str]:
    """Return what collapsed in ``new``, to nothing or to ``percent`` of ``fuller``: "posts: 0 of 8".

    Sets from before these counts are held against each other by the rows of their tables.
    """
    now, then = new.contents, fuller.contents
    if then is None:
        now, then = contents.from_rows(new.database.rows), contents.from_rows(fuller.database.rows)
    if now is None:
        return []
    return [
        f"{name}: {_shown(name, now.counts[name])} of {_shown(name, before)}"
        for name, before in then.counts.items()
        if _collapsed(now.counts[name], before, percent)
    ]


def _collapsed(now: int, before: int, percent: int) -> bool:
    if now == 0:
        return before > 0
    return before >= _FEW and now * 100 <= before * percent


def _shown(name: str, count: int) -> str:
    return humanize.size(count) if name.startswith("bytes") else f"{count}"
