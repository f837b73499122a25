"""Secrets that cannot be printed by accident, and error texts without the content of rows."""

from __future__ import annotations

import hmac
import re


class Secret:
    """Holds a password or key; formatting, logging or serialising it never shows the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one place that must hand it on."""
        return self._value

    def encoded(self) -> bytes:
        """Return the value as bytes; a file may hold some that are not UTF-8."""
        return self._value.encode(errors="surrogatepass")

    def hint(self) -> str:
        """Return the first four characters: enough to tell two secrets apart, no more.

        A value too short to keep anything hidden shows nothing.
        """
        return f"{self._value[:4]}…" if len(self._value) >= 16 else "…"

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        raise TypeError("a Secret cannot be formatted; use reveal() where the value must go")

    def __format__(self, specification: str) -> str:
        raise TypeError("a Secret cannot be formatted; use reveal() where the value must go")

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.encoded(), other.encoded())

    def __hash__(self) -> int:
        return hash(self._value)


# Quoted text after one of these words is a name, not the content of a row.
_NAMED = re.compile(
    r"\b(?:table|relation|column|constraint|index|type|schema|database|role|user|function"
    r'|extension|sequence|trigger|encoding|parameter) ("[\w.$-]+")'
)
# A line that a program begins with its own name. DETAIL and CONTEXT quote rows, and a line
# without a name may be the second line of a message.
_TOLD = re.compile(r"[a-z][a-z_-]*: ")


def without_rows(detail: str) -> str:
    """Return ``detail`` without parts that may be the content of a row."""
    first, *others = detail.split("\n")
    return "\n".join(_line(line) for line in (first, *filter(_TOLD.match, others)))


def _line(text: str) -> str:
    """Return a line up to its first quotation that is not a name; its end cannot be found."""
    at = 0
    while (mark := text.find('"', at)) >= 0:
        named = _NAMED.search(text, at)
        if named is None or named.start(1) != mark:
            return f'{text[:mark]}"…"'
        at = named.end(1)
    return text
