"""Reading config.yml: every problem of it at once, each with its line, and none with a value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExitCode, Failure, reason
from ..system import validation
from .options import Option

# PyYAML is imported where it is used: it is a third of the start-up time of a command that never
# reads settings.
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Given:
    """A value that stands in the file."""

    value: Any
    line: int


def read(path: Path, options: Sequence[Option], *, required: bool) -> dict[str, Given]:
    """Return what the file gives, by each option's full name.

    A file that is absent, unless ``required``, or empty gives nothing.  Raises Failure with
    ExitCode.USAGE that lists every problem.
    """
    import yaml

    problems: list[str] = []
    given: dict[str, Given] = {}
    try:
        tree = validation.yaml_tree(path.read_text(encoding="utf-8"))
        if tree is not None:
            _check(tree, options, "", given, problems)
    except FileNotFoundError as error:
        if required:
            raise bad(path, [reason(error)]) from None
    except OSError as error:
        problems.append(reason(error))
    except UnicodeDecodeError:
        problems.append("not UTF-8")
    except validation.Refused as error:
        problems.append(str(error))
    except yaml.YAMLError as error:
        problems.append(_syntax(error))
    if problems:
        raise bad(path, problems)
    return given


def bad(path: Path, problems: Sequence[str]) -> Failure:
    """Return the Failure that tells all problems of the file."""
    return Failure(
        f"{path} has {len(problems)} problem" + ("s" if len(problems) > 1 else ""),
        "; ".join(problems),
        "Correct the file; every option stands in it with its default, as a comment.",
        ExitCode.USAGE,
    )


def _syntax(error: Any) -> str:
    """Return what is wrong with YAML, without the words of the file: one may be a secret."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    problem = re.sub(r"'[^']{2,}'", "'…'", str(getattr(error, "problem", None) or "odd characters"))
    return f"{where}not YAML: {problem}"


def _check(
    node: Any,
    options: Sequence[Option],
    section: str,
    given: dict[str, Given],
    problems: list[str],
) -> None:
    """Check one mapping of the file; add its values and its problems to what there is of them."""
    import yaml

    known = {one.name: one for one in options}
    if node.tag == _NULL:  # all its options are comments
        return
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        problems.append(f"line {line}: {section or 'the file'} must hold options")
        return
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "…"
        name = f"{section}.{key}" if section else key
        where = f"line {key_node.start_mark.line + 1}: {name}"
        if key not in known:
            problems.append(f"{where}: unknown option; known: {', '.join(sorted(known))}")
        elif key in seen:
            problems.append(f"{where}: given twice")
        elif known[key].options and not known[key].several:
            _check(value_node, known[key].options, name, given, problems)
        else:
            _take(value_node, known[key], name, given, problems, key_node.start_mark.line + 1)
        seen.add(key)


def _take(
    node: Any,
    option: Option,
    name: str,
    given: dict[str, Given],
    problems: list[str],
    line: int,
) -> None:
    try:
        if option.kind is not None:
            if node.tag != _NULL or option.default is not None:  # or there is nothing to replace
                given[name] = Given(option.kind.read(_plain(node)), line)
        else:
            given[name] = Given(_items(node, option, name, problems), line)
    except ValueError as error:
        problems.append(f"line {line}: {name}: {error}")


def _items(node: Any, option: Option, name: str, problems: list[str]) -> list[dict[str, Any]]:
    """Return a list of mappings, each with every option: what is not given has its default."""
    import yaml

    if node.tag == _NULL:
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError("must be a list; each item begins with a hyphen")
    items = []
    for number, one in enumerate(node.value, 1):
        place, given = f"{name}[{number}]", dict[str, Given]()
        _check(one, option.options, place, given, problems)
        items.append({each.name: _value(each, place, given) for each in option.options})
        missing = [
            each.name
            for each in option.options
            if each.required and f"{place}.{each.name}" not in _named(one, place)
        ]
        if missing:
            line = one.start_mark.line + 1
            problems.append(f"line {line}: {place}: {', '.join(missing)} must be given")
    return items


def _value(option: Option, place: str, given: dict[str, Given]) -> Any:
    found = given.get(f"{place}.{option.name}")
    return found.value if found else default(option)


def _named(node: Any, place: str) -> set[str]:
    """Return the full names of what an item gives, right or wrong: a wrong value is told once."""
    import yaml

    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {f"{place}.{key.value}" for key, _ in pairs if isinstance(key, yaml.ScalarNode)}


def default(option: Option) -> Any:
    """Return an option's default as a value of ours."""
    if option.kind is None:
        return []
    return None if option.default is None else option.kind.read(option.default)


def _plain(node: Any) -> Any:
    import yaml

    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except Exception as error:  # PyYAML lets through whatever its converters raise
        raise ValueError(f"cannot be understood ({type(error).__name__})") from error
    finally:
        loader.dispose()
