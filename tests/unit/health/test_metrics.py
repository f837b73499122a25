"""Metrics, read by the parsers of both formats that Prometheus's own client brings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gitlab_mm_backup.checks import failed, not_run
from gitlab_mm_backup.health import metrics, remarks, set_lights
from gitlab_mm_backup.health.metrics import JobRun, MetricsInput
from gitlab_mm_backup.store.check_records import CheckRecord, Depth
from gitlab_mm_backup.store.sets import SetEntry
from gitlab_mm_backup.store.soundness import Flaw, Kind
from tests.unit.health.test_status import facts as status_facts
from tests.unit.helpers.builders import HOST
from tests.unit.helpers.reports import NOW as TODAY
from tests.unit.helpers.reports import found as sets_found
from tests.unit.helpers.reports import made_set
from tests.unit.store.test_check_records import NOW, WHOLE, record


def facts(history: Sequence[CheckRecord] = (), **changes: Any) -> MetricsInput:
    values: dict[str, Any] = {
        "tool": "0.1.0",
        "runs": {},
        "found": None,
        "host": HOST.id,
        "installation": "",
        "history": history,
        "free": None,
        "offsite": {},
    }
    return MetricsInput(**{**values, **changes})


def samples(told: MetricsInput) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels; both parsers must agree."""
    text = metrics.text(told)
    families = list(text_string_to_metric_families(text))
    assert all(family.type == "gauge" and family.documentation for family in families)
    names = [family.name for family in families]
    assert len(set(names)) == len(names), "the samples of a name stand together"
    found = {
        (sample.name.replace("gitlab_mm_", "", 1), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    strict = list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    again = [sample for family in strict for sample in family.samples]
    assert sorted(sample.value for sample in again) == sorted(found.values())
    return found


def test_without_anything_the_version_is_told() -> None:
    found = samples(facts([record(1, *WHOLE, depth=Depth.VERIFY)]))
    assert {name for name, *_ in found} == {
        *("tool_info", "host_info", "sets", "sets_incomplete", "sets_future", "sets_foreign"),
        *("set_emptied", "rehearsal_scheduled", "offsite_missing"),
    }


def test_the_newest_rehearsal_and_the_newest_that_passed() -> None:
    quick = record(0, *WHOLE, not_run("boot", "quick"))
    found = samples(facts([record(3), record(2), record(1, failed("rows", "one less")), quick]))
    assert found["rehearsal_timestamp_seconds",] == NOW.timestamp()
    assert found["rehearsal_passed_timestamp_seconds",] == NOW.timestamp() - 2 * 86400
    results = {key[1]: value for key, value in found.items() if key[0] == "rehearsal_result"}
    assert results == {"passed": 0, "incomplete": 1, "failed": 0}
    assert found["rehearsal_duration_seconds",] == 12.5
    assert found["rehearsal_recovery_seconds",] == 9.25


def test_what_never_happened_has_no_sample() -> None:
    found = samples(facts([record(1, failed("rows", "one less"))]))
    assert ("rehearsal_passed_timestamp_seconds",) not in found
    assert found["rehearsal_result", "failed"] == 1


def test_the_newest_good_set_and_all_there_are() -> None:
    good, bad = made_set(TODAY - timedelta(days=2)), made_set(TODAY - timedelta(days=1))
    safety = made_set(TODAY, purpose="safety")
    entries = [safety, bad, good, SetEntry("1795000000_2026_11_18_10.11.4", None, "no manifest")]
    flaws = {bad.name: [Flaw(Kind.FAILED, "it did not pass its verification")]}
    found = samples(facts(found=sets_found(entries, flaws=flaws), free=7 << 30))
    assert good.set is not None
    manifest = good.set.manifest
    assert (found["sets",], found["sets_incomplete",], found["free_bytes",]) == (2, 1, 7 << 30)
    assert found["set_newest_timestamp_seconds",] == manifest.made.timestamp()
    assert found["set_oldest_timestamp_seconds",] == manifest.made.timestamp()
    assert found["set_bytes",] == manifest.bytes
    parts = {key[1]: value for key, value in found.items() if key[0] == "set_part_bytes"}
    assert parts == {name: part.bytes for name, part in manifest.parts.items()}
    assert (found["set_rows",], found["set_files",]) == (manifest.rows, manifest.files.files)


def test_runs_of_each_command() -> None:
    runs = {"backup": JobRun(1000.0, 5.5, 1, 900.0), "sso repair": JobRun(10.0, 1.0, 4, None)}
    found = samples(facts(runs=runs))
    assert found["run_success", "backup"] == 0
    assert found["run_success", "sso repair"] == 1
    assert found["run_end_timestamp_seconds", "backup"] == 1005.5
    assert found["run_success_timestamp_seconds", "backup"] == 900
    assert ("run_success_timestamp_seconds", "sso repair") not in found
    assert found["run_exit_code", "sso repair"] == 4


def test_how_old_the_copies_outside_are() -> None:
    found = samples(facts(offsite={"nas": 1000.0, "b2": None}))
    assert found["offsite_timestamp_seconds", "nas"] == 1000
    assert found["offsite_timestamp_seconds", "b2"] == 0, "an alert, rather than none"


def test_labels_are_escaped() -> None:
    runs = {'a"b\\c\nd': JobRun(1.0, 1.0, 0, 2.0)}
    assert samples(facts(runs=runs))["run_success", 'a"b\\c\nd'] == 1


def test_the_file_is_for_everybody_and_comes_whole(tmp_path: Path) -> None:
    metrics.write(facts([record(2)]), tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(".prom")
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_text() == metrics.text(facts([record(2)]))


def test_without_its_folder_nothing_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.write(facts([record()]), tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "sub" / metrics.METRICS_FILE / "in the way").mkdir(parents=True)
    metrics.write(facts([record()]), tmp_path / "sub")
    assert "could not be written" in caplog.text


ODD = (Kind.INCOMPLETE, Kind.FUTURE, Kind.FORGED, Kind.EMPTIED, Kind.FAILED)


def test_list_status_nagios_and_metrics_count_the_same_sets() -> None:
    """One set for each flaw, one of another host, a safety set, one without a manifest, a sound one."""
    sound = made_set(TODAY - timedelta(hours=20))
    flawed = [
        made_set(TODAY - timedelta(hours=hours), name=f"179530000{hours}_2026_11_22_10.11.4")
        for hours in range(1, len(ODD) + 1)
    ]
    safety, foreign = made_set(TODAY, purpose="safety"), made_set(TODAY, host_id="f" * 32)
    torn = SetEntry("1795000000_2026_11_18_10.11.4", None, "no manifest")
    there = sets_found(
        [safety, foreign, *flawed, sound, torn],
        flaws={entry.name: [Flaw(kind, "odd")] for entry, kind in zip(flawed, ODD)},
        foreign=[foreign.name],
    )
    counted = [flawed[3].name, flawed[4].name, sound.name]
    listed = [
        fields["name"]
        for entry in there.entries
        if entry.set
        for fields in [
            {
                "name": entry.name,
                **remarks.fields(entry.set.manifest, there.flaws.get(entry.name, ()), HOST),
            }
        ]
        if fields["counts"]
    ]
    assert listed == counted == [set_.name for set_ in there.counted]
    found = samples(facts(found=there))
    assert (found["sets",], found["sets_incomplete",], found["sets_foreign",]) == (3, 2, 1)
    assert sound.set is not None
    assert found["set_newest_timestamp_seconds",] == sound.set.manifest.made.timestamp()
    line = set_lights.last_set(status_facts(found=there))
    assert line.figures["sets"].value == 3
    assert sound.name in line.words


@pytest.mark.parametrize(("works", "sample"), [(True, 1), (False, 0), (None, None)])
def test_sign_in_is_that_of_now(works: bool | None, sample: float | None) -> None:
    assert samples(facts(sign_in=works)).get(("sign_in_verified",)) == sample


def test_a_host_without_mattermost_and_sets_misses_none() -> None:
    """The alert on missing sets asks for the metric sets."""
    found = samples(facts(absent=True))
    assert {name for name, *_ in found} == {"tool_info", "host_info"}
    there = sets_found([made_set(TODAY - timedelta(days=3))])
    assert samples(facts(absent=True, found=there))["sets",] == 1, "Mattermost was removed later"


def test_what_the_settings_say_is_there() -> None:
    found = samples(facts(rehearse=False, no_copy=True))
    assert (found["rehearsal_scheduled",], found["offsite_missing",]) == (0, 1)
