"""The real servers of a run, each in labs of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fakes.generation import version_tuple
from tests.lab.real_mattermost import RealMattermost
from tests.lab.sandbox import Lab
from tests.real.house import House, furnish
from tests.system.conftest import base, deb  # noqa: F401  # the fixtures of all labs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each scenario with each server in MATTERMOST, directories with blanks between them.

    ``real`` is the house's, ``other`` each of them for what one does with another's data.
    """
    servers = [RealMattermost(Path(name)) for name in os.environ["MATTERMOST"].split()]
    if "real" in metafunc.fixturenames:
        metafunc.parametrize("real", servers, ids=lambda server: server.version, scope="module")
    if "other" in metafunc.fixturenames:
        metafunc.parametrize("other", servers, ids=lambda server: f"onto {server.version}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the pairs of servers that a test is not about (its mark ``pairs``)."""
    fitting = [item for item in items if _fits(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in fitting])
    items[:] = fitting


def _fits(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("pairs")
    if mark is None:
        return True
    servers = item.callspec.params  # type: ignore[attr-defined]
    return bool(
        mark.kwargs["of"](*(version_tuple(servers[name].version) for name in ("real", "other")))
    )


@pytest.fixture(scope="module")
def house(base: Path, deb: Path, real: RealMattermost) -> Iterator[House]:  # noqa: F811
    """A GitLab with this server, filled through its API, and our package."""
    with Lab(base=base) as lab:
        yield furnish(lab, real, deb)
