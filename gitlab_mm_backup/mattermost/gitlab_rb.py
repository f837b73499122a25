"""Read /etc/gitlab/gitlab.rb, which is Ruby, as text; it is never run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import Failure

FILE = "etc/gitlab/gitlab.rb"
# Settings of the bundled Mattermost; gitlab_rails['mattermost_host'] is GitLab's own.
_SETTING = re.compile(
    r"(?<![\w'\"@$.])(mattermost(?:_nginx)?\s*\[[^\]]*\]|mattermost_external_url)"
)
_INCLUDE = re.compile(r"""^\s*from_file[\s(]+(['"])([^'"#]+)\1""")
_LITERAL = re.compile(
    r"""^\s*mattermost\[\s*['"](\w+)['"]\s*\]\s*=\s*(['"])([^'"#\\]+)\2\s*(?:#.*)?$""", re.MULTILINE
)
_ASSIGNED = re.compile(r"""^\s*mattermost\[\s*['"](\w+)['"]\s*\]\s*=""", re.MULTILINE)
_ADDRESS = re.compile(
    r"""^\s*mattermost_external_url[\s(]+(['"])(https?://[^'"#\s]+)\1""", re.MULTILINE
)
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*["]""")
_MOST_FILES = 20


@dataclass(frozen=True)
class Setting:
    """One assignment of a Mattermost setting, without its value, which may be a secret."""

    file: Path
    first: int  # line, counted from 1
    last: int
    name: str  # as it stands there: mattermost['enable']

    def __str__(self) -> str:
        lines = (
            f"line {self.first}" if self.first == self.last else f"lines {self.first}-{self.last}"
        )
        return f"{self.file} {lines}: {self.name}"


def settings(root: Path = Path("/")) -> list[Setting]:
    """Return the Mattermost settings of gitlab.rb and of files included by from_file.

    Raises Failure where one of them cannot be read.
    """
    found: list[Setting] = []
    waiting, seen = [root / FILE], set[Path]()
    while waiting and len(seen) < _MOST_FILES:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        lines = _read(path)
        found += _settings_in(path, lines)
        names = (_INCLUDE.match(line) for line in lines)
        waiting += [_place(root, path, name[2]) for name in names if name]
    return found


def text(root: Path) -> str:
    """Return the text of gitlab.rb, "" where it cannot be read."""
    try:
        return (root / FILE).read_text(errors="replace")
    except OSError:
        return ""


def unknown(text: str) -> set[str]:
    """Return the keys of ``mattermost`` that are assigned, but never as a plain literal.

    Their values cannot be known without running Ruby.
    """
    return set(_ASSIGNED.findall(text)) - literals(text).keys()


def literals(text: str) -> dict[str, str]:
    """Return the Mattermost settings in ``text`` that are plain literals; the last one counts.

    The address is called external_url. Other expressions are not understood.
    """
    found = {key: value for key, _, value in _LITERAL.findall(text)}
    addresses = [value for _, value in _ADDRESS.findall(text)]
    return {**found, "external_url": addresses[-1]} if addresses else found


def _place(root: Path, by: Path, name: str) -> Path:
    return root / name.lstrip("/") if name.startswith("/") else by.parent / name


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Failure(f"{path} cannot be read", str(error.strerror)) from error


def _settings_in(path: Path, lines: list[str]) -> Iterator[Setting]:
    inside_comment, covered = False, 0
    for number, line in enumerate(lines, 1):
        if re.match(r"=(begin|end)\b", line):
            inside_comment = line.startswith("=begin")
        if line.startswith("__END__"):
            return
        if inside_comment or number <= covered:
            continue
        match = _SETTING.search(_code(line))
        if match:
            covered = _end(lines, number)
            name = re.sub(r"\s+", "", match[1]).replace('"', "'")
            yield Setting(path, number, covered, name)


def _code(line: str) -> str:
    """Return the line without its comment; a # in quotes does not begin one."""
    match = re.match(r"""(?:[^'"#]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")*""", line)
    return match[0] if match else ""


def _end(lines: list[str], first: int) -> int:
    """Return the last line of the statement that begins in line ``first``, by its brackets."""
    depth = 0
    for number in range(first, len(lines) + 1):
        bare = _STRING.sub("0", _code(lines[number - 1]))
        depth += sum(bare.count(bracket) for bracket in "{[(") - sum(
            bare.count(bracket) for bracket in "}])"
        )
        if depth <= 0 and not bare.rstrip().endswith((",", "\\", "=", "||", "+")):
            return number
    return first
