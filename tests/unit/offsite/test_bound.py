"""Documents at a remote, each bound to the folder that it lies in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gitlab_mm_backup.config.settings import Remote
from gitlab_mm_backup.offsite import bound, rclone
from gitlab_mm_backup.offsite.rclone import Listed

REMOTE = Remote("nas", "/srv/nas")
FILE = "manifest.json"


def written(name: str, **more: Any) -> bytes:
    return (json.dumps({"name": name, **more}, indent=2) + "\n").encode()


class Place:
    """A remote's files, as rclone would give them, and which of them were read one by one."""

    def __init__(self, files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self.files, self.read_alone = dict(files), list[str]()
        monkeypatch.setattr(rclone, "contents", self._contents)
        monkeypatch.setattr(rclone, "content", self._content)

    def _contents(self, remote: Remote, largest: int, *patterns: str) -> bytes:
        assert (remote, patterns) == (REMOTE, (FILE,))
        return b"".join(file for file in self.files.values() if len(file) <= largest)

    def _content(self, remote: Remote, *names: str) -> bytes:
        self.read_alone.append(names[0])
        return self.files[names[0]]

    def read(self, *folders: str) -> dict[str, Any]:
        listed = {
            name: {FILE: Listed(f"{name}/{FILE}", len(self.files[name]), {})} for name in folders
        }
        told = bound.read(REMOTE, listed, {FILE: "name"})[FILE]
        for name, item in told.items():
            assert isinstance(item, str) or self.files[name] == item.data
        return {
            name: value if isinstance(value, str) else value.value for name, value in told.items()
        }


def test_all_are_read_at_once_where_each_speaks_for_its_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place({"b": written("b", at=2), "a": written("a", at=1)}, monkeypatch)
    assert place.read("a", "b") == {"a": {"name": "a", "at": 1}, "b": {"name": "b", "at": 2}}
    assert place.read_alone == []


@pytest.mark.parametrize("first", [True, False])
def test_one_that_speaks_for_another_changes_nothing_of_that(
    first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, forged = ("a", written("a", at=1)), ("x", written("a", at=9))
    place = Place(dict([forged, own] if first else [own, forged]), monkeypatch)
    told = place.read("a", "x")
    assert told["a"] == {"name": "a", "at": 1} and "is that of a" in told["x"]


def test_one_in_a_folder_that_is_no_set(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place({"a": written("a", at=1), "else": written("a", at=9)}, monkeypatch)
    assert place.read("a") == {"a": {"name": "a", "at": 1}}


def test_two_that_speak_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place({"a": written("b"), "b": b"{ torn"}, monkeypatch)
    told = place.read("a", "b")
    assert "is that of b" in told["a"] and "cannot be read" in told["b"]


def test_a_torn_one_is_told_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place({"a": written("a")[:-9], "b": written("b")}, monkeypatch)
    told = place.read("a", "b")
    assert told["b"] == {"name": "b"} and "cannot be read" in told["a"]
    assert place.read_alone == ["a"]


def test_the_limit_of_a_document_is_16_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the listing says, before anything of it is read."""
    place = Place({"a": b"{ torn", "b": b"{ torn"}, monkeypatch)
    sizes = {"a": 16 << 20, "b": (16 << 20) + 1}
    listed = {name: {FILE: Listed(f"{name}/{FILE}", size, {})} for name, size in sizes.items()}
    told = bound.read(REMOTE, listed, {FILE: "name"})[FILE]
    assert told["a"] == "its manifest.json cannot be read"
    assert told["b"] == "its manifest.json is larger than 16 MiB"
    assert place.read_alone == ["a"]


def test_eighty_characters_of_another_name_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Place({"a": written("x" * 200)}, monkeypatch).read("a")
    assert told["a"] == f"its manifest.json is that of {'x' * 80}"


def test_a_huge_one_is_not_read_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "LARGEST", 100)
    place = Place({"a": written("a", more="x" * 100), "b": written("b")}, monkeypatch)
    told = place.read("a", "b")
    assert told["b"] == {"name": "b"} and "larger than" in told["a"]
    assert place.read_alone == []


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b"\xff", b"{}", b"[" * 5000])
def test_what_is_no_document(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Place({"a": data}, monkeypatch).read("a")
    assert isinstance(told["a"], str)
