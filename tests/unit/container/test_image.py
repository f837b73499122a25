"""The version of GitLab in an image."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gitlab_mm_backup.container import image
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.system.process import Command, Finished


def engine(monkeypatch: pytest.MonkeyPatch, answer: Callable[[list[str]], str]) -> list[list[str]]:
    """Let podman be the only engine; ``answer`` gets the words, and raises KeyError for a failure."""
    asked: list[list[str]] = []

    def run(command: Command, timeout: float) -> Finished:
        asked.append([str(word) for word in command.argv])
        try:
            return Finished(0, answer(asked[-1]), "")
        except KeyError:
            raise Failure("podman failed") from None

    monkeypatch.setattr("shutil.which", lambda name, path: name == "podman" or None)
    monkeypatch.setattr("gitlab_mm_backup.system.process.run", run)
    return asked


def absent(words: list[str]) -> str:
    raise KeyError(words[0])


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("gitlab/gitlab-ce:19.0.1-ce.0", "19.0.1-ce.0"),
        ("registry.example.org:5000/gitlab-ee:18.11.9-ee.0", "18.11.9-ee.0"),
        *((name, "") for name in ("gitlab/gitlab-ce", "gitlab/gitlab-ce:latest", "x:19")),
        ("gitlab/gitlab-ce@sha256:" + "a" * 64, ""),
    ],
)
def test_a_tag_where_the_image_is_not_here(
    monkeypatch: pytest.MonkeyPatch, reference: str, version: str
) -> None:
    engine(monkeypatch, absent)
    assert image.gitlab_version(reference) == version


def test_the_image_itself_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = engine(
        monkeypatch, lambda words: "gitlab-ee 19.1.0\nruby 3\n" if "run" in words else "[]"
    )
    assert image.gitlab_version("gitlab/gitlab-ce:18.0.0-ce.0") == "19.1.0"
    assert {"--rm", "never", "none"} <= set(asked[-1]), "it is not kept, pulled or connected"


def test_an_image_of_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, lambda words: "no such file")
    assert image.gitlab_version("nginx:1.27.0") == "1.27.0"


@pytest.mark.parametrize("reference", ["", "--privileged", "a b", "a\n", "$(id)"])
def test_no_option_of_a_client_is_an_image(reference: str) -> None:
    with pytest.raises(Failure, match="no name of an image"):
        image.gitlab_version(reference)
