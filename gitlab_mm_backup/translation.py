"""Text of the restore prompt in the operator's language: English, or a catalog of debian/translations.

Only what an operator reads at the prompt is translated.  Logs, --json and failures stay English: a
text that goes there and to the prompt is a Text, which has both.
"""

from __future__ import annotations

import gettext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DOMAIN = "gitlab-mm-backup"
_catalog = gettext.NullTranslations()


class Text(str):
    """English text with its translation in ``local``."""

    __slots__ = ("local",)
    local: str


def choose(environment: Mapping[str, str], folder: str | None = None) -> None:
    """Use the language of the caller's locale from now on; English if there is no catalog for it.

    ``folder`` holds the catalogs, as /usr/share/locale does, which is the default.
    """
    global _catalog
    wanted = languages(environment)
    _catalog = gettext.translation(DOMAIN, folder, languages=wanted, fallback=True)


def languages(environment: Mapping[str, str]) -> list[str]:
    """Return the caller's languages, the preferred one first, by the rules of gettext(3).

    The locale C has no language, whatever LANGUAGE is; Python's gettext ignores that.  A locale in
    another encoding than UTF-8 has none either: where it is not installed, Python writes UTF-8.
    """
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "C")
    name, _dot, encoding = locale.partition(".")
    if name in ("C", "POSIX") or not (encoding or "UTF-8").lower().startswith("utf"):
        return ["C"]
    return [name for name in environment.get("LANGUAGE", "").split(":") if name] or [locale]


def _(text: str) -> str:
    """Return the translation of ``text``, or ``text``."""
    return _catalog.gettext(text)


def plural(singular: str, several: str, count: int) -> str:
    """Return the translation for ``count`` things, which stands for ``{count}`` in the text."""
    shown = f"{count:,}".replace(",", " ")
    return _catalog.ngettext(singular, several, count).format(count=shown)


def phrase(template: str, **values: object) -> Text:
    """Return ``template`` with its ``values``; one that is a Text is translated too."""
    shown = {
        name: local(value) if isinstance(value, str) else value for name, value in values.items()
    }
    return _both(template.format(**values), _(template).format(**shown))


def amount(singular: str, several: str, count: int) -> Text:
    """Return what `plural` returns, in both languages."""
    template, shown = (singular if count == 1 else several), f"{count:,}".replace(",", " ")
    return _both(template.format(count=shown), plural(singular, several, count))


def joined(separator: str, texts: Iterable[str]) -> Text:
    """Return ``texts`` as one."""
    every = list(texts)
    return _both(separator.join(every), separator.join(local(text) for text in every))


def local(text: str) -> str:
    """Return the translation of a Text, and any other text as it is."""
    return text.local if isinstance(text, Text) else text


def _both(english: str, translated: str) -> Text:
    both = Text(english)
    both.local = translated
    return both
