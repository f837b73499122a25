"""The lab's GitLab and Mattermost behave as the real ones do at the edges that a backup touches."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fakes import oauth
from tests.lab.omnibus import Omnibus, SignInFailed, Spec, install
from tests.lab.sandbox import Lab

SECRET = "gitlab-mm-backup-example-secret"
PBKDF2 = (
    "$pbkdf2-sha512$20000$$S.JvcwU9POo3HfdHyYMEuDawMNJnIGMg1ZzWsMdPn0WZB62S7L2XfJRPV7WCA"
    "/BOlNty9BQSqf/vwrTPQV.20A"
)
SHA512 = (
    "117079a7cebb87d8e9f92f45ba20729ec75e3b15c7a207999a647508546a3fce"
    "575bd894e9e88b5cb5de50676a2bc40836754527fb5cbbce0826334a0982e483"
)
SECRET_FILE = "/opt/gitlab/etc/mattermost/env/MM_GITLABSETTINGS_SECRET"
MODES_1811 = {
    "/var/opt/gitlab/mattermost": "mattermost:root 755",
    "/var/opt/gitlab/mattermost/data": "mattermost:root 755",
    "/var/opt/gitlab/mattermost/plugins": "mattermost:root 755",
    "/var/opt/gitlab/mattermost/client-plugins": "mattermost:root 755",
    "/var/opt/gitlab/mattermost/config.json": "mattermost:root 600",
    "/var/opt/gitlab/mattermost/VERSION": "root:root 644",
    "/opt/gitlab/etc/mattermost/env": "root:root 755",
    SECRET_FILE: "root:root 644",
    "/var/log/gitlab/mattermost": "mattermost:root 755",
    "/var/log/gitlab/mattermost/mattermost.log": "mattermost:mattermost 644",
    "/opt/gitlab/embedded/service/mattermost/VERSION": "root:root 644",
    "/etc/gitlab": "root:root 775",
    "/etc/gitlab/gitlab-secrets.json": "root:root 600",
    "/etc/gitlab/config_backup": "root:root 700",
    "/var/opt/gitlab/backups": "git:git 700",
    "/var/opt/gitlab/gitlab-rails/etc/gitlab.yml": "root:git 640",
    "/var/opt/gitlab/public_attributes.json": "root:root 644",
    "/opt/gitlab/etc/gitlab-psql-rc": "root:root 644",
    "/var/opt/gitlab/postgresql/data": "gitlab-psql:gitlab-psql 700",
    "/var/opt/gitlab/node-exporter/textfile_collector": "gitlab-prometheus:gitlab-prometheus 755",
}
MODES_105 = {
    "/var/opt/gitlab/mattermost": "mattermost:root 755",
    "/var/opt/gitlab/mattermost/config.json": "mattermost:root 644",
    "/var/opt/gitlab/mattermost/env/SSL_CERT_DIR": "root:root 644",
    "/var/opt/gitlab/gitlab-rails/etc/gitlab.yml": "root:root 644",
}


@pytest.fixture(scope="module")
def recent(base: Path) -> Iterator[Omnibus]:
    """A GitLab 18.11; a test that changes it puts it right again."""
    with Lab(base=base) as lab:
        yield install(lab, Spec())


@pytest.fixture(scope="module")
def old(base: Path) -> Iterator[Omnibus]:
    """A GitLab 10.5; a test that changes it puts it right again."""
    with Lab(base=base) as lab:
        yield install(lab, Spec(version="10.5.x"))


@pytest.fixture(params=["10.5", "18.11"])
def either(request: pytest.FixtureRequest) -> Omnibus:
    """The oldest and the newest kind of server."""
    omnibus = request.getfixturevalue({"10.5": "old", "18.11": "recent"}[request.param])
    assert isinstance(omnibus, Omnibus)
    return omnibus


def ask_for_token(omnibus: Omnibus, secret: str, code: str = "made-up") -> tuple[int, str]:
    """Status and error of a token request with this secret."""
    identifier = omnibus.secrets()["mattermost"]["gitlab_id"]
    form = (
        f"client_id={identifier}&client_secret={secret}&code={code}&grant_type=authorization_code"
    )
    address = f"{omnibus.spec.gitlab_url}/oauth/token"
    curl = (
        "curl",
        "-s",
        "--noproxy",
        "*",
        "-w",
        "\n%{http_code}",
        "--data",
        f"{form}&redirect_uri=x",
    )
    body, _, status = omnibus.lab.run(*curl, address).stdout.rpartition("\n")
    return int(status), json.loads(body)["error"]


def owners_and_modes(omnibus: Omnibus, places: dict[str, str]) -> dict[str, str]:
    lines = omnibus.lab.run("stat", "-c", "%n|%U:%G %a", *places).stdout.splitlines()
    return {name: rest for name, _, rest in (line.partition("|") for line in lines)}


def assert_matches(pattern: str, text: str) -> None:
    assert re.fullmatch(pattern, text), text


def test_secrets_are_hashed_as_gitlab_hashes_them() -> None:
    assert oauth.stored(SECRET, "pbkdf2") == PBKDF2
    assert oauth.stored(SECRET, "sha512") == SHA512
    assert all(oauth.matches(SECRET, value) for value in (PBKDF2, SHA512, SECRET))
    assert not any(oauth.matches("another", value) for value in (PBKDF2, SHA512, SECRET, ""))


def test_sign_in_goes_through_gitlab_and_makes_an_account(either: Omnibus) -> None:
    session = either.sign_in("bob")
    assert session.me()["auth_service"] == "gitlab"
    columns = "authservice || '/' || authdata || '/' || password"
    found = either.sql(f"SELECT {columns} FROM users WHERE username = 'bob'")
    assert found == ["gitlab/43/"]
    assert either.sign_in("bob").user_id == session.user_id


def test_the_application_row_is_as_omnibus_looks_it_up(either: Omnibus) -> None:
    columns = (
        "name || '|' || uid || '|' || replace(replace(redirect_uri, E'\\r', '^M'), E'\\n', '^J')"
    )
    rows = either.sql(f"SELECT {columns} FROM oauth_applications", "gitlabhq_production")
    identifier, site = either.secrets()["mattermost"]["gitlab_id"], either.spec.site_url
    lines = f"{site}/signup/gitlab/complete^M^J{site}/login/gitlab/complete"
    assert rows == [f"GitLab Mattermost|{identifier}|{lines}"]
    assert len(identifier) == (64 if either.spec.version.startswith("10.") else 43)


def test_token_requests_tell_a_wrong_secret_from_a_wrong_code(either: Omnibus) -> None:
    secret = either.secrets()["mattermost"]["gitlab_secret"]
    assert ask_for_token(either, secret) == (400, "invalid_grant")
    assert ask_for_token(either, f"{secret}x") == (401, "invalid_client")


def test_a_wrong_secret_in_the_environment_breaks_sign_in_until_reconfigure(
    recent: Omnibus,
) -> None:
    recent.lab.path(SECRET_FILE).write_text("wrong")
    recent.restart_mattermost()
    with pytest.raises(SignInFailed, match="Bad response from token request") as failure:
        recent.sign_in("alice")
    assert (failure.value.status, failure.value.url.rpartition("/signup")[2]) == (
        500,
        "/gitlab/complete",
    )
    log = recent.lab.read("/var/log/gitlab/mattermost/mattermost.log")
    assert "invalid_client" in log.splitlines()[-1]
    recent.reconfigure()
    recent.sign_in("alice")


def test_a_wrong_address_is_refused_by_gitlab(recent: Omnibus) -> None:
    site_file = recent.lab.path(f"{recent.env_folder}/MM_SERVICESETTINGS_SITEURL")
    before = site_file.read_text()
    site_file.write_text("http://mattermost.example.test:80")
    recent.restart_mattermost()
    with pytest.raises(SignInFailed, match="redirect URI") as failure:
        recent.sign_in("alice")
    assert failure.value.url.endswith("/oauth/authorize")
    recent.reconfigure()
    assert site_file.read_text() == before


def test_reconfigure_keeps_config_json_and_rules_the_environment(recent: Omnibus) -> None:
    config, folder = (
        recent.lab.path(f"{recent.home}/config.json"),
        recent.lab.path(recent.env_folder),
    )
    changed = config.read_text().replace('"Mattermost"', '"Ours"', 1)
    config.write_text(changed)
    before = recent.environment()
    (folder / "MM_OF_THE_ADMIN").write_text("1")
    (folder / "MM_TEAMSETTINGS_SITENAME").write_text("stray")
    recent.reconfigure()
    assert config.read_text() == changed
    assert recent.environment() == before


def test_reconfigure_of_10_renders_config_json_and_has_no_mm_files(old: Omnibus) -> None:
    before = old.config()
    assert list(old.environment()) == ["SSL_CERT_DIR"]
    config = old.lab.path(f"{old.home}/config.json")
    config.write_text(config.read_text().replace(before["GitLabSettings"]["Secret"], "wrong"))
    old.restart_mattermost()
    with pytest.raises(SignInFailed):
        old.sign_in("alice")
    old.reconfigure()
    assert old.config() == before
    old.sign_in("alice")


def test_environment_values_win_over_config_json(recent: Omnibus) -> None:
    config, environment = recent.config(), recent.environment()
    assert config["SqlSettings"]["DataSource"].startswith("postgres://mmuser:")
    assert config["ServiceSettings"]["SiteURL"] == ""
    assert len(config["FileSettings"]["PublicLinkSalt"]) == 32
    assert (
        config["SqlSettings"]["AtRestEncryptKey"] != environment["MM_SQLSETTINGS_ATRESTENCRYPTKEY"]
    )
    assert environment["MM_GITLABSETTINGS_SCOPE"] == ""
    text = recent.lab.read(f"{recent.home}/config.json")
    assert not text.endswith("\n")
    assert "\\u0026connect_timeout" in text


def test_node_files_have_each_versions_names(recent: Omnibus, old: Omnibus) -> None:
    nodes = {}
    for omnibus in (recent, old):
        found = list(omnibus.lab.path("/opt/gitlab/embedded/nodes").iterdir())
        nodes[omnibus.spec.version] = json.loads(found[0].read_text())
        assert (len(found), stat.S_IMODE(found[0].stat().st_mode)) == (1, 0o600)
    new, first = nodes["18.11.9"], nodes["10.5.x"]
    assert (
        new["default"]["postgresql"]["port"]
        == first["default"]["gitlab"]["postgresql"]["port"]
        == 5432
    )
    assert {"gitlab_rails"} <= set(new["default"]["gitlab"])
    assert {"gitlab-rails", "postgresql"} <= set(first["default"]["gitlab"])
    assert new["normal"]["mattermost"]["enable"] is True
    assert not old.lab.path("/var/opt/gitlab/public_attributes.json").exists()


def test_owners_and_modes_are_omnibuss(recent: Omnibus, old: Omnibus) -> None:
    assert owners_and_modes(recent, MODES_1811) == MODES_1811
    assert owners_and_modes(old, MODES_105) == MODES_105
    entries = [
        omnibus.lab.run("getent", "passwd", "mattermost").stdout for omnibus in (recent, old)
    ]
    assert [entry.strip().rpartition(":")[2] for entry in entries] == [
        "/usr/sbin/nologin",
        "/bin/sh",
    ]


def test_postgresql_lets_in_by_peer_and_map_only(recent: Omnibus) -> None:
    ask = ("psql", "-h", "/var/opt/gitlab/postgresql", "-At", "-c", "SELECT current_user", "-d")
    assert recent.lab.run("gitlab-psql", "-At", "-c", "SHOW statement_timeout").stdout == "1min\n"
    chpst = ("chpst", "-u", "mattermost")
    mine = recent.lab.run(*chpst, *ask, "mattermost_production", "-U", "gitlab_mattermost")
    assert mine.stdout == "gitlab_mattermost\n"
    refused = [
        ("mattermost", "gitlab"),
        ("git", "gitlab_mattermost"),
        ("root", "gitlab_mattermost"),
    ]
    for user, role in [*refused, ("root", "gitlab-psql"), ("root", "root")]:
        options = ("chpst", "-u", user, *ask, "mattermost_production", "-U", role)
        assert recent.lab.run(*options, check=False).returncode == 2


def test_status_has_the_forms_of_runit(either: Omnibus) -> None:
    number = r"\(pid \d+\) \d+s"
    words = either.gitlab_ctl("status", "mattermost")
    assert_matches(rf"run: mattermost: {number}; run: log: {number}\n", words.stdout)
    assert_matches(
        r"ok: down: mattermost: \d+s, normally up\n", either.gitlab_ctl("stop", "mattermost").stdout
    )
    down = either.gitlab_ctl("status", "mattermost", check=False)
    assert_matches(rf"down: mattermost: \d+s, normally up; run: log: {number}\n", down.stdout)
    assert down.returncode == (0 if either.spec.version.startswith("10.") else 3)
    assert_matches(
        rf"ok: run: mattermost: {number}\n", either.gitlab_ctl("start", "mattermost").stdout
    )
    either.wait_until_ready()


def test_a_service_that_is_not_enabled_is_passed_over_in_silence(recent: Omnibus) -> None:
    for verb in ("status", "stop", "start", "restart"):
        done = recent.gitlab_ctl(verb, "alertmanager")
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_service_without_its_supervisor_fails(recent: Omnibus) -> None:
    stray = recent.lab.path("/opt/gitlab/service") / "stray"
    stray.symlink_to("/opt/gitlab/sv/stray")
    recent.lab.run("mkdir", "-p", "/opt/gitlab/sv/stray/supervise")
    recent.lab.run("mkfifo", "/opt/gitlab/sv/stray/supervise/ok")
    (recent.lab.path("/opt/gitlab/init") / "stray").symlink_to("/opt/gitlab/embedded/bin/sv")
    done = recent.gitlab_ctl("stop", "stray", check=False)
    stray.unlink()
    assert (done.stdout, done.returncode) == ("fail: stray: runsv not running\n", 1)


def test_backup_etc_keeps_names_and_skips_itself(recent: Omnibus, old: Omnibus) -> None:
    recent.gitlab_ctl("backup-etc")
    archives = list(recent.lab.path("/etc/gitlab/config_backup").iterdir())
    assert_matches(r"gitlab_config_\d{10}_\d{4}_\d\d_\d\d\.tar", archives[0].name)
    assert stat.S_IMODE(archives[0].stat().st_mode) == 0o600
    names = recent.lab.run("tar", "-Ptf", f"/etc/gitlab/config_backup/{archives[0].name}").stdout
    assert "/etc/gitlab/gitlab-secrets.json" in names.splitlines()
    assert "config_backup" not in names
    assert old.gitlab_ctl("backup-etc", check=False).returncode == 1
