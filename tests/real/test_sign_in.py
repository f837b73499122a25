"""What `sso check` says is what a browser gets from the real server, and `sso repair` mends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.fakes.oauth import stored
from tests.real.house import START, House
from tests.system.helpers.sign_in_cases import Host, new_pair

SIGNUP = "http://mattermost.example.test/signup/gitlab/complete"
BROKEN = {
    "another secret in GitLab": (f"secret = '{stored('another', 'pbkdf2')}'", "wrong-secret"),
    "another id in GitLab": ("uid = 'another'", "unknown-application"),
    "an address that GitLab does not know": (
        f"redirect_uri = '{SIGNUP.replace('mattermost', 'elsewhere')}'",
        "redirect-missing",
    ),
}


@contextmanager
def host_of(house: House) -> Iterator[Host]:
    """The house as the sign-in tests see it; all is put back at the end, and Mattermost restarted."""
    host = Host(house.gitlab)
    with host.kept():
        yield host
    house.stop()
    house.start()


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_broken_in_a_browser(house: House, name: str) -> None:
    change, code = BROKEN[name]
    with host_of(house) as host:
        assert (host.check().code, host.signs_in()) == (0, True)
        host.sql(f"UPDATE oauth_applications SET {change}")
        answer = host.check()
        assert (answer.code, host.signs_in()) == (1, False)
        assert code in {finding[0] for finding in answer.findings}, answer


def test_a_pair_that_gitlab_has_is_found_and_written(house: House) -> None:
    """As after `gitlab-backup restore` on another host: the environment has this host's own."""
    with host_of(house) as host:
        right = new_pair()
        host.put("gitlab-secrets.json", right)
        host.accept(right, "pbkdf2")
        assert (host.check().code, host.signs_in()) == (1, False)
        assert host.repair().code in (0, 4)
        house.gitlab.wait_until_ready(START)
        assert host.pair("environment") == right
        assert host.signs_in() is True
        assert host.check().code in (0, 4)


def test_a_pair_that_is_nowhere_is_made_anew(house: House) -> None:
    with host_of(house) as host:
        host.accept(new_pair(), "pbkdf2")
        assert host.repair().code == 1
        assert host.signs_in() is False
        assert host.repair("--rotate").code in (0, 4)
        house.gitlab.wait_until_ready(START)
        assert host.signs_in() is True
