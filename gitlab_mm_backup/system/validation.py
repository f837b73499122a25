"""Validation of documents from elsewhere: JSON and YAML with limits, checks of values.

All raise ValueError with a short, printable detail.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .. import clock

if TYPE_CHECKING:
    import yaml

_SHA256 = re.compile(r"[0-9a-f]{64}")

Check = Callable[[Any], Any]
LARGEST_DOCUMENT = 32 << 20  # bytes or characters; a manifest with all tables has some 10 kB
DEEPEST = 100  # levels: Mattermost's own settings have five
_LONGEST = 100  # digits of a number
_LARGEST_YAML = 4 << 20  # characters: its parser takes a second for 100 kB
_MOST_NODES = 200_000  # of YAML, each as often as an alias repeats it


def members(
    value: Any, checks: Mapping[str, Check], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Return the object ``value`` with each member checked; all must be there, and no other."""
    if (
        not isinstance(value, dict)
        or not checks.keys() - set(optional) <= value.keys() <= checks.keys()
    ):
        raise ValueError(f"an object must have exactly: {', '.join(checks)}")
    return {name: checks[name](inner) for name, inner in value.items()}


def text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"not a text: {ascii(value)[:40]}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"not a text: {ascii(value)[:40]}") from None
    return value


def line(value: Any) -> str:
    """Accept a printable text of one line."""
    if not text(value).isprintable():
        raise ValueError(f"not one printable line: {ascii(value)[:40]}")
    return str(value)


def instant(value: Any) -> str:
    """Accept an RFC 3339 time with its time zone."""
    if clock.parse_moment(text(value)).tzinfo is None:
        raise ValueError("a time without its zone")
    return str(value)


def identifier(value: Any) -> str:
    """Accept the id of a host or an installation, or "" for an unknown one."""
    if not re.fullmatch(r"[0-9A-Za-z._-]{0,64}", text(value)):
        raise ValueError(f"not an id: {ascii(value)[:40]}")
    return str(value)


def path(value: Any) -> str:
    """Accept an absolute path of any bytes, as surrogates (PEP 383)."""
    if not isinstance(value, str) or "\0" in value or not value.startswith("/"):
        raise ValueError(f"not an absolute path: {ascii(value)[:40]}")
    if ".." in value.split("/"):
        raise ValueError(f"a path with ..: {ascii(value)[:40]}")
    os.fsencode(value)
    return value


def paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return tuple(path(item) for item in value)


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return tuple(text(item) for item in value)


def bytes_as_text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("not the target of a link")
    os.fsencode(value)
    return value


def variables(value: Any) -> dict[str, str]:
    """Accept the variables of a service: names and values that execve(2) takes."""
    if not isinstance(value, dict):
        raise ValueError("not an object of variables")
    for name, content in value.items():
        if not name or re.search(r"[=\0/]", name):
            raise ValueError(f"not the name of a variable: {ascii(name)[:40]}")
        for part in (name, content):
            if not isinstance(part, str) or "\0" in part:
                raise ValueError(f"not the value of a variable: {ascii(name)[:40]}")
            try:
                os.fsencode(part)
            except UnicodeEncodeError:
                raise ValueError(f"no bytes for the variable {ascii(name)[:40]}") from None
    return value


def count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"not a count: {ascii(value)[:40]}")
    return int(value)


def seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError("not a length of time")
    return float(value) if isinstance(value, float) else int(value)


def sha256(value: Any) -> str:
    if not _SHA256.fullmatch(text(value)):
        raise ValueError("not a SHA-256 checksum")
    return str(value)


def one_of(*allowed: object) -> Check:
    def check(value: Any) -> Any:
        if not any(
            value is choice or (isinstance(choice, str) and value == choice) for choice in allowed
        ):
            raise ValueError(f"unknown value {ascii(value)[:40]}")
        return value

    return check


def each(key: Check, inner: Check) -> Check:
    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return {key(name): inner(item) for name, item in value.items()}

    return check


class Refused(ValueError):
    """A document that is not read, with a reason that may be shown."""


def from_json(data: str | bytes) -> Any:
    """Return the value of a JSON text; raises Refused."""
    if len(data) > LARGEST_DOCUMENT:
        raise Refused(f"it is larger than {LARGEST_DOCUMENT >> 20} MiB")
    try:
        found = json.loads(data, parse_int=_whole, parse_float=_float, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise Refused(f"it is not JSON: line {error.lineno} column {error.colno}") from None
    except UnicodeDecodeError:
        raise Refused("it is not JSON: not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    level = [found]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return found
    raise _too_deep()


def _inside(value: Any) -> Iterator[Any]:
    """Yield the members of an object or list that are objects or lists themselves."""
    if isinstance(value, (dict, list)):
        values = value.values() if isinstance(value, dict) else value
        yield from (inner for inner in values if isinstance(inner, (dict, list)))


def _too_deep() -> Refused:
    return Refused(f"it is nested in more than {DEEPEST} levels")


def _whole(digits: str) -> int:
    return int(_short_number(digits))


def _float(digits: str) -> float:
    return float(_short_number(digits))


def _short_number(digits: str) -> str:
    if len(digits) > _LONGEST:
        raise Refused(f"it holds a number of {len(digits)} digits")
    return digits


def _no_constant(_: str) -> None:
    raise Refused("it holds a number that is not valid JSON")


def from_yaml(text: str) -> Any:
    """Return the value of the one document in a YAML text, None without one; raises Refused.

    Only the types of JSON, dates and binary data are known: yaml.SafeLoader's.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(_of_a_size(text))
        node = _composed(loader)
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise Refused(f"it is not YAML{_place(error)}") from None
    except RecursionError:
        raise _too_deep() from None
    except Refused:
        raise
    except (ValueError, OverflowError):
        raise Refused("it holds an invalid number or date") from None


def yaml_tree(text: str) -> yaml.Node | None:
    """Return the nodes of the one document in a YAML text, None without one.

    Raises Refused, and yaml.YAMLError where it is not YAML.
    """
    import yaml

    try:
        return _composed(yaml.SafeLoader(_of_a_size(text)))
    except RecursionError:
        raise _too_deep() from None


def _of_a_size(text: str) -> str:
    if len(text) > _LARGEST_YAML:
        raise Refused(f"it is larger than {_LARGEST_YAML >> 20} MiB")
    return text


def _composed(loader: yaml.SafeLoader) -> yaml.Node | None:
    """Return the nodes; aliases may repeat them, within limits."""
    root: yaml.Node | None = loader.get_single_node()
    level, count = [root], 0
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _below(outer)]
        count += len(level)
        if count > _MOST_NODES:
            raise Refused(f"it holds more than {_MOST_NODES} values, repeated ones included")
        if not level:
            return root
    raise _too_deep()


def _below(node: yaml.Node | None) -> Iterator[yaml.Node]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")):
        _short_number(node.value)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": line {mark.line + 1} column {mark.column + 1}" if mark else ""
