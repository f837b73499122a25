"""Documents that somebody made to hold us up, or to make a parser fail in its own way."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
import yaml

from gitlab_mm_backup.config import config_file
from gitlab_mm_backup.config.schema import OPTIONS
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import json_text
from gitlab_mm_backup.system import validation
from gitlab_mm_backup.system.validation import Refused

HOSTILE_JSON: dict[str, str | bytes] = {
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "lists just too deep": "[" * 102 + "]" * 102,
    "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "a deep one that is torn": "[" * 100_000,
    "a whole number": "[" + "9" * 5000 + "]",
    "a negative number": "[-" + "9" * 200 + "]",
    "a fraction": "[0." + "9" * 200 + "]",
    "an exponent": "[1e" + "9" * 200 + "]",
    "no number": "[NaN]",
    "nothing": "",
    "two": "{}{}",
    "no UTF-8": b'"\xff"',
}
HOSTILE_YAML = {
    "deep lists": "[" * 20_000 + "]" * 20_000,
    "lists just too deep": "[" * 102 + "]" * 102,
    "deep mappings": "".join(f"{' ' * n}a:\n" for n in range(300)),
    "aliases of aliases": "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
    "merges of merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9)),
    "an alias in itself": "&a [*a]",
    "a mapping in itself": "a: &a {b: *a}",
    "a whole number": "a: " + "9" * 5000,
    "sixties": "a: " + ":".join(["59"] * 5000),
    "a date that is none": "a: 2026-13-45",
    "Python's own": "!!python/object/apply:os.system [true]",
    "no YAML": "a: [",
    "a character that YAML has not": "a: \0",
    "several": "--- 1\n--- 2\n",
    "large": "a: " + "x" * (5 << 20),
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_json_that_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=r"^it (is|holds)"):
        validation.from_json(HOSTILE_JSON[name])


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_yaml_that_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=r"^it (is|holds)"):
        validation.from_yaml(HOSTILE_YAML[name])


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_a_config_yml_with_it_is_refused_with_its_problems(name: str, tmp_path: Any) -> None:
    path = tmp_path / "config.yml"
    path.write_text(HOSTILE_YAML[name])
    with pytest.raises(Failure, match=r"has [0-9]+ problem"):
        config_file.read(path, OPTIONS, required=True)


def test_json_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "LARGEST_DOCUMENT", 10)
    assert validation.from_json("[1,2,3,4] ") == [1, 2, 3, 4]
    with pytest.raises(Refused, match="larger than"):
        validation.from_json("[1,2,3,4]  ")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"a": [1, -2.5, True, None, "日本語 \ud83d"], "b": {"c": []}},
        10**99,
        "x" * 100_000,
    ],
)
def test_json_as_it_is(value: Any) -> None:
    assert validation.from_json(json.dumps(value)) == value
    assert validation.from_json(json.dumps(value).encode()) == value
    deep = "[" * 101 + "]" * 101
    assert json.dumps(validation.from_json(deep)) == deep


def test_yaml_as_it_is() -> None:
    text = "production: &base {a: 1, b: [x, 2026-11-29]}\ntest:\n  <<: *base\n  a: 2.5\n"
    base = {"a": 1, "b": ["x", date(2026, 11, 29)]}
    assert validation.from_yaml(text) == {"production": base, "test": {**base, "a": 2.5}}
    assert validation.from_yaml("") is None
    assert validation.yaml_tree("") is None
    assert isinstance(validation.yaml_tree("a: 1"), yaml.MappingNode)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [100, 201, 320, 480, 900, 100_000])
def test_settings_are_as_deep_as_we_can_copy_or_refused(opening: str, levels: int) -> None:
    import copy

    closing = "]" if opening == "[" else "}"
    text = '{"a":' + opening * levels + "1" + closing * levels + "}"
    for parse in (json_text.parse, json_text.parse_config):
        try:
            found = parse(text, "x")
        except Failure as failure:
            assert "too deep" in failure.detail
        else:
            assert copy.deepcopy(found) == found
