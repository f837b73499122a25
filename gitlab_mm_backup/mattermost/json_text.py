"""JSON as its programs read it: GitLab's files, and config.json as Go's encoding/json does."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from ..errors import Failure
from . import effective_config

Keys = tuple[str, ...]

_NO_UNICODE = re.compile("[\ud800-\udfff]")
_LONG = 4000  # digits: Python refuses to read more than 4300
_DEEPEST = 250  # levels; those who copy a document go no deeper than Python lets them


class NotJson(Failure):
    """The text is not JSON, for Mattermost either."""


def parse(text: str, where: str) -> dict[str, Any]:
    """Return the JSON object in ``text``; the last of a repeated key counts.

    Raises Failure as ``read`` does.
    """
    return _parsed(text, where, Names(go=False))


def parse_config(text: str, where: str) -> dict[str, Any]:
    """Parse a config.json as Go's encoding/json does; raises Failure as ``read`` does.

    Sections and keys match in any letter case; the last of a repeated key counts, and repeated
    sections are merged; invalid Unicode becomes U+FFFD.
    """
    return _parsed(text, where, Names(go=True))


def _parsed(text: str, where: str, names: Names) -> dict[str, Any]:
    try:
        found = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
        _refuse_deep(found)
        document = _object(found, (), names)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise NotJson(f"{where} is not JSON", place) from None
    except _NoNumber:
        raise NotJson(f"{where} is not JSON", "it holds a number that is not valid JSON") from None
    except RecursionError:
        raise Failure(f"{where} is not valid JSON", "it is nested too deeply") from None
    if not isinstance(document, dict):
        raise Failure(f"{where} is not valid JSON", "it is not an object")
    return document


def _refuse_deep(found: Any) -> None:
    """Raise RecursionError for nesting that is too deep to copy."""
    level = [found] if isinstance(found, list) else []
    for _ in range(_DEEPEST + 1):
        level = [
            inner
            for value in level
            for inner in ((pair[1] for pair in value) if isinstance(value, _Pairs) else value)
            if isinstance(inner, list)
        ]
        if not level:
            return
    raise RecursionError


class _NoNumber(ValueError):
    pass


class _Pairs(list[tuple[str, Any]]):
    """The members of an object in their written order."""


class Names:
    """The document's name for a key at a place in the text."""

    def __init__(self, *, go: bool) -> None:
        self._go = go
        self._known: dict[Keys, str] = {}

    def of(self, path: Keys, key: str) -> str:
        if not self._go:
            return key
        key = self.text(key)
        if len(path) > 1:  # below a section's own keys are maps, whose keys count as they are
            return key
        place = (*path, key)
        return self._known.setdefault(
            effective_config.folded(place), effective_config.spelled(place)
        )

    def text(self, value: str) -> str:
        return _NO_UNICODE.sub("\ufffd", value) if self._go else value

    def merge(self, path: Keys) -> bool:
        """Tell whether an object at ``path`` adds to an earlier one there."""
        return self._go and len(path) < 3


def _object(value: Any, path: Keys, names: Names) -> Any:
    """Return ``value`` with its objects as dicts; a repeated key moves to the end."""
    if isinstance(value, str):
        return names.text(value)
    if not isinstance(value, list):
        return value
    if not isinstance(value, _Pairs):
        return [_object(item, (*path, "", "", ""), names) for item in value]
    found: dict[str, Any] = {}
    for written, inside in value:
        key = names.of(path, written)
        made = _object(inside, (*path, key), names)
        before = found.pop(key, None)
        if isinstance(before, dict) and names.merge((*path, key)):
            if made is None:  # encoding/json does not change a struct
                made = before
            elif isinstance(made, dict):
                made = _both(before, made, (*path, key), names)
        found[key] = made
    return found


def _both(before: dict[str, Any], after: dict[str, Any], path: Keys, names: Names) -> Any:
    for key, value in after.items():
        old = before.pop(key, None)
        merged = isinstance(old, dict) and isinstance(value, dict) and names.merge((*path, key))
        before[key] = _both(old, value, (*path, key), names) if merged else value
    return before


def _refuse_constant(_: str) -> None:
    raise _NoNumber


def _finite(literal: str) -> float:
    """Return the nearest finite number; Go ignores those of unknown keys."""
    return max(-sys.float_info.max, min(float(literal), sys.float_info.max))


def _whole(literal: str) -> Any:
    return int(literal) if len(literal) < _LONG else _finite(literal)
