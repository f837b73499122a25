"""The server's container as a service: the commands for its engine, and its restart policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitlab_mm_backup.container import compose, engine, service
from gitlab_mm_backup.container.engine import Container, Start
from gitlab_mm_backup.container.service import ContainerService
from gitlab_mm_backup.errors import Failure

SERVICE = ContainerService("docker", "mm")


class Engine:
    """An engine with one container; each command is kept."""

    def __init__(self) -> None:
        self.state, self.policy, self.pid = "running", "unless-stopped", 7
        self.said: list[str] = []
        self.refuses, self.once = "", False

    def control(self, client: str, *words: str, seconds: float = 0) -> str:
        self.said.append(" ".join((client, *words)))
        if self.refuses and words[0] == self.refuses:
            raise Failure("docker failed with exit code 125", "unknown flag: --restart")
        if words[0] in ("stop", "start"):
            self.state = {"stop": "exited", "start": "running"}[words[0]]
        if words[0] == "update":
            self.policy = words[1].partition("=")[2]
        return "one\ntwo\n"

    def known(self, client: str, name: str) -> Container:
        pid = self.pid if self.state == "running" else 0
        start = Start(restart=self.policy, once=self.once)
        return Container(client, "a" * 64, name, "x", self.state, pid, (), {}, start)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    found = Engine()
    monkeypatch.setattr(engine, "control", found.control)
    monkeypatch.setattr(engine, "known", found.known)
    monkeypatch.setattr(compose, "release", lambda: found.said.append("release"))
    monkeypatch.setattr(compose, "renew", lambda now: found.said.append("renew"))
    monkeypatch.setattr(service, "KEPT", tmp_path / "kept.json")
    return found


def test_its_file_system_is_let_go_before_it_stops(docker: Engine) -> None:
    SERVICE.stop()
    assert docker.said == ["release", "docker stop mm"]
    assert not SERVICE.runs()


def test_it_is_seen_anew_after_its_start(docker: Engine) -> None:
    docker.state = "exited"
    SERVICE.start()
    assert docker.said == ["docker start mm", "renew"]


def test_one_that_exits_at_once(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "known", lambda *_: None)
    docker.state = "exited"
    monkeypatch.setattr(engine, "control", lambda *words, **_: "")
    with pytest.raises(Failure, match="Mattermost does not start") as caught:
        SERVICE.start()
    assert "docker logs mm" in caught.value.hint


def test_one_that_goes_on(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "control", lambda *words, **_: "")
    with pytest.raises(Failure, match="Mattermost does not stop"):
        SERVICE.stop()


def test_the_policy_always_is_taken_back_and_given_again(docker: Engine) -> None:
    docker.policy = "always"
    SERVICE.keep_down()
    assert docker.policy == "no"
    ContainerService("docker", "other").allow_start()
    assert docker.policy == "no"
    SERVICE.allow_start()
    assert docker.policy == "always"
    SERVICE.allow_start()  # twice does no harm
    assert len(docker.said) == 2


@pytest.mark.parametrize("policy", ["no", "unless-stopped", "on-failure", ""])
def test_other_policies_stay(docker: Engine, policy: str) -> None:
    docker.policy = policy
    SERVICE.keep_down()
    SERVICE.allow_start()
    assert docker.said == []


def test_an_engine_that_cannot_change_it(docker: Engine) -> None:
    docker.policy, docker.refuses = "always", "update"
    with pytest.raises(Failure, match="cannot be kept down") as caught:
        SERVICE.keep_down()
    assert "unknown flag" in caught.value.detail
    assert not service.KEPT.exists()


def test_a_container_that_nothing_could_start_again(docker: Engine) -> None:
    docker.once = True
    with pytest.raises(Failure, match="cannot be stopped for the restore") as caught:
        SERVICE.keep_down()
    assert "--rm" in caught.value.hint and docker.said == []


def test_a_container_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "known", lambda *_: None)
    with pytest.raises(Failure, match="The container mm cannot be found"):
        SERVICE.runs()


def test_its_process_and_its_words(docker: Engine) -> None:
    assert SERVICE.current_process() == "7"
    assert SERVICE.said() == ["one", "two"]
    assert (SERVICE.log, SERVICE.start_by_hand) == ("docker logs mm", "docker start mm")
    assert SERVICE.restart_by_hand == "docker restart mm"
    docker.state = "exited"
    assert SERVICE.current_process() == ""
