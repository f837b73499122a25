"""The manual pages: options and verbs from --help, prose from the project's Markdown."""

from __future__ import annotations

import email.utils
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import roff
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
CONFIG_PAGE = "gitlab-mm-backup.yml"
HOOKS_PAGE = "gitlab-mm-hooks"
BY_HAND_PAGE = "gitlab-mm-restore"


@dataclass(frozen=True)
class Page:
    """A page: its name, its section of the manual, one line on it, and its sections."""

    name: str
    section: int
    summary: str
    body: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"man/man{self.section}/{self.name}.{self.section}"

    @property
    def reference(self) -> str:
        return rf"{roff.bold(self.name)}({self.section})"


def files(programs: list[tree.Command]) -> dict[str, str]:
    """Return every page's text by its path below /usr/share."""
    main = programs[0]
    pages = [_main_page(main), *(_verb_page(verb) for verb in (*main.verbs, *main.hidden_verbs))]
    pages += [_config_page(), _hooks_page()]
    return {page.path: _render(page, pages) for page in pages}


def _render(page: Page, pages: list[Page]) -> str:
    version, day = _changelog()
    title = f'.TH "{roff.literal(page.name.upper())}" {page.section} "{day}" "{version}"'
    name = roff.section("name", rf"{roff.literal(page.name)} \- {roff.escape(page.summary)}")
    others = sorted({other.reference for other in pages if other is not page})
    also = roff.section("see also", ",\n".join(others))
    comment = '.\\" Written by debian/manual from the command line and its documents.'
    return "\n".join([comment, title, name, *page.body, also]) + "\n"


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
        roff.item(roff.bold(verb.typed), roff.escape(f"{verb.summary}.")) for verb in main.verbs
    ]
    same = [f"{roff.bold(name)} is {roff.bold(words)}." for name, words in tree.SAME.items()]
    readme = roff.headings((DEBIAN.parent / "README.md").read_text(encoding="utf-8"))
    body = (
        roff.section("synopsis", f"{roff.bold(main.typed)} {roff.literal(main.usage)}"),
        roff.section("description", roff.markdown(main.text)),
        roff.section("commands", "Each command has its own page.", *verbs, ".PP", *same),
        roff.section("options", *_options(main)),
        roff.section("how it works", roff.markdown(readme["How it works"])),
        roff.section("on a terminal", roff.markdown(roff.untitled(_document("terminal.md")))),
        *_common(),
    )
    return Page(main.name, 1, _lower(main.summary), body)


def _verb_page(verb: tree.Command) -> Page:
    name = verb.typed.replace(" ", "-")
    document = roff.headings(_document(PROSE[verb.name])) if verb.name in PROSE else {}
    words, options, examples = _sort_out(document.pop("", ""))
    sections = [
        ("synopsis", _synopsis(verb)),
        ("description", roff.markdown(f"{verb.text}\n\n{words}")),
        *_leaf_options(verb),
        ("more on options", roff.markdown(options)),
        *((title, roff.markdown(text)) for title, text in document.items()),
        ("examples", roff.markdown(examples)),
        ("output of --json", "\n".join(_answers(verb))),
    ]
    if name == BY_HAND_PAGE:
        by_hand = roff.untitled(_document("by-hand.md"))
        sections.append(("restoring by hand", roff.markdown(by_hand)))
    body = [roff.section(title, text) for title, text in sections if text]
    return Page(name, 1, _lower(verb.summary), (*body, *_common(by_hand=name != BY_HAND_PAGE)))


def _synopsis(verb: tree.Command) -> str:
    uses = [(command.typed, command.usage) for command in verb.verbs or (verb,)]
    uses += [(program, verb.usage) for program, same in tree.SAME.items() if same == verb.typed]
    lines = [f"{roff.bold(typed)} {roff.literal(usage)}" for typed, usage in uses]
    return "\n.br\n".join(lines)


def _sort_out(text: str) -> tuple[str, str, str]:
    """Split the text before the first heading: paragraphs, table of options, examples."""
    pieces = [piece for piece in text.strip().split("\n\n") if piece]
    tables = [piece for piece in pieces if piece.startswith("|")]
    examples = [piece for piece in pieces if piece.startswith("```")]
    words = [piece for piece in pieces if piece not in tables and piece not in examples]
    return "\n\n".join(words), "\n\n".join(tables), "\n\n".join(examples)


def _leaf_options(verb: tree.Command) -> list[tuple[str, str]]:
    if not verb.verbs:
        return [("options", "\n".join(_options(verb)))]
    return [
        (
            f"options of {command.typed}",
            "\n".join([roff.markdown(command.text), *_options(command)]),
        )
        for command in verb.verbs
    ]


def _options(command: tree.Command) -> list[str]:
    items = []
    for option in command.options:
        names = ", ".join(roff.bold(name) for name in option.names)
        value = rf" \fI{roff.literal(option.metavar)}\fR" if option.metavar else ""
        items.append(roff.item(names + value, roff.line(roff.escape(option.help))))
    return items


def _answers(verb: tree.Command) -> list[str]:
    """The fields of --json: those of every command, and those of each verb of the page."""
    common = _schema("common")["$defs"]["answer"]["properties"]
    lines = [
        "One JSON object. After a failure, fields without a value are absent. The JSON "
        rf"Schemas are in {roff.bold(SCHEMAS_PATH)}.",
        *_fields(common),
    ]
    for command in verb.verbs or (verb,):
        own = _schema(command.json_name.replace(" ", "-")).get("properties", {})
        more = _fields({name: field for name, field in own.items() if name != "command"})
        title = f"Of {command.typed.partition(' ')[2]}"
        lines += [f".SS {roff.escape(title)}", *more] if more else []
    return lines


def _fields(properties: dict[str, Any]) -> list[str]:
    return [
        roff.item(roff.bold(name), roff.line(roff.escape(_description(field))))
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
    codes = [roff.item(roff.bold(str(int(code))), roff.escape(code.meaning)) for code in ExitCode]
    sections = [
        roff.section("exit status", *codes),
        roff.section("files", roff.markdown(FILES.read_text(encoding="utf-8"))),
    ]
    if by_hand:
        told = rf"{roff.bold(BY_HAND_PAGE)}(1) has the commands that restore a set with tar, zstd"
        sections.append(
            roff.section("restoring by hand", told, "and pg_restore, without this program.")
        )
    return sections


def _config_page() -> Page:
    head = roff.markdown(roff.headings(_document("settings.md"))["The file"])
    body = (
        roff.section(
            "description",
            rf"{roff.bold('/etc/gitlab-mm-backup/config.yml')} contains the settings.",
            head,
        ),
        roff.section("options", *(_config_option(option) for option in OPTIONS)),
    )
    return Page(CONFIG_PAGE, 5, "settings of gitlab-mm-backup", body)


def _config_option(option: Option) -> str:
    """An option with its default, its text, and the options below it."""
    name = roff.bold(f"{option.name}:")
    value = "" if option.options and not option.several else option_text.written(option)
    told = [
        roff.item(
            rf"{name} {roff.literal(value)}".rstrip(), roff.line(roff.escape(option.description))
        )
    ]
    if option.example:
        told.append(roff.example(option_text.example(option)))
    if option.options:
        told += [".RS", *(_config_option(inner) for inner in option.options), ".RE"]
    return "\n".join(told)


def _hooks_page() -> Page:
    body = roff.section("description", roff.markdown(roff.untitled(_document("hooks.md"))))
    return Page(HOOKS_PAGE, 7, "programs that gitlab-mm runs before and after its work", (body,))


def _lower(summary: str) -> str:
    """A summary as whatis(1) shows it: in lower case, unless it begins with a name."""
    return summary if summary[1:2].isupper() else summary[:1].lower() + summary[1:]
