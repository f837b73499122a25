"""The table of attacks: what somebody without root's rights tried, and whether it held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers.rows import Rows

KIND = "attacks"
HEAD = f"{'attack':96} | result"


class Attacks:
    """The attacks of one test file."""

    def __init__(self, name: str) -> None:
        self._rows = Rows(KIND, HEAD, name)

    @contextlib.contextmanager
    def row(self, attack: str) -> Iterator[None]:
        """Note an attack that is held when the block passes."""
        try:
            yield
        except BaseException:
            self._rows.add(f"{attack:96} | NOT HELD")
            raise
        self._rows.add(f"{attack:96} | held")


@contextlib.contextmanager
def target(base: Path, deb: Path) -> Iterator[tuple[Lab, Omnibus, Product]]:
    """A server with our package, and people, messages and uploads in its Mattermost."""
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        yield lab, gitlab, product
