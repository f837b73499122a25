"""What of a run reaches the system's log, and what must not."""

from __future__ import annotations

import logging
import syslog

import pytest

from gitlab_mm_backup import system_log
from gitlab_mm_backup.secret import Secret


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: lines.append((level, text)))
    return lines


def test_each_line_with_its_command_and_level(written: list[tuple[int, str]]) -> None:
    log = system_log.SystemLog("sso repair")
    log.handle(logging.makeLogRecord({"msg": "%s\ntwo: 2", "args": ("one",), "levelno": 20}))
    log.write("three", logging.WARNING)
    log.write("four", logging.ERROR)
    assert written == [
        (syslog.LOG_INFO, "sso repair: one"),
        (syslog.LOG_INFO, "sso repair: two: 2"),
        (syslog.LOG_WARNING, "sso repair: three"),
        (syslog.LOG_ERR, "sso repair: four"),
    ]


def test_the_hint_of_a_secret_stays_out(written: list[tuple[int, str]]) -> None:
    hint = Secret("4V4Sxxxxxxxxxxxxxxxxxxxx").hint()
    assert hint == "4V4S…"
    system_log.SystemLog("x").write(f"Wrote the credentials (id xupp…, secret {hint}), done")
    assert written[0][1] == "x: Wrote the credentials (id xupp…, secret …), done"


def test_the_rows_that_postgresql_quotes_stay_out(written: list[tuple[int, str]]) -> None:
    """A message that could not be loaded is a message, and this log is for others' eyes too."""
    system_log.SystemLog("restore").write(
        'pg_restore: error: COPY failed for table "posts": ERROR:  invalid input "my message"\n'
        'DETAIL:  Token "my" is invalid.\nCONTEXT:  COPY posts, line 3: "my message"\nmy message',
        logging.ERROR,
    )
    assert written == [
        (
            syslog.LOG_ERR,
            'restore: pg_restore: error: COPY failed for table "posts": ERROR:  invalid input "…"',
        )
    ]


def test_any_bytes_of_a_name_are_told(written: list[tuple[int, str]]) -> None:
    system_log.SystemLog("x").write("/srv/\udcff\0 is a pipe")
    assert written[0][1] == "x: /srv/\\udcff\\0 is a pipe"
