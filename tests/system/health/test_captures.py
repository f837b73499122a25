"""The manual's pages about the terminal against new runs, on terminals of 80 and 120 columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.helpers import captures
from tests.system.helpers.captures import CAPTURES, PAGES, Host, examples, masked, rows, unfolded


@pytest.fixture(scope="module")
def host(base: Path, deb: Path) -> Iterator[Host]:
    with captures.host(base, deb) as host:
        yield host


@pytest.mark.parametrize("columns", PAGES)
def test_the_examples_fit(columns: int) -> None:
    for name, lines in examples(columns).items():
        assert max(map(len, lines)) <= columns, name


@pytest.mark.parametrize("columns", PAGES)
@pytest.mark.parametrize("name", [name for name in CAPTURES if name != "bars"])
def test_a_terminal_shows_what_the_manual_shows(name: str, columns: int, host: Host) -> None:
    """The pages were made from such runs; their lines are still what such a run gives."""
    told, fresh = examples(columns)[name], captures.capture(name, host, columns)
    assert masked(fresh) == masked(unfolded(told, columns))
    if name in ("list", "prompt"):  # where the lines are broken is what a table is
        assert len(captures.folded(fresh, columns)) == len(told)


@pytest.mark.parametrize("columns", PAGES)
def test_the_bars_of_a_restore(columns: int, host: Host) -> None:
    told = examples(columns)["bars"]
    frames: list[list[str]] = []
    for _ in range(3):  # it is short: the indexes may be built between two pictures
        frames += captures.frames(host.on_a_terminal(columns, "gitlab-mm", "restore", "--yes"))
        if any(captures.built(frame) for frame in frames):
            break
    assert max(len(line) for frame in frames for line in frame) <= columns
    assert any(captures.built(frame) for frame in frames), frames
    seen = {(name, amount) for frame in frames for name, amount in rows(frame).items()}
    assert "indexes" in rows(told) and set(rows(told).items()) <= seen
