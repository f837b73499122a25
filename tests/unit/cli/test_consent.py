"""What is changed before the last answer of a restore's questions: nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from gitlab_mm_backup.backup.live import Live
from gitlab_mm_backup.cli import hosts, terminal
from gitlab_mm_backup.config import keys
from gitlab_mm_backup.config.origin import Kind, Origin
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost.site import Site
from gitlab_mm_backup.restore import preview, replacing
from gitlab_mm_backup.restore.plan import RestoreOptions
from gitlab_mm_backup.restore.replacing import Loss
from gitlab_mm_backup.restore.source import RestoreSource
from gitlab_mm_backup.store import inventory

KEY = "3d41-09f2-77ab-c5e0-1b2f-9e64-8a03-d7c1"
SITE = cast(Site, SimpleNamespace(version="10.11.20"))
ELSEWHERE = cast(
    RestoreSource,
    SimpleNamespace(
        set=SimpleNamespace(name="1", said=object(), documents=SimpleNamespace(manifest=b""))
    ),
)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are trusted; the set is signed with an unknown one, and would lose data."""
    found: list[str] = []
    unknown = Origin(Kind.UNKNOWN, KEY)
    monkeypatch.setattr(keys, "trust", found.append)
    monkeypatch.setattr(inventory, "origin_of", lambda set_: unknown)
    monkeypatch.setattr(preview, "question", lambda *given: ([], [], "Continue?"))
    loss = Loss("files", "all")
    monkeypatch.setattr(replacing, "unagreed", lambda *given: [loss])
    monkeypatch.setattr(terminal, "interactive", lambda: True)
    return found


def answer(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> list[str]:
    """Give these answers; returns the questions."""
    asked, left = list[str](), list(answers)

    def agreed(question: str) -> bool:
        asked.append(question)
        return left.pop(0)

    monkeypatch.setattr(terminal, "_agreed", agreed)
    return asked


@pytest.mark.parametrize("answers", [(False,), (True, False), (True, True, False)])
def test_no_to_any_question_changes_nothing(
    answers: tuple[bool, ...], trusted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, *answers)
    with pytest.raises(Failure, match="Cancelled; nothing changed"):
        hosts.agreed(ELSEWHERE, SITE, RestoreOptions(), Live(), yes=False, trusted="")
    assert (len(asked), trusted) == (len(answers), [])


def test_the_key_is_trusted_after_the_last_answer(
    trusted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, True, True, True)
    plan = hosts.agreed(ELSEWHERE, SITE, RestoreOptions(), Live(), yes=False, trusted="")
    assert (trusted, plan.replace_with_empty) == ([KEY], True)


def test_nobody_who_can_be_asked(trusted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "interactive", lambda: False)
    with pytest.raises(Failure, match="Nothing proves who made 1"):
        hosts.agreed(ELSEWHERE, SITE, RestoreOptions(), Live(), yes=False, trusted="")
    assert trusted == []
