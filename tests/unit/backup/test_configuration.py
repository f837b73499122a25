"""Our own configuration in a set: which files, what is left out, and how it comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gitlab_mm_backup.backup import configuration
from gitlab_mm_backup.config import settings
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import trust
from gitlab_mm_backup.restore import configuration as back
from gitlab_mm_backup.restore.plan import RestoreOptions
from gitlab_mm_backup.store import verify
from gitlab_mm_backup.store.sets import BackupSet
from tests.unit.helpers.builders import make_set

PLAIN = "keep_time: 4w\n"
HOOK = "https://mattermost.example.org/hooks/t0ken"
NOTIFY = f"notifications: [{{type: mattermost, to: '{HOOK}'}}]\n"
PASSWORD = "pass = 0bscured\n"
PROVEN = RestoreOptions(proven=True)


@dataclasses.dataclass
class Host:
    """The files of one host's configuration, in a directory of the test."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "etc/config.yml"

    @property
    def rclone(self) -> Path:
        return self.folder / "root/rclone.conf"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return path

    def find(self) -> configuration.Configuration:
        return configuration.find(settings.load())

    def named(self, found: configuration.Configuration) -> list[str]:
        return [str(path.relative_to(self.folder)) for path in found.files]

    def set(self, sets: str = "sets") -> BackupSet:
        """Make a set with the configuration of now."""
        found, folder = self.find(), self.folder / sets
        (folder / "staging").mkdir(parents=True)
        made = configuration.pack(found, settings.load(), folder / "staging")
        data = (folder / "staging/configuration.tar.zst").read_bytes() if made else b""
        content = {"settings": b"{}", **({"configuration": data} if made else {})}
        return make_set(
            folder,
            contents=content,
            change=lambda known: dataclasses.replace(
                known, configuration=tuple(map(str, found.files)), left_out=found.left_out
            ),
        )


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose directories are root's, as far as a test's can be."""
    made = Host(tmp_path)
    (tmp_path / "etc").mkdir()
    monkeypatch.setattr(settings, "_named", made.config)
    monkeypatch.setattr(trust, "roots_alone", lambda path: path if path.exists() else None)
    for name in ("KEPT", "BEFORE"):
        monkeypatch.setattr(back, name, tmp_path / "state" / name)
    return made


def offsite(host: Host) -> str:
    return f"offsite: [{{remote: 'nas:backups', rclone_config: {host.rclone}}}]\n"


def test_settings_are_in_a_set_and_secrets_only_with_consent(host: Host) -> None:
    host.write("etc/config.yml", PLAIN + offsite(host))
    host.write("etc/config.d/notify.yml", NOTIFY)
    host.write("root/rclone.conf", PASSWORD)
    found = host.find()
    assert host.named(found) == ["etc/config.yml"]
    assert list(found.left_out) == [str(host.folder / "etc/config.d/notify.yml"), str(host.rclone)]
    [note] = configuration.notes(found.left_out)
    assert str(host.rclone) in note and "secrets_in_sets" in note and HOOK not in note

    host.write("etc/config.d/zz.yml", "secrets_in_sets: true\n")
    found = host.find()
    assert not found.left_out and configuration.notes(found.left_out) == []
    assert host.named(found) == [
        *("etc/config.yml", "etc/config.d/notify.yml", "etc/config.d/zz.yml", "root/rclone.conf")
    ]


def test_a_secret_that_a_later_file_replaces_is_one_all_the_same(host: Host) -> None:
    host.write("etc/config.yml", PLAIN + NOTIFY)
    host.write("etc/config.d/off.yml", "notifications: []\n")
    found = host.find()
    assert host.named(found) == ["etc/config.d/off.yml"]
    assert list(found.left_out) == [str(host.config)]


def test_a_restic_repository_is_encrypted(host: Host) -> None:
    word = host.write("etc/restic-password", "secret\n")
    host.write("etc/config.yml", f"store: restic\nrestic: {{password_file: {word}}}\n")
    assert host.named(host.find()) == ["etc/config.yml", "etc/restic-password"]


def test_a_file_that_sets_nothing_is_no_configuration(host: Host) -> None:
    host.write("etc/config.yml", "# keep_time: 4w\n")
    assert host.find() == configuration.NONE
    assert configuration.pack(configuration.NONE, settings.load(), host.folder) == {}


def test_what_others_can_change_is_left_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write("etc/config.yml", PLAIN)
    monkeypatch.setattr(trust, "roots_alone", lambda path: None)
    found = host.find()
    assert not found.files and "other than root" in found.left_out[str(host.config)]


def test_verify_reads_the_part(host: Host) -> None:
    host.write("etc/config.yml", PLAIN)
    made = host.set()
    assert verify.configuration(made) == {str(host.config): PLAIN.encode()}
    other = dataclasses.replace(made.manifest, configuration=(str(host.config), "/etc/other.yml"))
    with pytest.raises(Failure, match="has not the files"):
        verify.configuration(dataclasses.replace(made, manifest=other))
    less = dataclasses.replace(made.manifest, configuration=("/etc/other.yml",))
    with pytest.raises(Failure, match="holds what no backup of ours holds"):
        verify.configuration(dataclasses.replace(made, manifest=less))


def test_a_new_host_gets_all_of_it(host: Host) -> None:
    host.write("etc/config.yml", PLAIN + offsite(host) + "secrets_in_sets: true\n")
    host.write("etc/config.d/notify.yml", NOTIFY)
    host.write("root/rclone.conf", PASSWORD)
    made = host.set()
    before = {path: path.read_text() for path in host.find().files}
    for path in before:
        path.unlink()
    (host.folder / "root").rmdir()
    sample = host.write("etc/config.yml", "# keep_time: 0\n")
    sample.chmod(0o640)
    assert back.wanted(made, PROVEN)

    told = back.put_back(made, PROVEN)

    assert {path: path.read_text() for path in before} == before
    assert told == [f"Put back {path}: this host had none" for path in before]
    assert host.config.stat().st_mode & 0o777 == 0o640
    assert host.rclone.stat().st_mode & 0o777 == 0o600
    [text] = [path for path in back.BEFORE.rglob("*") if path.is_file()]
    assert text.read_text() == "# keep_time: 0\n"
    assert not [path for path in back.KEPT.rglob("*") if path.is_file()]
    assert not back.wanted(made, PROVEN) and back.put_back(made, PROVEN) == []


def test_what_a_host_has_is_kept_and_the_set_s_can_be_read(host: Host) -> None:
    host.write("etc/config.yml", PLAIN + offsite(host))
    host.write("etc/config.d/more.yml", "jobs: 2\n")
    made = host.set()
    host.write("etc/config.yml", "keep_time: 1w\n")
    (host.folder / "etc/config.d/more.yml").unlink()
    told = back.put_back(made, PROVEN)
    assert host.config.read_text() == "keep_time: 1w\n"
    assert not (host.folder / "etc/config.d/more.yml").exists(), "removed on purpose, maybe"
    assert len(told) == 2 and all("this host has its own settings" in line for line in told)
    kept = Path(told[0].rpartition(" ")[2])
    assert kept.read_text() == PLAIN + offsite(host)
    assert kept.stat().st_mode & 0o777 == 0o600


def test_another_rclone_conf_stays_beside_settings_that_come_back(host: Host) -> None:
    host.write("etc/config.yml", PLAIN + offsite(host) + "secrets_in_sets: true\n")
    host.write("root/rclone.conf", PASSWORD)
    made = host.set()
    host.config.unlink()
    host.write("root/rclone.conf", "pass = another\n")
    told = back.put_back(made, PROVEN)
    assert host.rclone.read_text() == "pass = another\n" and host.config.exists()
    assert told[0] == f"Put back {host.config}: this host had none"
    assert "this host has another one" in told[1] and len(told) == 2


def test_nothing_is_put_back_from_a_set_without_proof_or_for_one_part(host: Host) -> None:
    host.write("etc/config.yml", "restic: {password_command: [sh, -c, evil]}\n")
    made = host.set()
    host.config.unlink()
    [told] = back.put_back(made, RestoreOptions())
    assert not host.config.exists() and "nothing proves who made the set" in told
    assert back.put_back(made, RestoreOptions(proven=True, named=("database",))) == []
    assert not host.config.exists()


def test_files_that_the_settings_do_not_name_are_not_written(host: Host) -> None:
    """Whoever signs a set does not choose where root writes."""
    host.write("etc/config.yml", PLAIN + offsite(host) + "secrets_in_sets: true\n")
    host.write("root/rclone.conf", PASSWORD)
    made = host.set()
    host.config.unlink()
    host.rclone.rename(host.folder / "root/moved")
    other = host.folder / "elsewhere/config.yml"
    settings.use(other)
    told = back.put_back(made, PROVEN)
    assert all("no setting names it" in line for line in told) and len(told) == 2
    assert not host.config.exists() and not host.rclone.exists()


def test_settings_of_a_newer_version_are_not_put_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("etc/config.yml", PLAIN)
    made = host.set()
    host.config.unlink()
    newer = {str(host.config): b"from_the_future: 1\n"}
    monkeypatch.setattr(verify, "configuration", lambda set_: newer)
    [told] = back.put_back(made, PROVEN)
    assert not host.config.exists() and "this version cannot read it" in told


def test_a_new_host_is_told_what_the_set_lacks(host: Host) -> None:
    host.write("etc/config.yml", PLAIN + offsite(host))
    host.write("root/rclone.conf", PASSWORD)
    made = host.set()
    host.config.unlink()
    host.rclone.unlink()
    assert back.put_back(made, PROVEN) == [
        f"Put back {host.config}: this host had none",
        f"Not in the set: {host.rclone}, because it has secrets",
    ]


def test_nothing_is_written_where_others_could_replace_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("etc/config.yml", PLAIN + offsite(host) + "secrets_in_sets: true\n")
    host.write("root/rclone.conf", PASSWORD)
    made = host.set()
    for path in (host.config, host.rclone):
        path.unlink()
    theirs = host.rclone.parent
    monkeypatch.setattr(trust, "roots_alone", lambda path: None if path == theirs else path)
    told = back.put_back(made, PROVEN)
    assert told[0] == f"Put back {host.config}: this host had none"
    assert f"accounts other than root can change {theirs}" in told[1]
    assert not host.rclone.exists()
