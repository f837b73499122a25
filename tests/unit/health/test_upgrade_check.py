"""What the doctor says of an upgrade to 19, for each version that behaves in its own way."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.checks import Check, Result
from gitlab_mm_backup.cli import health
from gitlab_mm_backup.clock import utc
from gitlab_mm_backup.config.settings import Settings
from gitlab_mm_backup.errors import ExitCode
from gitlab_mm_backup.health import upgrade_check
from gitlab_mm_backup.health.upgrade_check import Use
from gitlab_mm_backup.store import check_records
from gitlab_mm_backup.store.check_records import Depth
from tests.unit.helpers.builders import NAME, make_set

USED = Use(1, 2, None, "in use")
UNUSED = Use(0, 0, None, "unused")


def make_gitlab(root: Path, version: str, mattermost: dict[str, Any] | None = None) -> None:
    (root / "opt/gitlab/embedded/nodes").mkdir(parents=True)
    (root / "opt/gitlab/version-manifest.json").write_text(json.dumps({"build_version": version}))
    node = {
        "normal": {"mattermost": mattermost or {}},
        "default": {"mattermost": {"enable": False}},
    }
    (root / "opt/gitlab/embedded/nodes/host.json").write_text(json.dumps(node))


@pytest.mark.parametrize(
    ("version", "enabled", "result", "words"),
    [
        ("18.10.8", True, Result.FAILED, "blocked: GitLab 19 requires 18.11 first"),
        ("18.9.0", False, Result.FAILED, "blocked: GitLab 19 requires 18.11 first"),
        ("18.11.0", True, Result.WARNING, "passes silently"),
        ("18.11.6", True, Result.WARNING, "GitLab 19 erases the secrets"),
        ("18.11.7", True, Result.FAILED, "refuses the upgrade on every host"),
        ("18.11.7", False, Result.FAILED, "refuses the upgrade on every host"),
        ("18.11.8", False, Result.FAILED, "enables Mattermost"),
        ("18.11.9", True, Result.FAILED, "mattermost['enable'] is true"),
        ("18.11.9", False, Result.PASSED, "not enabled, and erases Mattermost's secrets"),
        ("18.11.11", True, Result.FAILED, "mattermost['enable'] is true"),
    ],
)
def test_the_table_of_versions(
    tmp_path: Path, version: str, enabled: bool, result: Result, words: str
) -> None:
    make_gitlab(tmp_path, version, {"enable": enabled})
    check = upgrade_check._upgrade(version, tmp_path, USED)
    assert (check.result, words in check.detail) == (result, True), check


def test_a_host_that_nobody_uses_loses_nothing(tmp_path: Path) -> None:
    make_gitlab(tmp_path, "18.11.9")
    assert (
        upgrade_check._upgrade("18.11.9", tmp_path, UNUSED).detail
        == "passes: Mattermost is not enabled"
    )


def test_without_a_node_the_service_tells(tmp_path: Path) -> None:
    make_gitlab(tmp_path, "18.11.9")
    (tmp_path / "opt/gitlab/embedded/nodes/host.json").unlink()
    assert upgrade_check._upgrade("18.11.9", tmp_path, USED).result is Result.PASSED
    (tmp_path / "opt/gitlab/service").mkdir()
    (tmp_path / "opt/gitlab/service/mattermost").symlink_to("../sv/mattermost")
    assert upgrade_check._upgrade("18.11.9", tmp_path, USED).result is Result.FAILED


def test_a_host_without_gitlab_and_one_that_is_there_already(tmp_path: Path) -> None:
    def load() -> Settings:
        raise AssertionError("nobody needs it")

    (check,) = upgrade_check.run_checks(load, tmp_path)
    assert (check.name, check.result) == ("GitLab", Result.FAILED)
    make_gitlab(tmp_path, "19.1.2")
    (tmp_path / "var/opt/gitlab/mattermost").mkdir(parents=True)
    (check,) = upgrade_check.run_checks(load, tmp_path)
    assert check.result is Result.WARNING and "gitlab-mm backup" in check.detail


def record(set_: str, depth: Depth, result: Result) -> check_records.CheckRecord:
    names = ("checksums", "structure", "boot")
    checks = [Check(name, result if name == "boot" else Result.PASSED, "") for name in names]
    moment = utc(datetime.now(timezone.utc))
    return check_records.CheckRecord(set_, depth, moment, 1.0, 1.0, "0", "h", "10", "16", checks)


@pytest.mark.parametrize(
    ("age", "proof", "use", "result", "words"),
    [
        (None, None, USED, Result.FAILED, "there is none"),
        (None, None, UNUSED, Result.NOT_RUN, "nothing to lose"),
        (1, None, USED, Result.FAILED, "never rehearsed"),
        (1, None, UNUSED, Result.WARNING, "never rehearsed"),
        (1, Result.NOT_RUN, USED, Result.FAILED, "never rehearsed"),
        (1, Result.FAILED, USED, Result.FAILED, "did not pass"),
        (1, Result.PASSED, USED, Result.PASSED, "passed its rehearsal"),
        (25, Result.PASSED, USED, Result.WARNING, "over a day old"),
    ],
)
def test_a_fresh_rehearsed_set_is_wanted(
    tmp_path: Path, age: int | None, proof: Result | None, use: Use, result: Result, words: str
) -> None:
    if age is not None:
        made = datetime.now(timezone.utc) - timedelta(hours=age)

        def change(manifest: Any) -> Any:
            import dataclasses

            return dataclasses.replace(manifest, started=utc(made))

        set_ = make_set(tmp_path / "mattermost", NAME, change=change)
        if proof is not None:
            check_records.keep_record(set_, record(NAME, Depth.USUAL, proof), tmp_path / "history")
    check = upgrade_check._set(Settings(tmp_path / "mattermost", None), use)
    assert (check.result, words in check.detail) == (result, True), check


def test_secrets_that_would_be_erased(tmp_path: Path) -> None:
    path = tmp_path / "etc/gitlab/gitlab-secrets.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"mattermost": {"email_invite_salt": "x"}}))
    assert "even if it fails" in upgrade_check._secrets(tmp_path, USED).detail
    assert "not used" in upgrade_check._secrets(tmp_path, UNUSED).detail
    path.write_text(json.dumps({"gitlab_rails": {}}))
    assert "none of Mattermost's" in upgrade_check._secrets(tmp_path, USED).detail


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ((Result.PASSED, Result.NOT_RUN), ExitCode.DONE),
        ((Result.PASSED, Result.WARNING), ExitCode.WARNINGS),
        ((Result.WARNING, Result.FAILED), ExitCode.FAILED),
    ],
)
def test_ready_with_warnings_and_not_ready(results: tuple[Result, ...], code: ExitCode) -> None:
    checks = [Check("one", result, "") for result in results]
    assert health.doctor_result(checks).exit_code is code


def test_what_is_not_known_counts_as_used() -> None:
    assert Use(None, None, None, "").some
    assert Use(0, 1, None, "").some
    assert not UNUSED.some
