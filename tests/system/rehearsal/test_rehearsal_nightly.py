"""The set of the night is rehearsed as config.yml says, and what is wrong with it reaches cron's mail."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.lab.sandbox import wait_until
from tests.system.helpers.rehearsals import STATE, House, house

CONFIG = "/etc/gitlab-mm-backup/config.yml"
SERVICE = "/opt/gitlab/embedded/service/mattermost"
HOOK = "/usr/lib/gitlab-mm-backup/hooks/post-backup.d/60-rehearse"


@pytest.fixture(scope="module")
def place(base: Path, deb: Path) -> Iterator[House]:
    with house(base, deb) as made:
        yield made
        made.expect_nothing_left()


def night(place: House, *arguments: str) -> tuple[CompletedProcess[str], list[str]]:
    """What cron's command says, and how the rehearsals of its set came out."""
    done = place.lab.run("gitlab-mm-backup", *arguments, check=False)
    newest = next(set_ for set_ in place.product("list").document["sets"] if set_["complete"])
    kept = place.lab.path(f"{newest['path']}/rehearsal.json")
    records = json.loads(kept.read_text())["records"] if kept.exists() else []
    results = [{check["name"]: check["result"] for check in record["checks"]} for record in records]
    return done, [result["boot"] for result in results]


def test_each_night_without_a_word(place: House) -> None:
    for _ in range(2):
        done, booted = night(place, "--if-present", "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert booted == ["passed"]


def test_a_backup_that_somebody_waits_for_is_not_followed_by_one(place: House) -> None:
    done, booted = night(place)
    assert (done.returncode, booted) == (0, [])


def test_off_and_weekly(place: House) -> None:
    place.lab.write(CONFIG, "rehearse: off\n", mode=0o600)
    assert night(place, "--if-present", "--quiet")[1] == []
    place.lab.write(CONFIG, "rehearse: weekly\n", mode=0o600)
    assert night(place, "--if-present", "--quiet")[1] == []
    history = place.lab.path(f"{STATE}/rehearsals.jsonl")
    history.write_text("")
    assert night(place, "--if-present", "--quiet")[1] == ["passed"]
    assert night(place, "--if-present", "--quiet")[1] == []
    place.lab.write(CONFIG, "")


def test_a_set_that_does_not_pass_is_told(place: House) -> None:
    place.lab.write(f"{SERVICE}/misbehave", "exit")
    done, booted = night(place, "--if-present", "--quiet")
    place.lab.path(f"{SERVICE}/misbehave").unlink()
    assert (done.returncode, done.stdout, booted) == (4, "", ["failed"])
    assert "60-rehearse failed" in done.stderr
    assert "boot: Mattermost ended with exit code 1" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whatever_ends_the_backup_ends_its_rehearsal(place: House, number: signal.Signals) -> None:
    """While Mattermost is being started in it, which this one never is to its end."""
    place.lab.write(f"{SERVICE}/misbehave", "silent")
    running = place.lab.popen("gitlab-mm-backup", "--if-present", "--quiet")
    started = ("pgrep", "--euid", "gitlab-mm", "--full", "mattermost --config")
    try:
        wait_until(lambda: place.lab.run(*started, check=False).returncode == 0, 30, "Mattermost")
        place.lab.send_signal(running, number)
        _, told = running.communicate(timeout=30)
    finally:
        place.lab.path(f"{SERVICE}/misbehave").unlink()
    place.expect_nothing_left()
    if number is signal.SIGTERM:
        assert running.returncode == 4
        assert "Interrupted by SIGTERM: the set is made" in told


def test_it_gives_way_to_everybody_else(place: House) -> None:
    """Our program in it is replaced by one that tells its priorities."""
    place.lab.write("/root/bin/gitlab-mm", '#!/bin/sh\nnice; ionice -p $$; echo "$@"\n', mode=0o755)
    variables = {
        "GITLAB_MM_NIGHTLY": "yes",
        "GITLAB_MM_SET_PATH": "/a set",
        "PATH": "/root/bin:/usr/bin:/bin",
    }
    told = place.lab.run(HOOK, env=variables).stdout.splitlines()
    assert told == ["19", "idle", "rehearse --if-due --quiet /a set"]


def test_the_next_backup_does_not_wait_for_the_rehearsal_of_the_last(place: House) -> None:
    place.lab.write(f"{SERVICE}/misbehave", "silent")
    running = place.lab.popen("gitlab-mm-backup", "--if-present", "--quiet")
    started = ("pgrep", "--euid", "gitlab-mm", "--full", "mattermost --config")
    try:
        wait_until(lambda: place.lab.run(*started, check=False).returncode == 0, 30, "Mattermost")
        done = place.lab.run("gitlab-mm-backup", "--if-present", "--quiet", check=False)
        assert running.poll() is None
        place.lab.send_signal(running, signal.SIGTERM)
        running.communicate(timeout=30)
    finally:
        place.lab.path(f"{SERVICE}/misbehave").unlink()
    assert done.returncode == 4, "there is a set, and its own rehearsal is told"
    assert "60-rehearse failed" in done.stderr
    assert "Another rehearsal is running" in done.stderr
    place.expect_nothing_left()
