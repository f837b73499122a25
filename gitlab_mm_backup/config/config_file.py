"""Read config.yml and config.d; report all problems, each with its line and without values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..container import view
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
    file: Path = Path()


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, at a line if that is known."""

    message: str
    key: str = ""  # the full name of the option, as it was typed
    line: int | None = None
    file: Path = Path()

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else ""
        return ": ".join(filter(None, (where, self.key, self.message)))


class BadSettings(Failure):
    """The settings have problems; every one is in ``problems``."""

    problems: Sequence[Problem] = ()


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


def files(path: Path) -> list[Path]:
    """Return ``path`` and the files in the directory of its name that are read after it.

    For config.yml that is config.d, with every *.yml in the order of their names.
    """
    return [path, *sorted(path.with_suffix(".d").glob("*.yml"))]


def read(path: Path, options: Sequence[Option], *, required: bool) -> dict[str, Given]:
    """Return the values in the ``files`` of ``path`` by the full names of their options.

    A later file replaces the value of an option, a list as a whole. An empty file has no values,
    and neither has an absent one unless ``required``. Raises BadSettings with every problem.
    """
    found: dict[str, Given] = {}
    problems: list[Problem] = []
    for number, file in enumerate(files(path)):
        given, wrong = _read(file, options, required=required or number > 0)
        found.update({name: replace(value, file=file) for name, value in given.items()})
        problems += (replace(problem, file=file) for problem in wrong)
    if problems:
        raise bad(problems)
    return found


def read_alone(path: Path, options: Sequence[Option]) -> dict[str, Given]:
    """Return the values in ``path`` without other files, as far as they are valid."""
    return _read(path, options, required=False)[0]


def _read(
    path: Path, options: Sequence[Option], *, required: bool
) -> tuple[dict[str, Given], list[Problem]]:
    """Return the values and the problems of one file."""
    import yaml

    problems: list[Problem] = []
    given: dict[str, Given] = {}
    try:
        tree = validation.yaml_tree(path.read_text(encoding="utf-8"))
        if tree is not None:
            _check(tree, options, "", given, problems)
    except FileNotFoundError as error:
        problems += [Problem(reason(error))] if required else []
    except OSError as error:
        problems.append(Problem(reason(error)))
    except UnicodeDecodeError:
        problems.append(Problem("not UTF-8"))
    except validation.Refused as error:
        problems.append(Problem(str(error)))
    except yaml.YAMLError as error:
        problems.append(_syntax(error))
    return given, problems


def bad(problems: Sequence[Problem]) -> BadSettings:
    """Return a failure that lists all problems, with their files where there are several."""
    places = {problem.file for problem in problems}
    several = len(places) > 1
    texts = [f"{problem.file}, {problem}" if several else str(problem) for problem in problems]
    failure = BadSettings(
        f"{'The settings have' if several else f'{places.pop()} has'} {len(problems)} problem"
        + ("s" if len(problems) > 1 else ""),
        "; ".join(texts),
        "Correct the file. gitlab-mm config explain KEY shows the allowed values of an option.",
        ExitCode.USAGE,
    )
    failure.problems = problems
    return failure


def _syntax(error: Any) -> Problem:
    """Return a syntax error of YAML without quoting the file, which may contain secrets."""
    mark = getattr(error, "problem_mark", None)
    problem = re.sub(r"'[^']{2,}'", "'…'", str(getattr(error, "problem", None) or "odd characters"))
    return Problem(f"not YAML: {problem}", line=mark.line + 1 if mark is not None else None)


def _unknown(typed: str, known: Iterable[str]) -> str:
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(typed, names, n=1)
    return "unknown option; " + (
        f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    )


def _check(
    node: Any,
    options: Sequence[Option],
    section: str,
    given: dict[str, Given],
    problems: list[Problem],
) -> None:
    """Check one mapping of the file; add its values to ``given``, its problems to ``problems``."""
    import yaml

    known = by_key(options)
    if node.tag == _NULL:  # all its options are comments
        return
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        problems.append(Problem(f"{section or 'the file'} must hold options", line=line))
        return
    seen: dict[str, str] = {}  # an option's name, and the key that gave it
    for key_node, value_node in node.value:
        typed = key_node.value if isinstance(key_node, yaml.ScalarNode) else "…"
        start = f"{section}." if section else ""
        line = key_node.start_mark.line + 1
        if typed not in known:
            text = _unknown(typed, (option.name for option in options))
            problems.append(Problem(text, start + typed, line))
            continue
        name, option = known[typed]
        key = _Key(start + name, start + typed, line)
        if name in seen:
            both = "" if seen[name] == typed else f", as {seen[name]} and as {typed}; keep {name}"
            problems.append(Problem(f"given twice{both}", key.typed, line))
        elif key.name in given:  # in the section, and outside of it
            text = f"given twice, as {option.old_outer} and as {key.name}; keep {key.name}"
            problems.append(Problem(text, key.typed, line))
        elif option.options and not option.several:
            _check(value_node, option.options, key.name, given, problems)
        else:
            _take(value_node, option, key, given, problems)
        seen[name] = typed


def _take(
    node: Any, option: Option, key: _Key, given: dict[str, Given], problems: list[Problem]
) -> None:
    """Add the value of one option to ``given``, or its problem to ``problems``."""
    try:
        if option.kind is None:
            items, old_names = _items(node, option, key.typed, problems)
            given[key.name] = Given(items, key.line, (*key.old_names, *old_names))
        elif node.tag != _NULL or option.default is not None:  # or there is nothing to replace
            given[key.name] = Given(option.kind.read(_plain(node)), key.line, key.old_names)
    except ValueError as error:
        problems.append(Problem(str(error), key.typed, key.line))


def _items(
    node: Any, option: Option, name: str, problems: list[Problem]
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
            problems.append(Problem(f"{', '.join(missing)} must be given", place, line))
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
        raise ValueError("cannot be understood; give a plain value, a text in quotes") from error
    finally:
        loader.dispose()


def refuse_container(given: Mapping[str, Given]) -> None:
    """Raise BadSettings for directories of ours in a container, whose volumes are no place for sets."""
    problems = [
        Problem(
            "is a directory of the container; give one of this host", name, entry.line, entry.file
        )
        for name in ("backup_path", "scratch_dir")
        if (entry := given.get(name)) is not None and view.inside(entry.value)
    ]
    if problems:
        raise bad(problems)
