"""Which container is used, and what is said where none is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gitlab_mm_backup.container import engine, selection, view
from gitlab_mm_backup.container.engine import Container, Mount
from gitlab_mm_backup.container.view import Last
from gitlab_mm_backup.errors import ExitCode, Failure

DATA = Mount("bind", "", "/srv/gitlab/data", "/var/opt/gitlab")


def container(name: str = "gitlab", **changes: Any) -> Container:
    values: dict[str, Any] = {
        "engine": "podman",
        "id": f"{name:0<64}",
        "name": name,
        "image": "docker.io/gitlab/gitlab-ce:18.11.9-ce.0",
        "state": "running",
        "pid": 42,
        "mounts": (DATA,),
        "labels": {},
    }
    return Container(**{**values, **changes})


@pytest.fixture(autouse=True)
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "last", lambda: None)


def refused(*arguments: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        selection.choose(*arguments)
    return caught.value


OTHER = container("web", image="nginx", mounts=())


def test_the_only_one_is_used() -> None:
    assert selection.choose("", [OTHER, container()], []) == container()


def test_no_engine_and_no_container() -> None:
    assert selection.choose("", [], []) is None
    assert selection.choose("", [OTHER], ["docker: down"]) is None


def test_two_are_named_in_the_refusal() -> None:
    failure = refused("", [container(), container("other")], [])
    assert failure.exit_code is ExitCode.USAGE
    assert failure.detail == "gitlab (podman, running), other (podman, running)"
    assert "--container NAME" in failure.hint


def test_one_of_two_is_used_where_it_is_named() -> None:
    both = [container(), container("other")]
    assert selection.choose("other", both, []) == both[1]
    assert selection.choose(both[1].id[:12], both, []) == both[1]


def test_the_one_that_runs_is_used_beside_a_stopped_one() -> None:
    old = container("old", state="exited", pid=0)
    assert selection.choose("", [old, container()], []) == container()


def test_the_one_that_was_used_before_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "last", lambda: Last("podman", "other", "18.11.9"))
    both = [container(), container("other")]
    assert selection.choose("", both, []) == both[1]
    renamed = container("project2-gitlab-1")
    assert selection.choose("", [renamed], []) == renamed


SERVER = container(
    "docker-mattermost-1",
    image="mattermost/mattermost-team-edition:10.11",
    mounts=(),
    labels={"com.docker.compose.service": "mattermost"},
)


def test_a_mattermost_of_its_own_image_is_used() -> None:
    assert selection.choose("", [OTHER, SERVER], []) == SERVER
    assert selection.choose("mattermost", [SERVER, container()], []) == SERVER
    stopped = container("mm", image=SERVER.image, mounts=(), state="exited", pid=0)
    assert selection.choose("", [stopped], []) == stopped


def test_gitlab_and_a_mattermost_of_its_own_need_a_name() -> None:
    failure = refused("", [container(), SERVER], [])
    assert failure.message == "There are several Mattermost containers on this host"
    two = refused(
        "mattermost",
        [SERVER, container("b", image=SERVER.image, labels=SERVER.labels, mounts=())],
        [],
    )
    assert (
        two.message == failure.message and "docker-mattermost-1 (podman, running), b" in two.detail
    )


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("exited", "Start it: podman start gitlab"),
        ("paused", "podman unpause gitlab"),
        ("restarting", "podman logs gitlab"),
    ],
)
def test_a_container_that_does_not_run(state: str, hint: str) -> None:
    failure = refused("", [container(state=state, pid=0)], [])
    assert failure.message == "The container gitlab is not running"
    assert failure.detail == f"podman says: {state}"
    assert hint in failure.hint


def test_a_name_that_is_not_there() -> None:
    failure = refused("gitlab2", [container(), OTHER], [])
    assert failure.message == "There is no container gitlab2 with GitLab on this host"
    assert failure.detail == "there are: gitlab (podman, running)"
    assert "rootless" in failure.hint


def test_engines_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "last", lambda: Last("docker", "gitlab", "18.11.9"))
    failure = refused("", [], ["docker: Cannot connect to the Docker daemon"])
    assert failure.message == "The container engine does not answer"
    assert failure.detail == "docker: Cannot connect to the Docker daemon"


@pytest.mark.parametrize(
    ("image", "target", "expected"),
    [
        ("gitlab/gitlab-ee:latest", "/data", True),
        ("registry.example.org:5000/gitlab-ce@sha256:ab", "/data", True),
        ("ours", "/var/opt/gitlab", True),
        ("gitlab/gitlab-runner:latest", "/etc/gitlab-runner", False),
    ],
)
def test_gitlab_is_known_by_image_or_volume(image: str, target: str, expected: bool) -> None:
    mounts = (Mount("volume", "data", "/var/lib/x", target),)
    assert container(image=image, mounts=mounts).is_gitlab is expected


def test_what_an_engine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {
        "Id": "a" * 64,
        "Name": "/gitlab",
        "State": {"Status": "running", "Pid": 7},
        "Config": {
            "Image": "gitlab/gitlab-ce:1\x1b[2J",
            "Labels": {"com.docker.compose.project": "x"},
        },
        "Mounts": [
            {"Type": "volume", "Name": "data", "Source": "/v", "Destination": "/var/opt/gitlab"}
        ],
    }
    answers = {"ps": b"a\n", "container": json.dumps([entry]).encode()}
    monkeypatch.setattr("shutil.which", lambda name, path: name == "docker" or None)
    monkeypatch.setattr(engine, "_said", lambda client, verb, *words: answers[verb])
    found, silent = engine.containers()
    assert silent == []
    assert found[0].name == "gitlab" and found[0].runs and found[0].project == "x"
    assert "\x1b" not in found[0].image
    assert str(found[0].mounts[0]) == "/var/opt/gitlab = volume data"


@pytest.mark.parametrize("answer", [b"[{}]", b"{", b'{"a": 1}', b"[1]"])
def test_an_answer_that_is_none(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: name == "docker" or None)
    monkeypatch.setattr(
        engine, "_said", lambda client, verb, *words: answer if words[0] == "inspect" else b"a"
    )
    assert engine.containers() == ([], ["docker: its answer to inspect is another"])
