"""A real Mattermost does what the product relies on, check by check (tests/conformance)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.checks import CHECKS
from tests.conformance.subject import Subject
from tests.lab.real_mattermost import RealMattermost
from tests.lab.sandbox import Lab


@pytest.fixture(scope="module")
def subject(base: Path, real: RealMattermost) -> Iterator[Subject]:
    """This server beside a GitLab whose own Mattermost is stopped."""
    with Lab(base=base) as lab:
        gitlab = real.installed(lab)
        lab.run("sv", "-w", "60", "stop", "/opt/gitlab/service/mattermost")
        made = Subject(gitlab, real.version)
        yield made
        made.close()


@pytest.mark.parametrize("name", CHECKS)
def test_it_does_what_the_product_relies_on(name: str, subject: Subject) -> None:
    CHECKS[name](subject)
