"""Metrics of rehearsals, read by the parser that Prometheus's own client brings."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gitlab_mm_backup import metrics
from gitlab_mm_backup.checks import failed, not_run
from gitlab_mm_backup.evidence import Depth, Record
from tests.unit.test_evidence import NOW, WHOLE, record


def samples(history: list[Record]) -> dict[tuple[str, str], float]:
    families = list(text_string_to_metric_families(metrics.text(history)))
    assert all(family.type == "gauge" and family.documentation for family in families)
    return {
        (one.name.removeprefix("gitlab_mm_rehearsal_"), one.labels.get("result", "")): one.value
        for family in families
        for one in family.samples
    }


def test_without_a_rehearsal_there_is_nothing_to_tell() -> None:
    assert metrics.text([]) == metrics.text([record(1, *WHOLE, depth=Depth.VERIFY)]) == ""


def test_the_newest_rehearsal_and_the_newest_that_passed() -> None:
    quick = record(0, *WHOLE, not_run("boot", "quick"))
    history = [record(3), record(2), record(1, failed("rows", "one less")), quick]
    found = samples(history)
    assert found["timestamp_seconds", ""] == NOW.timestamp()
    assert found["passed_timestamp_seconds", ""] == NOW.timestamp() - 2 * 86400
    results = {result: value for (name, result), value in found.items() if name == "result"}
    assert results == {"passed": 0, "incomplete": 1, "failed": 0}
    assert (found["duration_seconds", ""], found["recovery_seconds", ""]) == (12.5, 9.25)


def test_what_never_happened_has_no_sample() -> None:
    found = samples([record(1, failed("rows", "one less"))])
    assert ("passed_timestamp_seconds", "") not in found
    assert found["result", "failed"] == 1


def test_the_file_is_for_everybody_and_comes_whole(tmp_path: Path) -> None:
    metrics.write([record(2)], tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(".prom")
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_text() == metrics.text([record(2)])


def test_without_its_folder_nothing_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.write([record()], tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "sub" / metrics.FILE / "in the way").mkdir(parents=True)
    metrics.write([record()], tmp_path / "sub")
    assert "not written" in caplog.text
