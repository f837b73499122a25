"""README.ja.md says what README.md says, as far as a program can tell: commands, codes and names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.helpers.builders import ROOT

ENGLISH, JAPANESE = "README.md", "README.ja.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def sections(name: str) -> list[str]:
    """The document's parts between its headings."""
    return re.split(r"^## .*\n", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """The kind and lines of each fenced block, without what is said about a line."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(kind, [bare(line, kind, body) for line in body.splitlines()]) for kind, body in found]


def bare(line: str, kind: str, block: str) -> str:
    """A line without its remark; what the program printed has none."""
    if block.startswith("$ "):
        return line
    return re.sub(r"\s*#.*" if kind == "sh" else r"(?<=\S)\s{2,}.*", "", line)


def names(text: str) -> list[str]:
    """What stands in backticks outside of blocks: commands, options and paths."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return sorted(set(re.findall(r"`([^`]+)`", prose)))


PAIRS = list(zip(sections(ENGLISH), sections(JAPANESE)))
NUMBERED = pytest.mark.parametrize(("english", "japanese"), PAIRS, ids=range(len(PAIRS)))


def test_both_have_the_same_sections() -> None:
    assert len(sections(ENGLISH)) == len(sections(JAPANESE)) > 5


@NUMBERED
def test_the_same_commands(english: str, japanese: str) -> None:
    assert blocks(japanese) == blocks(english)


@NUMBERED
def test_the_same_names_in_the_text(english: str, japanese: str) -> None:
    assert names(japanese) == names(english)


@NUMBERED
def test_the_same_rows_and_paragraphs(english: str, japanese: str) -> None:
    def shape(text: str) -> tuple[int, int]:
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        return len(re.findall(r"^\|", prose, re.MULTILINE)), len(re.split(r"\n\n+", prose.strip()))

    assert shape(japanese) == shape(english)


@NUMBERED
def test_the_same_links(english: str, japanese: str) -> None:
    def links(text: str) -> list[str]:
        found = re.findall(r"\]\(([^)]+)\)", text)
        return [link for link in found if link not in (ENGLISH, JAPANESE)]

    assert links(japanese) == links(english)


def anchors(path: Path) -> set[str]:
    """What each heading of a document is called in a link, as GitHub and GitLab have it."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_leads_to_a_heading_of_a_document(path: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if "://" in link:
            continue
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_the_index_has_every_document() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    missing = [path.name for path in DOCUMENTS if path.parent.name == "docs"]
    assert [name for name in missing if f"]({name}" not in index and name != "README.md"] == []


def test_the_glossary_is_short() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    assert 5 < len(re.findall(r"^\| (?!word |---)", text, re.MULTILINE)) <= 15


def test_each_leads_to_the_other() -> None:
    assert f"]({JAPANESE})" in sections(ENGLISH)[0]
    assert f"]({ENGLISH})" in sections(JAPANESE)[0]
