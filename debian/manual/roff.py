"""Text for man(7): escapes, and the part of Markdown that this project writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

ESCAPES = {"\\": r"\e", "^": r"\(ha", "~": r"\(ti", "`": r"\(ga", "'": r"\(aq", '"': r"\(dq"}


def escape(text: str) -> str:
    """Text that roff shows as it stands, as far as the middle of a line goes."""
    return "".join(
        ESCAPES.get(one, one) if one.isascii() else rf"\[u{ord(one):04X}]" for one in text
    )


def literal(text: str) -> str:
    """Text to be typed or copied: its hyphens are no typographic ones."""
    return escape(text).replace("-", r"\-")


def bold(text: str) -> str:
    return rf"\fB{literal(text)}\fR"


def line(text: str) -> str:
    """A line of text that is not taken for a request."""
    return rf"\&{text}" if text.startswith((".", "'")) else text


def section(title: str, *body: str) -> str:
    """A section; its first paragraph needs no request of its own."""
    text = "\n".join(body).removeprefix(".PP\n")
    return f".SH {escape(title.upper())}\n{text}"


def example(text: str) -> str:
    """Lines kept as they are."""
    lines = [line(literal(one)) for one in text.rstrip("\n").split("\n")]
    return "\n".join([".PP", ".RS 4", ".EX", *lines, ".EE", ".RE"])


def item(term: str, *body: str) -> str:
    return "\n".join([".TP", term, *body])


def inline(text: str) -> str:
    """A paragraph's `code`, **strong words** and [links](target), as one line."""
    marks = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\[([^\]]+)\]\(([^)]+)\)|(?<!\w)\*([^*]+)\*(?!\w)")
    pieces, end = [], 0
    joined = " ".join(text.split())
    for mark in marks.finditer(joined):
        code, strong, link, target, soft = mark.groups()
        pieces.append(escape(joined[end : mark.start()]))
        pieces.append(
            bold(code) if code else rf"\fI{escape(soft)}\fR" if soft else _words(strong or link)
        )
        if target and target.startswith("http"):
            pieces.append(f" ({literal(target)})")
        end = mark.end()
    return line("".join([*pieces, escape(joined[end:])]))


def _words(text: str) -> str:
    return bold(text[1:-1]) if text.startswith("`") else rf"\fB{escape(text)}\fR"


def markdown(text: str) -> str:
    """Headings of the second level, paragraphs, fenced code, tables and lists."""
    return "\n".join(_block(kind, lines) for kind, lines in _blocks(text))


def _block(kind: str, lines: list[str]) -> str:
    forms: dict[str, Callable[[list[str]], str]] = {
        "heading": lambda lines: f".SS {escape(lines[0][3:])}",
        "code": lambda lines: example("\n".join(lines[1:])),
        "table": _table,
        "list": _list,
        "paragraph": lambda lines: "\n".join([".PP", inline(" ".join(lines))]),
    }
    return forms[kind](lines)


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (kind, lines) of each block; of code without the closing fence."""
    lines: list[str] = []
    fenced = False
    for one in [*text.split("\n"), ""]:
        if one.startswith("```"):
            fenced = not fenced
            if not fenced:
                yield "code", lines
                lines = []
                continue
        if fenced or one.strip():
            lines.append(one)
        elif lines:
            yield _kind(lines[0]), lines
            lines = []


def _kind(first: str) -> str:
    if first.startswith("|"):
        return "table"
    if first.startswith("## "):
        return "heading"
    return "list" if re.match(r"(?:-|\d+\.) ", first) else "paragraph"


def _table(lines: list[str]) -> str:
    """A table as a list of terms; from the third column on each cell names its column."""
    header, _, *rows = [
        [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", one)[1:-1]]
        for one in lines
    ]
    items = []
    for term, *cells in rows:
        told = cells[0] if len(cells) == 1 else _named(header[1:], cells)
        items.append(item(inline(term), inline(told)))
    return "\n".join(items)


def _named(titles: list[str], cells: list[str]) -> str:
    return "; ".join(f"{title}: {cell}" for title, cell in zip(titles, cells))


def _list(lines: list[str]) -> str:
    points = re.split(r"^(?=(?:-|\d+\.) )", "\n".join(lines), flags=re.MULTILINE)
    parts = [one.partition(" ") for one in points if one]
    return "\n".join(
        rf".IP {mark if mark != '-' else chr(92) + '(bu'} 4" + "\n" + inline(words)
        for mark, _, words in parts
    )


def untitled(text: str) -> str:
    """A document without its title."""
    return re.sub(r"\A# .*\n", "", text)


def headings(text: str) -> dict[str, str]:
    """The parts of a Markdown document by their second-level heading; what stands before is ""."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {"": untitled(parts[0]), **dict(zip(parts[1::2], parts[2::2]))}
