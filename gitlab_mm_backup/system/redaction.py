"""A value that cannot be printed by accident."""

from __future__ import annotations

import hmac


class Secret:
    """Holds a password or key; formatting, logging or serialising it never shows the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one place that must hand it on."""
        return self._value

    def encoded(self) -> bytes:
        """Return the value as bytes; a file may hold some that are no UTF-8."""
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
