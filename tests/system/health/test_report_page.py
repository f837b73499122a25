"""The report in Debian's Chromium: nothing loaded, nothing too wide, named, legible, printable."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitlab_mm_backup.health import html
from gitlab_mm_backup.health.report import report
from gitlab_mm_backup.store.check_records import Depth
from tests.system.helpers.browser import CONTRASTS, TROUBLE, Browser, chromium
from tests.unit.helpers.reports import (
    GOOD,
    PROTECTED,
    ago,
    failing,
    found,
    made_set,
    many,
    record_of,
)

# A name of that length in one word, as a version or a host may be.
LONG = "-" + "x" * 150
BAD = made_set(ago(hours=300))
OLD = made_set(ago(hours=240))
PAGES = {
    "none": many(0),
    "one": many(1),
    "many": many(60, LONG, host=f"git{LONG}.example.org"),
    "failed": found([BAD], [failing(BAD, ago(hours=29))]),
    "old": found(
        [OLD, BAD],
        [record_of(OLD, ago(days=9)), record_of(OLD, ago(hours=1), *GOOD[:2], depth=Depth.VERIFY)],
    ),
}
HIDDEN = """
[...document.querySelectorAll(".inside")].filter((one) => !one.getClientRects().length).length
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pages")
    for name, there in PAGES.items():
        (place / f"{name}.html").write_bytes(html.render_report(report(there, PROTECTED)))
    return place


@pytest.fixture(params=PAGES)
def page(folder: Path, request: pytest.FixtureRequest) -> Path:
    return folder / f"{request.param}.html"


def test_it_renders_without_a_complaint_and_loads_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value("document.querySelector('h1').textContent").startswith("Mattermost")
    assert browser.value("document.compatMode") == "CSS1Compat"
    assert browser.value("document.querySelectorAll('svg[role=img]').length") == 3
    assert browser.told(*TROUBLE) == []
    asked = [event["request"]["url"] for event in browser.told("Network.requestWillBeSent")]
    assert [url for url in asked if url != "data:,"] == [page.as_uri()]


def test_what_the_page_may_not_do_would_be_seen(browser: Browser, folder: Path) -> None:
    """The other tests see nothing because there is nothing: a script and a picture are refused."""
    page = folder / "spoiled.html"
    text = (folder / "one.html").read_text()
    spoiled = '<script>document.title = "ran"</script><img alt="" src="other.png"></main>'
    page.write_text(text.replace("</main>", spoiled))
    browser.open(page)
    told = [event["entry"]["text"] for event in browser.told("Log.entryAdded")]
    assert len([text for text in told if "Content Security Policy" in text]) == 2, told
    assert browser.value("document.title").startswith("Proven")


@pytest.mark.parametrize("width", [375, 800, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    # What is wider scrolls within a region that the keyboard reaches, and not elsewhere.
    outside = """
    [...document.querySelectorAll("body *")].filter((one) => !one.closest(".table")
      && one.getBoundingClientRect().right > innerWidth + 0.5).map((one) => one.outerHTML)
    """
    assert browser.value(outside) == []
    reached = "[...document.querySelectorAll('.table')].every((one) => one.tabIndex === 0)"
    assert browser.value(reached) is True


@pytest.mark.parametrize("width", [375, 800, 1280])
def test_everything_has_its_name(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    tree = browser.tree()
    named = ("image", "figure", "region", "navigation", "table", "link", "DisclosureTriangle")
    assert [node for node in tree if node["role"] in named and not node["name"].strip()] == []
    roles = [node["role"] for node in tree]
    scrolling = browser.value("document.querySelectorAll('.table').length")
    assert roles.count("region") == scrolling + 1  # without a name it would be none
    assert roles.count("image") == 3 and roles.count("main") == roles.count("banner") == 1
    assert all("; least " in node["description"] or "none yet" in node["description"]
               for node in tree if node["role"] == "image")  # fmt: skip
    if "none" not in page.name:  # the tables stay tables where they are stacked
        assert {"row", "columnheader", "rowheader", "cell"} <= set(roles)
    assert browser.value("document.documentElement.lang") == "en"
    assert browser.value("document.title").split(":")[0] in ("Proven", "Not proven", "Failed")


# The name of a set is one line, and the result of a row comes first, unless the row is of a table.
LINES = "[...document.querySelectorAll('.set')].map((one) => one.getClientRects().length)"
OUT = """
[...document.querySelectorAll(".set")].filter((one) => {
  const right = (one.closest(".table") || document.documentElement).getBoundingClientRect().right;
  return one.getClientRects().length && one.getBoundingClientRect().right > right + 0.5;
}).map((one) => one.outerHTML)
"""
ORDER = """
[...document.querySelectorAll(".wide tbody tr")].map((row) => [...row.children]
  .sort((a, b) => {
    const [one, two] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
    return one.top - two.top || one.left - two.left;
  })
  .map((cell) => cell.className.split(" ")[0])[0])
"""


@pytest.mark.parametrize("width", [375, 699, 800, 1280])
@pytest.mark.parametrize("name", ["one", "failed", "old"])
def test_names_of_sets_do_not_break(browser: Browser, folder: Path, name: str, width: int) -> None:
    browser.open(folder / f"{name}.html", width)
    found = browser.value(LINES)
    assert len(found) > 3 and set(found) <= {0, 1}, "0: a run that is closed"
    assert browser.value(OUT) == []


@pytest.mark.parametrize(
    ("width", "cards"), [(375, True), (699, True), (700, False), (1280, False)]
)
def test_cards_below_700_pixels_have_their_result_first(
    browser: Browser, folder: Path, width: int, cards: bool
) -> None:
    browser.open(folder / "old.html", width)
    first = browser.value(ORDER)
    assert len(first) > 3
    with_result = [line for line in first if line]  # a place of copies has none
    assert (set(with_result) == {"result"}) is cards
    hidden = "getComputedStyle(document.querySelector('.wide thead')).position"
    assert (browser.value(hidden) == "absolute") is cards


def test_an_old_proof_is_amber(browser: Browser, folder: Path) -> None:
    colour = "getComputedStyle(document.querySelector('.verdict h2')).color"
    seen = {}
    for name in ("one", "old", "failed"):
        browser.open(folder / f"{name}.html")
        seen[name] = browser.value(colour)
    assert seen == {
        "one": "rgb(23, 101, 58)",
        "old": "rgb(122, 82, 0)",
        "failed": "rgb(161, 42, 32)",
    }


def test_headings_go_down_one_level_at_a_time(browser: Browser, page: Path) -> None:
    browser.open(page)
    headings = "[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => +one.tagName[1])"
    levels = browser.value(headings)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    targets = "[...document.querySelectorAll('nav a')].map((one) => one.hash.slice(1))"
    assert browser.value(f"{targets}.filter((one) => !document.getElementById(one))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    contrasts = browser.value(CONTRASTS)
    assert len(contrasts) > 10
    assert {name: found for name, found in contrasts.items() if found < 4.5} == {}
    dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark is (scheme == "dark")


def test_paper_is_white_and_shows_all(browser: Browser, page: Path) -> None:
    browser.open(page, 720, "dark", "print")  # A4 within its margins
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert {name: found for name, found in browser.value(CONTRASTS).items() if found < 4.5} == {}
    assert browser.value("document.documentElement.scrollWidth") <= 720
    assert browser.value(HIDDEN) == 0
    rows = "[...document.querySelectorAll('tr')]"
    whole = f"{rows}.every((one) => getComputedStyle(one).breakInside === 'avoid')"
    assert browser.value(whole) is True


def test_on_a_screen_only_the_newest_run_is_open(browser: Browser, folder: Path) -> None:
    browser.open(folder / "many.html")
    assert browser.value(HIDDEN) == 59
    browser.value("document.querySelectorAll('summary')[9].click()")
    assert browser.value(HIDDEN) == 58


def test_it_prints_to_pdf(browser: Browser, folder: Path, tmp_path: Path) -> None:
    browser.open(folder / "many.html", scheme="dark")
    browser.prefer("dark")
    printed = tmp_path / "report.pdf"
    printed.write_bytes(browser.printed())
    assert printed.read_bytes().startswith(b"%PDF-")
    done = subprocess.run(
        ["pdftotext", "-layout", str(printed), "-"], capture_output=True, text=True, check=True
    )
    text = "".join(done.stdout.split())
    for words in ("Proven", "What is not covered", "Size of each set", "Versions"):
        assert words.replace(" ", "") in text
    details = [
        check.detail for run in PAGES["many"].history for check in run.checks if check.detail
    ]
    assert len(details) > 60
    assert text.count("itanswered") == details.count("it answered")
