"""The stand-in of Mattermost, held against what the product relies on in real servers (tests/conformance)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.checks import CHECKS
from tests.conformance.mutations import variant
from tests.conformance.subject import Subject
from tests.lab.fakes.generation import BUNDLED_MATTERMOST
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

# The first and the last that GitLab bundled in their forms, and the one that people move to.
VERSIONS = (
    "5.37.0",
    list(BUNDLED_MATTERMOST.values())[-1],
    pytest.param("11.1.0", marks=pytest.mark.long),
)


@pytest.fixture(scope="module")
def gitlab(base: Path) -> Iterator[Omnibus]:
    """A GitLab whose own Mattermost is stopped."""
    with Lab(base=base) as lab:
        made = install(lab, Spec())
        made.gitlab_ctl("stop", "mattermost")
        yield made


@pytest.fixture(scope="module", params=VERSIONS)
def subject(gitlab: Omnibus, request: pytest.FixtureRequest) -> Iterator[Subject]:
    program = variant(gitlab, request.param, request.param)
    made = Subject(gitlab, request.param, program)
    yield made
    made.close()


@pytest.mark.parametrize("name", CHECKS)
def test_the_stand_in_does_as_real_servers_do(name: str, subject: Subject) -> None:
    CHECKS[name](subject)
