"""Sets in a folder: complete, or not there at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitlab_mm_backup.config.settings import Rules
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.store import prune
from gitlab_mm_backup.store.local import LocalStore, PartWriter
from gitlab_mm_backup.store.manifest import MANIFEST, SUMS, Part, to_bytes
from gitlab_mm_backup.store.sets import BackupSet, damage, open_set
from gitlab_mm_backup.system import disk_space
from tests.unit.helpers.builders import (
    HOST,
    INSTALLATION,
    NAME,
    OWNER,
    make_manifest,
    make_set,
    write_parts,
)

NEWER = "1795396400_2026_11_23_10.11.4"
OLDER = "1795223600_2026_11_21_10.11.4"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "backups" / "mattermost")


# parts


def test_a_part_is_counted_and_hashed_as_it_is_written(tmp_path: Path) -> None:
    pieces = [b"one", b"", b"two" * 100000]
    writer = PartWriter(tmp_path / "database.dump.zst")
    for piece in pieces:
        writer.write(piece)
    part = writer.finish("form")
    data = b"".join(pieces)
    assert (tmp_path / "database.dump.zst").read_bytes() == data
    digest = hashlib.sha256(data).hexdigest()
    assert part == Part("database.dump.zst", "form", len(data), digest)
    assert stat.S_IMODE((tmp_path / "database.dump.zst").stat().st_mode) == 0o600


def test_a_part_never_replaces_or_follows_anything(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"keep")
    (tmp_path / "link").symlink_to("planted")
    for name in ("there", "link"):
        with pytest.raises((OSError, Failure)):
            PartWriter(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert (tmp_path / "there").read_bytes() == b"keep"


def test_a_full_disk_is_a_failure_with_a_hint() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        writer = object.__new__(PartWriter)
        writer.__dict__.update(
            _file=full,
            _path=Path("/sets/part"),
            _sha256=hashlib.sha256(),
            bytes=0,
            _guard=disk_space.Guard(full.fileno(), Path("/sets")),
        )
        with pytest.raises(Failure, match="/sets/part cannot be written") as caught:
            writer.write(b"x")
    assert "No space left" in caught.value.detail
    assert "backup_path" in caught.value.hint


# making


def test_a_set_is_made_found_and_removed(store: LocalStore) -> None:
    made = make_set(store.folder)
    assert made.path == store.folder / NAME
    assert sorted(os.listdir(made.path)) == [SUMS, "database.dump.zst", MANIFEST, "settings.json"]
    assert store.sets() == [made] == [store.find(NAME)]
    assert store.find(str(made.path)) == made == open_set(made.path)
    assert made.file("database") == made.path / "database.dump.zst"
    assert damage(made) == []
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", SUMS], cwd=made.path, check=True)
    store.delete(made)
    assert os.listdir(store.folder) == []


def test_everything_of_a_set_is_root_s_alone(store: LocalStore) -> None:
    umask = os.umask(0)
    try:
        made = make_set(store.folder)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.path.iterdir()} == {0o600}


@pytest.mark.parametrize("error", [Failure("broken"), OSError(28, "full"), KeyboardInterrupt()])
def test_a_set_that_fails_is_not_there(error: BaseException, store: LocalStore) -> None:
    with pytest.raises(type(error)), store.create(NAME) as staging:
        write_parts(staging, {"database": b"half"})
        assert store.entries() == []
        raise error
    assert os.listdir(store.folder) == []


def test_a_set_that_is_never_completed_is_not_there(store: LocalStore) -> None:
    with store.create(NAME) as staging:
        write_parts(staging, {"database": b"whole"})
    assert os.listdir(store.folder) == []


def test_leftovers_of_a_killed_run_go_with_the_next(store: LocalStore) -> None:
    made = make_set(store.folder, OLDER)
    for name in (f".incomplete-{NAME}", f".incomplete-{NEWER}"):
        (store.folder / name).mkdir()
        (store.folder / name / "database.dump.zst").write_bytes(b"half")
    assert store.sets() == [made]
    with store.create(NAME) as staging:
        assert sorted(os.listdir(store.folder)) == [staging.name, OLDER]


def test_a_set_of_that_name_is_not_overwritten(store: LocalStore) -> None:
    made = make_set(store.folder)
    with pytest.raises(Failure, match="already exists"):
        make_set(store.folder, contents={"database": b"another"})
    assert store.sets() == [made]
    assert damage(made) == []
    assert os.listdir(store.folder) == [NAME]


def test_a_place_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot be written"):
        make_set(tmp_path / "file" / "mattermost")


CHANGES = ("mkdir", "open", "fsync", "fchown", "fchmod", "rename")  # of the disk, in module os


def die_after(calls: int, folder: Path) -> None:
    """Make a set and be killed at the next change of the disk after so many; never returns."""
    left = [calls]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*arguments, **options)

        return call

    try:
        for name in CHANGES:
            setattr(os, name, dying(getattr(os, name)))
        make_set(folder)
        os._exit(0)
    finally:
        os._exit(1)


def kill_after(calls: int, folder: Path) -> bool:
    """Have a child make a set and die; return whether it had ended before."""
    child = os.fork()
    if child == 0:
        die_after(calls, folder)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in (0, -signal.SIGKILL)
    return ended == 0


def test_a_killed_run_leaves_nothing_that_counts(tmp_path: Path) -> None:
    for calls in range(100):
        store = LocalStore(tmp_path / str(calls))
        before = make_set(store.folder, OLDER)
        done = kill_after(calls, store.folder)
        listed = {entry.name: entry.set for entry in store.entries()}
        assert listed[OLDER] == before
        for set_ in listed.values():
            assert set_ is not None and damage(set_) == []
        assert make_set(store.folder, NEWER) == store.sets()[0]
        assert [name for name in os.listdir(store.folder) if name.startswith(".")] == []
        if done:
            break
    assert done and calls > 15


# listing


def test_no_folder_no_sets(store: LocalStore) -> None:
    assert store.entries() == []


def test_sets_are_listed_newest_first_and_nothing_else_is(store: LocalStore) -> None:
    for name in (NAME, NEWER, OLDER):
        make_set(store.folder, name)
    (store.folder / "1795310000_2026_11_22_18.11.9_gitlab_backup.tar").touch()
    (store.folder / "lost+found").mkdir()
    assert [entry.name for entry in store.entries()] == [NEWER, NAME, OLDER]


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    """Whoever opens it to read would wait for ever."""
    path.unlink()
    os.mkfifo(path)


def spoil_manifest(set_: BackupSet, change: Callable[[bytes], bytes]) -> None:
    path = set_.path / MANIFEST
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda set_: (set_.path / MANIFEST).unlink(), "no manifest.json"),
        (lambda set_: spoil_manifest(set_, lambda data: data[:-20]), "cannot be read"),
        (lambda set_: spoil_manifest(set_, lambda _: b""), "cannot be read"),
        (
            lambda set_: spoil_manifest(set_, lambda _: b'{"format": 99}'),
            "newer gitlab-mm-backup",
        ),
        (
            lambda set_: replace_by_folder(set_.path / MANIFEST),
            "cannot be read",
        ),
        (lambda set_: replace_by_pipe(set_.path / MANIFEST), "not a regular file"),
        (
            lambda set_: set_.path.rename(set_.path.with_name("away")) and set_.path.touch(),
            "not a directory",
        ),
    ],
)
def test_a_half_set_is_listed_with_its_problem_and_never_taken(
    spoil: Callable[[BackupSet], object], problem: str, store: LocalStore
) -> None:
    good = make_set(store.folder, OLDER)
    spoil(make_set(store.folder))
    entry = store.entries()[0]
    assert (entry.name, entry.set) == (NAME, None)
    assert problem in entry.problem
    assert store.sets() == [good]
    assert store.sets() == [good]
    with pytest.raises(Failure):
        store.find(NAME)


def test_a_pipe_in_a_set_is_damage(store: LocalStore) -> None:
    made = make_set(store.folder)
    for file in (SUMS, *(part.file for part in made.manifest.parts.values())):
        replace_by_pipe(made.path / file)
        assert [
            text
            for text in damage(made)
            if text.endswith(f"{file} cannot be read: it is not a regular file")
        ]


def test_a_set_under_another_name_is_not_that_set(store: LocalStore) -> None:
    """As a copy by hand makes it: what prune decides for one must not hit the other."""
    made = make_set(store.folder)
    made.path.rename(store.folder / NEWER)
    entry = store.entries()[0]
    assert entry.set is None or entry.set.name == entry.name == NEWER


# finding


@pytest.mark.parametrize("wanted", ["newest", "", "..", ".incomplete-x", "1795310000"])
def test_what_is_no_name_is_bad_usage(wanted: str, store: LocalStore) -> None:
    make_set(store.folder)
    with pytest.raises(Failure, match="neither the name of a set nor a path") as caught:
        store.find(wanted)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_set_that_is_not_there_is_a_failure(store: LocalStore) -> None:
    make_set(store.folder)
    for wanted in (NEWER, f"./{NEWER}", "/nowhere/", str(store.folder)):
        with pytest.raises(Failure) as caught:
            store.find(wanted)
        assert caught.value.exit_code is ExitCode.FAILED


def test_a_set_can_be_given_by_any_path(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_set(tmp_path / "elsewhere" / "copies")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for wanted in (f"copies/{NAME}", f"./copies/{NAME}/", f"copies/../copies/{NAME}"):
        found = store.find(wanted)
        assert (found.path, found.manifest) == (made.path, made.manifest)


def test_only_a_directory_that_root_alone_can_change_is_as_good_as_the_store(
    store: LocalStore, tmp_path: Path
) -> None:
    """/tmp is refused; files in the store are judged by the store, whoever owns its parent."""
    ours = make_set(store.folder)
    assert store.find(str(ours.path)).said is None
    theirs = make_set(tmp_path / "elsewhere")
    assert store.find(str(theirs.path)).said == theirs.documents


def test_a_set_lacks_what_its_manifest_does_not_name(store: LocalStore) -> None:
    with pytest.raises(Failure, match="holds no part files"):
        make_set(store.folder).file("files")


# removing


def test_only_sets_of_the_store_are_removed(store: LocalStore, tmp_path: Path) -> None:
    foreign = make_set(tmp_path / "foreign")
    with pytest.raises(Failure, match="only sets there are removed"):
        store.delete(foreign)
    assert foreign.path.is_dir()


def test_a_store_by_a_roundabout_path_removes_its_sets_too(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "a" / ".." / "mattermost")
    (tmp_path / "a").mkdir()
    make_set(store.folder)
    store.delete(store.find(NAME))
    assert store.sets() == []


def test_a_removal_cut_short_leaves_no_set(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    made = make_set(store.folder)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        with pytest.raises(Failure, match="cannot be removed"):
            store.delete(made)
    assert store.entries() == []
    make_set(store.folder, NEWER)
    assert os.listdir(store.folder) == [NEWER]


def test_what_must_not_be_removed_is_told_and_stops_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As chattr +i, or a disk that writes once, refuses it."""

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        calls.append(path)
        if not ignore_errors:
            raise OSError(1, "Operation not permitted")

    calls: list[Path] = []
    for name in (OLDER, NAME, NEWER):
        make_set(store.folder, name)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        done = prune.prune(store, Rules(last=1), OWNER)
        assert done.removed == []
        assert len(calls) == len(done.problems) == 2
        assert all("Operation not permitted" in problem for problem in done.problems)
        newest = make_set(store.folder, "1795482800_2026_11_24_10.11.4")
        assert newest in store.sets()
        assert len(prune.prune(store, Rules(last=9), OWNER).problems) == 2
    done = prune.prune(store, Rules(last=9), OWNER)
    assert (done.removed, done.problems) == ([], [])


# several hosts in one folder


def test_what_another_host_is_making_is_left_to_it(store: LocalStore) -> None:
    """Its run may still be active; only what is unchanged for days is removed."""
    ours, theirs, dead, old = (
        store.folder / f".incomplete-1795310000_2026_11_22_10.11.4{of}"
        for of in (f"-{HOST.id[:6]}", "-a1a1a1", "-f0f0f0", "")
    )
    for path in (ours, theirs, dead, old):
        path.mkdir(parents=True)
    os.utime(dead, (0, 0))
    store.folder.chmod(0o700)
    store.serve(HOST)
    assert store.sweep() == []
    assert [path.name for path in store.folder.iterdir()] == [theirs.name]


def test_a_name_that_is_taken_is_told_with_both_hosts(store: LocalStore) -> None:
    there = make_set(store.folder)
    with store.create("another") as staging:
        mine = dataclasses.replace(there.manifest, host_id="a1" * 16, installation="y")
        with pytest.raises(Failure, match="already exists") as caught:
            store.complete(staging, mine)
    for wanted in (HOST.id, INSTALLATION, "a1" * 16, "installation y"):
        assert wanted in caught.value.detail
    assert store.sets() == [there]


# trust


def uses(store: LocalStore) -> list[Callable[[], object]]:
    return [
        store.entries,
        store.sets,
        lambda: store.find(NAME),
        lambda: store.find(NAME),
        lambda: store.create(NEWER).__enter__(),
    ]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_is_refused(mode: int, store: LocalStore) -> None:
    make_set(store.folder)
    store.folder.chmod(mode)
    for use in uses(store):
        with pytest.raises(Failure, match="cannot be trusted"):
            use()


def test_a_folder_of_another_owner_is_refused(store: LocalStore) -> None:
    make_set(store.folder)
    os.chown(store.folder, 65534, 65534)
    for use in uses(store):
        with pytest.raises(Failure, match="cannot be trusted") as caught:
            use()
        assert f"chown root:root {store.folder}" in caught.value.hint


def test_a_link_in_the_place_of_the_folder_is_refused(store: LocalStore, tmp_path: Path) -> None:
    make_set(tmp_path / "elsewhere")
    store.folder.parent.mkdir()
    store.folder.symlink_to(tmp_path / "elsewhere")
    for use in uses(store):
        with pytest.raises(Failure, match="cannot be trusted"):
            use()


# damage


def append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def rewrite_manifest(set_: BackupSet, **changes: object) -> None:
    manifest = dataclasses.replace(set_.manifest, **changes)  # type: ignore[arg-type]
    (set_.path / MANIFEST).write_bytes(to_bytes(manifest))


DAMAGES: dict[str, tuple[Callable[[BackupSet], object], str]] = {
    "flipped bit": (
        lambda set_: flip(set_.path / "database.dump.zst", 77),
        "database.dump.zst: has a wrong",
    ),
    "first bit": (lambda set_: flip(set_.path / "settings.json", 0), "settings.json: has a wrong"),
    "shorter": (
        lambda set_: os.truncate(set_.path / "database.dump.zst", 100),
        "database.dump.zst: has 100 bytes, should have 250",
    ),
    "longer": (lambda set_: append(set_.path / "database.dump.zst", b"x"), "has 251 bytes"),
    "empty": (lambda set_: os.truncate(set_.path / "database.dump.zst", 0), "has 0 bytes"),
    "missing": (
        lambda set_: (set_.path / "database.dump.zst").unlink(),
        "database.dump.zst: is missing",
    ),
    "folder": (
        lambda set_: replace_by_folder(set_.path / "settings.json"),
        "settings.json: ",
    ),
    "swapped": (
        lambda set_: os.replace(set_.path / "database.dump.zst", set_.path / "settings.json"),
        "settings.json: has 250 bytes",
    ),
    "no sums": (lambda set_: (set_.path / SUMS).unlink(), f"{SUMS}: "),
    "other sums": (lambda set_: append(set_.path / SUMS, b"x\n"), "contradict each other"),
    "other rows": (
        lambda set_: rewrite_manifest(
            set_, database=dataclasses.replace(set_.manifest.database, rows={})
        ),
        "contradict each other",
    ),
    "other host": (lambda set_: rewrite_manifest(set_, host="evil"), "contradict each other"),
    # The values are the same, and yet sha256sum says that the file is not what it was.
    "reformatted manifest": (
        lambda set_: spoil_manifest(
            set_, lambda data: json.dumps(json.loads(data), sort_keys=True).encode()
        ),
        "contradict each other",
    ),
    "longer manifest": (lambda set_: append(set_.path / MANIFEST, b"\n"), "contradict each other"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_found_and_named(name: str, store: LocalStore) -> None:
    spoil, problem = DAMAGES[name]
    set_ = make_set(store.folder)
    spoil(set_)
    check = ["sha256sum", "--check", "--quiet", "--strict", SUMS]
    by_hand = subprocess.run(check, cwd=set_.path, capture_output=True, check=False)
    assert by_hand.returncode != 0, "no damage was done"
    found = damage(open_set(set_.path))
    assert any(problem in text for text in found), found


def test_all_damages_are_named_at_once(store: LocalStore) -> None:
    set_ = make_set(store.folder)
    flip(set_.path / "database.dump.zst", 3)
    (set_.path / "settings.json").unlink()
    (set_.path / SUMS).unlink()
    assert len(damage(set_)) == 3


def test_a_manifest_that_names_another_file_is_found(store: LocalStore) -> None:
    part = Part("gone", "bytes", 1, "a" * 64)
    set_ = make_set(store.folder, change=lambda manifest: make_manifest(parts={"database": part}))
    assert damage(set_) == ["gone: is missing"]
