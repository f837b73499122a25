"""Small files in which this host remembers something: JSON, root's alone, replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import Failure
from . import documents
from .files import replace_file

_LARGEST = 16 << 20  # bytes; more is no file of ours
T = TypeVar("T")


def read(path: Path, check: Callable[[Any], T]) -> T:
    """Return what ``check`` makes of the document in ``path``; a link is not followed.

    Raises FileNotFoundError without a file, and OSError, ValueError or RecursionError where it is
    no file of ours: ``unreadable`` are these.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return check(documents.from_json(file.read(_LARGEST)))


unreadable = (OSError, ValueError, RecursionError)


def keep(path: Path, document: Any) -> None:
    """Make ``document`` the content of ``path``; raises Failure where that cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise Failure(f"{path} cannot be written", str(error.strerror)) from error
