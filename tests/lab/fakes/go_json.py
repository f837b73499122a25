"""JSON as Go's encoder indents it, which is how Mattermost writes config.json."""

from __future__ import annotations

import json
from typing import Any

# Go escapes these inside strings; in indented JSON they occur nowhere else.
ESCAPED: dict[str, int | str | None] = {
    "&": "\\u0026",
    "<": "\\u003c",
    ">": "\\u003e",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def dumps(document: Any) -> str:
    """Four spaces, keys in their order, Unicode as it is but for five characters, no newline at the end."""
    text = json.dumps(document, indent=4, ensure_ascii=False)
    return text.translate(str.maketrans(ESCAPED))
