"""What a run warned of a set, as every list of sets shows it."""

from __future__ import annotations

from collections.abc import Sequence

from . import text

_SHOWN = 3  # of a set; a list of many sets must stay readable


def lines(told: Sequence[str]) -> list[str]:
    """Return the warnings of a set's manifest as lines, the first few; they are data, so escaped."""
    shown = [f"Warning: {text.plain(words)}" for words in told[:_SHOWN]]
    more = len(told) - len(shown)
    return shown + ([f"and {more} more: gitlab-mm list --json"] if more else [])


def sentence(told: Sequence[str]) -> str:
    """Return them on one line; "" where there are none."""
    return "; ".join(lines(told))
