"""The recovery kit: complete without a secret, and only with one when it is asked for."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest

from gitlab_mm_backup import version
from gitlab_mm_backup.cli import offsite as cli_offsite
from gitlab_mm_backup.config import settings as config_settings
from gitlab_mm_backup.config.settings import Remote, Restic, Settings
from gitlab_mm_backup.offsite import ledger, rclone
from gitlab_mm_backup.offsite import recovery_kit as offsite_recovery_kit
from gitlab_mm_backup.offsite.ledger import CopyRecord, Notes
from gitlab_mm_backup.offsite.recovery_kit import Kit
from gitlab_mm_backup.store.local import LocalStore
from tests.unit.helpers.builders import HOST

SET = "1795310000_2026_11_22_10.11.4"
KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
SECRETS = ("s3cret-of-gitlab", "p4ssword-of-rclone")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not installed here."""
    monkeypatch.setattr(version, "tool", lambda: "0.1.0")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[bool, Kit]:
    """The kit of a host with GitLab's place and an encrypted one, without and with secrets."""
    conf = tmp_path / "rclone.conf"
    conf.write_text(f"[nas]\ntype = sftp\npass = {SECRETS[1]}\n")
    nas = Remote("nas", "nas:<b>backups", config=str(conf), recipients=(KEY,))
    connection = {
        "provider": "AWS",
        "aws_access_key_id": "AKIA",
        "aws_secret_access_key": SECRETS[0],
    }
    upload = config_settings.upload({"connection": connection, "remote_directory": "bucket"})
    monkeypatch.setattr(rclone, "version", lambda: (1, 60, 1))
    notes = tmp_path / "offsite.json"
    ledger.keep(
        nas,
        Notes(nas.path, {SET: CopyRecord("2026-11-22T00:00:00Z", 5, ("md5",), "", HOST.id)}),
        notes,
    )
    monkeypatch.setattr(ledger, "of", lambda remote: _notes(remote, notes))
    settings = Settings(tmp_path / "sets", None, offsite=(nas,), upload=upload)
    return {
        asked: offsite_recovery_kit.kit(
            settings, LocalStore(tmp_path / "sets"), with_secrets=asked, root=tmp_path
        )
        for asked in (False, True)
    }


def _notes(remote: Remote, path: Path) -> Notes:
    found = ledger.everything(path).get(remote.name)
    return found or Notes(remote.path)


def test_places_keys_versions_and_commands_are_told(made: dict[bool, Kit]) -> None:
    told = "\n".join(offsite_recovery_kit.lines(made[False]))
    for wanted in (
        "gitlab:bucket/mattermost: none yet",
        f"nas:<b>backups: newest {SET} of 1",
        f"encrypted to {KEY}",
        f"the private key of one of: {KEY}",
        "section [nas]",
        "backup_upload_connection in gitlab.rb",
        "gitlab-mm restore --from gitlab\n",
        "gitlab-mm restore --from nas:<b>backups --identity FILE",
        "apt install rclone age",
        "gitlab-mm sso check",
        f"gitlab-mm host take-over {HOST.id}",
    ):
        assert wanted in told + "\n", wanted


def test_the_page_says_the_same_and_takes_names_for_text(made: dict[bool, Kit]) -> None:
    page = cli_offsite.render_kit(made[False]).decode()
    assert "<b>backups" not in page and "nas:&lt;b&gt;backups" in page
    assert "<script" not in page and "http" not in page
    for line in offsite_recovery_kit.lines(made[False]):
        if line.startswith("       "):
            assert line.strip() in unescape(page)


def test_secrets_only_for_who_asks(made: dict[bool, Kit]) -> None:
    for asked, one in made.items():
        text, page = (
            "\n".join(offsite_recovery_kit.lines(one)),
            cli_offsite.render_kit(one).decode(),
        )
        for secret in SECRETS:
            assert (secret in text, secret in page) == (asked, asked)
            outcome = cli_offsite.kit_result(one, None)
            assert secret not in json.dumps(dict(outcome.fields)) + repr(one)


def test_a_host_without_any_copy_is_warned(tmp_path: Path) -> None:
    one = offsite_recovery_kit.kit(
        Settings(tmp_path, None), LocalStore(tmp_path / "sets"), with_secrets=True, root=tmp_path
    )
    assert any("No set has an off-site copy" in warning for warning in one.warnings)
    assert one.secrets == {}


def test_the_page_is_root_s_alone(made: dict[bool, Kit], tmp_path: Path) -> None:
    path = cli_offsite.write_kit(tmp_path / "kit.html", made[True])
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_restic_repository_needs_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(SECRETS[1])
    restic = Restic("sftp:nas:/srv/restic", password)
    settings = Settings(tmp_path, None, store="restic", restic=restic)
    one = offsite_recovery_kit.kit(
        settings, LocalStore(tmp_path / "sets"), with_secrets=True, root=tmp_path
    )
    told = "\n".join(offsite_recovery_kit.lines(one))
    assert one.warnings == [] and str(password) in {each.what for each in one.needed}
    assert "restic repository: " in told and "apt install restic" in told
    assert SECRETS[1] in told
    quiet = offsite_recovery_kit.kit(
        settings, LocalStore(tmp_path / "sets"), with_secrets=False, root=tmp_path
    )
    assert SECRETS[1] not in "\n".join(offsite_recovery_kit.lines(quiet))
