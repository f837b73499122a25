"""Who is told what; a service that misbehaves is not in the way, and no address is shown."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import cast

import pytest

from gitlab_mm_backup.config.notification_channels import CHANNELS, START, Channel, Message
from gitlab_mm_backup.config.settings import Notification
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.health import notify
from gitlab_mm_backup.health.notify import FinishedRun
from gitlab_mm_backup.result import CommandResult
from gitlab_mm_backup.system.redaction import Secret

WHEN = datetime(2026, 11, 25, 4, 17, tzinfo=timezone.utc)
HIDDEN = "glsec-0123456789"
WANTED = {  # policy -> exit codes of which it tells whatever was before
    "failure": {1, 2, 3, 5},
    "warning": {1, 2, 3, 4, 5},
    "always": {0, 1, 2, 3, 4, 5},
    "recovery": {1, 2, 3, 5},
}


@pytest.mark.parametrize(("when", "code"), list(itertools.product(WANTED, range(6))))
def test_policies(when: str, code: int) -> None:
    assert notify.wanted(when, code, None) is (code in WANTED[when])
    assert notify.wanted(when, code, True) is (code in WANTED[when])
    recovered = when == "recovery" and code in (0, 4)
    assert notify.wanted(when, code, False) is (code in WANTED[when] or recovered)


@pytest.mark.parametrize(
    "to",
    [
        f"http://127.0.0.1:1/hooks/{HIDDEN}",
        f"file:///etc/passwd?{HIDDEN}",
        f"not a url {HIDDEN}",
        f"http://[{HIDDEN}/",
    ],
)
@pytest.mark.parametrize("kind", ["mattermost", "ping"])
def test_what_cannot_be_sent_is_told_without_the_address(kind: str, to: str) -> None:
    problems = notify.send([Notification(kind, Secret(to))], Message("title", "text", "fail"))
    assert list(problems) == [f"1 ({kind})"]
    assert HIDDEN not in problems[f"1 ({kind})"]


def ended(
    code: ExitCode, *warnings: str, error: Failure | None = None, **fields: object
) -> FinishedRun:
    outcome = CommandResult({"set": "a", **fields}, ["Made a"], list(warnings), code)
    return FinishedRun("backup", WHEN, 61.0, outcome, error)


def test_what_a_failure_says() -> None:
    told = notify.message(
        ended(ExitCode.DONE, error=Failure("It broke", 'row "secret words" is bad', "Mend it"))
    )
    assert told.state == "fail"
    assert "gitlab-mm backup failed on" in told.title
    assert "It broke" in told.text and "Mend it" in told.text
    assert "secret words" not in told.text
    assert "GITLAB_MM_RUN=" in told.text


def test_what_a_good_end_says() -> None:
    assert "is done on" in notify.message(ended(ExitCode.DONE)).title
    told = notify.message(ended(ExitCode.DONE, "look here"), recovered=True)
    assert "has warnings again, after a failure" in told.title
    assert "look here" in told.text


def test_a_run_that_had_nothing_to_do_is_idle() -> None:
    assert ended(ExitCode.DONE, set=None).idle
    assert not ended(ExitCode.DONE, set=None, rehearsals=[{}]).idle
    assert not ended(ExitCode.DONE).idle
    assert not ended(ExitCode.DONE, set=None, error=Failure("x")).idle
    answer = CommandResult({"set": "a"}, [], answer=True)
    assert FinishedRun("restore", WHEN, 1.0, answer, None).idle


def test_only_a_channel_that_gets_every_run_gets_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    for name, every_run in (("each", True), ("ends", False)):
        channel = Channel("a list", lambda to, message: sent.append(to.reveal()), every_run)
        monkeypatch.setitem(cast(dict[str, Channel], CHANNELS), name, channel)
    both = [Notification(name, Secret(name)) for name in ("each", "ends")]
    assert notify.send(both, Message("title", "text", START)) == {}
    assert sent == ["each"]
    assert notify.send(both, Message("title", "text", "fail")) == {}
    assert sent == ["each", "each", "ends"]
