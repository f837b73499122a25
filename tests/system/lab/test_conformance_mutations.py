"""Each check of the conformance test notices a stand-in whose edge is broken (tests/conformance/mutations.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.checks import CHECKS
from tests.conformance.mutations import MUTATIONS, Mutation, variant
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


def test_each_check_has_a_mutation() -> None:
    assert {mutation.check for mutation in MUTATIONS} == set(CHECKS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_broken_edge_fails_its_check(mutation: Mutation, gitlab: Omnibus) -> None:
    version = gitlab.spec.generation.mattermost
    mutant = Subject(gitlab, version, variant(gitlab, mutation.check, version, mutation))
    try:
        with pytest.raises(AssertionError):
            CHECKS[mutation.check](mutant)
    finally:
        mutant.close()
