"""What prune remembers of each place: how much it ever removed, and what it asked about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..system import files, validation
from ..system.files import STATE

FILE = STATE / "prune.json"
_FEW = 2  # removed at once on request: as many need not be asked for again


@dataclass(frozen=True)
class Past:
    """What was done at one place, the store or a remote."""

    most: int = 0  # sets that one run removed at most, without being told to
    asked: tuple[str, ...] = ()  # sets that stay until an administrator says that they may go


def of(place: str, path: Path | None = None) -> Past:
    """Return what is known of ``place``."""
    return _read(path or FILE).get(place, Past())


def ask(place: str, names: Iterable[str], path: Path | None = None) -> None:
    """Note that these sets stay until somebody agrees; raises Failure where it cannot be noted."""
    past = of(place, path)
    _keep(place, Past(past.most, tuple(sorted({*past.asked, *names}))), path or FILE)


def note(place: str, removed: int, path: Path | None = None, *, agreed: bool = False) -> None:
    """Note what a run has removed; ``agreed``: an administrator has seen it before."""
    past = of(place, path)
    most = max(past.most, min(removed, _FEW) if agreed else removed)
    now = Past(most, () if agreed else past.asked)
    if now != past:
        _keep(place, now, path or FILE)


def _read(path: Path) -> dict[str, Past]:
    try:
        return dict(files.read_state(path, validation.each(validation.text, _past)))
    except files.unreadable_state:
        return {}


def _keep(place: str, past: Past, path: Path) -> None:
    files.write_state(
        path, {name: asdict(one) for name, one in {**_read(path), place: past}.items()}
    )


def _past(value: Any) -> Past:
    return Past(**validation.members(value, {"most": validation.count, "asked": validation.texts}))
