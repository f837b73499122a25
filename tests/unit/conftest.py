"""Rules for unit tests: hypothesis gives the same examples on every run and keeps none.

Nothing that this host knows of itself is read or written: tests have a state of their own.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gitlab_mm_backup.backup import unchanged
from gitlab_mm_backup.config import identity, keys
from gitlab_mm_backup.config import settings as own_settings
from gitlab_mm_backup.store import inventory, prune, soundness
from tests.unit.helpers.builders import HOST

os.environ.setdefault(
    "HYPOTHESIS_STORAGE_DIRECTORY",
    str(Path(__file__).resolve().parents[2] / "build" / "hypothesis"),
)
settings.register_profile(
    "unit",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the state folder that our modules find by themselves; the host is HOST.

    A command keeps its log from the root logger: for pytest, only until the test ends.
    """
    monkeypatch.setattr(logging.getLogger("gitlab_mm_backup"), "propagate", True)
    folder = tmp_path_factory.mktemp("state")
    for module, name in (
        (soundness, "ACCEPTED_FILE"),
        (identity, "FILE"),
        (prune, "PAST_FILE"),
        (inventory, "KEPT"),
        (unchanged, "RECORD"),
    ):
        monkeypatch.setattr(module, name, folder / getattr(module, name).name)
    monkeypatch.setattr(own_settings, "_named", None)
    for name in ("KEY", "TRUSTED"):
        monkeypatch.setattr(keys, name, folder / getattr(keys, name).name)
    identity.keep(HOST)
    return folder
