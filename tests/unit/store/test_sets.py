"""Sets that build on others: complete with all of them, or not complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gitlab_mm_backup import checks
from gitlab_mm_backup.cli import listing
from gitlab_mm_backup.config.settings import Rules
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import prune
from gitlab_mm_backup.store.check_records import CheckRecord, Depth
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.manifest import MANIFEST, Manifest, parse
from gitlab_mm_backup.store.sets import LONGEST_CHAIN, BackupSet, damage, open_set
from tests.unit.helpers.builders import HOST, OWNER, make_set, make_set_on

FIRST, SECOND, THIRD, APART = (
    f"{1795223600 + night * 86400}_2026_11_21_10.11.4" for night in range(4)
)


PARTS = {"database": b"rows", "settings": b"{}", "files": b"archive", "listing": b"records"}


@pytest.fixture
def chain(tmp_path: Path) -> tuple[BackupSet, ...]:
    """Three nights, and a set that has nothing to do with them."""
    first = make_set(tmp_path, FIRST, PARTS)
    second = make_set_on(first, SECOND, PARTS)
    third = make_set_on(second, THIRD, PARTS)
    make_set(tmp_path, APART)
    return first, second, third


def test_a_set_knows_all_that_it_builds_on(tmp_path: Path, chain: tuple[BackupSet, ...]) -> None:
    assert LocalStore(tmp_path).find(THIRD) == chain[2]
    assert LocalStore(tmp_path).find(THIRD).chain == chain
    assert chain[0].chain == (chain[0],)


def test_a_list_reads_each_set_once_whatever_builds_on_it(
    tmp_path: Path, chain: tuple[BackupSet, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[str]()

    def counted(data: bytes, where: str) -> Manifest:
        read.append(Path(where).parent.name)
        return parse(data, where)

    monkeypatch.setattr("gitlab_mm_backup.store.sets.parse", counted)
    entries = LocalStore(tmp_path).entries()
    assert sorted(read) == [FIRST, SECOND, THIRD, APART]
    assert [entry.set.chain for entry in entries[1:] if entry.set] == [
        chain,
        chain[:2],
        chain[:1],
    ]


def test_a_base_that_a_list_reads_first_must_still_be_the_one_of_then(tmp_path: Path) -> None:
    """Its name is the later one where the clock went back between the nights."""
    make_set_on(make_set(tmp_path, SECOND, PARTS), FIRST, PARTS)
    assert [entry.problem for entry in LocalStore(tmp_path).entries()] == ["", ""]
    replace_by_another(tmp_path / SECOND)
    newest, entry = LocalStore(tmp_path).entries()
    assert (newest.problem, entry.set) == ("", None)
    assert f"{SECOND} is not the set of then" in entry.problem


def replace_by_another(base: Path) -> None:
    """A proper set of the same name, with the same files but for one row: it was never the base."""
    shutil.rmtree(base)
    make_set(base.parent, base.name, {"database": b"other", "settings": b"{}"})


def replace_by_one_above(base: Path) -> None:
    """Two sets that build on each other: no endless loop."""
    shutil.rmtree(base)
    shutil.copytree(base.parent / THIRD, base)


Spoil = Callable[[Path], object]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "gone": (shutil.rmtree, f"There is no set {FIRST}"),
    "without manifest": (lambda base: (base / MANIFEST).unlink(), f"it has no {MANIFEST}"),
    "another": (replace_by_another, "is not the set of then"),
    "one above": (replace_by_one_above, "is not the set of then"),
    "part gone": (lambda base: (base / "files.tar.zst").unlink(), "No such file"),
    "part cut": (
        lambda base: os.truncate(base / "files.list.zst", 3),
        "has 3 bytes, should have 7",
    ),
    "manifest torn": (lambda base: os.truncate(base / MANIFEST, 40), "or damaged"),
}


def test_what_is_no_set_says_what_it_has(tmp_path: Path) -> None:
    """The directory of the sets, the one above, and any other."""
    store = tmp_path / "mattermost"
    for name in (FIRST, SECOND):
        (store / name).mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("")
    for path in (store, tmp_path):
        with pytest.raises(Failure, match=f"{path} is not a set") as caught:
            LocalStore(tmp_path).find(f"{path}/")
        assert caught.value.detail == f"{store} has 2 sets, the newest {SECOND}"
        assert caught.value.hint == f"Give its path: {store / SECOND}"
    shutil.rmtree(store)
    with pytest.raises(Failure) as caught:
        LocalStore(tmp_path).find(f"{tmp_path}/")
    assert caught.value.detail == "it has no manifest.json; it has: notes.txt"


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_broken_base_shows_at_once_in_all_that_build_on_it(
    spoilt: str, tmp_path: Path, chain: tuple[BackupSet, ...]
) -> None:
    spoil, told = SPOILT[spoilt]
    spoil(tmp_path / FIRST)
    entries = {entry.name: entry for entry in LocalStore(tmp_path).entries()}
    for name, base in ((SECOND, FIRST), (THIRD, SECOND)):
        assert entries[name].set is None
        assert f"builds on set {base}" in entries[name].problem
        assert told in entries[name].problem
        assert len(entries[name].problem) < 1000
        with pytest.raises(Failure, match="is not complete") as caught:
            LocalStore(tmp_path).find(name)
        assert caught.value.hint
    assert LocalStore(tmp_path).sets()[0].name == APART


def test_what_a_base_keeps_for_itself_is_nothing_to_those_above(
    tmp_path: Path, chain: tuple[BackupSet, ...]
) -> None:
    """Its database is of another night: a restore of those above never reads it."""
    (tmp_path / FIRST / "database.dump.zst").write_bytes(b"ROWS")
    assert damage(chain[0]) == ["database.dump.zst: has a wrong checksum"]
    assert damage(chain[0], lent=True) == []
    os.truncate(tmp_path / FIRST / "database.dump.zst", 1)
    assert LocalStore(tmp_path).find(THIRD).chain == chain


def test_a_set_that_was_copied_needs_its_base_beside_it(
    tmp_path: Path, chain: tuple[BackupSet, ...]
) -> None:
    elsewhere = tmp_path / "usb"
    elsewhere.mkdir()
    for name in (THIRD, SECOND):
        shutil.copytree(tmp_path / name, elsewhere / name)
    (tmp_path / "link").symlink_to(elsewhere / THIRD)
    for path in (elsewhere / THIRD, tmp_path / "link"):
        with pytest.raises(Failure, match=f"builds on set {SECOND}") as caught:
            open_set(path)
        assert f"There is no set {FIRST}" in caught.value.detail
        assert str(elsewhere) in caught.value.hint
    shutil.copytree(tmp_path / FIRST, elsewhere / FIRST)
    assert [link.name for link in open_set(elsewhere / THIRD).chain] == [FIRST, SECOND, THIRD]


def test_no_chain_is_longer_than_ours_ever_are(tmp_path: Path) -> None:
    newest = make_set(tmp_path, f"{1795000000}_2026_11_21_10.11.4")
    for number in range(1, LONGEST_CHAIN + 1):
        newest = make_set_on(newest, f"{1795000000 + number}_2026_11_21_10.11.4")
    assert newest.base is not None
    assert len(open_set(newest.base.path).chain) == LONGEST_CHAIN
    with pytest.raises(Failure, match="not complete"):
        open_set(newest.path)


def test_what_others_build_on_is_not_removed(tmp_path: Path, chain: tuple[BackupSet, ...]) -> None:
    for link in chain[:2]:
        with pytest.raises(Failure, match="is not removed") as caught:
            LocalStore(tmp_path).delete(link)
        assert "builds on it" in caught.value.detail
    assert len(LocalStore(tmp_path).sets()) == 4


def test_prune_removes_a_chain_from_its_end(
    tmp_path: Path, chain: tuple[BackupSet, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it cut short anywhere, no set would be left without what it builds on."""
    store, seen = LocalStore(tmp_path), []
    delete = LocalStore.delete

    def watched(self: LocalStore, set_: BackupSet) -> None:
        delete(self, set_)
        seen.append(set_.name)
        assert not [entry for entry in self.entries() if entry.set is None]

    monkeypatch.setattr(LocalStore, "delete", watched)
    done = prune.prune(store, Rules(timedelta(seconds=1)), OWNER, agreed=True)
    assert (done.removed, done.problems) == ([THIRD, SECOND, FIRST], [])
    assert seen == [THIRD, SECOND, FIRST]


def test_a_set_that_cannot_be_removed_keeps_what_it_builds_on(
    tmp_path: Path, chain: tuple[BackupSet, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refused)
        rules = Rules(timedelta(seconds=1))
        done = prune.prune(LocalStore(tmp_path), rules, OWNER, agreed=True)
    assert done.removed == []
    assert [problem.partition(":")[0] for problem in done.problems] == [
        f"{tmp_path / THIRD} cannot be removed",
        f"Set {SECOND} is not removed",
        f"Set {FIRST} is not removed",
    ]


def test_the_list_says_what_a_set_builds_on_and_that_it_was_found_damaged(
    tmp_path: Path, chain: tuple[BackupSet, ...]
) -> None:
    bad = CheckRecord(
        FIRST,
        Depth.VERIFY,
        "2026-11-24T04:00:00Z",
        *(1.0, None, "0.1", "here", "", ""),
        [checks.failed("checksums", "files.tar.zst: has a wrong checksum")],
    )
    entries = LocalStore(tmp_path).entries()
    listed = [listing.Listed(entry, [bad] if entry.name == FIRST else []) for entry in entries]
    told = listing.list_result(listed, LocalStore(tmp_path), HOST)
    sets = {set_["name"]: set_ for set_ in told.fields["sets"]}
    assert [sets[name]["base"] for name in (FIRST, SECOND, THIRD)] == [None, FIRST, SECOND]
    assert [sets[name]["damaged_base"] for name in (FIRST, SECOND, THIRD)] == [None, FIRST, FIRST]
    (line,) = [line for line in told.lines if line.startswith(THIRD)]
    assert f"builds on {SECOND}" in line and f"NOT SOUND: {FIRST}" in line
