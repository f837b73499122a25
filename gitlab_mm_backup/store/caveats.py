"""What a run warned of a set, as every list of sets shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..system import humanize

_SHOWN = 3  # of a set; a list of many sets must stay readable


def lines(told: Sequence[str]) -> list[str]:
    """Return the warnings of a set's manifest as lines, the first few; they are data, so escaped."""
    shown = [f"Warning: {humanize.plain(words)}" for words in told[:_SHOWN]]
    more = len(told) - len(shown)
    return shown + ([f"and {more} more: gitlab-mm list --json"] if more else [])


def sentence(told: Sequence[str]) -> str:
    """Return them on one line; "" where there are none."""
    return "; ".join(lines(told))


def unaccepted(told: Iterable[str], accepted: Sequence[str]) -> list[str]:
    """Return the warnings in which no accepted text stands as a whole: /srv/a is not in /srv/ab."""
    known = [re.compile(rf"(?<![\w-]){re.escape(one)}(?![\w-])") for one in accepted]
    return [words for words in told if not any(one.search(words) for one in known)]
