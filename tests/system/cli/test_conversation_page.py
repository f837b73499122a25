"""The page of a channel in Debian's Chromium: hostile messages run nothing, load nothing and fit every window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from gitlab_mm_backup.cli import extract
from gitlab_mm_backup.rehearsal.conversation import Conversation, Day, Post, Reaction
from gitlab_mm_backup.rehearsal.search import Message, Upload
from tests.system.helpers.browser import CONTRASTS, TROUBLE, Browser, chromium

NOON = 1_790_000_000_000
DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fcffff3f03"
    "0005fe02fea1b6d9d50000000049454e44ae426082"
)
HOSTILE = (
    "<script>document.title = 'ran'</script>",
    "<img src=https://example.org/x.png onerror=\"document.title = 'ran'\">",
    "![a picture](https://example.org/x.png) and [a link](javascript:document.title='ran')",
    "</div></article></main><h1>not ours</h1>",
    "x" * 5000,
    "`" + "y" * 3000 + "`",
    "```\n" + "wide code " * 300 + "\n```",
    "|" + "column|" * 60 + "\n|" + "-|" * 60 + "\n|" + "cell|" * 60,
    "> " * 40 + "deep",
    "\u202eback to front\x1b[31m\x07",
    "# heading\n\n* a **list**\n* with [a site](https://example.org)\n\n> quoted\n\n~~gone~~ `code`",
    "日本語のメッセージ 🎉",
)


def post(number: int, text: str, *replies: Post) -> Post:
    message = Message(f"p{number}", text, "c1", "u1", NOON, deleted=number == 3, replaced=False)
    upload = Upload("f1", 'a very "odd" <name>.txt' * 5, "x", "c1", "u1", "p1", NOON, 12345, False)
    at = datetime.fromtimestamp(NOON / 1000 + number, timezone.utc)
    reactions = [
        Reaction("u1", name, emoji, NOON)
        for name, emoji in (("ada", "<b>tada"), ("<i>", "<b>tada"), ("bob", "x" * 64))
    ]
    return Post(message, "<ada>" * 12, at, [upload, replace_id(upload)], reactions, replies)


def replace_id(upload: Upload) -> Upload:
    return upload._replace(id="f2", name="kept.txt")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    posts = [post(number, text) for number, text in enumerate(HOSTILE)]
    posts.append(
        replace(
            post(99, "a root", *(post(100 + n, text) for n, text in enumerate(HOSTILE))),
            orphan=True,
        )
    )
    made = Conversation(
        "c1", "blue/" + "z" * 64, "Title </title><script>1</script>", [Day("2026-09-21", posts)], 25,
        [("u1", "ada")],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(
        b"".join(
            extract.page(
                made,
                name="1796074291_2026_11_30_10.11.20-b30fe9",
                host="gitlab.example.org",
                at=datetime.fromtimestamp(NOON / 1000, timezone.utc),
                files={"f2": "kept ?#%.txt"},
                pictures={"u1": DOT},
            )
        )
    )
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_runs_nothing_is_asked_for_and_nothing_is_too_wide(
    browser: Browser, page: Path, width: int
) -> None:
    browser.open(page, width)
    assert browser.told(*TROUBLE) == []
    asked = [event["request"]["url"] for event in browser.told("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert browser.value("document.title").startswith("blue/")
    assert browser.value("document.querySelectorAll('script, img:not(.face), main h1').length") == 1
    assert browser.value("document.querySelectorAll('.post').length") == 25
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelectorAll('img.face')[0].naturalWidth") == 1


def test_what_a_message_may_not_do_would_be_seen(browser: Browser, page: Path) -> None:
    spoiled = page.with_name("spoiled.html")
    inserted = '<script>document.title = "ran"</script><img alt="" src="other.png"></main>'
    spoiled.write_text(page.read_text().replace("</main>\n</body>", inserted))
    browser.open(spoiled)
    told = [event["entry"]["text"] for event in browser.told("Log.entryAdded")]
    assert len([text for text in told if "Content Security Policy" in text]) == 2, told


@pytest.mark.parametrize(("scheme", "media"), [("light", ""), ("dark", ""), ("dark", "print")])
def test_every_text_stands_out(browser: Browser, page: Path, scheme: str, media: str) -> None:
    browser.open(page, 720, scheme, media)
    contrasts = browser.value(CONTRASTS)
    assert len(contrasts) > 10
    assert {name: found for name, found in contrasts.items() if found < 4.5} == {}


def test_links_lead_to_files_beside_the_page_and_to_web_sites_only(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    links = browser.value(
        "[...document.querySelectorAll('a')].map((one) => one.getAttribute('href'))"
    )
    assert set(links) == {
        "https://example.org",
        "https://example.org/x.png",
        "kept%20%3F%23%25.txt",
    }
