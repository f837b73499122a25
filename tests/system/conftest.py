"""What lab tests start from: the base layer, our package, and plain labs."""

from __future__ import annotations

import compileall
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.lab.base import BUILD, build_base, build_deb, locked
from tests.lab.disks import CHECKOUT
from tests.lab.sandbox import Lab
from tests.system.helpers.faults import Server
from tests.system.helpers.faults_rows import Table
from tests.system.helpers.faults_server import server as boot

MakeLab = Callable[..., Lab]


@pytest.fixture(scope="session")
def base() -> Path:
    """The base layer, as an archive for Lab(base=...).

    Labs see the checkout read-only: without its bytecode each call of a stand-in would compile that anew.
    """
    with locked(BUILD / "lab/lock-bytecode"):
        compileall.compile_dir(str(CHECKOUT / "tests"), quiet=2)
    return build_base()


@pytest.fixture(scope="session")
def deb() -> Path:
    """The package, built from the checkout."""
    return build_deb()


@pytest.fixture
def make_lab(base: Path) -> Iterator[MakeLab]:
    """Boot a lab with the options of Lab; all of them are thrown away when the test ends."""
    with contextlib.ExitStack() as labs:

        def boot(**options: Any) -> Lab:
            return labs.enter_context(Lab(**{"base": base, **options}))

        yield boot


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    """The server of tests that break something; files that need another one have their own."""
    with boot(base, deb) as made:
        yield made


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Table:
    """The rows of a file's cases, written under its name."""
    return Table(request.path.stem)
