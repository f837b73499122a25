"""gitlab-mm config: show, check and explain the settings."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import click

from ..config import option_text, secret_files, settings
from ..config.config_file import BadSettings
from ..config.options import Option, leaves, shown
from ..config.schema import OPTIONS
from ..errors import ExitCode, Failure
from ..result import CommandResult
from . import common
from .common import verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ..config.settings import Value
    from .output import Context


def show_result(values: Sequence[Value]) -> CommandResult:
    """Return every value and its source, without secrets."""
    names = max(len(value.name) for value in values)
    texts = {value.name: _text(value) for value in values}
    width = max(map(len, texts.values()))
    lines = [
        f"{value.name:{names}}  {texts[value.name]:{width}}  {_origin(value)}" for value in values
    ]
    return CommandResult({"options": [_fields(value) for value in values]}, lines, answer=True)


def check_result(values: Sequence[Value], file: Path) -> CommandResult:
    """Say which options valid files change, and warn of old names and of readable secrets."""
    given = [value.name for value in values if value.line is not None]
    line = f"{file} is valid. Changed from default: {', '.join(given) or 'nothing'}"
    warnings = [f"{file}, {old}" for old in settings.old_names(values)]
    warnings += [
        f"Every user can read {path}, which has a secret: chmod 640 {path}"
        for path in secret_files.readable_secrets(file)
    ]
    fields = {"file": str(file), "given": given, "problems": []}
    return CommandResult(fields, [line], warnings, answer=True)


def problems_result(failure: BadSettings, file: Path) -> CommandResult:
    """Return the problems of the settings, one a line; the command fails with them."""
    fields = [
        {
            "file": str(problem.file),
            "line": problem.line,
            "key": problem.key or None,
            "message": problem.message,
        }
        for problem in failure.problems
    ]
    return CommandResult(
        {"file": str(file), "given": [], "problems": fields},
        [f"{problem.file}, {problem}" for problem in failure.problems],
        answer=True,
        error=Failure(failure.message, "", failure.hint, failure.exit_code),
    )


def explain_result(values: Sequence[Value], wanted: str) -> CommandResult:
    """Return the purpose, allowed values, default and value of an option, or of a section's options.

    Raises Failure if there is no such option.
    """
    name = next((value.name for value in values if wanted in value.option.old_names), wanted)
    found = [value for value in values if f"{value.name}.".startswith(f"{name}.")]
    if not found:
        import difflib

        names = [name for name, _ in leaves(OPTIONS)]
        near = difflib.get_close_matches(wanted, names, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else ""
        text = f"known: {', '.join(names)}"
        raise Failure(f"There is no option {wanted!r}", text, hint, ExitCode.USAGE)
    lines = [line for value in found for line in (*_explained(value), "")][:-1]
    fields = [{**_fields(value), **_told(value.option)} for value in found]
    return CommandResult({"options": fields}, lines, answer=True)


def _explained(value: Value) -> Iterator[str]:
    option = value.option
    yield value.name
    yield from _wrapped(option.description, "  ")
    for inner in option.options:
        need = "must be given" if inner.required else option_text.written(inner) or "none"
        yield from _wrapped(f"{inner.name}: {inner.description} Default: {need}", "  - ")
    if option.example:
        yield "  Example:"
        yield from (f"    {line}" for line in option_text.example(option).splitlines())
    yield f"  Default: {option_text.written(option) or 'none'}"
    yield f"  Now: {_text(value)} ({_origin(value)})"


def _wrapped(text: str, start: str) -> list[str]:
    below = " " * len(start)
    return textwrap.wrap(
        text, 79, initial_indent=start, subsequent_indent=below, break_on_hyphens=False
    )


def _told(option: Option) -> dict[str, object]:
    schema = option_text.schema([option])["properties"][option.name]
    return {"text": option.description, "default": schema.get("default"), "allowed": schema}


def _fields(value: Value) -> dict[str, object]:
    return {
        "name": value.name,
        "value": shown(value.option, value.value),
        "origin": value.origin,
        "line": value.line,
    }


def _text(value: Value) -> str:
    seen = shown(value.option, value.value)
    if seen is None:
        return "-"
    return seen if isinstance(seen, str) else json.dumps(seen, ensure_ascii=False)


def _origin(value: Value) -> str:
    return value.origin if value.line is None else f"{value.origin}, line {value.line}"


@click.group(cls=common.Group)
def config() -> None:
    """Settings: show effective settings and their source, check the file, explain an option."""


@config.command("show")
@verb
def show(context: Context) -> CommandResult:
    """Show effective settings and their source: default, gitlab.yml or config.yml."""

    return show_result(context.values())


@config.command("check")
@verb
def check(context: Context) -> CommandResult:
    """Check config.yml and config.d, and report every problem with its line."""
    try:
        return check_result(context.values(), settings.file())
    except BadSettings as failure:
        return problems_result(failure, settings.file())


def _known_keys(context: click.Context, argument: click.Parameter, begun: str) -> list[str]:
    """Return the options and sections that begin so, for completion."""
    names = [name for name, _ in leaves(OPTIONS)]
    sections = [name.rpartition(".")[0] for name in names]
    return sorted(name for name in {*names, *sections} if name and name.startswith(begun))


@config.command("explain")
@click.argument("wanted", metavar="KEY", shell_complete=_known_keys)
@verb
def explain(context: Context, wanted: str) -> CommandResult:
    """Explain an option: purpose, allowed values, default.

    KEY is an option (compression.threads) or a section (compression).
    """

    return explain_result(context.values(), wanted)
