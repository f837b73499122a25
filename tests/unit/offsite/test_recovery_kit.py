"""The recovery kit: complete without a secret, and only with one when it is asked for."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from gitlab_mm_backup import version
from gitlab_mm_backup.cli import offsite as cli_offsite
from gitlab_mm_backup.config import gitlab_yml
from gitlab_mm_backup.config.settings import Remote, Restic, Settings
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import trust
from gitlab_mm_backup.offsite import copies, ledger, package, rclone
from gitlab_mm_backup.offsite import recovery_kit as offsite_recovery_kit
from gitlab_mm_backup.offsite.ledger import CopyRecord, Notes
from gitlab_mm_backup.offsite.recovery_kit import Kit
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.system import disk_space
from gitlab_mm_backup.system.parallel import Put
from tests.unit.helpers.builders import HOST, make_set

SET = "1795310000_2026_11_22_10.11.4"
KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
SECRETS = ("s3cret-of-gitlab", "p4ssword-of-rclone")


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not installed here."""
    monkeypatch.setattr(version, "tool", lambda: "0.1.0")
    monkeypatch.setattr(package, "_installed", lambda: "")
    monkeypatch.setattr(package, "KEPT", tmp_path / "state.deb")
    monkeypatch.setattr(package, "_CACHE", tmp_path / "archives")


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
    upload = gitlab_yml.upload({"connection": connection, "remote_directory": "bucket"})
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
        "gitlab-mm restore --from 'nas:<b>backups' --identity /root/key.txt",
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
    for asked, kit in made.items():
        text, page = (
            "\n".join(offsite_recovery_kit.lines(kit)),
            cli_offsite.render_kit(kit).decode(),
        )
        for secret in SECRETS:
            assert (secret in text, secret in page) == (asked, asked)
            outcome = cli_offsite.kit_result(kit, None)
            assert secret not in json.dumps(dict(outcome.fields)) + repr(kit)


def test_a_host_without_any_copy_is_warned(tmp_path: Path) -> None:
    kit = offsite_recovery_kit.kit(
        Settings(tmp_path, None), LocalStore(tmp_path / "sets"), with_secrets=True, root=tmp_path
    )
    assert any("No set has an off-site copy" in warning for warning in kit.warnings)
    assert kit.secrets == {}


def test_the_page_is_root_s_alone(made: dict[bool, Kit], tmp_path: Path) -> None:
    path = cli_offsite.write_kit(tmp_path / "kit.html", made[True])
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_restic_repository_needs_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(SECRETS[1])
    restic = Restic("sftp:nas:/srv/restic", password)
    settings = Settings(tmp_path, None, store="restic", restic=restic)
    kit = offsite_recovery_kit.kit(
        settings, LocalStore(tmp_path / "sets"), with_secrets=True, root=tmp_path
    )
    told = "\n".join(offsite_recovery_kit.lines(kit))
    assert kit.warnings == [] and str(password) in {need.what for need in kit.needed}
    assert "restic repository: " in told and "apt install restic" in told
    assert SECRETS[1] in told
    quiet = offsite_recovery_kit.kit(
        settings, LocalStore(tmp_path / "sets"), with_secrets=False, root=tmp_path
    )
    assert SECRETS[1] not in "\n".join(offsite_recovery_kit.lines(quiet))


def deb(folder: Path, number: str = "0.1.0", name: str = "gitlab-mm-backup") -> Path:
    """Build a package with nothing in it."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {number}\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: none\n"
    )
    made = folder / f"{name}_{number}_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, made], check=True, capture_output=True)
    return made


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files at the remote nas, of which rclone tells."""
    there: dict[str, bytes] = {}

    def write(remote: Remote, feed: Callable[[Put], object], size: int, name: str) -> None:
        pieces: list[bytes] = []
        feed(lambda piece: pieces.append(bytes(piece)))
        there[name] = b"".join(pieces)
        assert len(there[name]) == size

    monkeypatch.setattr(package, "_installed", lambda: "0.1.0")
    monkeypatch.setattr(trust, "roots_alone", lambda path: path if path.exists() else None)
    monkeypatch.setattr(disk_space, "refuse_unmounted", lambda path: None)
    monkeypatch.setattr(copies, "complete", lambda remote: {})
    monkeypatch.setattr(
        rclone,
        "listing",
        lambda remote: [rclone.Listed(name, len(data), {}) for name, data in there.items()],
    )
    monkeypatch.setattr(rclone, "content", lambda remote, name: there[name])
    monkeypatch.setattr(rclone, "write", write)
    return there


def kit_with(tmp_path: Path, given: Path | None = None, *, path: str = "nas:backups") -> Kit:
    (tmp_path / "sets").mkdir(exist_ok=True)
    return offsite_recovery_kit.kit(
        Settings(tmp_path / "sets", None, offsite=(Remote("nas", path),)),
        LocalStore(tmp_path / "sets"),
        with_secrets=False,
        root=tmp_path,
        deb=given,
    )


def test_the_package_is_put_beside_sets_and_copies(
    tmp_path: Path, remote: dict[str, bytes]
) -> None:
    made = deb(tmp_path)
    data, sum_ = made.read_bytes(), hashlib.sha256(made.read_bytes()).hexdigest()
    kit = kit_with(tmp_path, made)
    line = f"{sum_}  gitlab-mm-backup.deb\n".encode()
    wanted = {"gitlab-mm-backup.deb": data, "gitlab-mm-backup.deb.sha256": line}
    assert remote == wanted
    assert {name: (tmp_path / "sets" / name).read_bytes() for name in wanted} == wanted
    assert LocalStore(tmp_path / "sets").entries() == [], "it is no set"
    told = "\n".join(offsite_recovery_kit.lines(kit))
    assert f"SHA-256 {sum_}" in told and sum_ in cli_offsite.render_kit(kit).decode()
    assert "rclone copyto nas:backups/gitlab-mm-backup.deb gitlab-mm-backup.deb\n" in told
    assert f"echo '{sum_}  gitlab-mm-backup.deb' | sha256sum --check && apt install ./" in told
    assert not any("as a package" in item.what for item in kit.needed)

    made.unlink()
    writes = dict(remote)
    remote["gitlab-mm-backup.deb"] = b"?" * len(data)  # not sent again: its size and sum are there
    again = kit_with(tmp_path)
    assert again.held == kit.held, "it was kept"
    assert remote["gitlab-mm-backup.deb"] != writes["gitlab-mm-backup.deb"]


def test_a_package_in_the_cache_of_apt_is_found(
    tmp_path: Path, remote: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archives").mkdir()
    for number in ("0.1.0", "0.2.0"):
        deb(tmp_path, number).rename(tmp_path / "archives" / f"gitlab-mm-backup_{number}_all.deb")
    kit = kit_with(tmp_path)
    assert kit.held is not None and kit.held.package.version == "0.1.0"
    monkeypatch.setattr(trust, "roots_alone", lambda path: None)
    package.KEPT.unlink()
    assert kit_with(tmp_path).held is None, "others can change it"


def test_another_package_is_refused(tmp_path: Path, remote: dict[str, bytes]) -> None:
    text = tmp_path / "text.deb"
    text.write_text("no package")
    for other in (deb(tmp_path, "0.2.0"), deb(tmp_path, name="another"), text, tmp_path / "none"):
        with pytest.raises(Failure, match="is not the package that is installed here"):
            kit_with(tmp_path, other)
    assert remote == {}


def test_a_host_without_the_package_is_told_how_to_give_it(tmp_path: Path) -> None:
    kit = kit_with(tmp_path)
    assert kit.held is None
    [need] = [item for item in kit.needed if "as a package" in item.what]
    assert "gitlab-mm-backup 0.1.0" in need.what and "recovery-kit --package DEB" in need.why
    assert "apt install ./gitlab-mm-backup_0.1.0_all.deb" in "\n".join(
        offsite_recovery_kit.lines(kit)
    )


def test_a_remote_that_fails_is_a_warning(
    tmp_path: Path, remote: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(remote: Remote) -> dict[str, int]:
        raise Failure("nas cannot be listed", "no route")

    monkeypatch.setattr(copies, "complete", fails)
    kit = kit_with(tmp_path, deb(tmp_path))
    assert any("nas cannot be listed" in warning for warning in kit.warnings)
    [need] = [item for item in kit.needed if "as a package" in item.what]
    assert str(tmp_path / "sets") in need.why


@pytest.mark.parametrize(
    ("name", "edition", "command"),
    [
        ("gitlab-ee", "Enterprise Edition", "apt install gitlab-ee=18.11.9-ee.0"),
        ("gitlab-ce", "Community Edition", "apt install gitlab-ce=18.11.9-ce.0"),
        ("gitlab-ee;id", "", "apt install gitlab-ce=18.11.9-ce.0"),
    ],
)
def test_editions_are_named_and_installed(
    name: str, edition: str, command: str, tmp_path: Path
) -> None:
    (tmp_path / "opt/gitlab").mkdir(parents=True)
    (tmp_path / "opt/gitlab/version-manifest.txt").write_text(f"{name} 18.11.9\n")
    make_set(tmp_path / "sets")
    kit = kit_with(tmp_path)
    told = "\n".join(offsite_recovery_kit.lines(kit)) + "\n"
    assert f"  GitLab 18.11.9{edition and ', '}{edition}\n" in told
    assert "  Mattermost 10.11.4, Team Edition, bundled with GitLab\n" in told
    assert f"{command}\n" in told and "VERSION" not in told


def test_what_the_newest_set_lacks_of_the_configuration_is_told(tmp_path: Path) -> None:
    left = {"/root/.config/rclone/rclone.conf": "it has secrets"}
    make_set(tmp_path / "sets", change=lambda known: replace(known, left_out=left))
    assert "/root/.config/rclone/rclone.conf: it has secrets" in kit_with(tmp_path).told
