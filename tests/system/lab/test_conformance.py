"""The stand-in of Mattermost, held against what the product relies on in real servers (tests/conformance)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.checks import CHECKS
from tests.conformance.subject import Subject
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab


@pytest.fixture(scope="module")
def gitlab(base: Path) -> Iterator[Omnibus]:
    """A GitLab whose own Mattermost is stopped."""
    with Lab(base=base) as lab:
        made = install(lab, Spec())
        made.gitlab_ctl("stop", "mattermost")
        yield made


@pytest.fixture(scope="module")
def subject(gitlab: Omnibus) -> Iterator[Subject]:
    made = Subject(gitlab, gitlab.spec.generation.mattermost)
    yield made
    made.close()


@pytest.mark.parametrize("name", CHECKS)
def test_the_stand_in_does_as_real_servers_do(name: str, subject: Subject) -> None:
    CHECKS[name](subject)
