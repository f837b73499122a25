"""Names and places of extracted files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.rehearsal import output_folder
from gitlab_mm_backup.rehearsal.output_folder import Asker, OutputFolder, safe_name
from gitlab_mm_backup.system import files


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report 2026.pdf", "report 2026.pdf"),
        ("überblick 日本語 🦊.pdf", "überblick 日本語 🦊.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\boot.ini", "boot.ini"),
        (".bashrc", "_.bashrc"),
        ("..", "_.."),
        ("-rf", "_-rf"),
        ("", "file"),
        ("a/", "file"),
        (" \t ", "_"),
        ("a\x1b[31m\u202eb\n.txt", "a_[31m_b_.txt"),
        ("bad \udcff bytes", "bad _ bytes"),
        ("x" * 300 + ".tar", "x" * 196 + ".tar"),
        ("é" * 150 + ".pdf", "é" * 98 + ".pdf"),
        ("x" * 10 + "." + "y" * 300, ("x" * 10 + "." + "y" * 300)[:200]),
    ],
)
def test_a_name_is_safe_and_as_near_to_the_original_as_may_be(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text())
def test_no_name_leads_anywhere(name: str) -> None:
    safe = safe_name(name)
    assert safe and safe.isprintable() and "/" not in safe and safe[0] not in ".-"
    assert len(safe.encode()) <= 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that counts as root's, wherever the tests run."""
    monkeypatch.setattr(files, "led_by_root", lambda path: True)
    return tmp_path / "found"


ME = Asker(os.getuid(), os.getgid())


def write(place: OutputFolder, name: str, text: bytes = b"x", made: int = 0) -> str:
    with place.create(name, made) as (file, given):
        file.write(text)
    return given


def test_files_are_private_dated_and_never_overwritten(folder: Path) -> None:
    with output_folder.opened(folder, ME) as place:
        (folder / "a (2).txt").write_text("mine")
        (folder / "b.txt").symlink_to("/tmp/elsewhere")
        names = [write(place, name, made=1500000000123) for name in ("a.txt", "a.txt", "b.txt")]
    assert names == ["a.txt", "a (3).txt", "b (2).txt"]
    assert (folder / "a (2).txt").read_text() == "mine" and not Path("/tmp/elsewhere").exists()
    status = (folder / "a (3).txt").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o600, 1500000000123000000)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("made", [-(10**15), 10**30])
def test_a_date_that_no_disk_has_is_left_out(folder: Path, made: int) -> None:
    with output_folder.opened(folder, ME) as place:
        assert write(place, "a", made=made) == "a"


def test_half_a_file_is_removed(folder: Path) -> None:
    torn = pytest.raises(ValueError, match="torn")
    with torn, output_folder.opened(folder, ME) as place, place.create("a", 0) as (file, _):
        file.write(b"half")
        raise ValueError("torn")
    assert os.listdir(folder) == []


def test_a_directory_in_which_others_write_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(Failure, match="not extracted") as failure, output_folder.opened(folder, ME):
        pass
    assert "0770" in failure.value.detail


def test_a_missing_parent_is_told(folder: Path) -> None:
    with pytest.raises(Failure, match="be written"), output_folder.opened(folder / "a/x", ME):
        pass
