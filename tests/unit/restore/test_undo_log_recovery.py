"""The undo file of a recovery: what was written is read again, and nothing else is taken for one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
from pathlib import Path

import pytest

from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.postgresql.contents import Change
from gitlab_mm_backup.restore import undo_log
from gitlab_mm_backup.restore.undo_log import (
    RecoveryLog,
    RecoveryRecord,
    interrupted,
    log_path,
    note_state,
    read_recovery,
)

ABOUT = {"set": "a", "kind": "channel", "id": "c", "name": "t/c", "installation": "i"}


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    rows = [(f"{number}", "ü\n") for number in range(2001)]
    changes = [Change("posts", ("p",), {"deleteat": ("5", "0"), "props": (None, "{}")})]
    with RecoveryLog(tmp_path / "a/state/undo.jsonl", ABOUT) as log:
        assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700
        log.note({"directory": "2026"}, {"file": "2026/a"}, {"file": "2026/b"})
        log.note({"file": "2026/a", "sha256": "0f"})
        assert read_recovery(log.path).files == {"2026/a": "0f", "2026/b": ""}, "before a crash"
        log.settle({"posts": rows, "teams": [("t",)]}, {"posts": [("p", "md5")]}, changes, "7")
    assert len(log.path.read_text().splitlines()) == 1 + 4 + 3 + 1 + 1 + 1 + 1
    assert log.path.read_bytes().isascii()
    found = read_recovery(log.path)
    assert found.about == ABOUT
    assert [name for name, _ in found.inserted] == ["posts", "posts", "posts", "teams"]
    assert [row for name, keys in found.inserted if name == "posts" for row in keys] == rows
    assert found.digests == {"posts": [("p", "md5")]}
    assert found.changes == changes
    assert found.directories == ["2026"]
    assert (found.transaction, found.finished) == ("7", False)
    log.remove()
    log.remove()
    assert not log.path.exists()


def test_an_undo_file_is_never_overwritten_and_names_what_fails(tmp_path: Path) -> None:
    with RecoveryLog(tmp_path / "undo", ABOUT):
        pass
    (tmp_path / "file").write_text("")
    for path in ("undo", "file/undo"):
        with pytest.raises(Failure, match="cannot be written") as refused:
            RecoveryLog(tmp_path / path, ABOUT)
        assert "Errno" not in refused.value.detail
    assert log_path("x").name == "recovery-x.jsonl"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["hello"],
        [{"format": 3}],
        [{"set": "a"}],
        [[]],
        [{"format": 1}, {"inserted": "pg_authid", "rows": [["1"]]}],
        [{"format": 1}, {"digests": "nothing", "rows": [["1"]]}],
        [{"format": 1}, {"changed": "users; DROP", "key": ["1"], "columns": {}}],
        [{"format": 1}, {"changed": "users", "columns": {}}],
        [{"format": 1}, {"changed": "users", "key": ["1"], "columns": {"name": ["only one"]}}],
        [{"format": 1}, {"inserted": "users", "rows": 5}],
    ],
)
def test_another_file_is_refused(tmp_path: Path, lines: list[object]) -> None:
    path = tmp_path / "undo"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(Failure, match="cannot be read") as refused:
        read_recovery(path)
    assert refused.value.exit_code is ExitCode.USAGE
    assert "Errno" not in refused.value.detail


def test_a_link_is_refused(tmp_path: Path) -> None:
    with RecoveryLog(tmp_path / "undo", ABOUT) as log:
        (tmp_path / "link").symlink_to(log.path)
    with pytest.raises(Failure):
        read_recovery(tmp_path / "link")


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_part_of_a_line_was_not_begun_and_a_state_follows_it(tmp_path: Path, cut: int) -> None:
    with RecoveryLog(tmp_path / "undo", ABOUT) as log:
        log.note({"file": "a", "sha256": "0f"}, {"file": "b"})
    os.truncate(log.path, log.path.stat().st_size - min(cut, 14))
    assert read_recovery(log.path).files == {"a": "0f"}
    for state, undoing, finished in (
        ("undoing", True, False),
        ("finished", False, True),
        ("undoing", True, True),
    ):
        note_state(log.path, state)
        found = read_recovery(log.path)
        assert (found.files, found.undoing, found.finished) == ({"a": "0f"}, undoing, finished)


def test_a_file_that_mattermost_wrote_meanwhile_is_not_taken_back(tmp_path: Path) -> None:
    with RecoveryLog(tmp_path / "undo", ABOUT) as log:
        log.note({"file": "a", "sha256": "0f"}, {"stays": "a"})
    assert read_recovery(log.path).files == {}


def test_a_file_of_an_earlier_version_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "undo"
    path.write_text('{"format": 1}\n{"file": "a", "sha256": "0f"}\n')
    assert read_recovery(path).finished


def test_an_undo_file_that_cannot_be_begun_is_not_left(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(Failure, match="cannot be written") as refused:
            RecoveryLog(tmp_path / "undo", ABOUT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "Free some disk space" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_first_line_is_needed_and_a_part_of_the_second_is_not(tmp_path: Path) -> None:
    path = tmp_path / "undo"
    path.write_text('{"format": 2')
    with pytest.raises(Failure, match="cannot be read"):
        read_recovery(path)
    path.write_text('{"format": 2, "set": "a"}')
    assert read_recovery(path).about == {"set": "a"}
    path.write_text('{"format": 2, "set": "a"}\n{"file": ')
    assert (read_recovery(path).about, read_recovery(path).files) == ({"set": "a"}, {})
    assert RecoveryRecord() == RecoveryRecord(finished=False, undoing=False)


def test_rows_are_not_written_where_the_undo_file_is_not_on_disk(tmp_path: Path) -> None:
    with RecoveryLog(tmp_path / "state/undo", ABOUT) as log:
        shutil.rmtree(log.path.parent)
        with pytest.raises(Failure, match="cannot be written"):
            log.settle({}, {}, [], "7")


def test_recoveries_that_did_not_end_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo_log, "STATE", tmp_path)
    for name in ("2", "1", "3", "4"):
        with RecoveryLog(log_path(name), ABOUT):
            pass
    note_state(log_path("3"), "finished")
    note_state(log_path("4"), "finished")
    note_state(log_path("4"), "undoing")
    log_path("5").write_text('{"format": 1}\n')
    (tmp_path / "recovery-0.jsonl").write_text("odd")
    (tmp_path / "other.jsonl").write_text('{"format": 2}\n')
    with RecoveryLog(log_path("6"), {**ABOUT, "installation": "another"}):
        pass
    found = [path for path, _ in interrupted("i")]
    assert found == [log_path("1"), log_path("2")], "and not that of another Mattermost"
    assert [path for path, _ in interrupted("")] == [*found, log_path("6")], "it is not known"
    note_state(tmp_path / "not there", "finished")
