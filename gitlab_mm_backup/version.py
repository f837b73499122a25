"""The version of this program, and the comparison of versions."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_KEPT = Path(__file__).with_name("kept-version")  # "gitlab-mm, version 1.2"


def tool() -> str:
    """Return the version of this program, from debian/changelog.

    The package has it in a file next to this module, because importlib.metadata is slow.
    """
    with contextlib.suppress(OSError):
        return _KEPT.read_text().split()[-1]
    import importlib.metadata

    return importlib.metadata.version("gitlab-mm-backup")


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of ``version``, to compare them: (10, 11, 4) of 10.11.4-rc1."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()
