"""What checks found, fit to be handed on: without the rows that PostgreSQL quotes in an error."""

from __future__ import annotations

import re

# What an error names in quotation marks after one of these words is no content of a row.
_NAMED = re.compile(
    r"\b(?:table|relation|column|constraint|index|type|schema|database|role|user|function"
    r'|extension|sequence|trigger|encoding|parameter) ("[\w.$-]+")'
)
# A line that a program begins with its own name. DETAIL and CONTEXT quote rows, and a line
# without a name may be the second line of a message.
_TOLD = re.compile(r"[a-z][a-z_-]*: ")


def words(detail: str) -> str:
    """Return ``detail`` without what may be the content of a row."""
    first, *others = detail.split("\n")
    return "\n".join(_line(one) for one in (first, *filter(_TOLD.match, others)))


def _line(text: str) -> str:
    """Return a line up to the first quotation that is no name; where that ends, nobody can tell."""
    at = 0
    while (mark := text.find('"', at)) >= 0:
        named = _NAMED.search(text, at)
        if named is None or named.start(1) != mark:
            return f'{text[:mark]}"…"'
        at = named.end(1)
    return text
