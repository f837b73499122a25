"""Hooks: which run, in what order, with what, and which are refused."""

from __future__ import annotations

import logging
import os
import pwd
import signal
import time
from pathlib import Path

import pytest

from gitlab_mm_backup.config import hooks
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.system import log, process

PHASE = "pre-backup"


class Places:
    """Our hook folder and the administrator's, and a file that hooks write to."""

    def __init__(self, root: Path) -> None:
        self.ours, self.admins, self.out = root / "usr", root / "etc", root / "out"
        for place in (self.ours, self.admins):
            (place / f"{PHASE}.d").mkdir(parents=True)
            (place / f"{PHASE}.d").chmod(0o755)

    def add(self, place: Path, name: str, script: str = "", mode: int = 0o755) -> Path:
        path = place / f"{PHASE}.d" / name
        script = script or f'echo "{place.name}/{name}" >>"{self.out}"'
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(mode)
        return path

    def run(self, **variables: str) -> list[str]:
        hooks.run_phase(PHASE, variables, self.ours, self.admins)
        return self.out.read_text().splitlines() if self.out.exists() else []


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


# which


def test_ours_and_the_administrator_s_run_in_one_order_by_name(places: Places) -> None:
    for place, name in (
        (places.admins, "90-last"),
        (places.ours, "50-b"),
        (places.admins, "50-a"),
        (places.ours, "10-first"),
    ):
        places.add(place, name)
    assert places.run() == ["usr/10-first", "etc/50-a", "usr/50-b", "etc/90-last"]


def test_an_administrator_s_hook_replaces_ours_of_the_same_name(places: Places) -> None:
    places.add(places.ours, "50-both")
    places.add(places.admins, "50-both")
    assert places.run() == ["etc/50-both"]


def test_a_link_to_nothing_masks_ours(places: Places) -> None:
    places.add(places.ours, "50-masked")
    places.add(places.ours, "60-other")
    (places.admins / f"{PHASE}.d" / "50-masked").symlink_to("/dev/null")
    assert places.run() == ["usr/60-other"]


@pytest.mark.parametrize(
    "name", ["50-x.dpkg-old", "50-x~", ".50-x", "50-x.sh", "50 x", "50-x.dpkg-new", "50-ü"]
)
def test_leftovers_of_editors_and_dpkg_do_not_run(name: str, places: Places) -> None:
    places.add(places.admins, name)
    assert places.run() == []


def test_hooks_of_another_phase_do_not_run(places: Places) -> None:
    places.add(places.ours, "50-x")
    hooks.run_phase("post-backup", {}, places.ours, places.admins)
    assert not places.out.exists()


def test_folders_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for phase in hooks.PHASES:
        hooks.run_phase(phase, {}, tmp_path / "no", tmp_path / "file")


# with what


def test_a_hook_sees_what_is_documented_and_nothing_else(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("GITLAB_MM_FOREIGN", "x")
    monkeypatch.setenv("HOME", "/somebody/elses")
    root = pwd.getpwuid(os.geteuid())
    places.add(places.ours, "50-x", f'tr "\\0" "\\n" </proc/$$/environ >"{places.out}"')
    assert sorted(places.run(set="a b", set_path="/sets/a b")) == [
        "GITLAB_MM_PHASE=pre-backup",
        f"GITLAB_MM_RUN={log.run_id()}",
        "GITLAB_MM_SET=a b",
        "GITLAB_MM_SET_PATH=/sets/a b",
        f"HOME={root.pw_dir}",
        "LC_ALL=C.UTF-8",
        f"LOGNAME={root.pw_name}",
        f"PATH={process.PATH}",
        f"USER={root.pw_name}",
    ]


def test_a_program_that_a_hook_leaves_running_is_not_waited_for(places: Places) -> None:
    places.add(places.ours, "50-x", f"sleep 60 & echo $! >{places.out}")
    began = time.monotonic()
    (left,) = places.run()
    try:
        assert time.monotonic() - began < 20
        assert Path(f"/proc/{left}").exists()
    finally:
        os.kill(int(left), signal.SIGKILL)


def test_what_a_hook_prints_goes_to_the_log(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    places.add(places.ours, "50-x", "echo one; echo two >&2")
    with caplog.at_level(logging.INFO, "gitlab_mm_backup"):
        places.run()
    assert caplog.messages == ["50-x: one", "50-x: two"]


def test_the_first_failure_ends_the_phase(places: Places) -> None:
    places.add(places.ours, "10-good")
    bad = places.add(places.ours, "20-bad", "echo because >&2; exit 7")
    places.add(places.ours, "30-never")
    with pytest.raises(Failure) as caught:
        places.run()
    assert caught.value.message == "Hook pre-backup.d/20-bad failed"
    assert caught.value.detail == "because"
    assert str(bad) in caught.value.hint and str(places.admins) in caught.value.hint
    assert places.out.read_text() == "usr/10-good\n"


def test_a_failure_without_words_says_how_the_hook_ended(places: Places) -> None:
    places.add(places.ours, "50-x", "exit 7")
    with pytest.raises(Failure) as caught:
        places.run()
    assert caught.value.detail == "50-x failed with exit code 7"


# refused


def refusal(places: Places) -> Failure:
    with pytest.raises(Failure, match="is not run") as caught:
        places.run()
    assert not places.out.exists()
    return caught.value


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_file_that_others_can_write_is_refused(mode: int, places: Places) -> None:
    path = places.add(places.admins, "50-x", mode=mode)
    failure = refusal(places)
    assert str(path) in failure.message
    assert failure.detail == f"{path} can be written by others than root"
    assert failure.hint == f"chown root:root {path}; chmod go-w {path}"


def test_a_file_of_another_owner_is_refused(places: Places) -> None:
    os.chown(places.add(places.admins, "50-x"), 65534, -1)
    assert "50-x can be written" in refusal(places).detail


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_that_others_can_write_is_refused(mode: int, places: Places) -> None:
    path = places.add(places.admins, "50-x")
    path.parent.chmod(mode)
    assert f"{path.parent} can be written" in refusal(places).detail


def test_a_folder_of_another_owner_is_refused(places: Places) -> None:
    path = places.add(places.admins, "50-x")
    os.chown(path.parent, 65534, -1)
    assert f"{path.parent} can be written" in refusal(places).detail


def test_what_a_link_leads_to_must_be_root_s_too(places: Places, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    place.chmod(0o777)
    program = place / "program"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    (places.admins / f"{PHASE}.d" / "50-x").symlink_to(program)
    assert f"{place} can be written" in refusal(places).detail
    place.chmod(0o755)
    program.chmod(0o777)
    assert f"{program} can be written" in refusal(places).detail


def test_a_link_to_root_s_own_program_runs(places: Places, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir(mode=0o755)
    program = place / "program.sh"
    program.write_text(f"#!/bin/sh\necho linked >{places.out}\n", encoding="utf-8")
    program.chmod(0o755)
    (places.admins / f"{PHASE}.d" / "50-x").symlink_to(program)
    assert places.run() == ["linked"]


@pytest.mark.parametrize("kind", ["not executable", "folder", "dangling link", "endless link"])
def test_what_is_no_program_is_refused(kind: str, places: Places) -> None:
    path = places.admins / f"{PHASE}.d" / "50-x"
    if kind == "not executable":
        places.add(places.admins, "50-x", mode=0o644)
    elif kind == "folder":
        path.mkdir(mode=0o755)
    else:
        path.symlink_to("50-x" if kind == "endless link" else "/nowhere")
    assert str(path) in refusal(places).message


def test_a_bad_hook_stops_the_phase_where_it_stands(places: Places) -> None:
    places.add(places.admins, "50-x", mode=0o777)
    places.add(places.admins, "60-y")
    refusal(places)
