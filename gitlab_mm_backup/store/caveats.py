"""What a run warned of a set, as every list of sets shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from ..system import humanize
from .manifest import Manifest

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


# What comes with a package, or with the kernel, and so with a reinstalled host.
_INSTALLED = tuple(
    f"/{name}/"
    for name in ("usr", "opt/gitlab", "bin", "sbin", "lib", "lib64", "dev", "proc", "sys")
)


def _target(link: str, target: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(link), target))


def gitlab_settings(made: Manifest) -> str:
    """Return, in words, what a set has of /etc/gitlab; "" where it has nothing."""
    if "etc-gitlab" not in made.parts:
        return ""
    links = [
        link
        for link, to in made.links.items()
        if link.startswith("/etc/gitlab/") and not _target(link, to).startswith(_INSTALLED)
    ]
    but = f", but not what {humanize.plain(links[0])} leads to" if links else ""
    more = f" and {len(links) - 1} more links" if len(links) > 1 else ""
    return f"/etc/gitlab without config_backup{but}{more}"
