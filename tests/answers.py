"""Every answer with --json, held against the schema of its command (docs/schemas/, shipped with the package)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

SCHEMAS = Path(__file__).resolve().parents[1] / "docs/schemas"
COMMON, USAGE = "common.json", "usage.json"
PROGRAMS = ("gitlab-mm", "gitlab-mm-backup", "gitlab-mm-restore", "gitlab-mm gate")


def file_of(command: str, exit_code: int = 0) -> str:
    """Name of the schema for an answer; a failure before a command begins has that of the program."""
    early = command in PROGRAMS and exit_code in (1, 2)
    return USAGE if early else f"{command.replace(' ', '-')}.json"


@functools.lru_cache(None)
def registry() -> Registry[Any]:
    """All schemas, by their $id."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in SCHEMAS.glob("*.json")]
    return Registry().with_resources(
        [(document["$id"], Resource.from_contents(document)) for document in documents]
    )


@functools.lru_cache(None)
def validator(name: str) -> Draft202012Validator:
    """What holds a document against one schema."""
    schema = registry().contents(name)
    return Draft202012Validator(schema, registry=registry(), format_checker=FormatChecker())


def validate(document: dict[str, Any]) -> None:
    """Raise AssertionError with every place where an answer is not what its schema says."""
    name = file_of(document["command"], document["exit_code"])
    found = sorted(validator(name).iter_errors(document), key=str)
    told = [f"{error.json_path}: {error.message[:300]}" for error in found]
    told += [
        f"{error.json_path}: {error.message[:300]}" for top in found for error in top.context or ()
    ]
    assert not told, f"docs/schemas/{name}: " + "; ".join(told)
