"""Pieces of Markdown for the manual pages, as pandoc reads them with the options of debian/rules."""

from __future__ import annotations

import re
import textwrap


def escape(text: str) -> str:
    """Text that has no marks of Markdown: each sign stands for itself."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def paragraphs(text: str) -> str:
    """Text as --help has it: paragraphs without marks."""
    return "\n\n".join(escape(part) for part in re.split(r"\n{2,}", text.strip()))


def code(text: str) -> str:
    """Text to be typed or copied; the filter shows it in bold."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def emphasis(text: str) -> str:
    return f"*{escape(text)}*"


def section(title: str, *body: str) -> str:
    return "\n\n".join([f"# {escape(title.upper())}", *(part.strip("\n") for part in body)])


def subsection(title: str, *body: str) -> str:
    return "\n\n".join([f"## {escape(title)}", *body])


def fenced(text: str) -> str:
    """Lines kept as they are."""
    return "```\n" + text.rstrip("\n") + "\n```"


def item(term: str, *body: str) -> str:
    """An entry of a definition list; each part of the body is a separate block."""
    blocks = textwrap.indent("\n\n".join(part for part in body if part), "    ")
    return f"{term}\n\n:   {blocks.lstrip()}"


def untitled(text: str) -> str:
    """A document without its title."""
    return re.sub(r"\A# .*\n", "", text)


def headings(text: str) -> dict[str, str]:
    """The parts of a document by their second-level heading; what stands before is ""."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {"": untitled(parts[0]), **dict(zip(parts[1::2], parts[2::2]))}
