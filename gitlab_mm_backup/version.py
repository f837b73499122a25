"""Versions: our own, and how Mattermost's compare."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_KEPT = Path(__file__).with_name("kept-version")  # "gitlab-mm, version 1.2"


def tool() -> str:
    """Return this program's version, which debian/changelog alone states.

    The package keeps it beside this module; looking for it among all that is installed takes long.
    """
    with contextlib.suppress(OSError):
        return _KEPT.read_text().split()[-1]
    import importlib.metadata

    return importlib.metadata.version("gitlab-mm-backup")


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of ``version`` for comparing: 10.11.4-rc1 gives (10, 11, 4)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()
