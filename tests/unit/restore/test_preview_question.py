"""What the prompt of a restore shows before it asks: the live state against the set, and the cost."""

from __future__ import annotations

import gettext
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gitlab_mm_backup import translation
from gitlab_mm_backup.backup.live import Live
from gitlab_mm_backup.mattermost.journal import Journal, Step
from gitlab_mm_backup.mattermost.site import Site
from gitlab_mm_backup.restore import preview, rollback, source
from gitlab_mm_backup.restore.plan import RestoreOptions
from gitlab_mm_backup.restore.source import RestoreSource
from gitlab_mm_backup.store.manifest import Contents, Manifest
from gitlab_mm_backup.store.sets import BackupSet
from gitlab_mm_backup.system import humanize
from tests.unit.helpers.builders import INSTALLATION, ROOT, make_manifest
from tests.unit.test_translation import compile_to

ALL = ("database", "files", "config", "sso")
LIVE = Live(INSTALLATION, Contents(4, 1210, 12_345_678, 98_765, 7 << 40, "2026-11-29T21:07:15Z"))
SITE = cast(Site, SimpleNamespace(version="10.11.20", folders=None))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setattr(preview, "Journal", lambda: Journal(tmp_path))
    return Journal(tmp_path)


def wanted(manifest: Manifest | None = None, streamed: bool = False) -> RestoreSource:
    set_ = BackupSet(Path("/sets/1"), manifest or make_manifest())

    def way() -> nullcontext[BackupSet]:
        return nullcontext(set_)

    return RestoreSource(set_, way, way if streamed else None)


def told(plan: RestoreOptions, live: Live = LIVE, **changes: object) -> list[str]:
    """The lines of the prompt before its question, warnings included."""
    manifest = make_manifest(name="1795645726_2026_11_25_10.11.20-1f3a9c", **changes)
    lines, loud, asked = preview.question(wanted(manifest), SITE, plan, live)
    return [*lines, *loud, f"{asked} [y/N]: "]


def test_live_and_set_stand_side_by_side() -> None:
    assert preview.comparison(make_manifest(), LIVE, ALL) == [
        "             LIVE                     SET",
        "  posts      12 345 678               41",
        "  last post  2026-11-29 21:07:15 UTC  2026-11-22 01:10:00 UTC",
        "  users      1 210                    3",
        "  uploads    98 765, 7.0 TiB          5, 2.0 KiB",
    ]


def test_an_older_set_has_its_rows_alone() -> None:
    rows = preview.comparison(make_manifest(contents=None), LIVE, ALL)
    assert [row.split("  ")[-1].strip() for row in rows[1:]] == [
        "about 41",
        "not known",
        "about 3",
        "about 0",
    ]


def test_an_unused_mattermost_has_no_last_post() -> None:
    rows = preview.comparison(make_manifest(), Live("", Contents(0, 0, 0, 0, 0, None)), ALL)
    assert [row.split()[-4 if "last" in row else -2] for row in rows[1:3]] == ["0", "none"]


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (("database",), ["posts", "last post", "users", "uploads"]),
        (("files",), ["uploads"]),
        (("config", "sso"), []),
    ],
)
def test_only_what_is_replaced_is_compared(parts: tuple[str, ...], names: list[str]) -> None:
    rows = preview.comparison(make_manifest(), LIVE, parts)
    assert [row[2:11].strip() for row in rows[1:]] == names
    unread = preview.comparison(make_manifest(), Live(trouble="no"), parts)
    assert len(unread) == len(rows) + bool(names)


def test_a_live_state_that_cannot_be_read_is_not_known_and_why() -> None:
    why = "PostgreSQL cannot be reached: connection to server on socket " + "/x" * 60 + " failed"
    rows = preview.comparison(make_manifest(), Live(trouble=f"{why}\x1b[31m\nRestored"), ALL)
    assert all(re.match(r"  [a-z ]+  not known  +\d", row) for row in rows[1:5]), rows
    assert rows[5].startswith("The live state is not known: PostgreSQL cannot be reached: ")
    assert max(map(len, rows)) <= 79
    assert "\x1b" not in "".join(rows) and "\n" not in "".join(rows)


@pytest.mark.parametrize("language", ["en_US.UTF-8", "ja_JP.UTF-8"])
@pytest.mark.parametrize("live", [LIVE, Live(trouble="the database is down")], ids=["up", "down"])
def test_it_fits_80_columns(
    language: str, live: Live, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "_catalog", gettext.NullTranslations())
    compile_to(tmp_path, ROOT / "debian/translations/ja.po")
    translation.choose({"LANG": language}, str(tmp_path))
    rows = {"public.posts": 12_345_678_901}
    database = replace(make_manifest().database, rows=rows)
    for plan in (RestoreOptions(), RestoreOptions(safety=False, in_place=True)):
        lines = told(plan, live, database=database, host="gitlab-production-01.intern.example.org")
        assert max(map(humanize.width, lines)) <= 80, lines
        assert any("1795645726" in line for line in lines)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (RestoreOptions(), "A safety backup of the live state is made first."),
        (RestoreOptions(safety=False), "NO safety backup of the live state is made"),
    ],
)
def test_a_safety_backup_is_promised_where_one_is_made(
    plan: RestoreOptions, words: str, journal: Journal
) -> None:
    assert words in " ".join(told(plan))
    journal.write({}, [Step(rollback.LIVE_STATE_REMOVED, {"safety_set": ""})], [])
    assert "safety backup" not in " ".join(told(plan)), "nothing is live any more"


@pytest.mark.parametrize(
    ("size", "changes", "words"),
    [
        (8 << 20, {}, "about 5 s."),
        (600 << 20, {}, "about 35 s."),
        (600 << 20, {"parts": ("config",)}, "about 5 s."),
        (600 << 20, {"search": "later"}, "about 15 s."),
    ],
)
def test_the_downtime_follows_from_what_is_loaded(
    size: int, changes: Mapping[str, object], words: str, journal: Journal
) -> None:
    database = replace(make_manifest().database, bytes=size)
    lines = told(replace(RestoreOptions(), **changes), database=database)  # type: ignore[arg-type]
    assert f"Mattermost will be down for {words}" in lines


def test_a_download_while_mattermost_is_down_is_said(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_comes_once", lambda *given: True)
    monkeypatch.setattr(source, "_is_empty", lambda site: True)
    lines = preview.question(wanted(streamed=True), SITE, RestoreOptions(), LIVE)[0]
    assert "Mattermost will be down for about 5 s, and while 12 B are downloaded." in lines
