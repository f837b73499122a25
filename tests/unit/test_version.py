"""Versions compare by their leading numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup import version


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("10.11.4", (10, 11, 4)),
        ("10.11.4-rc1", (10, 11, 4)),
        ("17", (17,)),
        ("16.11 (Debian 16.11-1)", (16, 11)),
        ("5.9.", (5, 9)),
        ("v5.9", ()),
        ("unknown", ()),
        ("", ()),
    ],
)
def test_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version.numbers(text) == numbers


def test_ten_is_newer_than_nine() -> None:
    assert version.numbers("9.11.6") < version.numbers("10.0")
    assert version.numbers("10.11") < version.numbers("10.11.1")


def test_the_tool_tells_the_version_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gitlab_mm_backup-7.8.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: gitlab-mm-backup\nVersion: 7.8.9\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert version.tool() == "7.8.9"
    kept = tmp_path / "kept-version"
    kept.write_text("gitlab-mm, version 7.9\n")
    monkeypatch.setattr(version, "_KEPT", kept)
    assert version.tool() == "7.9"
