"""How runs ended is kept, and a file that is not ours is passed over."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from gitlab_mm_backup.health import metrics

WHEN = datetime(2026, 11, 25, 4, 17, tzinfo=timezone.utc)


def test_a_success_is_remembered_over_failures(tmp_path: Path) -> None:
    path = tmp_path / "state" / "runs.json"
    before, first = metrics.note_run("backup", WHEN, 10.0, 4, path)
    assert before is None and first.good
    before, second = metrics.note_run("backup", WHEN, 5.0, 1, path)
    assert before == first
    assert not second.good and second.succeeded == first.ended
    metrics.note_run("prune", WHEN, 1.0, 0, path)
    assert set(metrics.read_runs(path)) == {"backup", "prune"}
    assert metrics.read_runs(path)["backup"] == second
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "[]", "{", '{"backup": {}}', '{"backup": {"began": "x"}}'])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "runs.json"
    path.write_text(content)
    assert metrics.read_runs(path) == {}
    assert metrics.read_runs(tmp_path / "none") == {}
