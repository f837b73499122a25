"""Where Mattermost is asked, by its settings; and what of its log says why it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import listener, service
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from gitlab_mm_backup.system import files


def url(**values: str) -> str:
    return listener.of(EffectiveConfig({"ServiceSettings": values})).url


@pytest.mark.parametrize(
    ("listen", "security", "site", "wanted"),
    [
        ("", "", "", "http://127.0.0.1:8065"),
        (":8065", "", "https://chat.example.org", "http://127.0.0.1:8065"),
        ("127.0.0.1:8066", "", "", "http://127.0.0.1:8066"),
        ("10.0.0.5:80", "", "", "http://10.0.0.5:80"),
        ("[::1]:8065", "", "", "http://[::1]:8065"),
        ("[::]:8065", "", "", "http://127.0.0.1:8065"),
        ("0.0.0.0:8065", "", "", "http://127.0.0.1:8065"),
        ("localhost:http", "", "", "http://localhost:80"),
        (":443", "TLS", "https://chat.example.org", "https://127.0.0.1:443"),
        (":https", "TLS", "", "https://127.0.0.1:443"),
        ("", "TLS", "", "https://127.0.0.1:443"),
        (":8065", "", "https://example.org/chat/", "http://127.0.0.1:8065/chat"),
        (":8065", "TLS", "https://example.org/a/b", "https://127.0.0.1:8065/a/b"),
    ],
)
def test_it_is_asked_where_its_settings_say(
    listen: str, security: str, site: str, wanted: str
) -> None:
    assert url(ListenAddress=listen, ConnectionSecurity=security, SiteURL=site) == wanted


def test_a_server_that_is_asked_by_tls_is_told_the_name_that_people_use() -> None:
    found = listener.of(
        EffectiveConfig({"ServiceSettings": {"SiteURL": "https://chat.example.org:8443/x"}})
    )
    assert found.name == "chat.example.org"


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([], ""),
        (["", "  "], ""),
        (['{"level":"info","msg":"a"}', '{"level":"info","msg":"b"}'], "b"),
        (['{"level":"error","msg":"a","err":"why"}', '{"level":"info","msg":"b"}'], "a why"),
        (['{"level": "critical", "msg": "a"}', "exit status 1"], "a"),
        (["panic: runtime error: x", "goroutine 1 [running]:"], "panic: runtime error: x"),
        (["2026-11-29_20:00:00.12345 {\"level\":\"fatal\",\"msg\":\"a\"}", "b"], "a"),
        (["2018-01-01_00:00:00 [2018] [CRIT] no database"], "[2018] [CRIT] no database"),
    ],
)  # fmt: skip
def test_the_last_error_of_a_log_says_why(lines: list[str], wanted: str) -> None:
    assert service.log_reason(lines) == wanted


def test_the_end_of_a_log_is_read_whatever_it_is(tmp_path: Path) -> None:
    log = tmp_path / "current"
    assert files.last_lines(log) == []
    log.write_bytes(b"x" * 99 + b"\nlast\n\xff\n")
    assert files.last_lines(log, 7) == ["last", "\ufffd"]
    (tmp_path / "link").symlink_to(log)
    os.mkfifo(tmp_path / "pipe")
    assert files.last_lines(tmp_path / "link") == files.last_lines(tmp_path / "pipe") == []


class Ending:
    """A service that was started anew before each look."""

    log = "/var/log/x"

    def __init__(self, *processes: str) -> None:
        self.processes = [*processes]

    def current_process(self) -> str:
        return self.processes.pop(0)

    def said(self) -> list[str]:
        return ['{"level":"error","msg":"no such table"}', "exit status 1"]


def look(*processes: str) -> None:
    watched = service._Watched(Ending(*processes))  # type: ignore[arg-type]
    for _ in processes:
        watched.looked = 0.0
        watched.refuse_loop()


def test_the_second_time_that_it_is_started_anew_is_enough() -> None:
    look("1", "", "1", "2", "2", "")
    with pytest.raises(Failure, match="keeps exiting") as failure:
        look("1", "", "2", "", "3")
    assert "no such table" in failure.value.detail and "/var/log/x" in failure.value.hint
