"""Sets that look emptied and are right so: an administrator has said it on this host."""

from __future__ import annotations

import json
import os
from pathlib import Path

from . import untrusted
from .durable import replace_file
from .errors import Failure
from .journal import STATE

FILE = STATE / "accepted.json"
_LARGEST = 1 << 20  # bytes; more is no file of ours


def names(path: Path | None = None) -> frozenset[str]:
    """Return the names of these sets; none where the file cannot be read: that removes nothing."""
    try:
        descriptor = os.open(path or FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return frozenset(untrusted.texts(json.loads(file.read(_LARGEST))))
    except (OSError, ValueError, RecursionError):
        return frozenset()


def add(name: str, path: Path | None = None) -> None:
    """Note that a set is right as it is; raises Failure where that cannot be written."""
    path = path or FILE
    listed = sorted({*names(path), name})
    try:
        replace_file(path, (json.dumps(listed, indent=1) + "\n").encode())
    except OSError as error:
        raise Failure(f"{path} cannot be written", str(error.strerror)) from error
