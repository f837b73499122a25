"""Messages in Mattermost's Markdown as HTML that is safe to open: no tag of theirs, no request."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import Failure
from ..system import humanize

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markupsafe import Markup

_ABOVE = 2  # levels of headings in a page
_LONGEST = 65536  # letters; Mattermost has no longer messages


def to_html(text: str) -> Markup:
    """Return ``text`` as HTML.

    HTML in it is shown as it was typed. A picture from elsewhere is a link to it, and only links to
    web and mail addresses are ones. Its headings are below those of a page with two levels.
    """
    from markupsafe import Markup

    made = renderer()
    tokens = made.parse(_visible(text[:_LONGEST]))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + _ABOVE, 6)}"
    # The renderer escapes what is no Markdown.
    return Markup(made.renderer.render(tokens, made.options, {}))


@lru_cache(None)
def renderer() -> MarkdownIt:
    """Return what renders all messages; raises Failure where its library is not installed."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise Failure(
            "Pages need a library that is not installed",
            "python3-markdown-it renders the messages",
            "apt install python3-markdown-it (Debian 12 and later), or leave out --page.",
        ) from None
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "typographer": False})
    made.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    made.validateLink = _is_plain_link  # type: ignore[method-assign]
    return made


def _is_plain_link(url: str) -> bool:
    return url.strip().lower().startswith(("http://", "https://", "mailto:"))


def _visible(text: str) -> str:
    """Escape what reverses a line or is no letter; lines stay, and tabs become blanks."""
    return "\n".join(humanize.plain(line.expandtabs(4)) for line in re.split("\r?\n", text))
