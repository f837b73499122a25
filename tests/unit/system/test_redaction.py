"""A Secret shows its value to reveal() alone."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.system.redaction import Secret

VALUE = "glsec-0123456789abcdef"
SECRET = Secret(VALUE)


@dataclass(frozen=True)
class Holder:
    """As the program's own values hold secrets."""

    secret: Secret
    name: str = "holder"


@pytest.mark.parametrize(
    "format_it",
    [
        lambda: str(SECRET),
        lambda: f"{SECRET}",
        lambda: f"{SECRET!s}",
        lambda: f"{SECRET:>40}",
        lambda: "{}".format(SECRET),  # noqa: UP032
        lambda: "%s" % SECRET,  # noqa: UP031
        lambda: "%s" % (SECRET,),  # noqa: UP031
        lambda: format(SECRET),
        lambda: json.dumps({"secret": SECRET}),
        lambda: json.dumps(SECRET),
        lambda: "".join([SECRET]),  # type: ignore[list-item]
        lambda: "x" + SECRET,  # type: ignore[operator]
        lambda: bytes(SECRET),  # type: ignore[call-overload]
        lambda: list(SECRET),  # type: ignore[call-overload]
        lambda: print(SECRET),
    ],
)
def test_no_way_of_formatting_accepts_a_secret(format_it: Callable[[], object]) -> None:
    with pytest.raises(TypeError) as caught:
        format_it()
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        f"{SECRET!r}",
        f"{SECRET!a}",
        repr(Holder(SECRET)),
        str(Holder(SECRET)),
        repr([SECRET, {SECRET: SECRET}]),
        repr(Exception(SECRET)),
    ],
)
def test_what_can_be_shown_does_not_hold_the_value(shown: str) -> None:
    assert "Secret(" in shown
    assert VALUE not in shown and VALUE[:4] not in shown


def test_a_traceback_with_its_variables_does_not_hold_the_value() -> None:
    def fail(holder: Holder) -> None:
        raise RuntimeError("broken", holder)

    try:
        fail(Holder(SECRET))
    except RuntimeError as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(told.format())
    assert "Secret(" in text
    assert VALUE not in text


def test_a_log_line_does_not_hold_the_value(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler())
    logger.warning("the secret is %s", SECRET)
    assert VALUE not in "".join(capsys.readouterr())


def test_it_reveals_its_value_when_asked() -> None:
    assert SECRET.reveal() == VALUE


def test_it_has_no_place_for_other_attributes() -> None:
    assert not hasattr(SECRET, "__dict__")


@given(st.text(), st.text())
def test_equal_are_those_with_the_same_value(one: str, other: str) -> None:
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))
    assert (Secret(one) == Secret(other)) is (one == other)
    assert (Secret(one) != Secret(other)) is (one != other)
    assert bool(Secret(one)) is bool(one)


# An environment file may hold any bytes, and JSON may spell half a surrogate pair.
@pytest.mark.parametrize("value", ["caf\udce9-secret-of-latin1", "\ud800"])
def test_values_that_are_no_unicode_can_be_compared(value: str) -> None:
    assert Secret(value) == Secret(value)
    assert Secret(value) != Secret("another")


def test_a_secret_equals_nothing_but_a_secret() -> None:
    assert SECRET != VALUE
    assert VALUE != SECRET


@given(st.text())
def test_the_hint_shows_four_characters_of_a_long_value_and_none_of_a_short_one(value: str) -> None:
    assert Secret(value).hint() == (f"{value[:4]}…" if len(value) >= 16 else "…")
