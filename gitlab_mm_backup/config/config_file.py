"""Read config.yml; report all problems at once, each with its line and without values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExitCode, Failure, reason
from ..system import validation
from .options import Option, by_key

# PyYAML is imported in the functions that use it: importing it takes a third of the start-up time of
# a command that reads no settings.
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Given:
    """A value in the file, and the old names of options that it was given by."""

    value: Any
    line: int
    old_names: tuple[str, ...] = ()  # "line 4: rehearse_in is now scratch_dir"


@dataclass(frozen=True)
class _Key:
    """A key of the file: the full name of its option, the name as it was typed, and the line."""

    name: str
    typed: str
    line: int

    @property
    def old_names(self) -> tuple[str, ...]:
        if self.typed == self.name:
            return ()
        section, _, new = self.name.rpartition(".")
        if section and "." not in self.typed:  # it was outside of the section
            new = f"{self.name}, for {section} alone"
        return (f"line {self.line}: {self.typed} is now {new}",)


def read(path: Path, options: Sequence[Option], *, required: bool) -> dict[str, Given]:
    """Return the values in the file by the full names of their options.

    An empty file has no values, and neither has an absent one unless ``required``.  Raises Failure
    with ExitCode.USAGE that lists every problem.
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
    """Return a Failure that lists all problems of the file."""
    return Failure(
        f"{path} has {len(problems)} problem" + ("s" if len(problems) > 1 else ""),
        "; ".join(problems),
        "Correct the file. gitlab-mm config explain KEY shows the allowed values of an option.",
        ExitCode.USAGE,
    )


def _syntax(error: Any) -> str:
    """Return a syntax error of YAML without quoting the file, which may contain secrets."""
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
    """Check one mapping of the file; add its values to ``given``, its problems to ``problems``."""
    import yaml

    known = by_key(options)
    if node.tag == _NULL:  # all its options are comments
        return
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        problems.append(f"line {line}: {section or 'the file'} must hold options")
        return
    seen: dict[str, str] = {}  # an option's name, and the key that gave it
    for key_node, value_node in node.value:
        typed = key_node.value if isinstance(key_node, yaml.ScalarNode) else "…"
        start = f"{section}." if section else ""
        where = f"line {key_node.start_mark.line + 1}: {start}{typed}"
        if typed not in known:
            names = sorted(option.name for option in options)
            problems.append(f"{where}: unknown option; known: {', '.join(names)}")
            continue
        name, option = known[typed]
        key = _Key(start + name, start + typed, key_node.start_mark.line + 1)
        if name in seen:
            both = "" if seen[name] == typed else f", as {seen[name]} and as {typed}; keep {name}"
            problems.append(f"{where}: given twice{both}")
        elif key.name in given:  # in the section, and outside of it
            problems.append(
                f"{where}: given twice, as {option.old_outer} and as {key.name}; keep {key.name}"
            )
        elif option.options and not option.several:
            _check(value_node, option.options, key.name, given, problems)
        else:
            _take(value_node, option, key, given, problems)
        seen[name] = typed


def _take(
    node: Any, option: Option, key: _Key, given: dict[str, Given], problems: list[str]
) -> None:
    """Add the value of one option to ``given``, or its problem to ``problems``."""
    try:
        if option.kind is None:
            items, old_names = _items(node, option, key.typed, problems)
            given[key.name] = Given(items, key.line, (*key.old_names, *old_names))
        elif node.tag != _NULL or option.default is not None:  # or there is nothing to replace
            given[key.name] = Given(option.kind.read(_plain(node)), key.line, key.old_names)
    except ValueError as error:
        problems.append(f"line {key.line}: {key.typed}: {error}")


def _items(
    node: Any, option: Option, name: str, problems: list[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the mappings of a list, each with every option or its default, and old names in it."""
    import yaml

    if node.tag == _NULL:
        return [], []
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError("must be a list; each item begins with a hyphen")
    items, old_names = list[dict[str, Any]](), list[str]()
    for number, item in enumerate(node.value, 1):
        place, given = f"{name}[{number}]", dict[str, Given]()
        _check(item, option.options, place, given, problems)
        old_names += (old for value in given.values() for old in value.old_names)
        items.append({inner.name: _value(inner, place, given) for inner in option.options})
        keys = _keys(item)
        missing = [
            inner.name
            for inner in option.options
            if inner.required and not keys & {inner.name, inner.old_name}
        ]
        if missing:
            line = item.start_mark.line + 1
            problems.append(f"line {line}: {place}: {', '.join(missing)} must be given")
    return items, old_names


def _value(option: Option, place: str, given: dict[str, Given]) -> Any:
    found = given.get(f"{place}.{option.name}")
    return found.value if found else default(option)


def _keys(node: Any) -> set[str]:
    """Return the keys of a list's item, also those whose value is wrong."""
    import yaml

    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode)}


def default(option: Option) -> Any:
    """Return an option's default, converted as a value of the file is."""
    if option.kind is None:
        return []
    return None if option.default is None else option.kind.read(option.default)


def _plain(node: Any) -> Any:
    import yaml

    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except Exception as error:  # PyYAML does not convert the exceptions of its constructors
        raise ValueError(f"cannot be understood ({type(error).__name__})") from error
    finally:
        loader.dispose()
