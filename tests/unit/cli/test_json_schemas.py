"""The schemas of all answers: one for each verb, complete, and strict about what they do not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from gitlab_mm_backup.cli import main, output
from tests.answers import COMMON, SCHEMAS, USAGE, registry, validate

SAID: dict[str, Any] = {
    "schema": output.SCHEMA,
    "command": "verify",
    "run": "5f3c09ab",
    "ok": True,
    "exit_code": 0,
    "seconds": 0.1,
    "warnings": [],
    "error": None,
    "set": "1795310000_2026_11_22_10.11.4",
    "origin": "unsigned",
    "key": None,
    "checks": [{"name": "checksums", "result": "passed", "detail": ""}],
}
ERROR = {"message": "It is damaged", "detail": "", "hint": ""}


def verbs(command: click.Command = main.group, above: str = "") -> Iterator[str]:
    """Every verb of the command line, as answers name it."""
    inner = main.commands_of(command) if isinstance(command, click.Group) else {}
    for verb in inner.values():
        words = f"{above} {verb.name}".strip()
        if not isinstance(verb, click.Group) or verb.invoke_without_command:
            yield words
        yield from verbs(verb, words)


def test_every_verb_has_a_schema_and_every_schema_a_verb() -> None:
    wanted = {f"{verb.replace(' ', '-')}.json" for verb in verbs()}
    assert {path.name for path in SCHEMAS.iterdir()} == {*wanted, COMMON, USAGE}
    for verb in verbs():
        schema = registry().contents(f"{verb.replace(' ', '-')}.json")
        assert schema["properties"]["command"] == {"const": verb}


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_a_schema_is_one_and_tells_every_field(path: Any) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema["$id"] == path.name
    Draft202012Validator.check_schema(schema)
    for place, definition in properties(schema):
        told = "description" in definition or "$ref" in definition or "const" in definition
        assert told or path.name == USAGE, f"{place}: no description"
    if path.name != COMMON:
        assert schema["unevaluatedProperties"] is False


def properties(schema: Any, place: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema; objects without a word on fields unknown to them are an error."""
    if isinstance(schema, list):
        for definition in schema:
            yield from properties(definition, place)
    if not isinstance(schema, dict):
        return
    for name, inner in schema.get("properties", {}).items():
        if "if" not in place:
            yield f"{place}.{name}", inner
    for name, part in schema.items():
        yield from properties(part, f"{place}.{name}")


def test_an_answer_that_is_as_told() -> None:
    validate(SAID)
    validate({**SAID, "ok": False, "exit_code": 1, "error": ERROR})
    validate({name: SAID[name] for name in list(SAID)[:7]} | {"error": ERROR, "ok": False})
    validate({**{name: SAID[name] for name in list(SAID)[:7]}, "command": "gitlab-mm", "ok": False,
              "exit_code": 2, "error": ERROR})  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"set": None},
        {"run": "5F3C09AB"},
        {"warnings": None},
        {"seconds": "1"},
        {"checks": [{"name": "x", "result": "passed"}]},
        {"checks": [{"name": "x", "result": "fine", "detail": ""}]},
        {"checks": [{"name": "x", "result": "passed", "detail": "", "more": 1}]},
        {"error": {"message": "x", "detail": ""}},
        {"error": {**ERROR, "trace": ""}},
    ],
)
def test_an_answer_that_is_not(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"verify\.json: \$"):
        validate({**SAID, **change})


def test_an_answer_without_what_it_promises() -> None:
    with pytest.raises(AssertionError, match="'checks' is a required property"):
        validate({name: value for name, value in SAID.items() if name != "checks"})


def test_every_answer_has_the_version_of_its_schema() -> None:
    """Another number, or none, is refused: who reads the answers can rely on it."""
    validate(SAID)
    for document in ({**SAID, "schema": output.SCHEMA + 1}, {**SAID, "schema": "1"}):
        with pytest.raises(AssertionError, match="schema"):
            validate(document)
    with pytest.raises(AssertionError, match="schema"):
        validate({name: value for name, value in SAID.items() if name != "schema"})
