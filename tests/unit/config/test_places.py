"""Marks of places: what is known again, what is not, and what another host has marked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gitlab_mm_backup.config import places
from gitlab_mm_backup.config.settings import Remote
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.offsite import ledger as offsite_ledger
from gitlab_mm_backup.store.local import LocalStore
from tests.unit.helpers.builders import NAME, make_set


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records of a separate host, also where the usual path is used."""
    path = tmp_path / "state/places.json"
    for function in (places.noted, places.insist, places.note, places.use):
        monkeypatch.setattr(function, "__defaults__", (path,))
    return path


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    folder = tmp_path / "disk/mattermost"
    folder.mkdir(parents=True, mode=0o700)
    return folder


def test_a_place_is_marked_once_and_known_again(sets: Path, notes: Path) -> None:
    places.insist(str(sets), [])  # it was never used
    places.use(sets)
    (mark,) = places.names_in(sets)
    assert re.fullmatch(r"\.place-of-gitlab-mm-[0-9a-f]{32}", mark)
    assert notes.stat().st_mode & 0o077 == 0
    places.use(sets)
    assert places.names_in(sets) == [mark]
    places.insist(str(sets), ["another", mark])
    for names in ([], ["another"], [mark[:-1] + ("0" if mark[-1] != "0" else "1")]):
        with pytest.raises(Failure, match="is not the place that was used before") as caught:
            places.insist(str(sets), names)
        assert f"gitlab-mm place forget {sets}" in caught.value.hint
    assert not places.away(str(sets), notes)
    (sets / mark).unlink()
    assert places.away(str(sets), notes)


def test_the_mark_of_another_host_is_taken(sets: Path, notes: Path, tmp_path: Path) -> None:
    places.use(sets, tmp_path / "host/places.json")
    places.use(sets)
    assert len(places.names_in(sets)) == 1
    assert places.noted(notes) == places.noted(tmp_path / "host/places.json")


def test_a_place_that_was_replaced_is_forgotten_and_marked_again(sets: Path, notes: Path) -> None:
    places.use(sets)
    places.note("nas:backups", "nas", places.mark_for([])[0])
    (sets / places.names_in(sets)[0]).unlink()
    ledger = notes.with_name("offsite.json")
    nas, box = (Remote(name, f"{name}:backups") for name in ("nas", "box"))
    for remote in (nas, box):
        there = offsite_ledger.CopyRecord("2026-11-22T01:13:20Z", 1, (), "")
        offsite_ledger.keep(remote, offsite_ledger.Notes(remote.path, {NAME: there}), ledger)
    with pytest.raises(Failure, match="is not a location that this host has used") as caught:
        offsite_ledger.forget_place("/elsewhere", ledger, notes)
    assert caught.value.detail == f"known: {sets}, nas:backups, box:backups"
    assert caught.value.exit_code == 2
    assert offsite_ledger.forget_place(f"{sets}/", ledger, notes) == str(sets)
    assert offsite_ledger.forget_place("nas", ledger, notes) == "nas:backups"
    assert (places.noted(), list(offsite_ledger.everything(ledger))) == ({}, ["box"])
    assert offsite_ledger.forget_place("box:backups", ledger, notes) == "box:backups"
    assert offsite_ledger.everything(ledger) == {}
    places.use(sets)
    places.insist(str(sets), places.names_in(sets))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"/x": {"id": "../x", "name": ""}}', '{"/x": {"id": "1"}}', "[" * 9999]
)
def test_notes_that_are_damaged_are_no_empty_notes(text: str, sets: Path, notes: Path) -> None:
    notes.parent.mkdir()
    notes.write_text(text)
    with pytest.raises(Failure, match="cannot be read"):
        places.use(sets)
    assert places.names_in(sets) == []


def test_a_store_whose_disk_is_gone_makes_and_reads_nothing(sets: Path, notes: Path) -> None:
    store = LocalStore(sets, marked=True)
    store.prepare()
    made = make_set(sets)
    assert [set_.name for set_ in store.sets()] == [made.name]
    sets.parent.rename(sets.parent.with_name("unplugged"))
    for act in (store.entries, store.prepare, lambda: store.named(NAME)):
        with pytest.raises(Failure, match="is not the place that was used before"):
            act()
    assert not sets.parent.exists()
    sets.mkdir(parents=True, mode=0o700)  # an empty mount point, or one below
    with pytest.raises(Failure, match="is not the place"), store.create("x"):
        pass
    assert places.names_in(sets) == []


def test_a_folder_that_is_not_ours_is_neither_marked_nor_listed(
    tmp_path: Path, notes: Path
) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    store = LocalStore(tmp_path / "open", marked=True)
    for act in (store.entries, store.prepare):
        with pytest.raises(Failure, match="cannot be trusted"):
            act()
    assert places.names_in(tmp_path / "open") == [] and not notes.exists()
