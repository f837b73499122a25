"""The table of attacks: what somebody without root's rights tried, and whether it held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.system.rows import Rows

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
