"""Exit codes, failures and the texts people read."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from gitlab_mm_backup.backup.job import BackupResult
from gitlab_mm_backup.cli.backup import backup_result, with_next
from gitlab_mm_backup.config.settings import Settings
from gitlab_mm_backup.errors import ExitCode, Failure, Interrupted
from gitlab_mm_backup.health import scheduler
from gitlab_mm_backup.health.scheduler import Scheduler
from gitlab_mm_backup.result import CommandResult
from gitlab_mm_backup.store.prune import Owner
from gitlab_mm_backup.system import humanize
from tests.unit.helpers.builders import HOST, make_set


def test_exit_codes_are_those_that_scripts_rely_on() -> None:
    table = {code.name: int(code) for code in ExitCode}
    assert table == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "LOCKED": 3,
        "WARNINGS": 4,
        "ATTENTION": 5,
        "REFUSED": 10,
    }


@pytest.mark.parametrize(
    ("failure", "shown"),
    [
        (Failure("broken", "at the joint", "glue it"), "broken: at the joint"),
        (Failure("broken"), "broken"),
        (Failure("broken", hint="glue it"), "broken"),
    ],
)
def test_a_failure_says_what_and_the_detail(failure: Failure, shown: str) -> None:
    assert str(failure) == shown
    assert failure.exit_code is ExitCode.FAILED


def test_a_backup_ends_with_sizes_and_what_was_pruned(tmp_path: Path) -> None:
    made = make_set(
        tmp_path,
        contents={"database": b"d" * 2048, "files": b"f" * 5120, "settings": b"{}"},
        change=lambda known: replace(known, seconds=6.84),
    )
    owner = Owner(HOST, made.manifest.installation)
    told = backup_result(BackupResult(made, ["1795223600_2026_11_21_10.11.4"], [], [], owner, {}))
    assert told.lines == [
        f"Made {made.path}",
        "  44 rows, 7 files in 6.8 s",
        "  7.0 KiB: database 2.0 KiB, files 5.0 KiB",
        "Removed 1795223600_2026_11_21_10.11.4",
    ]


@pytest.mark.parametrize(
    ("night", "told"),
    [
        (Scheduler("by cron"), "Next run: by cron"),
        (
            Scheduler(obstacle="cron is not running", fix="service cron start"),
            "Next run: no nightly set: cron is not running. Run: service cron start",
        ),
    ],
)
def test_the_last_line_of_a_backup_is_about_the_next(
    night: Scheduler, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "look", lambda now, plan: night)
    ours = Settings(Path("/srv/sets"), None)
    made = with_next(CommandResult({}, ["Made it"], ["odd"]), datetime.now(timezone.utc), ours)
    assert (made.lines, made.warnings) == (["Made it", told], ["odd"])


def test_an_interruption_passes_handlers_of_ordinary_errors() -> None:
    assert not issubclass(Interrupted, Exception)
    assert Interrupted("SIGTERM").signal_name == "SIGTERM"


@pytest.mark.parametrize(
    ("code", "warnings", "wanted"),
    [
        (ExitCode.DONE, [], ExitCode.DONE),
        (ExitCode.DONE, ["look"], ExitCode.WARNINGS),
        (ExitCode.WARNINGS, [], ExitCode.WARNINGS),
        (ExitCode.FAILED, ["look"], ExitCode.FAILED),
        (ExitCode.ATTENTION, ["look"], ExitCode.ATTENTION),
    ],
)
def test_warnings_change_the_exit_code_of_success_alone(
    code: ExitCode, warnings: list[str], wanted: ExitCode
) -> None:
    assert CommandResult({}, [], warnings, code).exit_code is wanted


def test_warnings_of_a_lenient_command_do_not_show_in_its_exit_code() -> None:
    assert CommandResult({}, [], ["look"], lenient=True).exit_code is ExitCode.DONE
    assert CommandResult({}, [], [], ExitCode.FAILED, lenient=True).exit_code is ExitCode.FAILED


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (2 * 1024**4, "2.0 TiB"),
        (2048 * 1024**4, "2048.0 TiB"),
    ],
)
def test_sizes(count: float, shown: str) -> None:
    assert humanize.size(count) == shown


def test_numbers_carry_their_noun() -> None:
    assert humanize.number(1, "file") == "1 file"
    assert humanize.number(0, "file") == "0 files"
    assert humanize.number(1234567, "row") == "1 234 567 rows"
    assert humanize.number(2, "entry", "entries") == "2 entries"


def test_a_moment_is_told_in_local_time() -> None:
    when = datetime(2026, 11, 22, 1, 13, 20, tzinfo=timezone.utc)
    assert humanize.moment(when) == when.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (5400, "1.5 h"),
        (36000, "10.0 h"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert humanize.duration(seconds) == shown
