"""A listing that keeps what it found for the next one says the same as one that reads everything."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup import version
from gitlab_mm_backup.cli import listing
from gitlab_mm_backup.config import keys
from gitlab_mm_backup.config.origin import SIGNATURE
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import inventory, manifest, sets
from gitlab_mm_backup.store.inventory import KeptListing, KeptManifest
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.manifest import MANIFEST, Manifest, to_bytes
from gitlab_mm_backup.store.sets import BackupSet
from tests.unit.helpers.builders import HOST, make_set, make_set_on

PARTS = {"database": b"rows", "settings": b"{}", "files": b"archive", "listing": b"records"}


def name(number: int) -> str:
    return f"{1795223600 + number * 900}_2026_11_21_10.11.4"


def sign(set_: BackupSet) -> None:
    data = (set_.path / MANIFEST).read_bytes()
    (set_.path / SIGNATURE).write_bytes(keys.own(HOST.id).sign(set_.name, data))


def changed(**fields: Any) -> Callable[[Manifest], Manifest]:
    return lambda made: dataclasses.replace(made, **fields)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets of every kind."""
    monkeypatch.setattr(inventory, "_ENOUGH", 1)
    monkeypatch.setattr(version, "tool", lambda: "0.1.0")
    where = tmp_path / "sets"
    first = make_set(where, name(0), PARTS)
    second = make_set_on(first, name(1), PARTS)
    third = make_set_on(second, name(2), PARTS)
    for set_ in (first, second, third):
        sign(set_)
    make_set(where, name(3))  # not signed
    make_set(where, name(4), change=changed(host_id="e" * 32, host="other"))
    make_set(where, name(5), change=changed(purpose="safety", told=("a", "b", "c", "d"), note="n"))
    make_set(where, name(6), change=changed(salvaged=("config.json",), shrunken=("posts: 0 of 9",)))
    make_set(where, name(7), change=changed(started="2031-01-01T00:00:00Z"))
    make_set(where, name(8), change=changed(contents=None, installation="", note="odd ü"))
    forged = make_set(where, name(9))
    sign(forged)
    data = (forged.path / MANIFEST).read_bytes()
    (forged.path / MANIFEST).write_bytes(data.replace(b'"public.posts": 41', b'"public.posts": 42'))
    (make_set(where, name(10)).path / "settings.json").write_bytes(b"")  # cut short
    (make_set(where, name(11)).path / "settings.json").unlink()
    (make_set(where, name(12)).path / MANIFEST).write_bytes(b"{}")
    (make_set(where, name(13)).path / MANIFEST).unlink()
    orphan = make_set_on(make_set(where, name(14), PARTS), name(15), PARTS)
    (orphan.path.parent / name(14) / "files.tar.zst").unlink()  # which the other one needs
    os.rename(make_set(where, name(16)).path, where / name(17))  # under another's name
    make_set(where, name(18), change=changed(format=4))
    broken = make_set(where, name(19))
    (broken.path / SIGNATURE).write_bytes(b"no JSON")
    (make_set(where, name(20)).path / "pinned.json").write_bytes(b"{}")
    return where


def said(where: Path, kept: bool) -> dict[str, Any]:
    """What list says, with or without what an earlier listing kept."""
    store = LocalStore(where, listing=KeptListing) if kept else LocalStore(where)
    found = listing.list_result(listing.look(store), store, HOST)
    return {"lines": found.lines, **json.loads(json.dumps(found.fields))}


def read_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the sets whose manifest is parsed from now on."""
    read = list[str]()

    def counted(data: bytes, where: str) -> Manifest:
        read.append(Path(where).parent.name)
        return manifest.parse(data, where)

    monkeypatch.setattr(sets, "parse", counted)
    return read


def test_list_says_the_same_of_every_kind_of_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = said(folder, kept=False)
    assert len(wanted["sets"]) == 20
    kinds = {flaw["kind"] for set_ in wanted["sets"] for flaw in set_.get("flaws", ())}
    assert kinds >= {"future", "emptied", "forged", "incomplete"}
    assert {set_["complete"] for set_ in wanted["sets"]} == {True, False}
    assert said(folder, kept=True) == wanted
    assert inventory.KEPT.stat().st_mode & 0o777 == 0o600
    read = read_again(monkeypatch)
    assert said(folder, kept=True) == wanted
    # What cannot be read was read again: nothing is kept of it.
    assert sorted(read) == [name(12), name(18)]
    inventory.KEPT.unlink()
    assert said(folder, kept=True) == wanted
    assert len(read) > 15


def test_all_fields_are_those_of_the_manifest(folder: Path) -> None:
    for _ in range(2):
        entries = LocalStore(folder, listing=KeptListing).entries()
    kept = [entry.set for entry in entries if entry.set]
    assert {type(set_.manifest) for set_ in kept} == {KeptManifest}
    for set_ in kept:
        data = (set_.path / MANIFEST).read_bytes()
        whole = manifest.parse(data, "")
        assert set_.manifest.rows == whole.rows
        for field in dataclasses.fields(Manifest):
            assert getattr(set_.manifest, field.name) == getattr(whole, field.name), field.name
            kinds = (type(getattr(of, field.name)) for of in (set_.manifest, whole))
            assert len(set(kinds)) == 1, field.name
        assert to_bytes(set_.manifest) == to_bytes(whole)
        assert set_.manifest == whole and whole == set_.manifest
        other = dataclasses.replace(whole, links={"/other": "target"})
        assert set_.manifest != other and other != set_.manifest
        assert dataclasses.replace(set_.manifest, note="x").links == whole.links


def test_a_byte_that_changes_without_a_trace_is_seen(folder: Path) -> None:
    """As on a disk that fails: neither size, nor any time, nor the inode is another."""
    said(folder, kept=True)
    path = folder / name(3) / MANIFEST
    status = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data.replace(b'"posts": 41', b'"posts": 91'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_ino == status.st_ino
    now = said(folder, kept=True)
    assert now == said(folder, kept=False)
    (found,) = (set_ for set_ in now["sets"] if set_["name"] == name(3))
    assert found["contents"]["posts"] == 91
    with path.open("r+b") as file:
        file.write(b"#" + data[1:])
    assert said(folder, kept=True) == said(folder, kept=False)


def test_another_signature_of_the_same_manifest_is_checked(folder: Path) -> None:
    said(folder, kept=True)
    path = folder / name(0) / SIGNATURE
    text = path.read_text()
    path.write_text(text.replace('"manifest": "', '"manifest": "AAAA'))
    now = said(folder, kept=True)
    assert now == said(folder, kept=False)
    assert now["sets"][-1]["origin"] == "forged"
    path.write_text(text)
    assert said(folder, kept=True)["sets"][-1]["origin"] == "authentic"


@pytest.mark.parametrize("what", ["a byte", "others may read", "no JSON", "another version"])
def test_a_file_that_is_not_ours_as_it_was_written_is_not_used(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = said(folder, kept=True)
    data = inventory.KEPT.read_bytes()
    if what == "a byte":
        inventory.KEPT.write_bytes(data.replace(b"git.example.org", b"git.example.com"))
    elif what == "no JSON":
        inventory.KEPT.write_bytes(b"\n")
    elif what == "others may read":
        inventory.KEPT.chmod(0o644)
    else:
        monkeypatch.setattr(version, "tool", lambda: "0.0.1")
    read = read_again(monkeypatch)
    assert said(folder, kept=True) == wanted
    assert len(read) > 15


def test_few_new_sets_are_no_reason_to_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(folder, kept=True)
    monkeypatch.setattr(inventory, "_ENOUGH", 3)
    before = inventory.KEPT.read_bytes()
    make_set(folder, name(30))
    said(folder, kept=True)
    assert inventory.KEPT.read_bytes() == before
    make_set(folder, name(31))
    make_set(folder, name(32))
    said(folder, kept=True)
    assert name(32).encode() in inventory.KEPT.read_bytes()


def test_what_is_read_later_must_be_what_was_listed(folder: Path) -> None:
    for _ in range(2):
        entries = LocalStore(folder, listing=KeptListing).entries()
    (kept,) = (entry.set for entry in entries if entry.set and entry.name == name(3))
    path = kept.path / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"seconds": 12.345', b'"seconds": 12.346'))
    with pytest.raises(Failure, match="was changed just now"):
        _ = kept.manifest.database
