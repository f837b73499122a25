"""config.json and gitlab-secrets.json: read, patch with tests, write back in the same form.

A patch is RFC 6902. It is applied to the text: bytes outside the changed values stay, whoever
wrote the file and in whatever form. A whole write would lose values that are no Unicode, and
digits of numbers.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import pwd
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..system import files, process
from ..system.files import replace_file
from ..system.process import Command
from .json_text import Keys, Names, NotJson, parse, parse_config

Operations = list[dict[str, Any]]
Render = Callable[[Any], str]

_BLANKS = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[-+.0-9A-Za-z]+")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_WRITING = 1.0  # seconds: more than Mattermost needs to write a configuration
_GLANCE = 0.02


@dataclass(frozen=True)
class JsonFile:
    """A JSON file as read; ``go``: as Mattermost reads its own, config.json."""

    path: Path
    text: str
    document: dict[str, Any]
    go: bool = False


def read(path: Path) -> JsonFile:
    """Read ``path``.

    Raises Failure when it is missing, unreadable or not one JSON object; the detail gives line and
    column, never content.
    """
    text = _text(path, "strict", links=True)
    return JsonFile(path, text, parse(text, str(path)))


def read_config(path: Path) -> JsonFile:
    """Read Mattermost's config.json as Go does; raises Failure as ``read`` does.

    The file belongs to Mattermost's account, so a link there is followed only with the rights of
    that account. In ``document`` keys have Mattermost's spelling, however they are written (see
    ``parse_config``); a patch finds them in the text. Mattermost writes the file in its place, at
    each start and for each change in its console: one that is not complete yet is read again.
    """
    deadline = time.monotonic() + _WRITING
    while True:
        text = _text(path, "surrogateescape", links=False)
        try:
            return JsonFile(path, text, parse_config(text, str(path)), go=True)
        except NotJson:
            if time.monotonic() > deadline or not _just_written(path):
                raise
            time.sleep(_GLANCE)


def _just_written(path: Path) -> bool:
    try:
        return abs(time.time() - os.stat(path).st_mtime) < _WRITING
    except OSError:
        return False


def _text(path: Path, errors: str, links: bool) -> str:
    try:
        if path.is_symlink() and not links:
            return _behind_a_link(path).decode(errors=errors)
        return files.read_regular(path, links=links).decode(errors=errors)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Failure(f"{path} cannot be read", str(reason)) from None


def _behind_a_link(path: Path) -> bytes:
    """Return the content of a link's target, read with the rights of its directory's owner."""
    folder = os.lstat(path.parent)
    try:
        owner = pwd.getpwuid(folder.st_uid).pw_name
    except KeyError:
        owner = ""
    if not owner or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        why = "it is a link that other accounts may change; replace it by the file"
        raise Failure(f"{path} cannot be read", why)
    # The account may have put a pipe or an endless file there.
    head = ["timeout", "30", "head", f"--bytes={files.LARGEST_READ}", "--", str(path)]
    return process.printed(Command(head, account=owner if folder.st_uid else None))


def setting(document: Mapping[str, Any], changes: Mapping[Keys, Any]) -> Operations:
    """Return the patch that sets each path of ``changes`` to its value.

    It begins with ``test`` operations for everything it relies on, so that it refuses a document
    that has changed. A path that already has its value is left out; missing objects on the way are
    created. Raises Failure where a plain value is in the way.
    """
    tests: Operations = []
    acts: Operations = []
    made: set[Keys] = set()
    for path, value in changes.items():
        there, old = _look_up(document, path)
        if there and type(old) is type(value) and old == value:
            continue
        if there:
            tests.append(_operation("test", path, old))
            acts.append(_operation("replace", path, value))
            continue
        guard = _nearest(document, path)
        tests.append(_operation("test", guard, _look_up(document, guard)[1]))
        for length in range(len(guard) + 1, len(path)):
            if path[:length] not in made:
                acts.append(_operation("add", path[:length], {}))
                made.add(path[:length])
        acts.append(_operation("add", path, value))
    return tests + acts


def inverse(operations: Operations) -> Operations:
    """Return the patch that undoes ``operations`` of ``setting``, with its own tests."""
    before = {
        operation["path"]: operation["value"]
        for operation in operations
        if operation["op"] == "test"
    }
    done = [operation for operation in operations if operation["op"] != "test"]
    tests: Operations = []
    acts: Operations = []
    for change in reversed(done):
        tests.append({"op": "test", "path": change["path"], "value": _grown(change, done)})
        if change["op"] == "replace":
            acts.append({"op": "replace", "path": change["path"], "value": before[change["path"]]})
        else:
            acts.append({"op": "remove", "path": change["path"]})
    return tests + acts


def _grown(made: Mapping[str, Any], done: Operations) -> Any:
    """Return the value of ``made`` after all of ``done``: a new object may have got members."""
    value = copy.deepcopy(made["value"])
    for change in done:
        if change["op"] == "add" and change["path"].startswith(made["path"] + "/"):
            *outer, last = _keys(change["path"][len(made["path"]) :])
            inside = value
            for step in outer:
                inside = inside[step]
            inside[last] = copy.deepcopy(change["value"])
    return value


def apply(file: JsonFile, operations: Operations) -> str:
    """Return the text of ``file`` with ``operations`` applied.

    Raises Failure when a ``test`` does not hold.
    """
    wanted = applied(file.document, operations, str(file.path))
    text = file.text
    # Only Mattermost's own file has Go's escapes, and Go never writes these letters as they are.
    plain = file.path.name != "config.json" or re.search("[&<>]", text) is not None
    render = functools.partial(_rendered, plain=plain)
    for operation in operations:
        if operation["op"] != "test":
            text = _edited(text, _keys(operation["path"]), operation, render, Names(go=file.go))
    again = parse_config if file.go else parse
    if again(text, str(file.path)) != wanted:
        raise Failure(
            f"{file.path} is not changed",
            "a key to be changed occurs more than once",
            "Remove all but the last of each, then run the command again.",
        )
    return text


def applied(document: Mapping[str, Any], operations: Operations, where: str) -> Any:
    """Return ``document`` with ``operations`` applied; raises Failure as ``apply`` does."""
    import jsonpatch

    try:
        # A copy, because python3-jsonpatch 1.32 puts the patch's own values into the document.
        return jsonpatch.JsonPatch(copy.deepcopy(operations)).apply(document)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise Failure(
            f"{where} has changed since it was read",
            f"a test of the patch does not hold ({type(error).__name__})",
            "Another program has changed it. Check it, then run the command again.",
        ) from None
    except RecursionError:
        raise Failure(f"{where} is not valid JSON", "it is nested too deeply") from None


def write(path: Path, text: str) -> None:
    """Replace the content of ``path`` atomically, with the same owner, group and mode.

    Raises Failure for anything but a regular file: through a link, Mattermost's account could
    choose the file that root writes to.
    """
    try:
        before = os.lstat(path)
        if os.path.islink(path) or not os.path.isfile(path):
            raise Failure(f"{path} is not written", "it is not a regular file")
        replace_file(
            path,
            text.encode(errors="surrogateescape"),
            before.st_uid,
            before.st_gid,
            before.st_mode & 0o7777,
            alike=True,
        )
    except OSError as error:
        raise Failure(f"{path} cannot be written", str(error.strerror)) from error


def pointer(path: Keys) -> str:
    """Return the JSON pointer (RFC 6901) of ``path``."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def _keys(text: str) -> Keys:
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:])


def _operation(name: str, path: Keys, value: Any) -> dict[str, Any]:
    return {"op": name, "path": pointer(path), "value": value}


def _look_up(document: Any, path: Keys) -> tuple[bool, Any]:
    for step in path:
        if not isinstance(document, Mapping) or step not in document:
            return False, None
        document = document[step]
    return True, document


def _nearest(document: Any, path: Keys) -> Keys:
    """Return the longest part of ``path`` that is an object: the one to add to.

    RFC 6902 cannot test that a key is missing; a test of the whole object does.
    """
    length = len(path) - 1
    while not _look_up(document, path[:length])[0]:
        length -= 1
    if not isinstance(_look_up(document, path[:length])[1], Mapping):
        raise Failure(f"{pointer(path[:length])} is not a section", "it is a plain value")
    return path[:length]


@dataclass(frozen=True)
class _Member:
    """The position of an object's member in the text: its key, its value, and the end."""

    key: int
    value: int
    end: int


def _edited(
    text: str, path: Keys, operation: Mapping[str, Any], render: Render, names: Names
) -> str:
    members: dict[Keys, _Member] = {(): _Member(0, _BLANKS.match(text, 0).end(), 0)}  # type: ignore[union-attr]
    _scan(text, members[()].value, (), members, names)
    if operation["op"] == "replace":
        place = members[path]
        return text[: place.value] + render(operation["value"]) + text[place.end :]
    if operation["op"] == "remove":
        return _without(text, path, members)
    member = f"{render(path[-1])}: {render(operation['value'])}"
    return _with(text, path, member, members)


def _siblings(path: Keys, members: Mapping[Keys, _Member]) -> list[Keys]:
    return [
        place for place in members if len(place) == len(path) and place[:-1] == path[:-1] and place
    ]


def _with(text: str, path: Keys, member: str, members: Mapping[Keys, _Member]) -> str:
    """Add a member after the last one, with the same separator as before that one."""
    siblings = _siblings(path, members)
    if not siblings:
        start = members[path[:-1]].value + 1
        return text[:start] + member + text[start:]
    last = members[siblings[-1]]
    space = text[len(text[: last.key].rstrip(" \t\r\n")) : last.key]
    return f"{text[: last.end]},{space}{member}{text[last.end :]}"


def _without(text: str, path: Keys, members: Mapping[Keys, _Member]) -> str:
    """Remove a member with its comma and the space before it."""
    place = members[path]
    for sibling in (members[key] for key in _siblings(path, members)):
        if _COMMA.fullmatch(text, sibling.end, place.key):
            return text[: sibling.end] + text[place.end :]
    for sibling in (members[key] for key in _siblings(path, members)):
        if _COMMA.fullmatch(text, place.end, sibling.key):
            return text[: place.key] + text[sibling.key :]
    return text[: place.key] + text[place.end :]


def _scan(text: str, at: int, path: Keys | None, members: dict[Keys, _Member], names: Names) -> int:
    """Record the members of the value at ``at``, which is valid JSON; return its end.

    ``path`` None is within a list; no path of ours leads there.
    """
    opening = text[at]
    if opening == '"':
        return int(scanstring(text, at + 1)[1])
    if opening not in "{[":
        return _after(_SCALAR, text, at)
    at = _after(_BLANKS, text, at + 1)
    while text[at] not in "}]":
        start, inner = at, None
        if opening == "{":
            key, at = scanstring(text, at + 1)
            at = _after(_BLANKS, text, text.index(":", at) + 1)
            inner = None if path is None else (*path, names.of(path, key))
            if inner in members:
                _forget(inner, members, names)
        end = _scan(text, at, inner, members, names)
        if inner is not None:
            members[inner] = _Member(start, at, end)
        at = _after(_BLANKS, text, end)
        if text[at] == ",":
            at = _after(_BLANKS, text, at + 1)
    return at + 1


def _forget(path: Keys, members: dict[Keys, _Member], names: Names) -> None:
    """Forget a repeated member with its content, unless both are one object."""
    members.pop(path)
    if not names.merge(path):
        for inner in [inner for inner in members if inner[: len(path)] == path]:
            del members[inner]


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None
    return match.end()


def _rendered(value: Any, plain: bool = False) -> str:
    """Return ``value`` as Mattermost writes it: Go's encoding/json, with escapes for HTML.

    ``plain`` is without them, as Ruby writes GitLab's secrets.
    """
    text = json.dumps(value, ensure_ascii=False)
    if re.search("[\ud800-\udfff]", text):
        raise Failure("A value cannot be written to a JSON file", "it is not Unicode text")
    if plain:
        return text
    return re.sub("[&<>\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)
