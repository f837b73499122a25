"""Messages as HTML: Mattermost's Markdown is shown, and nothing of a message gets to run or to load."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.rehearsal import conversation

TAG = re.compile(r"<\s*/?\s*([a-zA-Z][^\s>/]*)([^>]*)>")
HARMLESS = {
    *("p", "br", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr", "a"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**loud** and ~~gone~~", "<p><strong>loud</strong> and <s>gone</s></p>\n"),
        ("one\ntwo", "<p>one<br />\ntwo</p>\n"),
        ("# top", "<h3>top</h3>\n"),
        ("`x < y`", "<p><code>x &lt; y</code></p>\n"),
        ("<b>no</b>", "<p>&lt;b&gt;no&lt;/b&gt;</p>\n"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("[x](https://example.org)", '<p><a href="https://example.org">x</a></p>\n'),
        ("[x](javascript:alert)", "<p>[x](javascript:alert)</p>\n"),
        ("[x](//example.org)", "<p>[x](//example.org)</p>\n"),
        ("![x](https://example.org/a)", '<p>!<a href="https://example.org/a">x</a></p>\n'),
        ("a\u202eb\x1b[31m", "<p>a\\u202eb\\x1b[31m</p>\n"),
    ],
)
def test_messages_are_shown_as_they_were_meant(text: str, html: str) -> None:
    assert conversation.to_html(text) == html


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "<script>",
                    "</p>",
                    "<img src=x onerror=y>",
                    "[a](",
                    "](javascript:x)",
                    "![",
                    "`",
                    "```\n",
                ),
                *(
                    "|a|b|\n|-|-|\n",
                    "> ",
                    "\n\n",
                    "&lt;",
                    "&#106;",
                    '"',
                    "'",
                    "x",
                    "<!--",
                    "data:text/html,x",
                ),
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_no_message_makes_a_tag_or_a_request_of_its_own(text: str) -> None:
    for name, attributes in TAG.findall(conversation.to_html(text)):
        assert name.lower() in HARMLESS, (text, name)
        assert not re.search(r"\bon\w+\s*=|\bsrc\b|javascript:|data:", attributes, re.I), text


def test_a_message_without_end_is_cut() -> None:
    assert len(conversation.to_html("x" * 1_000_000)) < 70_000


def test_without_the_library_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    conversation.renderer.cache_clear()
    with pytest.raises(Failure, match="not installed") as failure:
        conversation.renderer()
    assert "apt install python3-markdown-it" in failure.value.hint
