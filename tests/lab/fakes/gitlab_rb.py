"""Read the literal settings of /etc/gitlab/gitlab.rb: the part of Ruby that people write there.

The real file is a Ruby program. The lab's is written by the lab, so plain assignments of strings, numbers, booleans,
nil and one-line hashes are all there is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ASSIGNMENT = re.compile(r"^\s*(\w+)\['(\w+)'\]\s*=\s*(.*)$")
ADDRESS = re.compile(r"^\s*(external_url|mattermost_external_url)\s+(.*)$")
SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")
DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
NAMED = {"true": True, "false": False, "nil": None}


def literal(text: str) -> Any:
    """The value of a Ruby literal; whatever follows it (a comment) is ignored."""
    text = text.strip()
    single, double = SINGLE_QUOTED.match(text), DOUBLE_QUOTED.match(text)
    if single:
        return re.sub(r"\\(['\\])", r"\1", single.group(1))
    if double:
        return json.loads(double.group(0))
    if text.startswith("{"):
        return json.loads(re.sub(r"\s*=>\s*", ": ", text[: text.rindex("}") + 1].replace("'", '"')))
    word = text.split("#")[0].strip()
    if word in NAMED:
        return NAMED[word]
    return int(word, 8) if re.fullmatch(r"0\d+", word) else int(word.replace("_", ""))


def parse(text: str) -> dict[str, dict[str, Any]]:
    """Sections of settings; the two external addresses are in section "" (nothing else is without a section)."""
    sections: dict[str, dict[str, Any]] = {"": {}}
    for line in text.splitlines():
        assignment, address = ASSIGNMENT.match(line), ADDRESS.match(line)
        if assignment:
            section, name, value = assignment.groups()
            sections.setdefault(section, {})[name] = literal(value)
        elif address:
            sections[""][address.group(1)] = literal(address.group(2))
    return sections


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Settings of a file; none if it is missing."""
    return parse(path.read_text()) if path.exists() else {"": {}}
