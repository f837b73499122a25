"""What a set says about itself: written, read back, and refused when it is not proper."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitlab_mm_backup import clock
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import manifest as module
from gitlab_mm_backup.store.manifest import Credentials, Files, Increment, Manifest, Part
from tests.unit.helpers.builders import NAME, make_manifest

DOCUMENT: dict[str, Any] = json.loads(module.to_bytes(make_manifest()))
Path_ = tuple[Any, ...]


def parse(document: object) -> Manifest:
    return module.parse(json.dumps(document).encode(), "a manifest")


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every value in a document, its own first."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))


def changed(path: Path_, value: object, document: Any = DOCUMENT) -> Any:
    """Return a copy of ``document`` with ``value`` at ``path``."""
    if not path:
        return value
    return {**document, path[0]: changed(path[1:], value, document.get(path[0], {}))}


def value_at(path: Path_) -> Any:
    value: Any = DOCUMENT
    for step in path:
        value = value[step]
    return value


def without(path: Path_, document: Any = DOCUMENT) -> Any:
    """Return a copy of ``document`` that lacks ``path``."""
    if len(path) == 1:
        return {key: value for key, value in document.items() if key != path[0]}
    return {**document, path[0]: without(path[1:], document[path[0]])}


# reading back


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = make_manifest()
    assert module.parse(module.to_bytes(manifest), "here") == manifest


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(TEXTS, st.sampled_from([True, False, None]), st.integers(0, 2**63), TEXTS)
def test_any_proper_manifest_comes_back_as_it_was_written(
    text: str, verified: bool | None, number: int, folder: str
) -> None:
    before = make_manifest()
    manifest = make_manifest(
        host="".join(character for character in text if character.isprintable()),
        credentials=Credentials(text, verified),
        database=dataclasses.replace(before.database, rows={f"public.{text}": number}),
        files=dataclasses.replace(
            before.files, folders={"home": "/" + folder.replace("..", "")}, bytes=number
        ),
    )
    assert module.parse(module.to_bytes(manifest), "here") == manifest


@pytest.mark.parametrize("name", ["host", "gitlab", "mattermost", "tool"])
@pytest.mark.parametrize("words", ["h\n-1 sets", "h\x1b[2J", "h\u202e", "h\x9b1m"])
def test_what_is_shown_of_a_set_is_one_printable_line(name: str, words: str) -> None:
    document = json.loads(module.to_bytes(make_manifest()))
    document[name] = words
    with pytest.raises(Failure, match="cannot be read") as failure:
        module.parse(json.dumps(document).encode(), "here")
    assert failure.value.detail.isprintable()


def test_names_of_any_bytes_come_back_as_they_were_written() -> None:
    manifest = make_manifest(links={"/srv/caf\udce9": "/srv/\udcff"})
    assert module.parse(module.to_bytes(manifest), "here") == manifest


INCREMENT = Increment("1795223600_2026_11_21_10.11.4", "c" * 64, files=2, bytes=100)


def old(format_: int, **changes: Any) -> module.Manifest:
    """Return a manifest of before sets had a host and an installation."""
    files = dataclasses.replace(make_manifest().files, filled=None)
    none: dict[str, Any] = {"installation": "", "host_id": "", "contents": None}
    return make_manifest(files=files, format=format_, **none, **changes)


def test_a_set_that_builds_on_another_says_so() -> None:
    manifest = make_manifest(increment=INCREMENT)
    assert module.parse(module.to_bytes(manifest), "here") == manifest
    assert (manifest.packed.files, manifest.files.files) == (2, 7)
    assert DOCUMENT["format"] == 3 and "increment" not in DOCUMENT
    assert make_manifest().packed == make_manifest().files


@pytest.mark.parametrize("manifest", [old(1), old(2, increment=INCREMENT)])
def test_a_manifest_of_before_is_read_and_stays_what_it_was(manifest: module.Manifest) -> None:
    """restic and copies hold the bytes against those of then."""
    data = module.to_bytes(manifest)
    assert module.parse(data, "here") == manifest
    assert module.to_bytes(module.parse(data, "here")) == data
    new = {"installation", "host_id", "contents", "shrunken", "fuller", "told", "pipes"}
    assert not new & json.loads(data).keys() and "filled" not in json.loads(data)["files"]


@pytest.mark.parametrize("name", ["installation", "host_id", "contents", "shrunken", "told"])
def test_what_is_new_must_be_there(name: str) -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != name}
    with pytest.raises(Failure, match="manifest cannot be read"):
        module.parse(json.dumps(document).encode(), "here")


@pytest.mark.parametrize("value", ["../x", "a b", "x" * 65, 7, None])
def test_an_id_is_letters_and_digits(value: object) -> None:
    for name in ("installation", "host_id"):
        with pytest.raises(Failure, match="manifest cannot be read"):
            module.parse(json.dumps({**DOCUMENT, name: value}).encode(), "here")


def test_a_set_is_empty_where_nobody_used_its_mattermost() -> None:
    nobody = module.Contents(0, 0, 0, 0, 0, None)
    assert make_manifest(contents=nobody).empty and not make_manifest().empty
    assert not old(1).empty
    database = dataclasses.replace(make_manifest().database, rows={"public.users": 2})
    assert old(1, database=database).empty


@pytest.mark.parametrize(
    ("found", "increment"),
    [
        (3, dataclasses.replace(INCREMENT, files=-2)),
        (3, dataclasses.replace(INCREMENT, base="../../etc")),
        (3, dataclasses.replace(INCREMENT, manifest="")),
        (3, dataclasses.replace(INCREMENT, files=-1)),
        (3, dataclasses.replace(INCREMENT, bytes="many")),  # type: ignore[arg-type]
    ],
)
def test_a_base_that_cannot_be_is_refused(found: int, increment: Increment | None) -> None:
    data = module.to_bytes(make_manifest(increment=increment, format=found))
    with pytest.raises(Failure, match="manifest cannot be read"):
        module.parse(data, "here")


def test_a_format_of_before_the_first_is_refused() -> None:
    with pytest.raises(Failure, match="manifest cannot be read") as caught:
        module.parse(module.to_bytes(old(0)), "here")
    assert caught.value.detail.endswith("unknown format 0")


def test_a_service_may_have_no_environment_folder() -> None:
    manifest = make_manifest(
        files=dataclasses.replace(make_manifest().files, environment_folder="")
    )
    assert module.parse(module.to_bytes(manifest), "here") == manifest


def test_a_mattermost_without_a_post_has_no_last_one() -> None:
    manifest = make_manifest(contents=module.Contents(1, 1, 0, 0, 0, None))
    assert module.parse(module.to_bytes(manifest), "here") == manifest
    for value in ("yesterday", "2026-11-22T01:10:00", 7, ""):
        with pytest.raises(Failure, match="manifest cannot be read"):
            parse(changed(("contents", "last_post"), value))


def test_a_database_takes_a_quarter_more_while_it_is_loaded() -> None:
    database = dataclasses.replace(make_manifest().database, bytes=403)
    assert database.bytes_to_load == 503


def test_what_is_wrong_is_told_in_short() -> None:
    long = {name: None for name in DOCUMENT if name != "files"}
    with pytest.raises(Failure) as caught:
        parse({**long, "format": 3})
    words = "a manifest: an object must have exactly: tool, kind, "
    assert caught.value.detail.startswith(words)
    assert len(caught.value.detail) == len("a manifest: ") + 200
    for path, before in ((("name",), ": '"), ((*PART, "file"), "in the file '")):
        with pytest.raises(Failure) as caught:
            parse(changed(path, "/" * 99))
        assert caught.value.detail.endswith(before + "/" * 39)
    with pytest.raises(Failure) as caught:
        parse(changed(("parts", "x" * 99), DOCUMENT["parts"]["database"]))
    assert f"part '{'x' * 39} in the file" in caught.value.detail


def test_the_file_is_for_people_too() -> None:
    text = module.to_bytes(make_manifest()).decode()
    assert text.startswith('{\n  "name": ') and text.endswith("}\n")
    assert "Grüße" in text


def test_sums_and_times() -> None:
    manifest = make_manifest()
    assert (manifest.rows, manifest.bytes) == (44, 12)
    assert manifest.made == datetime(2026, 11, 22, 1, 13, 20, tzinfo=timezone.utc)


def test_times_are_written_in_utc() -> None:
    moment = datetime(2026, 11, 22, 2, 13, 20, 999999, tzinfo=timezone(timedelta(hours=1)))
    assert clock.utc(moment) == "2026-11-22T01:13:20Z"


def test_sha256sum_understands_the_sums(tmp_path: Path) -> None:
    parts = {
        name: Part(name, "bytes", 3, hashlib.sha256(name.encode()).hexdigest())
        for name in ("one", "two words", "-dash")
    }
    manifest = make_manifest(parts=parts)
    for name in parts:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / module.MANIFEST).write_bytes(module.to_bytes(manifest))
    (tmp_path / module.SUMS).write_bytes(module.sums(manifest))
    command = ["sha256sum", "--check", "--strict", module.SUMS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.count(b": OK\n") == len(parts) + 1


# names


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.delenv("TZ") if before is None else monkeypatch.setenv("TZ", before)
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_a_name_has_seconds_the_local_date_and_the_version() -> None:
    moment = datetime(2026, 11, 21, 23, 30, tzinfo=timezone.utc)
    assert module.name_for(moment, "10.11.4", "1f3a9c2e") == (
        "1795303800_2026_11_22_10.11.4-1f3a9c"
    )


@given(
    st.datetimes(datetime(2002, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc)),
    st.text(min_size=1),
)
def test_every_name_given_is_the_name_of_a_set(moment: datetime, version: str) -> None:
    name = module.name_for(moment, version, "1f3a9c2e")
    assert module.is_set_name(name)
    assert "/" not in name and "\n" not in name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "latest",
        "1795310000",
        "1795310000_2026_11_22",
        "1795310000_2026_11_22_",
        "1795310000_2026_11_22_10.11.4\n",
        " 1795310000_2026_11_22_10.11.4",
        "1795310000_2026_11_22_10.11.4/..",
        "1795310000_2026_11_22_10.11.4/",
        ".incomplete-1795310000_2026_11_22_10.11.4",
        "1795310000_2026_11_22_18.11.9_gitlab_backup.tar",
    ],
)
def test_nothing_else_is_the_name_of_a_set(name: str) -> None:
    assert not module.is_set_name(name)


# refused


@pytest.mark.parametrize("found", [4, 5, 10**6])
def test_a_newer_format_is_told_apart_from_damage(found: int) -> None:
    document = {"format": found, "unheard-of": []}
    with pytest.raises(Failure, match="newer gitlab-mm-backup") as caught:
        parse(document)
    assert f"format {found}" in caught.value.detail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"{",
        b"\xff\xfe\xff",
        b"null",
        b"[]",
        b"7",
        b'"format"',
        b'{"format": 1}',
        b'["format"]',
        b"[" * 100000,
        b'{"format":' * 100000,
        module.to_bytes(make_manifest())[:-3],
        module.to_bytes(make_manifest()) + b"}",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_manifest_is_a_failure(data: bytes) -> None:
    with pytest.raises(Failure, match="manifest cannot be read") as caught:
        module.parse(data, "/sets/one/manifest.json")
    assert caught.value.detail.startswith("/sets/one/manifest.json: ")


@pytest.mark.parametrize(
    ("version", "told"),
    [("10.11.4", "10.11.4"), ("11.0+ce~rc1", "11.0+ce~rc1"), ("10 x/../é", "10-x-..--")],
)
def test_a_version_of_any_letters_gives_the_name_of_a_set(version: str, told: str) -> None:
    moment = datetime(2026, 11, 22, 1, 13, 20, tzinfo=timezone.utc)
    name = module.name_for(moment, version, "1f3a9c2e")
    assert name.endswith(f"_{told}-1f3a9c") and module.is_set_name(name)


# Tables, parts, links and roles but home are free to be there; sets are backups unless they say so.
NEEDED = [
    path
    for path in places(DOCUMENT)
    if path
    and path[:-1] not in (("database", "rows"), ("parts",), ("links",))
    and path not in (("files", "folders", "data"), ("purpose",), ("privileged",), ("salvaged",))
]


@pytest.mark.parametrize("path", NEEDED, ids=".".join)
def test_a_missing_value_is_refused(path: Path_) -> None:
    with pytest.raises(Failure):
        parse(without(path))


@pytest.mark.parametrize("path", [("new",), ("database", "new"), ("files", "account", "new")])
def test_an_unknown_value_is_refused(path: Path_) -> None:
    with pytest.raises(Failure):
        parse(changed(path, 1))


PART = ("parts", "database")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 0),
        (("format",), -1),
        (("format",), 1.0),
        (("format",), "1"),
        (("name",), "../../etc"),
        (("name",), NAME + "/.."),
        (("started",), "yesterday"),
        (("started",), ""),
        (("started",), 7),
        # Without a zone it cannot be compared with the other sets' times.
        (("started",), "2026-11-22T01:13:20"),
        (("started",), "2026-11-22"),
        ((*PART, "file"), "/etc/passwd"),
        ((*PART, "file"), "../x"),
        ((*PART, "file"), ".."),
        ((*PART, "file"), "."),
        ((*PART, "file"), ""),
        ((*PART, "file"), "a\nb"),
        ((*PART, "file"), "a\0b"),
        ((*PART, "file"), "manifest.json"),
        ((*PART, "file"), "SHA256SUMS"),
        ((*PART, "file"), ["database.dump.zst"]),
        ((*PART, "bytes"), -1),
        ((*PART, "bytes"), 1.5),
        ((*PART, "bytes"), "10"),
        ((*PART, "sha256"), "A" * 64),
        ((*PART, "sha256"), "a" * 63),
        ((*PART, "sha256"), "a" * 64 + "\n"),
        (("database", "rows"), []),
        (("database", "rows", "public.users"), -1),
        (("database", "rows", "public.users"), "3"),
        (("database", "rows", "public.users"), 3.0),
        (("database", "server"), 16),
        (("database", "encoding"), None),
        (("mattermost",), 10),
        (("host",), ["h"]),
        (("host",), "half a pair: \ud800"),
        (("seconds",), "12"),
        (("files", "folders"), {"data": "/d"}),
        (("files", "folders", "home"), "relative"),
        (("files", "folders", "home"), "/var/../etc"),
        (("files", "folders", "home"), ".."),
        (("files", "folders", "home"), ""),
        (("files", "folders", "home"), "/a\0b"),
        (("files", "folders", "home"), 7),
        (("files", "environment_folder"), 7),
        (("files", "environment_folder"), "relative"),
        (("files", "files"), "many"),
        (("files", "bytes"), -1),
        (("files", "account", "user"), 994),
        (("files", "account", "uid"), "994"),
        (("purpose",), "other"),
        (("purpose",), None),
        (("salvaged",), "config.json"),
        (("salvaged",), [7]),
        (("salvaged",), {}),
        (("links",), []),
        (("links",), {"/x": 7}),
        (("database", "bytes"), -1),
        (("database", "bytes"), "many"),
        (("credentials", "client_id"), 7),
        (("credentials", "verified"), "yes"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else repr(value)[:24],
)
def test_hostile_values_are_refused(path: Path_, value: object) -> None:
    with pytest.raises(Failure, match="manifest cannot be read"):
        parse(changed(path, value))


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False),
        st.text(max_size=8),
        st.sampled_from(["..", "/", "a/b", "manifest.json", "2026-11-22", "\0", "\ud800", NAME]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
TYPES: Mapping[type[Any], Mapping[str, tuple[type[Any], ...]]] = {
    Part: {"file": (str,), "form": (str,), "bytes": (int,), "sha256": (str,)},
    module.Database: {
        **dict.fromkeys(("name", "server", "encoding", "collate", "ctype"), (str,)),
        "bytes": (int,),
    },
    module.FileOwner: {"user": (str,), "group": (str,), "uid": (int,), "gid": (int,)},
    Files: {"environment_folder": (str,), "files": (int,), "bytes": (int,)},
    Credentials: {"client_id": (str,), "verified": (bool, type(None))},
    Manifest: {
        **dict.fromkeys(("name", "tool", "kind", "gitlab", "mattermost", "host"), (str,)),
        "started": (str,),
        "purpose": (str,),
        "seconds": (int, float),
        "format": (int,),
    },
}


def assert_proper(value: Any) -> None:
    """Fail unless every field of an accepted manifest has the type that its readers rely on."""
    for name, types in TYPES[type(value)].items():
        assert isinstance(getattr(value, name), types), name


def assert_refused_or_equal(document: object) -> None:
    try:
        found = parse(document)
    except Failure:
        return
    assert json.loads(module.to_bytes(found)) == document
    for value in (found, found.database, found.files, found.files.account, found.credentials):
        assert_proper(value)
    for part in found.parts.values():
        assert_proper(part)
    assert isinstance(found.made, datetime) and found.made.tzinfo is not None
    assert all(isinstance(rows, int) for rows in found.database.rows.values())
    module.sums(found)


@given(st.sampled_from(list(places(DOCUMENT))), JSON)
def test_any_changed_value_gives_a_failure_or_a_proper_manifest(path: Path_, value: object) -> None:
    assert_refused_or_equal(changed(path, value))


OBJECTS = [path for path in places(DOCUMENT) if isinstance(value_at(path), dict)]


@settings(max_examples=50)
@given(st.sampled_from(OBJECTS), st.text(max_size=8), JSON)
def test_any_added_value_gives_a_failure_or_a_proper_manifest(
    path: Path_, key: str, value: object
) -> None:
    assert_refused_or_equal(changed((*path, key), value))


@given(st.integers(0, len(module.to_bytes(make_manifest())) - 1), st.binary(max_size=3))
def test_any_changed_bytes_give_a_failure_or_a_manifest(at: int, put: bytes) -> None:
    data = module.to_bytes(make_manifest())
    spoilt = data[:at] + put + data[at + len(put) :]
    try:
        found = module.parse(spoilt, "here")
    except Failure:
        return
    assert module.parse(module.to_bytes(found), "here") == found


@pytest.mark.parametrize("salvaged", [None, (), ("config.json", "the environment folder")])
def test_what_was_lost_comes_back(salvaged: tuple[str, ...] | None) -> None:
    data = module.to_bytes(make_manifest(salvaged=salvaged))
    assert (b'"salvaged"' in data) is (salvaged is not None)
    assert module.parse(data, "x").salvaged == salvaged


def test_a_host_knows_the_names_that_it_gives() -> None:
    name = module.name_for(datetime(2026, 11, 30, tzinfo=timezone.utc), "10.11.4", "1f3a9c2e")
    assert module.is_of(name, "1f3a9c2e")
    assert not module.is_of(name, "aaaaaaaa")
    assert module.is_of(name.rpartition("-")[0], "aaaaaaaa"), "a name from before format 3"
