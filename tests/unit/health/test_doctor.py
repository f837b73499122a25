"""What the doctor says of a layout, in the few lines that an installation may take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gitlab_mm_backup.checks import Check, Result
from gitlab_mm_backup.cli import health
from gitlab_mm_backup.config import settings
from gitlab_mm_backup.config.settings import Settings
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.health import doctor


def make_gitlab(root: Path, version: str) -> None:
    (root / "opt/gitlab/service").mkdir(parents=True)
    (root / "opt/gitlab/version-manifest.json").write_text(json.dumps({"build_version": version}))


def brief(root: Path, sets: Path) -> list[str]:
    checks = doctor.run_checks(lambda: Settings(sets, None), root, layout=True)
    return health.doctor_result(checks, brief=True).lines


def test_a_host_without_gitlab(tmp_path: Path) -> None:
    (line,) = brief(tmp_path, tmp_path)
    assert line == "gitlab-mm-backup: Omnibus GitLab is not installed on this host"


def test_data_that_a_gitlab_without_mattermost_left_is_named(tmp_path: Path) -> None:
    make_gitlab(tmp_path, "19.0.0")
    assert "its data is still" not in brief(tmp_path, tmp_path)[0]
    home = tmp_path / "var/opt/gitlab/mattermost"
    home.mkdir(parents=True)
    (line,) = brief(tmp_path, tmp_path)
    assert line.startswith("gitlab-mm-backup: Omnibus GitLab 19.0.0; ")
    assert "no longer bundles Mattermost" in line
    assert f"its data is still in {home}" in line


def test_a_backup_path_that_takes_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    refused = doctor._backup_path(Settings(tmp_path / "file" / "mattermost", None))
    assert (refused.result, refused.detail) == (
        Result.FAILED,
        f"{tmp_path}/file cannot be written to. Run: findmnt --target {tmp_path}/file",
    )
    wanted = Settings(tmp_path / "new" / "mattermost", None)
    assert doctor._backup_path(wanted).result is Result.PASSED
    monkeypatch.setattr("os.access", lambda *_: False)
    assert doctor._backup_path(wanted).result is Result.FAILED


def test_a_container_that_is_not_reached_gives_its_own_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Failure("The container mm is stopped", "exited", "Start it: docker start mm.")
    monkeypatch.setattr("gitlab_mm_backup.container.selection.missing", lambda: stopped)
    assert doctor._gitlab(tmp_path) == Check(
        "GitLab", Result.FAILED, f"{stopped}. Start it: docker start mm."
    )
    monkeypatch.setattr("gitlab_mm_backup.container.compose.server", lambda: object())
    assert doctor._unusable(stopped, tmp_path).detail.endswith(" Start it: docker start mm.")
    monkeypatch.setattr("gitlab_mm_backup.container.compose.server", lambda: None)
    assert doctor._unusable(stopped, Path("/")).detail.endswith("Run: gitlab-ctl reconfigure")


def test_never_more_than_four_lines() -> None:
    there = [Check("GitLab", Result.PASSED, "here"), Check("Mattermost", Result.PASSED, "there")]
    amiss = [Check(f"check {number}", Result.FAILED, "bad") for number in range(9)]
    three = health.doctor_result([*there, *amiss[:3]], brief=True).lines
    assert three == [
        "gitlab-mm-backup: here; there",
        *(f"  check {number}: bad" for number in range(3)),
    ]
    four = health.doctor_result([*there, *amiss[:4]], brief=True).lines
    assert four == [*three[:3], "  and more: gitlab-mm doctor"]


def test_old_names_of_options_are_a_warning(tmp_path: Path) -> None:
    old = Settings(tmp_path, None, old_names=("line 1: gate is now upgrade_gate",))
    (check,) = doctor._config(lambda: old)
    assert check == Check(
        "config.yml",
        Result.WARNING,
        "old names of options: line 1: gate is now upgrade_gate. Run: gitlab-mm config check",
    )
    assert doctor._config(lambda: Settings(tmp_path, None)) == []


def test_a_secret_that_every_user_can_read_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.d/10-mail.yml"
    file.parent.mkdir()
    file.write_text("notifications: [{type: mattermost, to: 'https://mm.example.org/hooks/b0'}]\n")
    monkeypatch.setattr(settings, "CONFIG_FILE", tmp_path / "config.yml")
    file.chmod(0o644)
    (check,) = doctor._config(settings.load)
    told = f"every user can read {file}, which has a secret. Run: gitlab-mm config check"
    assert check == Check("config.yml", Result.WARNING, told)
    file.chmod(0o640)
    assert doctor._config(settings.load) == []
