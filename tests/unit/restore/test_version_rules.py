"""Every rule about versions: what makes it speak, what just does not, and that it says why and where to go."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from gitlab_mm_backup.restore import preflight, version_rules
from gitlab_mm_backup.restore.version_rules import Rule, RuleAction, VersionFacts
from tests.unit.helpers.builders import make_manifest, make_set

RULES = {rule.code: rule for rule in version_rules.load()}
ROLES = {142: "add_schemeid_to_roles", 143: "backfill_roles_schemeid"}
# A move that no rule objects to; each case changes one thing that then matters.
FINE = VersionFacts(
    set="10.11.20",
    target="11.7.3",
    gitlab="18.11.9",
    postgresql="14.2",
    migrations={141: "something_else"},
    gitlab_sign_in=True,
    licensed=True,
)


def setting(section: str, key: str, value: bool | str) -> EffectiveConfig:
    return EffectiveConfig({section: {key: value}})


# code: [(changes, what the rule then does)], with both sides of every border
REFUSE, WARN, PASS = RuleAction.REFUSE, RuleAction.WARN, None
CASES: dict[str, list[tuple[dict[str, Any], RuleAction | None]]] = {
    "target-older": [
        ({"target": "10.11.19"}, REFUSE),
        ({"target": "9.11"}, REFUSE),
        ({"target": "10.11.20"}, PASS),
        ({"set": "unknown"}, WARN),
        ({"target": ""}, WARN),
    ],
    "migrations-collide": [
        ({"target": "11.7.2", "migrations": ROLES}, REFUSE),
        ({"target": "11.0", "migrations": ROLES}, REFUSE),
        ({"target": "11.7.2", "migrations": {144: "add_roles_schemeid_index"}}, REFUSE),
        ({"target": "11.7.2", "migrations": None}, WARN),
        ({"target": "11.7.2", "migrations": None, "set": "10.11.17"}, WARN),
        ({"target": "unknown", "migrations": ROLES}, WARN),
        ({"target": "unknown", "migrations": {}}, PASS),
        ({"target": "unknown", "migrations": None, "bundled": True}, PASS),
        ({"target": "11.7.2", "migrations": None, "set": "10.11.16"}, PASS),
        ({"target": "11.7.2", "migrations": ROLES, "set": "unknown"}, WARN),
        ({"target": "11.7.2", "migrations": {156: "add_schemeid_to_roles"}}, PASS),
        ({"target": "11.7.2", "migrations": {142: "create_content_flagging_tables"}}, PASS),
        ({"target": "11.7.3", "migrations": ROLES}, PASS),
        ({"target": "10.11.20", "migrations": ROLES}, PASS),
        ({"target": "11.8.0", "migrations": ROLES}, PASS),
        ({"target": "11.7.2", "set": "11.0.1", "migrations": ROLES}, PASS),
    ],
    "mysql": [({"driver": "mysql"}, REFUSE), ({"driver": "postgres"}, PASS)],
    "postgresql-below-13": [
        ({"target": "10.11.20", "postgresql": "12.22"}, REFUSE),
        ({"target": "10.6", "postgresql": "9.6.24"}, REFUSE),
        ({"target": "10.11.20", "postgresql": "13.0"}, PASS),
        ({"target": "10.5.9", "set": "10.5.9", "postgresql": "12.22"}, PASS),
        ({"target": "10.11.20", "postgresql": ""}, WARN),
    ],
    "postgresql-below-14": [
        ({"postgresql": "13.20"}, REFUSE),
        ({"postgresql": "14"}, PASS),
        ({"target": "10.11.20", "postgresql": "13.20"}, PASS),
        ({"postgresql": ""}, WARN),
    ],
    "archived-channels-hidden": [
        ({"settings": setting("TeamSettings", "ExperimentalViewArchivedChannels", False)}, REFUSE),
        ({"settings": setting("TeamSettings", "ExperimentalViewArchivedChannels", True)}, PASS),
        (
            {
                "settings": setting("TeamSettings", "ExperimentalViewArchivedChannels", False),
                "target": "10.12.0",
            },
            PASS,
        ),
        ({"settings": EffectiveConfig({"TeamSettings": None})}, PASS),
    ],
    "client-certificates": [
        ({"settings": setting("ExperimentalSettings", "ClientSideCertEnable", True)}, REFUSE),
        ({"settings": setting("ExperimentalSettings", "ClientSideCertEnable", "true")}, REFUSE),
        ({"settings": setting("ExperimentalSettings", "ClientSideCertEnable", False)}, PASS),
    ],
    "bleve": [
        ({"settings": setting("BleveSettings", "EnableSearching", True)}, WARN),
        ({"settings": setting("SqlSettings", "DisableDatabaseSearch", True)}, WARN),
        ({"settings": setting("BleveSettings", "EnableSearching", False)}, PASS),
        (
            {
                "settings": setting("BleveSettings", "EnableSearching", True),
                "target": "10.11.20",
            },
            PASS,
        ),
    ],
    "gitlab-sign-in-unlicensed": [
        ({"licensed": False}, WARN),
        ({"licensed": None}, WARN),
        ({"licensed": False, "gitlab_sign_in": False}, PASS),
        ({"licensed": False, "target": "10.11.20"}, PASS),
        # As it was before the restore: not news.
        ({"licensed": False, "set": "11.1.0"}, PASS),
    ],
}


def test_every_rule_has_its_cases_both_ways() -> None:
    assert sorted(CASES) == sorted(RULES)
    for code, cases in CASES.items():
        assert {verdict is None for _, verdict in cases} == {True, False}, code


def test_nothing_is_said_about_a_move_that_is_fine() -> None:
    assert version_rules.evaluate(FINE) == []
    assert version_rules.enforce([]) == []


@pytest.mark.parametrize(
    ("code", "changes", "verdict"),
    [(code, changes, verdict) for code, cases in CASES.items() for changes, verdict in cases],
)
def test_a_rule(code: str, changes: dict[str, Any], verdict: RuleAction | None) -> None:
    found = {
        rule.code: rule for rule in version_rules.evaluate(dataclasses.replace(FINE, **changes))
    }
    assert (found[code].verdict if code in found else None) is verdict
    if verdict is REFUSE:
        with pytest.raises(Failure) as refused:
            version_rules.enforce(list(found.values()))
        assert found[code].reason in refused.value.detail
        assert found[code].way_out in refused.value.hint


@pytest.mark.parametrize("code", RULES)
def test_a_rule_says_why_where_to_go_and_who_says_so(code: str) -> None:
    rule = RULES[code]
    words = f"{rule.reason} {rule.way_out}"
    assert set(re.findall(r"{(\w*)}", words)) <= {"set", "gitlab", "target", "postgresql"}
    assert len(rule.reason) > 40 and rule.way_out.endswith(".") and "\n" not in words.strip()
    assert rule.sources
    assert all(re.fullmatch(r"https://\S+", source) for source in rule.sources)


def test_refusals_come_first_and_what_is_only_possible_is_told_so() -> None:
    found = version_rules.evaluate(dataclasses.replace(FINE, target="", driver="mysql"))
    assert [rule.verdict for rule in found[:2]] == [REFUSE, WARN]
    assert found[1].reason.startswith("Not certain: ")


def test_a_rule_of_another_form_is_no_rule(tmp_path: Path) -> None:
    entry = {
        "code": "x",
        "when": {"moon": "full"},
        "verdict": "warn",
        "unknown": "pass",
        "reason": "",
        "way_out": "",
        "sources": ["https://example.org"],
    }
    path = tmp_path / "rules.yml"
    bad: list[tuple[dict[str, Any], str]] = [
        ({"when": {"moon": "full", "air": "wet"}}, "x: air, moon"),
        ({"when": {}, "sources": []}, "x: no source"),
    ]
    for changes, words in bad:
        path.write_text(json.dumps([{**entry, **changes}]))
        with pytest.raises(ValueError, match=f"{words}$"):
            version_rules.load(path)


@pytest.mark.parametrize("known", [True, False])
def test_a_version_that_is_not_known_is_told_so(known: bool) -> None:
    words = "from GitLab {gitlab} to {target} on PostgreSQL {postgresql}"
    rule = Rule("x", {}, WARN, None, words, "{set}", ["https://example.org"])
    facts = FINE if known else dataclasses.replace(FINE, gitlab="", postgresql="")
    (found,) = version_rules.evaluate(facts, [rule])
    unknown = "of unknown version"
    gitlab, postgresql = ("18.11.9", "14.2") if known else (unknown, unknown)
    assert found.reason == f"from GitLab {gitlab} to 11.7.3 on PostgreSQL {postgresql}"
    assert found.way_out == "10.11.20"


def test_facts_of_a_set(tmp_path: Path) -> None:
    settings = {"effective": {"GitLabSettings": {"Enable": True}}}
    set_ = make_set(tmp_path, contents={"settings": json.dumps(settings).encode()})
    facts = preflight.version_facts(set_, "10.11.20", "16.1", Path("/nowhere"), "postgres", False)
    assert (facts.set, facts.target, facts.postgresql) == ("10.11.4", "10.11.20", "16.1")
    assert (facts.gitlab_sign_in, facts.licensed, facts.migrations) == (True, False, None)
    beside_19 = dataclasses.replace(set_.manifest, gitlab="19.0.0")
    salvaged = dataclasses.replace(set_, manifest=beside_19)
    facts = preflight.version_facts(
        salvaged, "10.11.20", "16.1", Path("/nowhere"), "postgres", False
    )
    assert facts.gitlab == "18.11", "19 bundles none that could be installed"
    rows = {**make_manifest().database.rows, "public.licenses": 1}
    database = dataclasses.replace(make_manifest().database, rows=rows)
    licensed = dataclasses.replace(
        set_, manifest=dataclasses.replace(set_.manifest, database=database)
    )
    assert preflight.version_facts(licensed, "10.11.20", "", Path("/"), "postgres", False).licensed


def test_no_rule_refuses_what_it_cannot_know() -> None:
    assert [rule.code for rule in version_rules.load() if rule.unknown is REFUSE] == []


@pytest.mark.parametrize("bundled", [True, False])
def test_a_target_of_omnibus_is_below_11_whatever_its_version_is(bundled: bool) -> None:
    facts = dataclasses.replace(FINE, target="unknown", migrations=None, bundled=bundled)
    found = version_rules.evaluate(facts)
    codes = {rule.code for rule in found if "11" in str(RULES[rule.code].when.get("target", ""))}
    assert ("migrations-collide" in codes) is not bundled
    assert not any("that unknown does" in rule.reason for rule in found)
    (older,) = [rule for rule in found if rule.code == "target-older"]
    assert "than the target, Mattermost of unknown version;" in older.reason
