"""Alert rules and the Grafana dashboard: they use metrics that exist, limits and pages that hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitlab_mm_backup.health import metrics, rating, set_lights

ROOT = Path(__file__).parents[3]
RULES: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "debian/monitoring/gitlab-mm-backup.rules").read_text(encoding="utf-8")
)["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "debian/monitoring/grafana-dashboard.json").read_text(encoding="utf-8")
)
PAGE = "file:///usr/share/doc/gitlab-mm-backup/docs/alerts.md#"
NAMES = [rule["alert"] for rule in RULES]


def anchors(page: str) -> set[str]:
    """The anchors that a Markdown viewer gives the headings."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return {head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.M)}


def used(text: str) -> set[str]:
    return set(re.findall(r"gitlab_mm_(\w+)", text))


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_rule_has_a_runbook_and_names_the_host(rule: dict[str, Any]) -> None:
    told = rule["annotations"]
    assert told["runbook_url"] == PAGE + rule["alert"].lower()
    assert rule["alert"].lower() in anchors("alerts.md")
    assert told["summary"].startswith("{{ $labels.instance }}: ")
    assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_rule_is_tried_by_promtool_and_every_section_has_its_rule() -> None:
    tried = yaml.safe_load((ROOT / "tests/lab/fixtures/alerts-test.yml").read_text())["tests"]
    fired = {
        look["alertname"]
        for case in tried
        for look in case["alert_rule_test"]
        if look["exp_alerts"]
    }
    still = {
        look["alertname"]
        for case in tried
        for look in case["alert_rule_test"]
        if not look["exp_alerts"]
    }
    assert fired == still | {"MattermostBackupMissing"} == set(NAMES)
    assert {name.lower() for name in NAMES} | {"alerts"} == anchors("alerts.md")


def test_rules_and_dashboard_use_metrics_that_are_written() -> None:
    asked = used(" ".join(rule["expr"] for rule in RULES)) | used(json.dumps(DASHBOARD))
    assert len(asked) > 15
    assert asked - set(metrics._HELP) == set()


def test_alerts_and_status_have_the_same_limits() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    assert "> 26 * 3600" in expressions["MattermostBackupMissing"]
    assert rating.SET_AGE.total_seconds() == 26 * 3600
    assert "> 8 * 86400" in expressions["MattermostRehearsalOld"]
    assert rating.REHEARSAL_AGE.total_seconds() == 8 * 86400
    assert "> 2 * 86400" in expressions["MattermostOffsiteStale"]
    assert set_lights.STALE.total_seconds() == 2 * 86400
    limits = {
        step["value"]
        for panel in DASHBOARD["panels"]
        if panel["fieldConfig"]["defaults"]["unit"] == "s"
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        if step["value"]
    }
    assert limits == {26 * 3600, 8 * 86400, 2 * 86400}


# The structure that Grafana documents: "Dashboard JSON model", schema version 38.


def test_the_dashboard_has_the_documented_structure() -> None:
    assert {"title", "uid", "panels", "templating", "time", "schemaVersion", "tags"} <= set(
        DASHBOARD
    )
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        assert {"id", "title", "type", "datasource", "gridPos", "targets", "fieldConfig"} <= set(
            panel
        )
        assert panel["description"].endswith("."), panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & own, "panels overlap"
        cells |= own
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))


def test_each_panel_is_of_the_chosen_hosts_and_its_legend_names_them() -> None:
    (source, hosts) = DASHBOARD["templating"]["list"]
    assert (source["type"], hosts["name"], hosts["type"]) == ("datasource", "instance", "query")
    assert hosts["multi"] and hosts["includeAll"]
    assert "label_values(gitlab_mm_tool_info, instance)" in hosts["query"]["query"]
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            series = re.findall(r"gitlab_mm_\w+(\{[^}]*\})?", target["expr"])
            assert series and all('instance=~"$instance"' in chosen for chosen in series)
            assert target["legendFormat"].startswith("{{instance}}")


def test_one_table_has_all_hosts() -> None:
    (table,) = [panel for panel in DASHBOARD["panels"] if panel["type"] == "table"]
    assert all(target["format"] == "table" and target["instant"] for target in table["targets"])
    assert all(target["expr"].startswith("max by (instance) ") for target in table["targets"])
    columns = {override["matcher"]["options"] for override in table["fieldConfig"]["overrides"]}
    assert columns == {"instance", *(f"Value #{target['refId']}" for target in table["targets"])}
    assert table["transformations"][0]["options"] == {"byField": "instance", "mode": "outer"}
