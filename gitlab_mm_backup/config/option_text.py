"""The example of all options and its JSON Schema, generated from the table of options."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .options import Option, by_key

SCHEMA_FILE = "/usr/share/gitlab-mm-backup/config.schema.json"
_HEAD = (
    "Every option of /etc/gitlab-mm-backup/config.yml, as a comment with its default: copy what you "
    "change. A wrong or unknown option is refused with its line before a run starts. gitlab-mm config "
    "check reports all problems; gitlab-mm config show lists the effective settings and their source."
)
_WIDTH = 100
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def sample(options: Sequence[Option], *, live: bool = False) -> str:
    """Return a config.yml with all options as comments; with ``live``, all are active."""
    head = [*_comment(_HEAD, ""), f"# yaml-language-server: $schema={SCHEMA_FILE}"]
    blocks = ["\n".join(head), *("\n".join(_lines(option, "", live)) for option in options)]
    return "\n\n".join(blocks) + "\n"


def _lines(option: Option, indent: str, live: bool) -> Iterator[str]:
    mark = indent if live else f"#{indent}"
    before = indent if live or not indent else f"#{indent}"
    yield from _comment(option.description, before)
    if option.example:
        yield from (f"{before}#   {line}" for line in example(option).splitlines())
    if option.options and not option.several:
        yield f"{mark}{option.name}:"
        for inner in option.options:
            yield from _lines(inner, f"{indent}  ", live)
    else:
        yield f"{mark}{option.name}: {written(option)}".rstrip()


def _comment(text: str, before: str) -> list[str]:
    start = f"{before}# "
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_on_hyphens=False,
        break_long_words=False,
    )


def written(option: Option) -> str:
    """Return an option's default in YAML, "" if there is none."""
    if option.kind is None:
        return "[]"
    if option.default is None:
        return ""
    plain = isinstance(option.default, str) and re.fullmatch(r"[\w/.@+-]+", option.default)
    return str(option.default) if plain else json.dumps(option.default, ensure_ascii=False)


def example(option: Option) -> str:
    """Return the lines of an option with its example."""
    text = textwrap.dedent(option.example).strip("\n")
    if "\n" not in text and not text.startswith("- "):
        return f"{option.name}: {text}"
    return f"{option.name}:\n{textwrap.indent(text, '  ')}"


def schema(options: Sequence[Option]) -> dict[str, Any]:
    """Return the JSON Schema with which an editor checks and completes config.yml."""
    return {
        "$schema": _DIALECT,
        "title": "Settings of gitlab-mm-backup",
        **_mapping(options, null=True),
    }


def _mapping(options: Sequence[Option], *, null: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        # A section whose options are all comments is null.
        "type": ["object", "null"] if null else "object",
        "additionalProperties": False,
        "properties": {
            **{option.name: _schema(option) for option in options},
            **{
                key: _old(name, option)
                for key, (name, option) in by_key(options).items()
                if key in option.old_names
            },
        },
    }
    required = [option.name for option in options if option.required and not option.old_name]
    either = [
        {"anyOf": [{"required": [option.name]}, {"required": [option.old_name]}]}
        for option in options
        if option.required and option.old_name
    ]
    return {
        **found,
        **({"required": required} if required else {}),
        **({"allOf": either} if either else {}),
    }


def _old(name: str, option: Option) -> Mapping[str, Any]:
    """Return the schema of an old name of the option that is called ``name`` now."""
    words = f"Old name of {name}; still read."
    return {**_schema(option), "description": words, "deprecated": True}


def _schema(option: Option) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"description": option.description}
    if option.kind is None and not option.several:
        return {**fields, **_mapping(option.options, null=True)}
    if option.kind is None:
        items = _mapping(option.options, null=False)
        return {**fields, "type": ["array", "null"], "items": items, "default": []}
    if option.default is None and not option.required:  # null means not given
        return {**fields, "anyOf": [dict(option.kind.schema), {"type": "null"}]}
    if option.default is None:
        return {**fields, **option.kind.schema}
    return {**fields, **option.kind.schema, "default": option.default}
