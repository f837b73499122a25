"""The table of options: what is told of it, what an editor checks by it, and that secrets stay in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gitlab_mm_backup.cli import config
from gitlab_mm_backup.config import config_file, option_text, settings
from gitlab_mm_backup.config.options import (
    HIDDEN,
    Option,
    choice,
    duration,
    flag,
    leaves,
    list_of,
    number,
    path,
    rate,
    secret,
    shown,
    size,
    words,
)
from gitlab_mm_backup.config.schema import OPTIONS
from gitlab_mm_backup.config.settings import Value
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.result import CommandResult
from gitlab_mm_backup.system.redaction import Secret
from tests.unit.helpers.builders import ROOT
from tests.unit.package.test_manual import generate

CANARY = "canary-4711-0815"
# One of everything that a table can hold.
TABLE = (
    Option("switch", "On or off.", flag(), False),
    Option("names", "Some names.", list_of(words()), []),
    Option("password", "A password.", secret(), example="correct horse"),
    Option("rhythm", "How often.", choice("nightly", "off"), "nightly"),
    Option(
        "places",
        "Where else.",
        options=(
            Option(
                "to", "Which.", words("[a-z0-9]+:.+", "a remote and a path, b2:sets"), required=True
            ),
            Option("key", "Its key.", secret()),
            Option("keep", "How long.", duration(), "4w"),
        ),
        several=True,
        example="""
            - to: b2:sets
              key: hunter2
        """,
    ),
    Option("new", "Renamed.", path(), old_name="old"),
    Option(
        "lists",
        "Renamed, with renamed keys in it.",
        options=(
            Option("type", "Renamed.", words(), required=True, old_name="kind"),
            Option("on", "Renamed.", words(), "x", old_name="when"),
        ),
        several=True,
        old_name="items",
    ),
    Option("deep", "Below.", options=(Option("down", "Down.", number(1, 9), 3),)),
)


class File:
    """A config.yml by the table above."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "config.yml"

    def read(self, text: str) -> dict[str, Any]:
        self.path.write_text(text, encoding="utf-8")
        given = config_file.read(self.path, TABLE, required=True)
        return {name: value.value for name, value in given.items()}

    def problems(self, text: str) -> str:
        with pytest.raises(Failure) as caught:
            self.read(text)
        assert caught.value.exit_code is ExitCode.USAGE
        return f"{caught.value.message}: {caught.value.detail}"


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


# lists of mappings, and secrets


def test_a_list_of_mappings(file: File) -> None:
    found = file.read("places:\n- to: b2:a\n- {to: x:b, key: s, keep: 0}\n")
    assert found["places"] == [
        {"to": "b2:a", "key": None, "keep": duration().read("4w")},
        {"to": "x:b", "key": Secret("s"), "keep": None},
    ]
    assert file.read("places:\n") == {"places": []}
    assert file.read("names: [a, b]\nswitch: true\n") == {"names": ("a", "b"), "switch": True}


def test_all_problems_of_a_list_with_their_lines(file: File) -> None:
    told = file.problems(
        "places:\n- key: x\n- to: 7\n- to: b2:x\n  kee: 1d\n  keep: 1y\n- b2:y\nnames: x\nswitch: 1\n"
    )
    for problem in (
        "line 2: places[1]: to must be given",
        "line 3: places[2].to: must be a remote and a path, b2:sets",
        "line 5: places[3].kee: unknown option; did you mean keep?",
        "line 6: places[3].keep: must be seconds",
        "line 7: places[4] must hold options",
        "line 8: names: must be a list",
        "line 9: switch: must be true or false",
    ):
        assert problem in told
    assert "places[2]: to must be given" not in told
    assert "must be a list; each item begins with a hyphen" in file.problems("places: b2:x\n")


def test_what_has_no_default_may_stand_empty(file: File) -> None:
    assert file.read("password:\n") == {}


def test_a_value_that_is_not_given_is_null(file: File) -> None:
    found = file.read("places: [{to: 'b2:x'}]\n")
    assert shown(TABLE[4], found["places"])[0]["key"] is None


def test_a_secret_is_a_secret_and_is_not_shown(file: File) -> None:
    found = file.read(f"password: {CANARY}\nplaces: [{{to: 'b2:x', key: {CANARY}}}]\n")
    assert found["password"] == Secret(CANARY)
    values = [Value(name, option, found.get(name), "x", 1) for name, option in leaves(TABLE[2:3])]
    values += [Value("places", TABLE[4], found["places"], "x", 2)]
    seen = str([shown(value.option, value.value) for value in values])
    assert seen.count(HIDDEN) == 2
    for outcome in (config.show_result(values), config.explain_result(values, "places")):
        assert CANARY not in f"{outcome.lines} {json.dumps(outcome.fields)}"
        assert HIDDEN in json.dumps(outcome.fields)


@pytest.mark.parametrize(
    "text",
    [
        f"password: [{CANARY}]\n",
        f"password: *{CANARY}\n",
        f"password: &{CANARY} [\n",
        f"password: !{CANARY} {CANARY}\n",
        f"password: '{CANARY}\n",
        f'password: "{CANARY}\\q"\n',
        f"password: {CANARY}: {CANARY}\n",
        f"password: @{CANARY}\n",
        f"password: {CANARY}\n\tx: 1\n",
        f"password: {CANARY}\n---\n",
        f"%{CANARY}\n",
        f"? [{CANARY}]\n: 1\n",
        f"? {{password: {CANARY}}}\n: 1\n",
        f"rhythm: {CANARY}\nswitch: {CANARY}\nnames: {CANARY}\nplaces: {CANARY}\ndeep: {CANARY}\n",
        f"places: [{{to: {CANARY}}}, {CANARY}]\ndeep: {{down: {CANARY}}}\n",
        f"password: {CANARY}\0\n",
    ],
)
def test_no_problem_tells_a_value(text: str, file: File) -> None:
    assert CANARY not in file.problems(text)


def test_what_yaml_cannot_convert_is_told_without_the_words_of_python(file: File) -> None:
    told = file.problems("password: !vault |\n  secret\nnames: 2026-13-45\n")
    assert "line 1: password: cannot be understood; give a plain value, a text in quotes" in told
    assert "line 3: names: " in told and "Error" not in told


# what is told


def test_where_a_value_comes_from(tmp_path: Path) -> None:
    ours, gitlab = tmp_path / "config.yml", tmp_path / "gitlab.yml"
    ours.write_text("\ncompression:\n  threads: 2\n", encoding="utf-8")
    gitlab.write_text("production: {backup: {keep_time: 604800}}\n", encoding="utf-8")
    values = settings.look(ours, gitlab)
    told = config.show_result(values).fields["options"]
    found = {
        setting["name"]: (setting["value"], setting["origin"], setting["line"]) for setting in told
    }
    assert found["backup_path"] == ("/var/opt/gitlab/backups", "default", None)
    assert found["keep_time"] == ("1w", "gitlab.yml", None)
    assert found["compression.threads"] == (2, "config.yml", 3)
    (line,) = (
        value
        for value in config.show_result(values).lines
        if value.startswith("compression.threads")
    )
    assert line.split() == ["compression.threads", "2", "config.yml,", "line", "3"]


@pytest.mark.parametrize("name", [*(name for name, _ in leaves(OPTIONS)), "compression"])
def test_every_option_is_explained(name: str, tmp_path: Path) -> None:
    values = settings.look(tmp_path / "none", tmp_path / "none")
    outcome = config.explain_result(values, name)
    assert outcome.lines[0].startswith(name)
    assert max(map(len, outcome.lines)) <= 79
    for option in outcome.fields["options"]:
        assert option["text"].endswith(".")


def test_an_example_is_explained() -> None:
    lines = config.explain_result([Value("places", TABLE[4], [], "default", None)], "places").lines
    assert "    places:" in lines and "      - to: b2:sets" in lines
    assert "  - key: Its key. Default: none" in lines


def test_no_such_option(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        config.explain_result(settings.look(tmp_path / "none", tmp_path / "none"), "keep_tiem")
    assert caught.value.exit_code is ExitCode.USAGE
    assert "keep_time" in caught.value.detail


def test_an_option_is_found_by_its_old_name(tmp_path: Path) -> None:
    values = settings.look(tmp_path / "none", tmp_path / "none")
    (option,) = config.explain_result(values, "gate").fields["options"]
    assert option["name"] == "upgrade_gate"
    assert "The old name gate is still read." in option["text"]
    (option,) = config.explain_result(values, "bandwidth").fields["options"]
    assert option["name"] == "restic.bandwidth"
    assert "bandwidth outside of the section is still read." in option["text"]


def test_a_valid_file_is_said_to_be_valid(tmp_path: Path) -> None:
    def check(text: str) -> CommandResult:
        (tmp_path / "config.yml").write_text(text, encoding="utf-8")
        file = tmp_path / "config.yml"
        return config.check_result(settings.look(file, tmp_path / "none"), Path("it"))

    assert check("keep_time: 0\n").fields["given"] == ["keep_time"]
    assert check("keep_time: 0\n").lines == ["it is valid. Changed from default: keep_time"]
    assert check("").lines == ["it is valid. Changed from default: nothing"]
    assert check("").warnings == []
    old = check("rehearse_in: /srv/x\n")
    assert old.fields["given"] == ["scratch_dir"]
    assert old.warnings == ["it, line 1: rehearse_in is now scratch_dir"]
    assert old.exit_code is ExitCode.WARNINGS


def test_secrets_that_every_user_can_read_are_told(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    secret = tmp_path / "config.d" / "10-mail.yml"
    secret.parent.mkdir()
    secret.write_text(
        "notifications:\n- {type: mattermost, to: 'https://mm.example.org/hooks/b0'}\n"
    )
    for written, text in ((file, "keep_time: 3d\n"), (secret, secret.read_text())):
        written.write_text(text)
        written.chmod(0o644)
    told = config.check_result(settings.look(file, tmp_path / "none"), file)
    assert told.warnings == [
        f"Every user can read {secret}, which has a secret: chmod 640 {secret}"
    ]
    later = secret.with_name("20-none.yml")
    later.write_text("notifications: []\n")
    assert len(config.check_result(settings.look(file, tmp_path / "none"), file).warnings) == 1
    secret.chmod(0o640)
    assert config.check_result(settings.look(file, tmp_path / "none"), file).warnings == []


def test_each_problem_is_a_line_and_an_object(tmp_path: Path) -> None:
    file, other = tmp_path / "config.yml", tmp_path / "config.d" / "fleet.yml"
    other.parent.mkdir()
    file.write_text("keep_tiem: 3d\n")
    other.write_text("# ours\nnice: 99\nstore: [\n")
    with pytest.raises(config_file.BadSettings) as caught:
        settings.look(file, tmp_path / "none")
    told = config.problems_result(caught.value, file)
    assert told.exit_code is ExitCode.USAGE
    assert told.lines[0] == f"{file}, line 1: keep_tiem: unknown option; did you mean keep_time?"
    assert told.lines[1].startswith(f"{other}, line 4: not YAML")
    assert told.fields["problems"][0] == {
        "file": str(file),
        "line": 1,
        "key": "keep_tiem",
        "message": "unknown option; did you mean keep_time?",
    }
    assert caught.value.message == "The settings have 2 problems"
    assert f"{other}, line 4" in caught.value.detail


# what an editor checks


def parsed(text: str) -> Any:
    """A document as an editor reads it (YAML 1.2): the key on is a word there, and not true."""
    return yaml.safe_load(re.sub(r"\bon:", '"on":', text))


def editor(options: tuple[Option, ...] = TABLE) -> Draft202012Validator:
    schema = option_text.schema(options)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize(
    "text",
    [
        "switch: true",
        "names: []",
        "names: [a]",
        "password: x",
        "rhythm: off",
        'rhythm: "off"',
        "places:",
        "places: [{to: 'b2:x', key: y, keep: 7d}]",
        "places: [{to: 'b2:x', keep: 0}]",
        "deep: {down: 9}",
        "deep:",
        "old: /x",
        "new: /x",
        "items: [{kind: x, when: y}]",
        "lists: [{type: x, on: y}]",
    ],
)
def test_an_editor_takes_what_we_take(text: str, file: File) -> None:
    file.read(text)
    assert editor().is_valid(parsed(text))


@pytest.mark.parametrize(
    "text",
    [
        "swich: true",
        "switch: 1",
        "names: a",
        "names: [1]",
        "password: 7",
        "password: ''",
        "rhythm: on",
        "places: {}",
        "places: [{key: x}]",
        "places: [{to: nowhere}]",
        "places: [{to: 'b2:x', kee: 1}]",
        "places: [{to: 'b2:x', keep: 7y}]",
        "deep: {down: 10}",
        "deep: {up: 1}",
        "old: x",
        "lists: [{on: x}]",
        "deep: [1]",
    ],
)
def test_an_editor_refuses_what_we_refuse(text: str, file: File) -> None:
    file.problems(text)
    assert not editor().is_valid(parsed(text))


@pytest.mark.parametrize("live", [True, False])
def test_an_editor_takes_the_shipped_file(live: bool) -> None:
    document = parsed(option_text.sample(OPTIONS, live=live)) or {}
    editor(OPTIONS).validate(document)


def test_an_editor_takes_the_example() -> None:
    text = (ROOT / "debian/examples/config.yml").read_text(encoding="utf-8")
    editor(OPTIONS).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "option", [option for _, option in leaves((*OPTIONS, *TABLE)) if option.example]
)
def test_every_example_is_right(option: Option, tmp_path: Path) -> None:
    text = option_text.example(option)
    (tmp_path / "x").write_text(text, encoding="utf-8")
    config_file.read(tmp_path / "x", (option,), required=True)
    editor((option,)).validate(parsed(text))


def test_the_package_ships_what_the_table_says(tmp_path: Path) -> None:
    files = generate(tmp_path)
    example = files["doc/gitlab-mm-backup/examples/all-options.yml"]
    assert example == option_text.sample(OPTIONS)
    schema = json.loads(files["gitlab-mm-backup/config.schema.json"])
    assert schema == option_text.schema(OPTIONS)
    installed = (ROOT / "debian/config.yml").read_text(encoding="utf-8")
    assert len(installed.splitlines()) < 10
    assert "/usr/share/doc/gitlab-mm-backup/examples/all-options.yml\n" in installed
    for text in (example, installed):
        assert f"$schema={option_text.SCHEMA_FILE}\n" in text
    assert option_text.SCHEMA_FILE == "/usr/share/gitlab-mm-backup/config.schema.json"


def test_the_table_knows_a_path() -> None:
    assert path().show(path().read("/srv/x")) == "/srv/x"


# kinds


@pytest.mark.parametrize(
    ("given", "of_100_gib"),
    [("5%", 5 << 30), ("0%", 0), ("90%", 90 << 30), ("500M", 500 << 20), ("2G", 2 << 30), (0, 0)],
)
def test_an_amount_of_a_disk(given: Any, of_100_gib: int) -> None:
    assert size().read(given).of(100 << 30) == of_100_gib
    assert size().read(size().show(size().read(given))).of(100 << 30) == of_100_gib
    assert Draft202012Validator(size().schema).is_valid(given)


@pytest.mark.parametrize("given", ["5", 5, "91%", "-1%", "2T", "5 %", True, "", None, "1.5G"])
def test_what_is_no_amount_of_a_disk(given: Any) -> None:
    with pytest.raises(ValueError, match="500M or 2G"):
        size().read(given)
    assert not Draft202012Validator(size().schema).is_valid(given)


@pytest.mark.parametrize(
    ("given", "bytes_a_second"), [("1M", 1 << 20), ("20M", 20 << 20), ("2G", 2 << 30), (0, None)]
)
def test_a_rate_is_shown_as_it_is_given(given: Any, bytes_a_second: int | None) -> None:
    assert rate().read(given) == bytes_a_second
    assert rate().show(rate().read(given)) == given
    assert Draft202012Validator(rate().schema).is_valid(given)


@pytest.mark.parametrize("given", ["20", "20K", 20, "0M", "-1M", True, None, "1.5G"])
def test_what_is_no_rate_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="20M or 1G"):
        rate().read(given)
    assert not Draft202012Validator(rate().schema).is_valid(given)
