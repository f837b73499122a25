"""What copies say of themselves, which files they have, and what rclone's words mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.config import settings
from gitlab_mm_backup.config.settings import Remote
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.mattermost.journal import Journal, PendingUploads
from gitlab_mm_backup.offsite import age, bound, copies, ledger, rclone, sync
from gitlab_mm_backup.offsite.copies import CopiedPart, Copy
from gitlab_mm_backup.offsite.ledger import CopyRecord, Notes, PartialCopy, SentFile
from gitlab_mm_backup.store import prune
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.prune import Member, PrunePlan
from gitlab_mm_backup.system import process
from gitlab_mm_backup.system.redaction import Secret

SET = "1795310000_2026_11_22_10.11.4"
COPY = Copy(SET, ("age1x",), {"database": CopiedPart("database.dump.zst.age", 5, "0" * 64, "md5")})
WHOLE = json.loads(copies.to_bytes(COPY))


def test_a_copy_tells_itself_and_is_read_again() -> None:
    assert copies.parse_copy(WHOLE, "x") == COPY


@pytest.mark.parametrize(
    "change",
    [
        {"format": 3},
        {"set": "../etc"},
        {"recipients": "age1"},
        {"parts": []},
        {"more": 1},
        {"parts": {"database": {**WHOLE["parts"]["database"], "file": "../x"}}},
        {"parts": {"database": {**WHOLE["parts"]["database"], "file": "manifest.json"}}},
        {"parts": {"database": {**WHOLE["parts"]["database"], "checked": "hoped"}}},
        {"parts": {"database": {**WHOLE["parts"]["database"], "bytes": -1}}},
    ],
)
def test_what_no_copy_of_ours_says_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Failure):
        copies.parse_copy({**WHOLE, **change}, "x")


def test_notes_are_kept_for_each_remote_and_place(tmp_path: Path) -> None:
    path, nas, disk = tmp_path / "n.json", Remote("nas", "nas:a"), Remote("disk", "/mnt/a")
    notes = Notes("nas:a", {SET: CopyRecord("2026-11-22T00:00:00Z", 5, ("md5",), "")})
    notes.begun[SET] = PartialCopy((), {"f": SentFile(5, {"md5": "0"})})
    ledger.keep(nas, notes, path)
    ledger.keep(disk, Notes("/mnt/a", {SET: notes.sets[SET]}), path)
    assert ledger.of(nas, path) == notes
    assert ledger.by_set(path) == {SET: ["nas", "disk"]}
    assert ledger.of(Remote("nas", "nas:elsewhere"), path) == Notes("nas:elsewhere")


@pytest.mark.parametrize("text", ["", "[]", '{"nas": {"path": 1}}', '{"nas": ', "\xff"])
def test_notes_that_are_none_tell_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "n.json"
    path.write_text(text, encoding="latin-1")
    assert ledger.everything(path) == {} and ledger.by_set(path) == {}


@pytest.mark.parametrize(
    ("text", "path", "below"),
    [
        ("nas:a/b", "nas:a/b", "nas:a/b/x/y"),
        ("nas:", "nas:", "nas:x/y"),
        ("/mnt/a/", "/mnt/a", "/mnt/a/x/y"),
        ("/", "/", "/x/y"),
    ],
)
def test_places_below_a_remote(text: str, path: str, below: str) -> None:
    found = settings.remote_named(text)
    assert (found.path, found.place("x", "y")) == (path, below)


@pytest.mark.parametrize("text", ["nas", "", "-x:y", ":s3,secret=x:b", "nas:a\0b", "relative/path"])
def test_what_is_no_remote(text: str) -> None:
    with pytest.raises(ValueError, match="remote of rclone"):
        settings.remote_named(text)


def test_rclone_is_told_nothing_secret_in_its_arguments() -> None:
    place = Remote(
        "gitlab", "gitlab:b", {"RCLONE_CONFIG_GITLAB_KEY": Secret("s3cret")}, account="nobody"
    )
    asked = rclone.command(place, "rcat", "--", place.place("x"))
    assert "s3cret" not in repr(asked) and asked.account == "nobody"
    assert asked.environment["RCLONE_CONFIG"] == "/dev/null"
    assert not [name for name in asked.environment if name.startswith(("AWS_", "HOME"))]
    limited = rclone.command(Remote("nas", "nas:b", bandwidth=10 << 20), "lsjson")
    assert "--bwlimit=10485760B" in limited.argv


TOLD = {
    "SignatureDoesNotMatch: The request\n\tstatus code: 403": "refuses the credentials",
    "InvalidAccessKeyId: no\n\tstatus code: 403": "refuses the credentials",
    "couldn't list: 401 Unauthorized": "refuses the credentials",
    "ssh: handshake failed: ssh: unable to authenticate": "refuses the credentials",
    "NoSuchBucket: The specified bucket does not exist": "the bucket does not exist",
    "RequestTimeTooSkewed: The difference\n\tstatus code: 403": "clocks",
    "EntityTooLarge: Your upload": "the remote is full",
    "write /mnt/x: no space left on device": "the remote is full",
    'sftp: "preallocate: file too big for remaining disk space"': "the remote is full",
    "InsufficientStorage: 507": "the remote is full",
    "AccessDenied: Access Denied\n\tstatus code: 403": "does not allow it",
    "didn't find section in config file": "no such remote",
    "dial tcp 127.0.0.1:1: connect: connection refused": "connection fails",
    'Put "https://x": x509: certificate signed by unknown authority': "is not trusted",
    'Put "https://x": x509: certificate has expired or is not yet valid': "not valid at this time",
    "couldn't decrypt configuration, most likely wrong password.": "is encrypted",
    "Config file is encrypted: unable to decrypt configuration and not allowed to ask for password "
    "- set RCLONE_CONFIG_PASS to your configuration password": "is encrypted",
    'Put "http://x": set tcp 127.0.0.1:4: use of closed network connection': "connection fails",
    'Put "http://x": EOF': "connection fails",
}


@pytest.mark.parametrize("words", TOLD)
def test_rclone_s_words_in_an_administrator_s(words: str) -> None:
    place = Remote("nas", "nas:b", {"RCLONE_CONFIG_NAS_KEY": Secret("s3cret")})
    said = f"2026/11/25 21:58:19 ERROR : x: {words} with s3cret"
    with pytest.raises(rclone.RemoteFailure) as caught, rclone.explained(place, "x failed"):
        raise Failure("rclone failed with exit code 1", said)
    failure = caught.value
    assert TOLD[words] in failure.message and failure.hint
    assert failure.lasting != ("connection fails" in TOLD[words])
    assert "s3cret" not in str(failure) and "2026/" not in failure.detail


def test_a_remote_that_reads_all_to_hash_it_has_the_time_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "rclone"
    slow.write_text("#!/bin/sh\nsleep 2\necho '[]'\n")
    slow.chmod(0o755)
    monkeypatch.setattr(process, "PATH", f"{tmp_path}:{process.PATH}")
    monkeypatch.setattr(rclone, "_LOOKING", 1)
    place = settings.remote_named("/mnt/disk")
    with pytest.raises(Failure, match="cannot be listed"):
        rclone.listing(place, "x", hashed=0)
    assert rclone.listing(place, "x", hashed=20 << 20) == []


def test_others_failures_stay_what_they_are() -> None:
    failure = Failure("age failed with exit code 1", "x")
    with pytest.raises(Failure) as caught, rclone.explained(Remote("nas", "nas:b"), "x failed"):
        raise failure
    assert caught.value is failure


@given(st.integers(0, 1 << 40))
def test_the_size_of_what_is_encrypted(plain: int) -> None:
    """A chunk of 64 KiB grows by 16 bytes; nothing is one chunk too."""
    grown = age.size(216, plain) - plain
    assert grown == 200 + 16 * max(1, -(-plain // 65536))


@pytest.mark.parametrize("text", ["", "age1publickey", "-----BEGIN AGE ENCRYPTED FILE-----"])
def test_what_is_no_identity(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(Failure, match="not an age identity") as caught:
        age.read_identity(path)
    assert caught.value.exit_code is ExitCode.USAGE
    with pytest.raises(Failure, match="cannot be read"):
        age.read_identity(tmp_path / "absent")


def test_a_torn_document_does_not_hide_the_others() -> None:
    """An interrupted upload may leave half a manifest in front of whole ones."""
    whole = copies.to_bytes(COPY)
    for cut in range(0, len(whole) - 2, 7):
        found = [document.value for document in bound.documents(whole + whole[:cut] + whole)]
        assert found == [WHOLE, WHOLE], cut


@pytest.mark.parametrize("pending", [SET, ""])
def test_a_copy_stays_while_uploads_of_its_set_are_to_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pending: str
) -> None:
    """The set itself may be gone from this host: nothing else has its files then."""
    journal = Journal(tmp_path)
    if pending:
        entry = PendingUploads("t", pending, pending, "", {}, "", "", 5)
        journal.keep_uploads([entry])
    monkeypatch.setattr(sync, "Journal", lambda: journal)
    decided: list[Member] = []

    def decide(_: str, members: list[Member], *rest: object) -> PrunePlan:
        decided.extend(members)
        return PrunePlan([], [])

    monkeypatch.setattr(prune, "decide", decide)
    monkeypatch.setattr(prune, "settle", lambda *_: [])
    monkeypatch.setattr(ledger, "keep", lambda *_: None)
    notes = Notes("nas:a", {SET: CopyRecord("2026-11-22T00:00:00Z", 5, ("md5",), "")})
    remote, store = Remote("nas", "nas:a"), LocalStore(tmp_path / "sets")
    unused = cast(Any, None)  # no copy is begun
    sync._prune(remote, notes, settings.Rules(), store, sync.SyncResult(remote), unused)
    assert [member.kept.pinned for member in decided] == [bool(pending)]
