"""The commands for restic and the reading of its output. restic itself runs in labs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.config.settings import Restic
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.store import restic
from gitlab_mm_backup.store.restic import Repository, RepositoryLocked, SnapshotSummary
from gitlab_mm_backup.system.private_files import InMemory
from gitlab_mm_backup.system.redaction import Secret


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_variables_are_read_as_systemd_does(tmp_path: Path) -> None:
    text = "# keys\n\nAWS_ACCESS_KEY_ID=AK=1\nQUOTED='a b'\nOTHER=\"it's\"\n EMPTY=\n"
    assert restic._variables(private(tmp_path / "x", text)) == {
        "AWS_ACCESS_KEY_ID": Secret("AK=1"),
        "QUOTED": Secret("a b"),
        "OTHER": Secret("it's"),
        "EMPTY": Secret(""),
    }


@pytest.mark.parametrize("line", ["export A=1", "secret-word", "9=1", "A B=1"])
def test_what_is_no_variable_is_refused_without_quoting_it(line: str, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        restic._variables(private(tmp_path / "x", f"A=1\n{line}\n"))
    assert caught.value.exit_code is ExitCode.USAGE
    assert "line 2" in caught.value.detail and line not in caught.value.detail


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    path = private(tmp_path / "x", "word", mode)
    with pytest.raises(Failure, match="cannot be used") as caught:
        restic._private(path)
    assert "chmod 0600" in caught.value.detail
    assert stat.S_IMODE(path.stat().st_mode) == mode


def go_matches(pattern: str, name: str) -> bool:
    """Whether Go's filepath.Match would take the whole name, for patterns without live wildcards."""
    plain, escaped = [], False
    for letter in pattern:
        if not escaped and letter == "\\":
            escaped = True
            continue
        assert escaped or letter not in "*?[", "a wildcard is alive"
        plain.append(letter)
        escaped = False
    return not escaped and "".join(plain) == name


@given(st.text(alphabet="ab*?[]\\^-/ $é", max_size=12))
def test_a_path_to_leave_out_matches_itself_alone(path: str) -> None:
    assert go_matches(restic._literally(path), path)


def test_the_summary_is_the_last_line() -> None:
    told = {
        "message_type": "summary",
        "total_files_processed": 3,
        "total_bytes_processed": 99,
        "snapshot_id": "0a1b2c3d",
    }
    said = '{"message_type":"status"}\n' + json.dumps(told) + "\n"
    assert restic._taken(said) == SnapshotSummary("0a1b2c3d", 3, 99)
    wrong = ({"total_files_processed": -1}, {"snapshot_id": "0a1b2c3"}, {"snapshot_id": "--help12"})
    for text in ("", "no json", "{}", *(json.dumps({**told, **change}) for change in wrong)):
        with pytest.raises(Failure, match="summary"):
            restic._taken(text)


def test_files_that_vanished_are_no_failure_and_others_are(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    gone = json.dumps({"message_type": "error", "item": str(tmp_path / "gone")})
    restic._refuse_unread(f"{gone}\nWarning: at least one source file could not be read")
    with pytest.raises(Failure) as caught:
        restic._refuse_unread(f"{gone}\n{json.dumps({'item': str(there)})}")
    assert caught.value.detail == repr(str(there))


def test_too_much_trouble_to_read_it_all_is_a_failure() -> None:
    with pytest.raises(Failure):
        restic._refuse_unread("x" * (1 << 20))


@pytest.mark.parametrize(
    "content", [b"one\ntwo\n", b" pw with blanks \r\n", b"\xef\xbb\xbfpw\n", b"caf\xe9\n", b"pw"]
)
@pytest.mark.parametrize("by", ["file", "command"])
def test_restic_gets_a_password_as_it_would_take_it_itself(
    content: bytes, by: str, tmp_path: Path
) -> None:
    """restic takes off the blanks and the mark of the encoding, and leaves lines in between."""
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    access = Restic("r", path) if by == "file" else Restic("r", password_command=("cat", str(path)))
    (given,) = Repository(access)._password.items()
    assert given == (
        "RESTIC_PASSWORD_FILE",
        InMemory(Secret(content.decode(errors="surrogateescape"))),
    )


def test_an_empty_password_is_none(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b" \r\n")
    path.chmod(0o600)
    with pytest.raises(Failure) as caught:
        _ = Repository(Restic("r", path))._password
    assert caught.value.detail == "the password is empty"


def test_a_repository_file_of_the_caller_s_counts_where_no_repository_is_named() -> None:
    given = {"RESTIC_REPOSITORY_FILE": Secret("/root/repo")}
    assert Repository(Restic(), given)._environment == given
    named = Repository(Restic("/srv/restic"), given)._environment
    assert named == {"RESTIC_REPOSITORY": "/srv/restic"}


def test_uploads_have_the_limit_of_the_settings() -> None:
    """In KiB a second, of which restic wants one at least."""
    limits = {20 << 20: ["--limit-upload=20480"], 1: ["--limit-upload=1"], None: []}
    for bandwidth, options in limits.items():
        keep = Repository(Restic("r", bandwidth=bandwidth))._keep
        assert [option for option in keep if option.startswith("--limit")] == options


@pytest.mark.parametrize(
    ("detail", "hint"),
    [
        ("Fatal: x509: unknown authority\nIs there a repository at ...?", "certificate"),
        ("Fatal: ...\nIs there a repository at the following location?", "restic init"),
        ("Fatal: wrong password or no key found", "password_file"),
        ("Remove(<snapshot/1>) returned error: 403", "object lock"),
    ],
)
def test_what_is_known_comes_with_a_hint(detail: str, hint: str) -> None:
    assert hint in restic._explained(Failure("restic failed", detail)).hint


def test_what_is_not_known_stays_what_it_is() -> None:
    class Special(Failure):
        """As when the dump gives way."""

    failure = Special("x", "y")
    assert restic._explained(failure) is failure
    busy = restic._explained(Failure("x", "repository is already locked by PID 7"))
    assert isinstance(busy, RepositoryLocked)
