"""The log of an unexpected error: where it was raised, never its text."""

from __future__ import annotations

import errno

import pytest

from gitlab_mm_backup.errors import ExitCode, Failure, Interrupted
from gitlab_mm_backup.system import log

SECRET = "correct horse"


def broken() -> None:
    names: dict[str, str] = {}
    try:
        names.pop(SECRET)
    except KeyError:
        raise ValueError(SECRET)  # noqa: B904 - the chain is what is tested


def caught() -> ValueError:
    with pytest.raises(ValueError) as info:
        broken()
    return info.value


def test_a_failure_names_the_place_and_the_log() -> None:
    failure = log.bug_failure(caught())
    assert failure.exit_code is ExitCode.FAILED
    assert failure.detail.startswith("ValueError at ") and "test_log_bug.py line " in failure.detail
    assert "journalctl -t gitlab-mm GITLAB_MM_RUN=" in failure.hint
    assert "--rollback" not in failure.hint
    assert SECRET not in f"{failure} {failure.hint}"


def test_a_restore_that_is_not_undone_is_told_first() -> None:
    failure = log.bug_failure(caught(), ExitCode.ATTENTION)
    assert failure.exit_code is ExitCode.ATTENTION
    assert failure.hint.startswith("A restore is unfinished. Run gitlab-mm restore --rollback")


def test_the_traceback_has_all_causes_and_no_text_of_theirs() -> None:
    lines = log.bug_trace(caught())
    assert [line for line in lines if line in ("KeyError", "ValueError")] == [
        "KeyError",
        "ValueError",
    ]
    assert SECRET not in "\n".join(lines).replace('SECRET = "correct horse"', "")


def test_what_the_kernel_refuses_is_told_in_its_own_words_alone() -> None:
    failure = log.failure_of_system(OSError(errno.EACCES, "Permission denied", "/srv/x"))
    assert str(failure).endswith(": /srv/x: Permission denied")
    moved = log.failure_of_system(
        OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b")
    )
    assert moved.detail == "/a -> /b: Invalid cross-device link"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_a_lack_of_memory_is_no_bug(error: Exception) -> None:
    failure = log.bug_failure(error, ExitCode.ATTENTION)
    assert failure.message.startswith("There is not enough memory")
    assert "--rollback" in failure.hint and "ulimit" in failure.hint


def test_an_error_as_a_part_of_a_longer_text() -> None:
    assert log.bug_words(Failure("in use", "by pid 7")) == "in use: by pid 7"
    assert log.bug_words(Interrupted("SIGTERM")) == "SIGTERM"
    assert log.bug_words(OSError(errno.EPERM, "Operation not permitted", "a")) == (
        "a: Operation not permitted"
    )
    assert log.bug_words(caught()).startswith("ValueError at ") and SECRET not in log.bug_words(
        caught()
    )
