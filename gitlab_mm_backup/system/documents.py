"""Documents in JSON and YAML that somebody else may have written: the one door to their parsers.

What is too large, too deep, or a number that nobody means is refused in our own words, for Python's
parsers stop such a thing late, and each in its own way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

LARGEST = 32 << 20  # bytes or characters; a manifest with all tables has some 10 kB
DEEPEST = 100  # levels: Mattermost's own settings have five
_LONGEST = 100  # digits of a number
_LARGEST_YAML = 4 << 20  # characters: its parser takes a second for 100 kB
_MOST_NODES = 200_000  # of YAML, each as often as an alias repeats it


class Refused(ValueError):
    """A document that is not read, with the reason in words that may be shown."""


def from_json(data: str | bytes) -> Any:
    """Return the value of a JSON text; raises Refused."""
    if len(data) > LARGEST:
        raise Refused(f"it is larger than {LARGEST >> 20} MiB")
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
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return found
    raise _too_deep()


def _inside(value: Any) -> Iterator[Any]:
    """Yield what an object or a list holds, but for what can hold nothing itself."""
    if isinstance(value, (dict, list)):
        values = value.values() if isinstance(value, dict) else value
        yield from (one for one in values if isinstance(one, (dict, list)))


def _too_deep() -> Refused:
    return Refused(f"it is nested in more than {DEEPEST} levels")


def _whole(digits: str) -> int:
    return int(_short(digits))


def _float(digits: str) -> float:
    return float(_short(digits))


def _short(digits: str) -> str:
    if len(digits) > _LONGEST:
        raise Refused(f"it holds a number of {len(digits)} digits")
    return digits


def _no_constant(_: str) -> None:
    raise Refused("it holds a number that JSON does not have")


def from_yaml(text: str) -> Any:
    """Return the value of the one document in a YAML text, None without one; raises Refused.

    Of its types only those of JSON, dates and binary data are known: yaml.SafeLoader's.
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
        raise Refused("it holds a number or a date that there is none of") from None


def yaml_tree(text: str) -> yaml.Node | None:
    """Return the nodes of the one document in a YAML text, None without one.

    Raises Refused, and yaml.YAMLError where it is no YAML.
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
    """Return the nodes, of which an alias may repeat some, but not without end."""
    root: yaml.Node | None = loader.get_single_node()
    level, count = [root], 0
    for _ in range(DEEPEST + 1):
        level = [inner for one in level for inner in _below(one)]
        count += len(level)
        if count > _MOST_NODES:
            raise Refused(f"it holds more than {_MOST_NODES} values, with those that it repeats")
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
        _short(node.value)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": line {mark.line + 1} column {mark.column + 1}" if mark else ""
