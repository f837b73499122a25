"""The manual pages as Markdown: options and verbs from --help, prose from the project's documents.

debian/rules makes man(7) of them with pandoc(1).
"""

from __future__ import annotations

import email.utils
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import markdown
import tree

from gitlab_mm_backup.config import option_text
from gitlab_mm_backup.config.options import Option
from gitlab_mm_backup.config.schema import OPTIONS
from gitlab_mm_backup.errors import ExitCode

DEBIAN = Path(__file__).resolve().parents[1]
DOCS = DEBIAN.parent / "docs"
SCHEMAS = DEBIAN.parent / "docs/schemas"
SCHEMAS_PATH = "/usr/share/gitlab-mm-backup/schemas/"
FILES = Path(__file__).with_name("files.md")
EXAMPLES = Path(__file__).with_name("examples.md")
#: Documents that belong to a verb; their sections follow its options.
PROSE = {
    "config": "settings.md",
    "gate": "upgrade.md",
    "rehearse": "rehearsal.md",
    "report": "report.md",
    "restore": "restore.md",
    "sso": "sign-in.md",
    "status": "status.md",
}
MAIN_PAGE = "gitlab-mm"
COMMANDS = 8  # the section of the manual for administrators' commands
CONFIG_PAGE = "gitlab-mm-backup.yml"
HOOKS_PAGE = "gitlab-mm-hooks"
BY_HAND_PAGE = "gitlab-mm-restore"
HEAD = """\
---
title: {title}
section: "{section}"
date: "{day}"
footer: "{version}"
---
"""


@dataclass(frozen=True)
class Page:
    """A page: its name, its section of the manual, one line on it, and its sections."""

    name: str
    section: int
    summary: str
    body: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"man/man{self.section}/{self.name}.{self.section}.md"

    @property
    def reference(self) -> str:
        return f"{markdown.code(self.name)}({self.section})"


def files(programs: list[tree.Command]) -> dict[str, str]:
    """Return every page's text by its path below /usr/share."""
    main = programs[0]
    pages = [_main_page(main), *(_verb_page(verb) for verb in (*main.verbs, *main.hidden_verbs))]
    pages += [_config_page(), _hooks_page()]
    return {page.path: _render(page, pages) for page in pages}


def _render(page: Page, pages: list[Page]) -> str:
    version, day = _changelog()
    head = HEAD.format(title=page.name.upper(), section=page.section, day=day, version=version)
    # whatis(1) wants this hyphen.
    whatis = rf"{page.name} `\-`{{=man}} {markdown.escape(page.summary)}"
    name = markdown.section("name", whatis)
    listed = pages if page.name == MAIN_PAGE else [pages[0], *pages[-2:]]
    others = [other.reference for other in listed if other is not page]
    return (
        "\n\n".join([head, name, *page.body, markdown.section("see also", ", ".join(others))])
        + "\n"
    )


def _changelog() -> tuple[str, str]:
    """The newest entry's version and day, so that a build at any time gives the same pages."""
    text = (DEBIAN / "changelog").read_text(encoding="utf-8")
    heading = re.match(r"(\S+) \(([^)]+)\)", text)
    signed = re.search(r"^ -- .*>  (.+)$", text, re.MULTILINE)
    if heading is None or signed is None:
        raise ValueError("debian/changelog: no heading, or no line that signs the newest entry")
    moment = email.utils.parsedate_to_datetime(signed[1])
    return f"{heading[1]} {heading[2]}", moment.date().isoformat()


def _document(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _main_page(main: tree.Command) -> Page:
    verbs = [
        markdown.item(markdown.code(verb.typed), markdown.escape(f"{verb.summary}."))
        for verb in main.verbs
    ]
    same = [
        f"{markdown.code(name)} is {markdown.code(words)}." for name, words in tree.SAME.items()
    ]
    readme = markdown.headings((DEBIAN.parent / "README.md").read_text(encoding="utf-8"))
    body = (
        markdown.section("synopsis", _use(main.typed, main.usage)),
        markdown.section("description", markdown.paragraphs(main.text)),
        markdown.section("commands", "Each command has its own page.", *verbs, *same),
        markdown.section("options", *_options(main)),
        markdown.section("how it works", readme["How it works"]),
        markdown.section("on a terminal", markdown.untitled(_document("terminal.md"))),
        *_examples(main.name),
        markdown.section("output of --json", *_answer_of_all()),
        *_common(),
        markdown.section("files", FILES.read_text(encoding="utf-8")),
    )
    return Page(main.name, COMMANDS, _lower(main.summary), body)


def _verb_page(verb: tree.Command) -> Page:
    name = verb.typed.replace(" ", "-")
    document = markdown.headings(_document(PROSE[verb.name])) if verb.name in PROSE else {}
    words, options, shown = _sort_out(document.pop("", ""))
    body = [
        markdown.section("synopsis", _synopsis(verb)),
        markdown.section("description", markdown.paragraphs(verb.text), words),
        *_leaf_options(verb),
    ]
    if options:
        body.append(markdown.section("more on options", options))
    body += [markdown.section(title, text) for title, text in document.items()]
    body += _examples(verb.name, shown)
    body.append(markdown.section("output of --json", *_answers(verb)))
    if name == BY_HAND_PAGE:
        by_hand = markdown.untitled(_document("by-hand.md"))
        body.append(markdown.section("restoring by hand", by_hand))
    body += _common(by_hand=name != BY_HAND_PAGE)
    return Page(name, COMMANDS, _lower(verb.summary), tuple(body))


def _synopsis(verb: tree.Command) -> str:
    uses = [(command.typed, command.usage) for command in verb.verbs or (verb,)]
    uses += [(program, verb.usage) for program, same in tree.SAME.items() if same == verb.typed]
    return "\\\n".join(_use(typed, usage) for typed, usage in uses)


def _use(typed: str, usage: str) -> str:
    return f"{markdown.code(typed)} {markdown.escape(usage)}"


def _sort_out(text: str) -> tuple[str, str, str]:
    """Split the text before the first heading: paragraphs, table of options, examples."""
    pieces = [piece for piece in text.strip().split("\n\n") if piece]
    tables = [piece for piece in pieces if piece.startswith("|")]
    examples = [piece for piece in pieces if piece.startswith("```")]
    words = [piece for piece in pieces if piece not in tables and piece not in examples]
    return "\n\n".join(words), "\n\n".join(tables), "\n\n".join(examples)


def _examples(name: str, shown: str = "") -> list[str]:
    """The section of examples: those of the document, and those written for the page alone."""
    own = markdown.headings(EXAMPLES.read_text(encoding="utf-8")).get(name, "")
    parts = [part for part in (shown, own) if part]
    return [markdown.section("examples", *parts)] if parts else []


def _leaf_options(verb: tree.Command) -> list[str]:
    if not verb.verbs:
        return [markdown.section("options", *_options(verb))]
    return [
        markdown.section(
            f"options of {command.typed}",
            *([markdown.paragraphs(command.text)] if command is not verb else []),
            *_options(command),
        )
        for command in verb.verbs
    ]


def _options(command: tree.Command) -> list[str]:
    items = []
    for option in command.options:
        names = ", ".join(markdown.code(name) for name in option.names)
        value = f" {markdown.emphasis(option.metavar)}" if option.metavar else ""
        items.append(markdown.item(names + value, markdown.escape(option.help)))
    return items


def _answers(verb: tree.Command) -> list[str]:
    """The fields of --json of each verb of the page."""
    parts = [f"The fields of every command are in {markdown.code(MAIN_PAGE)}({COMMANDS})."]
    for command in verb.verbs or (verb,):
        own = _schema(command.json_name.replace(" ", "-")).get("properties", {})
        more = _fields({name: field for name, field in own.items() if name != "command"})
        title = f"Of {command.typed.partition(' ')[2]}"
        parts += [markdown.subsection(title, *more)] if more else []
    return parts


def _answer_of_all() -> list[str]:
    """The fields of --json of every command."""
    return [
        "One JSON object. After a failure, fields without a value are absent. The JSON "
        f"Schemas are in {markdown.code(SCHEMAS_PATH)}.",
        *_fields(_schema("common")["$defs"]["answer"]["properties"]),
    ]


def _fields(properties: dict[str, Any]) -> list[str]:
    return [
        markdown.item(markdown.code(name), markdown.escape(_description(field)))
        for name, field in properties.items()
    ]


def _description(field: dict[str, Any]) -> str:
    shared = field.get("$ref", "").rpartition("/")[2]
    told = field.get("description") or _schema("common")["$defs"][shared]["description"]
    return str(told)


def _schema(name: str) -> dict[str, Any]:
    """Return the schema of a command; without one it has only the fields that all have."""
    path = SCHEMAS / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _common(by_hand: bool = True) -> list[str]:
    """The last sections of each command's page."""
    codes = [
        markdown.item(markdown.code(str(int(code))), markdown.escape(code.meaning))
        for code in ExitCode
    ]
    sections = [markdown.section("exit status", *codes)]
    if by_hand:
        told = f"{markdown.code(BY_HAND_PAGE)}({COMMANDS}) has the commands that restore a set"
        words = f"{told} with tar, zstd and pg_restore, without this program."
        sections.append(markdown.section("restoring by hand", words))
    return sections


def _config_page() -> Page:
    head = markdown.headings(_document("settings.md"))["The file"]
    body = (
        markdown.section(
            "description",
            f"{markdown.code('/etc/gitlab-mm-backup/config.yml')} contains the settings.",
            head,
        ),
        markdown.section("options", *(_config_option(option) for option in OPTIONS)),
        *_examples(CONFIG_PAGE),
    )
    return Page(CONFIG_PAGE, 5, "settings of gitlab-mm-backup", body)


def _config_option(option: Option) -> str:
    """An option with its default, its text, and the options below it."""
    value = "" if option.options and not option.several else option_text.written(option)
    return markdown.item(
        f"{markdown.code(f'{option.name}:')} {markdown.escape(value)}".rstrip(),
        markdown.escape(option.description),
        markdown.fenced(option_text.example(option)) if option.example else "",
        *(_config_option(inner) for inner in option.options),
    )


def _hooks_page() -> Page:
    body = (
        markdown.section("description", markdown.untitled(_document("hooks.md"))),
        *_examples(HOOKS_PAGE),
    )
    return Page(HOOKS_PAGE, 7, "programs that gitlab-mm runs before and after its work", body)


def _lower(summary: str) -> str:
    """A summary as whatis(1) shows it: in lower case, unless it begins with a name."""
    return summary if summary[1:2].isupper() else summary[:1].lower() + summary[1:]
