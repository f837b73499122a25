"""How long a rehearsal, its steps and its statements may take."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gitlab_mm_backup.rehearsal.limits import Deadlines, Limits, Missed, limits


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("configured", "size", "seconds"),
    [
        (None, 0, 3600),
        (None, 10 << 30, 7200),
        (None, 5 << 30, 5400),
        (None, 10 << 40, 20 * 3600),
        (timedelta(minutes=2), 10 << 40, 120),
        (timedelta(days=3), 0, 3 * 86400),
    ],
)
def test_the_whole_by_size_or_as_it_is_given(
    configured: timedelta | None, size: int, seconds: float
) -> None:
    given = limits(configured, size)
    assert given == Limits(seconds)
    assert (given.step, given.statement) == (seconds * 0.75, seconds * 0.5)


def test_a_step_that_takes_too_long_is_named() -> None:
    clock = Clock()
    deadlines = Deadlines(Limits(400), clock)
    with deadlines.step("Reading"):
        clock.now += 300
        deadlines.look()
        with deadlines.step("Loading"):
            clock.now += 1
            with pytest.raises(Missed) as caught:
                deadlines.look()
    assert caught.value.step == "Reading"
    assert str(caught.value) == (
        "Reading took too long and was ended, as each step may take 5 min: "
        "raise rehearse_timeout in /etc/gitlab-mm-backup/config.yml where this host is only slow"
    )


def test_the_whole_names_the_step_that_began_last() -> None:
    clock = Clock()
    deadlines = Deadlines(Limits(400), clock)
    with deadlines.step("Reading"):
        clock.now += 299
    with deadlines.step("Loading"):
        clock.now += 51
        with deadlines.step("Unpacking"):
            clock.now += 50
            deadlines.look()
            clock.now += 1
            with pytest.raises(Missed, match="a whole rehearsal may take 7 min") as caught:
                deadlines.look()
    assert caught.value.step == "Unpacking"
    with pytest.raises(Missed, match="Rehearsing took too long"):
        deadlines.look()
