"""The types of options in config.yml: how a value is checked, converted and shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..system.disk_space import Size
from ..system.redaction import Secret
from . import schedule

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_POWERS = {"M": 20, "G": 30}  # of two
_MOST_PERCENT = 90
_FOREVER = 10**11  # seconds, some 3000 years: more is a typing error
HIDDEN = "(hidden)"


@dataclass(frozen=True)
class Kind:
    """The type of an option.

    ``read`` converts a value from YAML, or raises ValueError with a text that does not contain the
    value.  ``show`` converts it back for display, hiding secrets.  ``schema`` is the JSON Schema of
    the values that ``read`` accepts.
    """

    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    show: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Option:
    """An option: a value of a ``kind``, or a section with ``options``.

    A section with ``several`` is a list of mappings; a ``required`` option of it has no default.
    """

    name: str
    text: str  # for the administrator, with full stops
    kind: Kind | None = None
    default: Any = None  # as written in YAML
    options: tuple[Option, ...] = ()
    several: bool = False
    required: bool = False
    gitlab: str = ""  # its key in the backup: section of gitlab.yml, which precedes the default
    example: str = ""  # the value as lines of YAML
    old_name: str = ""  # still read, with a warning
    old_outer: str = ""  # its old name where it was outside of its section; read likewise

    @property
    def description(self) -> str:
        """The text for an administrator, with the old name where there is one."""
        old = f" The old name {self.old_name} is still read." if self.old_name else ""
        outer = f" {self.old_outer} outside of the section is still read." if self.old_outer else ""
        return self.text + old + outer

    @property
    def old_names(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.old_name, self.old_outer)))


def flag() -> Kind:
    """Return the kind of true or false."""

    def read(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError("must be true or false")

    return Kind(read, {"type": "boolean"})


def number(lowest: int, highest: int) -> Kind:
    """Return the kind of a whole number in a range."""

    def read(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        raise ValueError(f"must be a whole number between {lowest} and {highest}")

    return Kind(read, {"type": "integer", "minimum": lowest, "maximum": highest})


def choice(*words: str) -> Kind:
    """Return the kind of one of ``words``."""

    def read(value: Any) -> str:
        # YAML 1.1 reads an unquoted off as false.
        word = "off" if value is False and "off" in words else value
        if isinstance(word, str) and word in words:
            return word
        raise ValueError(f"must be one of {', '.join(words)}")

    return Kind(read, {"enum": [*words, *([False] if "off" in words else [])]})


def words(pattern: str = r"[^\0\n]+", told: str = "a line of text") -> Kind:
    """Return the kind of a text that matches ``pattern``; ``told`` describes it in messages."""

    def read(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise ValueError(f"must be {told}")

    return Kind(read, {"type": "string", "pattern": f"^(?:{pattern})$"})


def secret() -> Kind:
    """Return the kind of a value that is never shown."""

    def read(value: Any) -> Secret:
        if isinstance(value, str) and value and "\0" not in value:
            return Secret(value)
        raise ValueError("must be text; put it in quotation marks")

    return Kind(read, {"type": "string", "minLength": 1}, lambda value: value and HIDDEN)


def path() -> Kind:
    """Return the kind of an absolute path."""

    def read(value: Any) -> Path:
        if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
            raise ValueError("must be an absolute path")
        return Path(value)

    return Kind(read, {"type": "string", "pattern": "^/"}, str)


def duration() -> Kind:
    """Return the kind of a duration: a timedelta; None for 0, which means for ever."""
    forms = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+[smhdw]$"}]
    return Kind(_duration, {"anyOf": forms}, _show_duration)


def _duration(value: Any) -> timedelta | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        value = f"{min(value, _FOREVER)}s"
    match = re.fullmatch(r"([0-9]{1,12})([smhdw])", value) if isinstance(value, str) else None
    try:
        if match is not None and int(match[1]) < _FOREVER:
            return timedelta(**{_UNITS[match[2]]: int(match[1])}) or None
    except OverflowError:
        pass
    raise ValueError("must be seconds, or a number with a unit such as 12h, 7d or 4w; 0: for ever")


def _show_duration(value: timedelta | None) -> Any:
    for unit, name in _UNITS.items() if value else ():
        if value is not None and not value % timedelta(**{name: 1}):
            return f"{value // timedelta(**{name: 1})}{unit}"
    return 0


def times() -> Kind:
    """Return the kind of a schedule: a Schedule."""
    return Kind(schedule.read, schedule.schema(), schedule.show)


def rate() -> Kind:
    """Return the kind of a rate in bytes per second: an int; None for 0, which means no limit."""

    def read(value: Any) -> int | None:
        match = re.fullmatch(r"([0-9]{1,6})([MG])", value) if isinstance(value, str) else None
        if match is not None and int(match[1]):
            return int(match[1]) << _POWERS[match[2]]
        if value == 0 and isinstance(value, int) and not isinstance(value, bool):
            return None
        raise ValueError("must be a number with a unit, such as 20M or 1G a second; 0: no limit")

    schema = {"anyOf": [{"const": 0}, {"type": "string", "pattern": "^0*[1-9][0-9]*[MG]$"}]}
    return Kind(read, schema, _show_rate)


def _show_rate(value: int | None) -> Any:
    if value is None:
        return 0
    unit = "M" if value % (1 << _POWERS["G"]) else "G"
    return f"{value >> _POWERS[unit]}{unit}"


def size() -> Kind:
    """Return the kind of disk space: a Size, in percent or bytes; an empty Size for 0."""

    def read(value: Any) -> Size:
        match = re.fullmatch(r"([0-9]{1,6})([%MG])", value) if isinstance(value, str) else None
        if match is not None and match[2] != "%":
            return Size(bytes=int(match[1]) << _POWERS[match[2]])
        if match is not None and int(match[1]) <= _MOST_PERCENT:
            return Size(percent=int(match[1]))
        if value == 0 and isinstance(value, int) and not isinstance(value, bool):
            return Size()
        raise ValueError(
            f"must be a share of the disk up to {_MOST_PERCENT}%, or a number with a unit, such as "
            "500M or 2G; 0: none"
        )

    share = "^0*([0-9]|[1-8][0-9]|90)%$"
    forms = [
        {"const": 0},
        *({"type": "string", "pattern": pattern} for pattern in (share, "^[0-9]+[MG]$")),
    ]
    return Kind(read, {"anyOf": forms}, _show_size)


def _show_size(value: Size | None) -> Any:
    if value is None or value == Size():
        return value and 0
    return f"{value.percent}%" if value.percent else _show_rate(value.bytes)


def list_of(kind: Kind) -> Kind:
    """Return the kind of a list of values: a tuple."""

    def read(value: Any) -> tuple[Any, ...]:
        if isinstance(value, list):
            return tuple(map(kind.read, value))
        raise ValueError("must be a list: [one, another]")

    schema = {"type": "array", "items": dict(kind.schema)}
    return Kind(read, schema, lambda value: [kind.show(item) for item in value])


def leaves(options: Sequence[Option], above: str = "") -> Iterator[tuple[str, Option]]:
    """Yield (full name, option) for each option with a value; a list of mappings is one value."""
    for option in options:
        name = f"{above}.{option.name}" if above else option.name
        if option.options and not option.several:
            yield from leaves(option.options, name)
        else:
            yield name, option


def by_key(options: Sequence[Option]) -> dict[str, tuple[str, Option]]:
    """Return each option of a mapping by every key that means it, with its name from there.

    An old key may mean an option of a section.
    """
    found = {option.name: (option.name, option) for option in options}
    found.update({option.old_name: (option.name, option) for option in options if option.old_name})
    for option in options:
        for inner in () if option.several else option.options:
            if inner.old_outer:
                found[inner.old_outer] = (f"{option.name}.{inner.name}", inner)
    return found


def shown(option: Option, value: Any) -> Any:
    """Return the ``value`` of an option for JSON, without secrets."""
    if value is None:
        return None
    if option.kind is not None:
        return option.kind.show(value)
    kinds = {inner.name: inner for inner in option.options}
    return [{name: shown(kinds[name], inner) for name, inner in item.items()} for item in value]
