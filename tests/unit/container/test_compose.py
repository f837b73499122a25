"""A standalone Mattermost in a container: its account, its program, and which container PostgreSQL is in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.container import compose, engine, view
from gitlab_mm_backup.container.engine import Container, Mount, Start
from gitlab_mm_backup.container.view import Last
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.system.redaction import Secret

PASSWD = "root:x:0:0::/root:/bin/sh\nmattermost:x:2000:2001::/mattermost:/bin/false\nbroken\n"
GROUP = "root:x:0:\nchat:x:2001:\nother:x:3000:\n"
TEXTS = {"/etc/passwd": PASSWD, "/etc/group": GROUP}


def container(name: str, image: str, **changes: Any) -> Container:
    start = Start(**{"names": {"docker_default": frozenset({name, "10.0.0.9"})}, **changes})
    return Container("docker", f"{name:0<64}", name, image, "running", 7, (), {}, start)


SERVER = container("mm", "mattermost/mattermost-team-edition:10.11")
DATABASE = container(
    "db-1", "postgres:17-alpine", names={"docker_default": frozenset({"postgres", "10.0.0.2"})}
)


def account(user: str) -> Mapping[str, str]:
    return compose._account_of(replace(SERVER, start=Start(user=user)), TEXTS)


@pytest.mark.parametrize(
    ("user", "passwd", "group"),
    [
        ("mattermost", "mattermost:x:2000:2001:", "chat:x:2001:"),
        ("2000", "mattermost:x:2000:2001:", "chat:x:2001:"),
        ("2000:3000", "mattermost:x:2000:3000:", "other:x:3000:"),
        ("mattermost:other", "mattermost:x:2000:3000:", "other:x:3000:"),
        ("1234:5678", "mattermost:x:1234:5678:", "mattermost:x:5678:"),
        ("", "root:x:0:0:", "root:x:0:"),
    ],
)
def test_the_account_of_the_server(user: str, passwd: str, group: str) -> None:
    found = account(user)
    assert found["/etc/passwd"].startswith(passwd)
    assert found["/etc/group"] == group


def test_an_account_that_the_image_does_not_have() -> None:
    with pytest.raises(Failure, match="The account nobody-here"):
        account("nobody-here")


@pytest.mark.parametrize(
    ("words", "program", "arguments"),
    [
        (("/mattermost/bin/mattermost",), "mattermost/bin/mattermost", []),
        (("/entrypoint.sh", "mattermost"), "mattermost/bin/mattermost", []),
        (("/opt/mm/mattermost", "--config", "x"), "opt/mm/mattermost", ["--config", "x"]),
        (("/entrypoint.sh",), "mattermost/bin/mattermost", []),
    ],
)
def test_the_program_of_the_server(
    words: tuple[str, ...], program: str, arguments: list[str]
) -> None:
    found = compose.program(replace(SERVER, start=Start(words=words)))
    assert found == (view.BASE / "server" / program, arguments)


@pytest.mark.parametrize("host", ["postgres", "10.0.0.2", "db-1"])
def test_postgresql_is_found_by_name_alias_or_address(host: str) -> None:
    assert compose.database_of(SERVER, host, [SERVER, DATABASE]) == DATABASE


@pytest.mark.parametrize("host", ["localhost", "db.example.test", "", "/var/run/postgresql"])
def test_another_host_is_in_no_container(host: str) -> None:
    assert compose.database_of(SERVER, host, [SERVER, DATABASE]) is None


def test_a_container_of_another_network_is_not_it() -> None:
    other = replace(DATABASE, start=Start(names={"other": frozenset({"postgres"})}))
    assert compose.database_of(SERVER, "postgres", [other]) is None


def test_a_shared_network_is_reached_by_localhost() -> None:
    start = Start(network=f"container:{DATABASE.id}")
    server = replace(SERVER, start=start)
    assert compose.database_of(server, "localhost", [DATABASE]) == DATABASE
    assert compose.database_of(server, "127.0.0.1", [DATABASE]) == DATABASE
    pod = replace(DATABASE, start=Start(network="container:infra"))
    server = replace(SERVER, start=Start(network="container:infra"))
    assert compose.database_of(server, "localhost", [pod]) == pod


def test_the_hosts_network_is_shared_too() -> None:
    server, database = (replace(found, start=Start(network="host")) for found in (SERVER, DATABASE))
    assert compose.database_of(server, "localhost", [database]) == database


def test_what_is_no_postgresql_is_not_it() -> None:
    web = replace(DATABASE, image="nginx")
    assert compose.database_of(SERVER, "postgres", [web]) is None
    by_volume = replace(web, mounts=(Mount("volume", "x", "/x", "/var/lib/postgresql/data"),))
    assert compose.database_of(SERVER, "postgres", [by_volume]) == by_volume


def test_a_stopped_one_is_named() -> None:
    with pytest.raises(Failure, match="db-1 with Mattermost's PostgreSQL is not running") as caught:
        compose.database_of(SERVER, "postgres", [replace(DATABASE, state="exited", pid=0)])
    assert "docker start db-1" in caught.value.hint


def test_the_running_one_of_two_is_used() -> None:
    old = replace(DATABASE, id="o" * 64, name="db-old", state="exited", pid=0)
    assert compose.database_of(SERVER, "postgres", [old, DATABASE]) == DATABASE
    both = [replace(old, state="running", pid=9), DATABASE]
    with pytest.raises(Failure, match="Several containers") as caught:
        compose.database_of(SERVER, "postgres", both)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_stopped_server_has_the_account_of_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Last("docker", "mm", "", "10.11.20", "mattermost:chat:102000:102001")
    monkeypatch.setattr(view, "last", lambda: last)
    found = compose._account_before(SERVER)
    assert found["/etc/passwd"].startswith("mattermost:x:102000:102001:")
    assert compose.account() == ("mattermost", "chat")
    assert compose.note_version("unknown") == "10.11.20"
    with pytest.raises(Failure, match="The container other is not running"):
        compose._account_before(replace(SERVER, name="other"))


@pytest.mark.parametrize(("text", "address"), [("10.0.0.1", True), ("::1", True), ("db", False)])
def test_addresses(text: str, address: bool) -> None:
    assert compose._is_address(text) is address


def test_the_place_of_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert compose.database_folder() is None  # of a host without containers
    monkeypatch.setattr(view, "_entered", [view.View(SERVER, ())])
    assert compose.database_folder() == Path("/usr")
    data = Mount("bind", "", str(tmp_path), "/var/lib/postgresql/data")
    found = replace(DATABASE, mounts=(data,))
    monkeypatch.setattr(compose, "_databases", [("postgres", found, tmp_path)])
    assert compose.database_folder() == tmp_path


def test_what_an_engine_says_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {
        "Id": "a" * 64,
        "Name": "/docker-mattermost-1",
        "State": {"Status": "running", "Pid": 7},
        "Config": {
            "Image": "mattermost/mattermost-enterprise-edition:10.5.2",
            "Env": ["MM_SQLSETTINGS_DATASOURCE=postgres://u:hush=1@postgres/m", "TZ"],
            "User": "mattermost",
            "Entrypoint": ["/entrypoint.sh"],
            "Cmd": ["mattermost"],
            "WorkingDir": "/mattermost",
            "Hostname": "abc",
        },
        "HostConfig": {
            "RestartPolicy": {"Name": "always"},
            "NetworkMode": "docker_default",
            "AutoRemove": True,
        },
        "NetworkSettings": {
            "Networks": {"docker_default": {"Aliases": ["mattermost"], "IPAddress": "10.0.0.3"}}
        },
    }
    monkeypatch.setattr("shutil.which", lambda name, path: name == "docker" or None)
    monkeypatch.setattr(engine, "_said", lambda client, *words: json.dumps([entry]).encode())
    found = engine.known("docker", "docker-mattermost-1")
    assert found is not None and found.is_mattermost and not found.is_gitlab
    start = found.start
    assert start.words == ("/entrypoint.sh", "mattermost") and start.restart == "always"
    assert start.once
    assert (start.user, start.folder, start.hostname) == ("mattermost", "/mattermost", "abc")
    assert start.names == {"docker_default": frozenset({"mattermost", "10.0.0.3"})}
    source = start.environment["MM_SQLSETTINGS_DATASOURCE"]
    assert isinstance(source, Secret) and source.reveal() == "postgres://u:hush=1@postgres/m"
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    ("image", "targets", "expected"),
    [
        ("mattermost/mattermost-team-edition:11", (), True),
        ("registry.example.org:5000/mattermost-enterprise-edition@sha256:ab", (), True),
        ("ours", ("/mattermost/config", "/mattermost/data"), True),
        ("ours", ("/mattermost/data",), False),
        ("mattermost/mattermost-push-proxy", (), False),
        ("gitlab/gitlab-ce:18", ("/mattermost/config", "/mattermost/data"), False),
    ],
)
def test_mattermost_is_known_by_image_or_volumes(
    image: str, targets: tuple[str, ...], expected: bool
) -> None:
    mounts = tuple(Mount("bind", "", "/x", target) for target in targets)
    assert replace(SERVER, image=image, mounts=mounts).is_mattermost is expected


def test_a_client_runs_with_the_mounts_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Podman mounts what a container needs where its client runs, and our mounts end with us."""
    monkeypatch.setattr("os.path.samefile", lambda *paths: True)
    assert list(engine._command("podman", "ps").argv) == ["podman", "ps"]
    monkeypatch.setattr("os.path.samefile", lambda *paths: False)
    argv = list(engine._command("podman", "ps").argv)
    assert argv == ["nsenter", "--mount=/proc/1/ns/mnt", "--", "podman", "ps"]


def test_what_helps_names_the_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compose.care() == ""
    monkeypatch.setattr(view, "_entered", [view.View(SERVER, ())])
    assert (
        "docker ps --all" in compose.care() and "MM_SQLSETTINGS_DATASOURCE of mm" in compose.care()
    )
