"""What of a run reaches the system's log, and what must not."""

from __future__ import annotations

import logging
import re
import socket
import syslog
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitlab_mm_backup.system import log as system_log
from gitlab_mm_backup.system.redaction import Secret

RUN = "5f3c09ab"


@pytest.fixture(autouse=True)
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be the run of that name, as within a hook."""
    monkeypatch.setenv(system_log.RUN_VARIABLE, RUN)
    system_log.run_id.cache_clear()
    yield
    system_log.run_id.cache_clear()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, str]]:
    """What syslog gets, on a host without a journal; without the name of the run at its end."""
    lines: list[tuple[int, str]] = []

    def keep(level: int, text: str) -> None:
        told, _, run = text.rpartition(" run=")
        assert run == RUN
        lines.append((level, told))

    monkeypatch.setattr(syslog, "syslog", keep)
    monkeypatch.setattr(system_log.SystemLog.__init__, "__defaults__", (tmp_path / "none",))
    return lines


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        listener.settimeout(10)
        yield tmp_path / "journal", listener


def entry(data: bytes) -> dict[str, str]:
    """Read an entry as systemd-journald does."""
    found = {}
    while data:
        name, _, rest = data.partition(b"\n")
        size = int.from_bytes(rest[:8], "little")
        found[name.decode()] = rest[8 : 8 + size].decode()
        assert rest[8 + size : 9 + size] == b"\n"
        data = rest[9 + size :]
    return found


def test_the_journal_gets_fields(journal: tuple[Path, socket.socket]) -> None:
    place, listener = journal
    log = system_log.SystemLog("sso repair", place)
    log.write("one\ntwo: 2", logging.WARNING, {"exit_code": 4})
    first, second = (entry(listener.recv(1 << 16)) for _ in range(2))
    assert (first["MESSAGE"], second["MESSAGE"]) == ("sso repair: one", "sso repair:     two: 2")
    for fields in (first, second):
        assert fields["PRIORITY"] == str(syslog.LOG_WARNING)
        assert fields["SYSLOG_IDENTIFIER"] == "gitlab-mm"
        assert fields["SYSLOG_FACILITY"] == "3", "daemon"
        assert fields["GITLAB_MM_COMMAND"] == "sso repair"
        assert fields["GITLAB_MM_RUN"] == RUN
        assert fields["GITLAB_MM_EXIT_CODE"] == "4"


def test_a_journal_that_is_stuck_holds_nobody_up(
    journal: tuple[Path, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: lines.append(text))
    log = system_log.SystemLog("backup", journal[0])
    for number in range(3000):
        log.write(f"{number} {'x' * 1000}")
    assert lines, "syslog has what the journal does not take"


@pytest.mark.parametrize("given", ["", "5f3c09a", "5f3c09abc", "5F3C09AB", "secret-8", "../../x"])
def test_a_run_that_is_in_no_hook_has_a_name_of_its_own(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(system_log.RUN_VARIABLE, given)
    system_log.run_id.cache_clear()
    assert re.fullmatch("[0-9a-f]{8}", system_log.run_id())
    assert system_log.run_id() == system_log.run_id() != given


def test_a_run_within_a_hook_has_the_name_of_the_run_around_it() -> None:
    assert system_log.run_id() == RUN


def test_each_line_with_its_command_and_level(written: list[tuple[int, str]]) -> None:
    log = system_log.SystemLog("sso repair")
    log.handle(logging.makeLogRecord({"msg": "%s\ntwo: 2", "args": ("one",), "levelno": 20}))
    log.write("three", logging.WARNING)
    log.write("four", logging.ERROR)
    assert written == [
        (syslog.LOG_INFO, "sso repair: one"),
        (syslog.LOG_INFO, "sso repair:     two: 2"),
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
    assert written[0][1] == "x: /srv/\\udcff\\x00 is a pipe"
