"""The summary that every account can read: what is in it, and how it ages."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.health import summary
from gitlab_mm_backup.health.lines import Figure, State, StatusLine
from gitlab_mm_backup.health.summary import Summary
from tests.unit.helpers.reports import NOW

LINES = [
    StatusLine("last set", State.GOOD, "2 h ago", {"set_age": Figure(7200, "s", "93600", "93600")}),
    StatusLine("rehearsal", State.BAD, "failed", fix="gitlab-mm rehearse", detail="uploads: a.png"),
    StatusLine("off-site", State.GOOD, "nas", {"offsite_age_nas": Figure(60, "s", "172800")}),
]


def written(path: Path) -> Path:
    summary.write(Summary("git.example.org", NOW, LINES), path)
    return path


def test_it_is_for_everybody_and_has_no_details(tmp_path: Path) -> None:
    path = written(tmp_path / "status.json")
    assert path.stat().st_mode & 0o777 == 0o644
    assert "a.png" not in path.read_text()
    seen = summary.read(NOW, path)
    assert (seen.host, seen.at) == ("git.example.org", NOW)
    assert [line.words for line in seen.lines] == [line.words for line in LINES]
    assert seen.lines[0] == LINES[0]


def test_ages_grow_and_a_limit_turns_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "status.json")
    seen = summary.read(NOW + timedelta(hours=25), path)
    assert [line.state.value for line in seen.lines] == ["bad", "bad", "good"]
    assert seen.lines[0].figures["set_age"].value == 27 * 3600
    assert seen.lines[0].fix == "sudo gitlab-mm status"
    seen = summary.read(NOW + timedelta(days=3), path)
    assert [line.name for line in seen.lines][3:] == ["summary"]
    assert [line.state.value for line in seen.lines] == ["bad", "bad", "warning", "warning"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "lines": 1}'])
def test_what_is_no_summary_is_a_failure(text: str, tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text(text)
    with pytest.raises(Failure, match="cannot be read"):
        summary.read(NOW, path)


def test_without_one_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        summary.read(NOW, tmp_path / "none")
    assert caught.value.hint == "sudo gitlab-mm status"
    summary.write(Summary("x", NOW, LINES), tmp_path / "none" / "status.json")
    assert not (tmp_path / "none").exists()
