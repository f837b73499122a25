"""JSON files: the named keys change, and no other byte."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import json_file, json_text
from gitlab_mm_backup.mattermost.json_file import JsonFile
from gitlab_mm_backup.mattermost.json_text import Keys
from tests.unit.helpers.builders import ROOT

REAL = ROOT / "tests" / "lab" / "fixtures" / "config-5.37.json"
SECRET = "glsec-0123456789abcdef"
SECRETS = Path("/etc/gitlab/gitlab-secrets.json")
HERE = Path("/etc/config.json")


class Number(str):
    """A number as it stands in the text."""


class Text(str):
    """A string literal as it stands in the text, quotes included."""


# Any JSON value, with the very letters that somebody wrote it in.

NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40).map(lambda number: Number(number)),
    st.sampled_from(
        ["1.0", "-0", "0.10", "1e5", "1E+5", "-1.5e-300", "1e300", "-1E300", "1" * 400, "0e0"]
    ).map(Number),
)
LETTERS = st.text(st.characters(codec="utf-8"), max_size=6)


def written(text: str, way: int) -> Text:
    """Write ``text`` as Python, Go or Ruby do, or with every letter escaped."""
    if way == 0:
        return Text(json.dumps(text))
    if way == 1:
        return Text(json_file._rendered(text))
    if way == 2:
        return Text(json.dumps(text, ensure_ascii=False).replace("/", "\\/"))
    units = text.encode("utf-16-be")
    return Text(
        '"'
        + "".join(f"\\u{units[at]:02X}{units[at + 1]:02x}" for at in range(0, len(units), 2))
        + '"'
    )


STRINGS = st.builds(written, LETTERS, st.integers(0, 3))
SCALARS = st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"]).map(Number))


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.sampled_from(
        ["Id", "Secret", "Enable", "", "~", "a/b", "~1", "<&>", "0", "-", "ü", " "]
    )
    return st.dictionaries(st.one_of(keys, LETTERS), values, max_size=4)


VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), objects(inner)), max_leaves=8
)
DOCUMENTS = objects(st.one_of(VALUES, objects(VALUES)))


class Layout:
    """Puts blanks where JSON allows them."""

    def __init__(self, kind: str, draw: Iterator[str]) -> None:
        self.kind, self.draw = kind, draw

    def newline(self, depth: int) -> str:
        return {
            "go": "\n" + "    " * depth,
            "ruby": "\n" + "  " * depth,
            "tabs": "\r\n" + "\t" * depth,
            "compact": "",
        }.get(self.kind) or (next(self.draw) if self.kind == "odd" else "")

    def colon(self) -> str:
        if self.kind == "odd":
            return f"{next(self.draw)}:{next(self.draw)}"
        return ":" if self.kind == "compact" else ": "

    def comma(self) -> str:
        return f"{next(self.draw)}," if self.kind == "odd" else ","

    def text(self, value: Any, depth: int = 0) -> str:
        if isinstance(value, str):
            return str(value)
        inner = depth + 1
        if isinstance(value, dict):
            parts = [
                f"{written(key, len(key) % 4)}{self.colon()}{self.text(item, inner)}"
                for key, item in value.items()
            ]
            left, right = "{", "}"
        else:
            parts = [self.text(item, inner) for item in value]
            left, right = "[", "]"
        if not parts:
            return left + (next(self.draw) if self.kind == "odd" else "") + right
        joined = parts[0]
        for part in parts[1:]:
            joined += f"{self.comma()}{self.newline(inner)}{part}"
        return f"{left}{self.newline(inner)}{joined}{self.newline(depth)}{right}"


@st.composite
def texts(draw: st.DrawFn) -> str:
    blanks = draw(
        st.lists(st.sampled_from(["", " ", "\n", "\r\n\t", "  "]), min_size=1, max_size=7)
    )

    def endless() -> Iterator[str]:
        while True:
            yield from blanks

    layout = Layout(draw(st.sampled_from(["go", "ruby", "tabs", "compact", "odd"])), endless())
    end = draw(st.sampled_from(["", "\n", "\r\n", " \n\n"]))
    start = blanks[0] if layout.kind == "odd" else ""
    return start + layout.text(draw(DOCUMENTS)) + end


NEW = st.one_of(
    LETTERS, st.booleans(), st.none(), st.integers(-9, 9), st.sampled_from(["<&>", '"\\'])
)
PATHS = st.one_of(
    st.tuples(LETTERS),
    st.tuples(LETTERS, LETTERS),
    st.tuples(
        st.sampled_from(["GitLabSettings", "mattermost"]), st.sampled_from(["Id", "gitlab_id"])
    ),
    st.tuples(st.just("Missing"), st.just("Section"), st.just("Key")),
)


def file_of(text: str) -> JsonFile:
    return JsonFile(HERE, text, json_text.parse(text, str(HERE)))


def secrets_file_of(text: str) -> JsonFile:
    return JsonFile(SECRETS, text, json_text.parse(text, str(SECRETS)))


def all_paths(document: Any, path: Keys = ()) -> Iterator[Keys]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*path, key)
            yield from all_paths(value, (*path, key))


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, dict[Keys, Any]]:
    """A text, and new values for up to four of its keys, or for keys it lacks."""
    text = draw(texts())
    known = list(all_paths(json.loads(text)))
    paths = st.one_of(st.sampled_from(known), PATHS) if known else PATHS
    chosen = draw(st.lists(paths, min_size=1, max_size=4, unique=True))
    assume(
        not any(path != other and other[: len(path)] == path for path in chosen for other in chosen)
    )
    return text, {path: draw(NEW) for path in chosen}


def put(document: dict[str, Any], changes: dict[Keys, Any]) -> dict[str, Any]:
    """Do to a copy of the document what the patch must do to the text."""
    after = copy.deepcopy(document)
    for path, value in changes.items():
        inside = after
        for step in path[:-1]:
            inside = inside.setdefault(step, {})
        inside[path[-1]] = value
    return after


def plain_in_the_way(document: Any, path: Keys) -> bool:
    for step in path[:-1]:
        if step not in document:
            return False
        document = document[step]
        if not isinstance(document, dict):
            return True
    return False


def exact(document: Any) -> str:
    """Tell documents apart that Python calls equal: 1, 1.0 and true."""
    return json.dumps(document)


# changing


@given(edits())
@example(('{"a": {}}', {("a", "b"): 1, ("a", "c"): 2}))
@example(("{ \n }", {("a",): "x"}))
@example(('{"a": 1e300, "b": [1.0, {"a": 2}]}', {("b",): True}))
@example(('{"a": 1}', {("a",): True}))
@example(('{"a": 1}', {("a",): 1.0}))
@example(('{"a" : {"b":1 } ,"c":2 }', {("a", "x"): 1, ("y",): 2}))
def test_the_named_keys_change_and_the_way_back_is_exact(edit: tuple[str, dict[Keys, Any]]) -> None:
    text, changes = edit
    file = file_of(text)
    if any(plain_in_the_way(file.document, path) for path in changes):
        with pytest.raises(Failure, match="is not a section"):
            json_file.setting(file.document, changes)
        return
    operations = json_file.setting(file.document, changes)
    after = json_file.apply(file, operations)
    assert exact(json.loads(after)) == exact(put(file.document, changes))
    assert unchanged_bytes(text, after, operations)
    back = json_file.apply(file_of(after), json_file.inverse(operations))
    assert json.loads(back) == file.document
    if all(spelt_as_usual(text, path) for path in changes):
        assert back == text
    assert json_file.setting(json.loads(after), changes) == []


def literal_at(text: str, path: Keys) -> str:
    """Return the letters of the value at ``path``, "" where there is none."""
    members: dict[Keys, json_file._Member] = {}
    json_file._scan(text, text.index("{"), (), members, json_text.Names(go=False))
    return text[members[path].value : members[path].end] if path in members else ""


def spelt_as_usual(text: str, path: Keys) -> bool:
    """Tell whether the value at ``path``, if there is one, is written as Go and Ruby both would.

    A patch holds the value alone; of another spelling of it nothing is known on the way back.
    """
    literal = literal_at(text, path)
    usual = not literal or literal == json.dumps(json.loads(literal), ensure_ascii=False)
    return usual and not set(literal) & set("&<>\u2028\u2029")


def common(one: str, other: str) -> int:
    """Return how many letters both begin with."""
    pairs = enumerate(zip(one, other))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def unchanged_bytes(before: str, after: str, operations: json_file.Operations) -> bool:
    """Tell whether ``after`` is ``before`` but for the one piece that a single act puts there."""
    acts = [operation for operation in operations if operation["op"] != "test"]
    if not acts:
        return before == after
    if len(acts) > 1:
        return True  # the way back, which is exact, says it for several
    added = [json_file._rendered(acts[0]["value"], plain) for plain in (False, True)]
    start = common(before, after)
    end = common(before[start:][::-1], after[start:][::-1])
    piece = after[start : len(after) - end]
    if acts[0]["op"] == "replace":
        return any(piece in text for text in added)
    return len(piece) <= len(added[0]) + len(json_file._rendered(acts[0]["path"])) + 40


@given(texts(), st.data())
def test_keys_that_keep_their_value_make_no_patch(text: str, data: st.DataObject) -> None:
    document = json.loads(text)
    paths = list(all_paths(document))
    assume(paths)
    path = data.draw(st.sampled_from(paths))
    value: Any = document
    for step in path:
        value = value[step]
    assert json_file.setting(document, {path: value}) == []
    assert json_file.apply(file_of(text), []) == text


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ('{"a":1,"b":2}', {("a",): 3}, '{"a":3,"b":2}'),
        ('{"a":1,"b":2}', {("c",): 3}, '{"a":1,"b":2,"c": 3}'),
        ('{\n    "a": {\n        "b": 1\n    }\n}', {("a", "c"): "x"},
         '{\n    "a": {\n        "b": 1,\n        "c": "x"\n    }\n}'),
        ("{}", {("a", "b"): True}, '{"a": {"b": true}}'),
        ('{"a": [1.0, 1e300]}\r\n', {("b",): None}, '{"a": [1.0, 1e300],"b": null}\r\n'),
        ('{"a": "x"}', {("a",): "<&>\u2028ü"}, '{"a": "\\u003c\\u0026\\u003e\\u2028ü"}'),
        (r'{"\u0061": 1}', {("a",): 2}, r'{"\u0061": 2}'),
        ('{"a/b": {"~": 1}}', {("a/b", "~"): 2}, '{"a/b": {"~": 2}}'),
        ('{"x": {"a": 1}, "a": 2}', {("a",): 3}, '{"x": {"a": 1}, "a": 3}'),
        ('{"x": [{"a": "}"}], "a": 2}', {("a",): 3}, '{"x": [{"a": "}"}], "a": 3}'),
    ],
)  # fmt: skip
def test_examples(before: str, changes: dict[Keys, Any], after: str) -> None:
    operations = json_file.setting(json.loads(before), changes)
    assert json_file.apply(file_of(before), operations) == after


def test_two_keys_of_a_real_file_are_a_diff_of_two_lines(tmp_path: Path) -> None:
    shutil.copy(REAL, tmp_path / "config.json")
    before = (tmp_path / "config.json").read_bytes()
    file = json_file.read(tmp_path / "config.json")
    changes: dict[Keys, Any] = {
        ("GitLabSettings", "Id"): "new-id",
        ("GitLabSettings", "Secret"): SECRET,
    }
    operations = json_file.setting(file.document, changes)
    json_file.write(file.path, json_file.apply(file, operations))
    after = (tmp_path / "config.json").read_bytes()
    lines = list(zip(before.split(b"\n"), after.split(b"\n")))
    assert before.count(b"\n") == after.count(b"\n")
    assert [new.strip() for old, new in lines if old != new] == [
        f'"Secret": "{SECRET}",'.encode(),
        b'"Id": "new-id",',
    ]
    file = json_file.read(tmp_path / "config.json")
    json_file.write(file.path, json_file.apply(file, json_file.inverse(operations)))
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_secrets_file_as_ruby_writes_it_comes_back_byte_for_byte() -> None:
    """Ruby's JSON.pretty_generate leaves as they are the letters that Go escapes."""
    text = '{\n  "mattermost": {\n    "gitlab_secret": "a&b<c>d",\n    "gitlab_id": "x"\n  }\n}\n'
    path = Path("/etc/gitlab/gitlab-secrets.json")
    file = JsonFile(path, text, json.loads(text))
    operations = json_file.setting(file.document, {("mattermost", "gitlab_secret"): "new"})
    after = json_file.apply(file, operations)
    back = JsonFile(path, after, json.loads(after))
    assert json_file.apply(back, json_file.inverse(operations)) == text


def test_a_patch_begins_with_tests_of_all_that_it_relies_on() -> None:
    document = {"a": {"b": 1}, "c": 2}
    operations = json_file.setting(document, {("a", "b"): 3, ("c",): 4, ("d",): 5})
    kinds = [operation["op"] for operation in operations]
    assert kinds == sorted(kinds, key=lambda kind: kind != "test")
    tested = {
        operation["path"]: operation["value"]
        for operation in operations
        if operation["op"] == "test"
    }
    assert tested == {"/a/b": 1, "/c": 2, "": document}


# a document that has changed meanwhile


@given(edits(), st.data())
def test_a_document_that_has_changed_where_it_matters_is_refused(
    edit: tuple[str, dict[Keys, Any]], data: st.DataObject
) -> None:
    text, changes = edit
    file = file_of(text)
    assume(not any(plain_in_the_way(file.document, path) for path in changes))
    operations = json_file.setting(file.document, changes)
    assume(operations)
    tested = [operation for operation in operations if operation["op"] == "test"]
    chosen = data.draw(st.sampled_from(tested))
    path = json_file._keys(chosen["path"])
    meanwhile = put(file.document, {path: "something else"}) if path else {"something": "else"}
    assume(meanwhile != file.document)
    now = JsonFile(HERE, json.dumps(meanwhile), meanwhile)
    with pytest.raises(Failure, match="has changed since it was read") as caught:
        json_file.apply(now, operations)
    assert "something" not in str(caught.value)


@pytest.mark.parametrize(("before", "meanwhile"), [("true", "1"), ("0", "false"), ("1", '"1"')])
def test_a_value_of_another_type_is_another_value(before: str, meanwhile: str) -> None:
    operations = json_file.setting(json.loads(f'{{"a": {before}}}'), {("a",): "new"})
    with pytest.raises(Failure, match="has changed since it was read"):
        json_file.apply(file_of(f'{{"a": {meanwhile}}}'), operations)


def test_taking_back_refuses_a_value_that_is_another_now() -> None:
    operations = json_file.inverse(json_file.setting({"a": 1}, {("a",): 2}))
    with pytest.raises(Failure, match="has changed since it was read"):
        json_file.apply(file_of('{"a": 3}'), operations)


def test_taking_a_made_section_back_does_not_take_what_others_put_there() -> None:
    changes: dict[Keys, Any] = {("GitLabSettings", "Id"): "x"}
    back = json_file.inverse(json_file.setting({}, changes))
    later = file_of('{"GitLabSettings": {"Id": "x", "Enable": true, "Scope": "read"}}')
    with pytest.raises(Failure, match="has changed since it was read"):
        json_file.apply(later, back)


def test_a_failure_shows_no_value() -> None:
    operations = json_file.setting({"a": SECRET}, {("a",): SECRET + "x"})
    with pytest.raises(Failure) as caught:
        json_file.apply(file_of('{"a": "other-secret"}'), operations)
    told = f"{caught.value} {caught.value.hint} {caught.value.__cause__!r}"
    assert SECRET not in told and "other-secret" not in told


# reading


@pytest.mark.parametrize(
    ("content", "message", "detail"),
    [
        (b"", "is not JSON", "line 1 column 1"),
        (b" \n", "is not JSON", "line 2 column 1"),
        (b'{"Secret": "glsec-0123456789abcdef"', "is not JSON", "line 1 column 36"),
        (b'{\n"Secret": glsec-0123456789abcdef}', "is not JSON", "line 2 column 11"),
        (b'{"Secret": "glsec-0123456789abcdef\n"}', "is not JSON", "line 1 column"),
        (b'{"Secret": "glsec-0123456789abcdef\\q"}', "is not JSON", "line 1 column"),
        (b'{"Secret": "glsec-0123456789abcdef"} x', "is not JSON", "line 1 column 38"),
        (b"{'Secret': 'glsec-0123456789abcdef'}", "is not JSON", "line 1 column 2"),
        (b'\xef\xbb\xbf{"Secret": 1}', "is not JSON", "line 1 column 1"),
        (b'{"Secret": NaN}', "JSON", ""),
        (b'{"Secret": Infinity}', "JSON", ""),
        (b'{"Secret": -Infinity}', "JSON", ""),
        (b'["glsec-0123456789abcdef"]', "is not valid JSON", "it is not an object"),
        (b'"glsec-0123456789abcdef"', "is not valid JSON", "it is not an object"),
        (b"null", "is not valid JSON", "it is not an object"),
        (b'{"a": ' * 100000, "is not valid JSON", ""),
        (b'{"Secret": "glsec-0123456789abcdef\xff"}', "cannot be read", "it is not UTF-8"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_proper_json_is_refused_without_a_word_of_it(
    content: bytes, message: str, detail: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(Failure, match=message) as caught:
        json_file.read(path)
    assert detail in caught.value.detail
    assert "glsec" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_what_go_cannot_read_either_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content, hopeless in (("{", True), ('{"a": NaN}', True), ('{"a": ' * 3000, False)):
        path.write_text(content)
        with pytest.raises(Failure) as caught:
            json_file.read_config(path)
        assert isinstance(caught.value, json_text.NotJson) == hopeless


def test_a_config_json_that_is_being_written_is_read_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = tmp_path / "config.json", '{"SqlSettings": {"DriverName": "postgres"}}'
    for begun in ("", whole[:9]):
        path.write_text(begun)
        monkeypatch.setattr(time, "sleep", lambda _: path.write_text(whole))
        assert json_file.read_config(path).text == whole
    path.write_text(whole[:9])
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))
    with pytest.raises(Failure, match="is not JSON"):
        json_file.read_config(path)


# config.json as Go reads it; each was tried with encoding/json of Go 1.26


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ('{"FILESETTINGS": {"drivername": "x"}}', {"FileSettings": {"DriverName": "x"}}),
        ('{"File\u017fettingS": {"driverName": "x"}}', {"FileSettings": {"DriverName": "x"}}),
        (
            '{"FileSettings": {"DriverName": "a", "drivername": "b"}}',
            {"FileSettings": {"DriverName": "b"}},
        ),
        (
            '{"FileSettings": {"drivername": "b", "DriverName": "a"}}',
            {"FileSettings": {"DriverName": "a"}},
        ),
        (
            '{"filesettings": {"DriverName": "a"}, "FileSettings": {"Directory": "b"}}',
            {"FileSettings": {"DriverName": "a", "Directory": "b"}},
        ),
        ('{"New": {"Key": 1, "key": 2}, "new": {"Z": 3}}', {"New": {"Key": 2, "Z": 3}}),
        (
            '{"TeamSettings": {"SiteName": "a"}, "TeamSettings": null}',
            {"TeamSettings": {"SiteName": "a"}},
        ),
        (
            '{"PluginSettings": {"Plugins": {"a": {"K": 1, "k": 2}, "A": {}}}}',
            {"PluginSettings": {"Plugins": {"a": {"K": 1, "k": 2}, "A": {}}}},
        ),
        ('{"TeamSettings": {"X": "Welcome \\ud83d"}}', {"TeamSettings": {"X": "Welcome \ufffd"}}),
        (
            '{"TeamSettings": {"X": ["\\ud83d\\ude00\\udc00"]}}',
            {"TeamSettings": {"X": ["\U0001f600\ufffd"]}},
        ),
        ('{"TeamSettings": {"X": "B\udcfccherei"}}', {"TeamSettings": {"X": "B\ufffdcherei"}}),
        (
            '{"X": {"Y": 1e400, "Z": -1e400}}',
            {"X": {"Y": sys.float_info.max, "Z": -sys.float_info.max}},
        ),
        (f'{{"X": {"9" * 5000}}}', {"X": sys.float_info.max}),
        ('{"X": 123456789012345678901234567890}', {"X": 123456789012345678901234567890}),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_a_config_json_is_read_as_go_does(
    text: str, document: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert json_file.read_config(path).document == document


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"gitlabsettings": {"ID": "old"}}', '{"gitlabsettings": {"ID": "new"}}'),
        (
            '{"GitLabSettings": {"Id": "a", "id": "b", "X": 1}}',
            '{"GitLabSettings": {"Id": "a", "id": "new", "X": 1}}',
        ),
        (
            '{"GitLabSettings": {"Id": "a"}, "Y": "\udcfc", "GitLabSettings": {"Scope": "s"}}',
            '{"GitLabSettings": {"Id": "new"}, "Y": "\udcfc", "GitLabSettings": {"Scope": "s"}}',
        ),
        (
            '{"GitLabSettings": {"Scope": "s"}, "gitlabSETTINGS": {"Enable": true}}',
            '{"GitLabSettings": {"Scope": "s"}, "gitlabSETTINGS": {"Enable": true,"Id": "new"}}',
        ),
    ],
)
def test_a_patch_hits_the_key_as_it_is_written_and_that_counts(
    before: str, after: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(before.encode(errors="surrogateescape"))
    file = json_file.read_config(path)
    operations = json_file.setting(file.document, {("GitLabSettings", "Id"): "new"})
    json_file.write(path, json_file.apply(file, operations))
    assert path.read_bytes() == after.encode(errors="surrogateescape")
    again = json_file.read_config(path)
    assert again.document["GitLabSettings"]["Id"] == "new"
    back = json_file.apply(again, json_file.inverse(operations))
    assert back == before


@pytest.mark.parametrize(
    "literal",
    ['"B\udcfccherei"', '"Welcome \\ud83d"', "1e400", "1" * 5000, "0.10", "12345678901234567890.5"],
    ids=lambda literal: str(literal)[:20].encode("ascii", "replace").decode(),
)
def test_a_value_that_a_whole_write_would_lose_stays_as_it_is(literal: str, tmp_path: Path) -> None:
    """Why the text is edited: it holds what neither Go's nor Python's reading of it keeps."""
    path = tmp_path / "config.json"
    text = f'{{"GitLabSettings": {{"Id": "old"}}, "X": {{"Y": {literal}}}}}'
    path.write_bytes(text.encode(errors="surrogateescape"))
    file = json_file.read_config(path)
    assert literal not in json.dumps(file.document, ensure_ascii=False), "a whole write"
    operations = json_file.setting(file.document, {("GitLabSettings", "Id"): "new"})
    json_file.write(path, json_file.apply(file, operations))
    after = path.read_bytes().decode(errors="surrogateescape")
    assert after == text.replace('"old"', '"new"')


def test_taking_back_keeps_what_mattermost_has_written_since(tmp_path: Path) -> None:
    """Why the way back is a patch: the former bytes of the file would undo this as well."""
    path = tmp_path / "config.json"
    path.write_text('{"GitLabSettings": {"Id": "old"}, "TeamSettings": {"SiteName": "a"}}')
    file = json_file.read_config(path)
    operations = json_file.setting(file.document, {("GitLabSettings", "Id"): "new"})
    saved = {"GitLabSettings": {"Id": "new"}, "TeamSettings": {"SiteName": "b"}}
    path.write_text(json.dumps(saved, indent=4))  # by the System Console
    back = json_file.apply(json_file.read_config(path), json_file.inverse(operations))
    saved["GitLabSettings"]["Id"] = "old"
    assert back == json.dumps(saved, indent=4)


def test_a_section_that_stands_twice_is_not_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"X": {"A": {"B": 1}}, "X": {"A": {"C": 2}}}')
    file = json_file.read_config(path)
    with pytest.raises(Failure, match="is not changed") as caught:
        json_file.apply(file, json_file.setting(file.document, {("X",): {"Z": 1}}))
    assert "more than once" in caught.value.detail


def test_what_is_not_there_is_a_failure(tmp_path: Path) -> None:
    for name in ("missing", ".", "missing/too"):
        with pytest.raises(Failure, match="cannot be read"):
            json_file.read(tmp_path / name)


def test_a_pipe_in_the_place_of_the_file_does_not_hold_us_up(tmp_path: Path) -> None:
    """Mattermost's account owns the folder; a backup that waits for it would wait for ever."""
    path = tmp_path / "config.json"
    os.mkfifo(path)
    ended: list[object] = []

    def read() -> None:
        try:
            json_file.read(path)
        except Failure as failure:
            ended.append(failure)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(1)
    waits = reader.is_alive()
    if waits:
        with open(path, "wb"):
            pass  # lets it go on
        reader.join()
    assert not waits
    assert ended


def deep(levels: int) -> str:
    return '{"a": ' + "[" * levels + "]" * levels + ', "b": 1}'


@pytest.mark.parametrize("levels", [100, 250, 500, 900])
def test_lists_in_lists_are_edited_or_refused(levels: int) -> None:
    text = deep(levels)
    try:
        file = file_of(text)
        after = json_file.apply(file, json_file.setting(file.document, {("b",): 2}))
    except Failure:
        assert levels > 200, "no proper configuration is refused"
        return
    assert after == text.replace('"b": 1', '"b": 2')


# writing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(b"{}\r\n")
    os.chown(path, 65534, 12)
    path.chmod(0o640)
    return path


def test_writing_keeps_owner_and_mode(path: Path) -> None:
    json_file.write(path, '{"a": "ü"}\r\n')
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (65534, 12, 0o640)
    assert path.read_bytes() == '{"a": "ü"}\r\n'.encode()


def test_what_was_read_is_written_byte_for_byte(path: Path) -> None:
    path.write_bytes('{"a":\t"ü\u2028"}\r\n\n'.encode())
    json_file.write(path, json_file.read(path).text)
    assert path.read_bytes() == '{"a":\t"ü\u2028"}\r\n\n'.encode()


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe", "nothing"])
def test_only_a_plain_file_is_written(kind: str, tmp_path: Path, path: Path) -> None:
    place = tmp_path / "place"
    if kind == "link":
        place.symlink_to(path)
    elif kind == "dangling link":
        place.symlink_to(tmp_path / "planted")
    elif kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(Failure, match="written"):
        json_file.write(place, "{}")
    assert sorted(os.listdir(tmp_path)) == before
    assert path.read_bytes() == b"{}\r\n"


@pytest.mark.parametrize("call", ["fchown", "fchmod", "fsync", "rename"])
def test_a_failing_write_leaves_the_old_file_and_no_other(
    call: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **_folders: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(Failure, match="cannot be written") as caught:
            json_file.write(path, '{"a": 1}')
    assert caught.value.detail == "No space left on device"
    assert os.listdir(path.parent) == ["config.json"]
    assert path.read_bytes() == b"{}\r\n"


def test_a_value_that_is_no_unicode_is_a_failure_and_no_crash(path: Path) -> None:
    """As an environment file in latin-1 gives it."""
    file = json_file.read(path)
    operations = json_file.setting(file.document, {("a",): "caf\udce9"})
    with pytest.raises(Failure):
        json_file.write(path, json_file.apply(file, operations))
    assert path.read_bytes() == b"{}\r\n"
