"""Versions: our own, and how Mattermost's compare."""

from __future__ import annotations

import importlib.metadata
import re


def tool() -> str:
    """Return this program's version, which debian/changelog alone states."""
    return importlib.metadata.version("gitlab-mm-backup")


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of ``version`` for comparing: 10.11.4-rc1 gives (10, 11, 4)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()
