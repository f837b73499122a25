"""`gitlab-mm sso check` names what breaks sign-in, or may break it later, and writes nothing.

Host.check() compares every file before and after, so each test here also shows that nothing was written.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.omnibus import Spec
from tests.lab.sandbox import PYTHON
from tests.system.helpers.sign_in_cases import BROKEN, WARNING, Host, Pair, Seen, host_of, new_pair

SITE = Spec().site_url
SIGNUP, LOGIN = (f"{SITE}/{word}/gitlab/complete" for word in ("signup", "login"))
REFUSED_ROW = {
    ("unknown-application", "environment", BROKEN),
    ("unknown-application", "gitlab-secrets.json", WARNING),
}
NO_FORM = {
    ("unknown-form", "environment", WARNING),
    ("unknown-form", "gitlab-secrets.json", WARNING),
    ("refused", "gitlab", BROKEN),
}
EVALUATED = "/tmp/ruby-was-run"


def redirect(*lines: str, between: str = "\r\n") -> str:
    text = between.join(lines).replace("\r", "\\r").replace("\n", "\\n")
    return f"UPDATE oauth_applications SET redirect_uri = E'{text}'"


# What GitLab holds -> the findings, and whether somebody can sign in.
APPLICATIONS: dict[str, tuple[str, set[Seen], bool]] = {
    "as Omnibus made it": (redirect(SIGNUP, LOGIN), set(), True),
    "renamed": (
        "UPDATE oauth_applications SET name = 'Chat'",
        {("application-renamed", "gitlab", WARNING)},
        True,
    ),
    "deleted": ("DELETE FROM oauth_applications", REFUSED_ROW, False),
    "twice": (
        "INSERT INTO oauth_applications (name, uid, secret, redirect_uri)"
        " SELECT name, 'another', 'another', redirect_uri FROM oauth_applications",
        {("duplicate-applications", "gitlab", WARNING)},
        True,
    ),
    "secret of unknown form": (
        "UPDATE oauth_applications SET secret = '$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA'",
        NO_FORM,
        False,
    ),
    "secret with broken hash": (
        "UPDATE oauth_applications SET secret = '$pbkdf2-sha512$20000$$tooshort'",
        NO_FORM,
        False,
    ),
    "without the second line": (redirect(SIGNUP), {("redirect-missing", "gitlab", WARNING)}, True),
    "without the first line": (redirect(LOGIN), {("redirect-missing", "gitlab", BROKEN)}, False),
    "without any line": (
        redirect(),
        {("redirect-missing", "gitlab", BROKEN), ("redirect-missing", "gitlab", WARNING)},
        False,
    ),
    "LF for CR LF": (
        redirect(SIGNUP, LOGIN, between="\n"),
        {("redirect-line-ends", "gitlab", WARNING)},
        True,
    ),
    "a line end too many": (
        redirect(SIGNUP, LOGIN, ""),
        {("redirect-line-ends", "gitlab", WARNING)},
        True,
    ),
    "https for http": (
        redirect(SIGNUP.replace("http:", "https:"), LOGIN.replace("http:", "https:")),
        {("redirect-scheme", "gitlab", BROKEN), ("redirect-scheme", "gitlab", WARNING)},
        False,
    ),
    "of another host": (
        redirect(SIGNUP.replace("mattermost.", "chat."), LOGIN.replace("mattermost.", "chat.")),
        {("redirect-host", "gitlab", BROKEN), ("redirect-host", "gitlab", WARNING)},
        False,
    ),
}
# Lines of gitlab.rb with I and S for id and secret -> whether they are taken for a pair.
RUBY_LINES = {
    "mattermost['gitlab_id'] = 'I'\nmattermost['gitlab_secret'] = 'S'": True,
    "mattermost[\"gitlab_id\"] = \"I\"\n  mattermost['gitlab_secret']='S' # by hand": True,
    "mattermost['gitlab_id'] = 'old'\nmattermost['gitlab_secret'] = 'old'\n"
    "mattermost['gitlab_id'] = 'I'\nmattermost['gitlab_secret'] = 'S'": True,
    "# mattermost['gitlab_id'] = 'I'\n#mattermost['gitlab_secret'] = 'S'": False,
    f"mattermost['gitlab_id'] = \"#{{`touch {EVALUATED}`}}I\"\nmattermost['gitlab_secret'] = 'S'": False,
    "mattermost['gitlab_id'] = ENV['I']\nmattermost['gitlab_secret'] = 'S'": False,
    f"`touch {EVALUATED}`\nmattermost['gitlab_scope'] = 'S'": False,
}
BAD_JSON = {"empty": b"", "cut": b'{"a": {', "list": b"[]", "latin-1": b'{"a": "\xe9"}'}


# Stands in for GitLab behind TLS: it takes every client, and refuses every code.
TLS_GITLAB = """
import http.server, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(400)
        self.end_headers()
        self.wfile.write(b'{"error": "invalid_grant"}')
server = http.server.HTTPServer(("127.0.0.1", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/certificate.pem", "/run/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Host]:
    """A GitLab 18.11."""
    with host_of(base, deb, Spec()) as host:
        yield host


@pytest.fixture
def host(server: Host) -> Iterator[Host]:
    """The server; its files and its applications are put back afterwards."""
    with server.kept():
        yield server


def own(host: Host) -> Pair:
    """The pair that the server has been using since it was installed."""
    pair = host.pair("environment")
    assert pair is not None
    return pair


def set_variable(host: Host, name: str, value: str) -> None:
    (host.place("environment") / f"MM_{name}").write_text(value)


def append_to_gitlab_rb(host: Host, lines: str, pair: Pair) -> None:
    host.known.add(pair.secret)
    host.omnibus.append_to_gitlab_rb(
        lines.replace("'I'", f"'{pair.id}'")
        .replace('"I"', f'"{pair.id}"')
        .replace("'S'", f"'{pair.secret}'")
    )


@pytest.mark.parametrize("state", APPLICATIONS)
def test_applications(host: Host, state: str) -> None:
    statement, findings, works = APPLICATIONS[state]
    host.sql(statement)
    severities = {severity for _, _, severity in findings}
    checked = host.check()
    assert checked.findings == findings
    assert checked.code == (1 if BROKEN in severities else 4 if findings else 0)
    assert host.signs_in() == works == (checked.code != 1)
    assert checked.document["verdict"] == ("works" if works else "broken")
    assert bool(checked.document["fix"]) is bool(findings)


@pytest.mark.parametrize(
    "state", [state for state, (_, _, works) in APPLICATIONS.items() if not works]
)
def test_the_first_line_is_the_verdict_and_the_fix_works_as_printed(host: Host, state: str) -> None:
    host.restart()  # it may run with what a repair before wrote
    host.sql(APPLICATIONS[state][0])
    told = host.lab.run("gitlab-mm", "sso", "check", check=False).stdout.splitlines()
    assert told[0] == "sign-in is BROKEN"
    assert told[1].startswith("  why: ")
    fix = host.check().document["fix"]
    assert f"  fix: {fix[0]}" in told
    if fix[0].startswith("gitlab-mm "):
        assert host.repair(*fix[0].split()[3:]).code in (0, 4)
    else:
        assert fix[0].startswith("Replace the redirect URIs of 'GitLab Mattermost'")
        host.sql(redirect(*(line.strip() for line in fix[1:])))
    assert host.check().document["verdict"] == "works"
    assert host.lab.run("gitlab-mm", "sso", "check", check=False).stdout.startswith(
        "sign-in works\n"
    )
    assert host.signs_in()


def test_a_site_url_of_https_with_addresses_of_http(host: Host) -> None:
    set_variable(host, "SERVICESETTINGS_SITEURL", SITE.replace("http:", "https:"))
    expected = {("redirect-scheme", "gitlab", BROKEN), ("redirect-scheme", "gitlab", WARNING)}
    assert host.check().findings == expected


def test_a_site_url_with_a_slash_at_its_end_is_the_same(host: Host) -> None:
    set_variable(host, "SERVICESETTINGS_SITEURL", f"{SITE}/")
    assert host.check().findings == set()


def test_a_site_url_with_a_path(host: Host) -> None:
    """Mattermost below a path of another site, whose name is in other letters in GitLab."""
    set_variable(host, "SERVICESETTINGS_SITEURL", f"{SITE}/chat/")
    below = [url.replace(SITE, f"{SITE}/chat") for url in (SIGNUP, LOGIN)]
    host.sql(redirect(*below))
    assert host.check().findings == set()
    host.sql(redirect(*(url.replace("mattermost.", "MATTERMOST.") for url in below)))
    expected = {("redirect-host", "gitlab", BROKEN), ("redirect-host", "gitlab", WARNING)}
    assert host.check().findings == expected


def test_a_scope_that_the_application_lacks(host: Host) -> None:
    set_variable(host, "GITLABSETTINGS_SCOPE", "read_user openid")
    assert host.check().findings == set()
    host.sql("UPDATE oauth_applications SET scopes = 'api read_user'")
    assert host.check().findings == {("scope", "gitlab", BROKEN)}
    set_variable(host, "GITLABSETTINGS_SCOPE", "read_user")
    assert host.check().findings == set()


def test_sign_in_that_is_switched_off(host: Host) -> None:
    set_variable(host, "GITLABSETTINGS_ENABLE", "false")
    checked = host.check()
    assert (checked.code, checked.findings) == (1, {("disabled", "effective", BROKEN)})


@pytest.mark.parametrize("other", ["http://old.example.test", f"{Spec().gitlab_url}.old.test"])
def test_endpoints_of_another_gitlab(host: Host, other: str) -> None:
    places = {
        "AUTHENDPOINT": "/oauth/authorize",
        "TOKENENDPOINT": "/oauth/token",
        "USERAPIENDPOINT": "/api/v4/user",
    }
    for name, path in places.items():
        set_variable(host, f"GITLABSETTINGS_{name}", other + path)
    checked = host.check()
    found = [finding for finding in checked.document["findings"] if finding["severity"] == BROKEN]
    assert [finding["code"] for finding in found] == ["endpoint-elsewhere"] * 3
    assert [finding["detail"].split()[0].upper() for finding in found] == list(places)
    assert (checked.code, checked.document["probe"]) == (1, "unknown")


def test_an_address_of_its_own_for_the_token_endpoint_does_no_harm(host: Host) -> None:
    """GitLab's inner address: that it takes the credentials shows that it is the same GitLab."""
    set_variable(host, "GITLABSETTINGS_TOKENENDPOINT", "http://127.0.0.1:8080/oauth/token")
    checked = host.check()
    expected = {("endpoint-elsewhere", "effective", WARNING)}
    assert (checked.code, checked.findings) == (4, expected)


def test_browsers_sent_to_another_gitlab_are_not_excused_by_the_probe(host: Host) -> None:
    """The probe goes to the token endpoint: it says nothing about where browsers are sent."""
    set_variable(host, "GITLABSETTINGS_AUTHENDPOINT", "http://old.example.test/oauth/authorize")
    checked = host.check()
    assert checked.document["probe"] == "accepted"
    assert (checked.code, checked.findings) == (1, {("endpoint-elsewhere", "effective", BROKEN)})


def test_the_certificate_must_be_one_that_omnibus_trusts(host: Host) -> None:
    name = "gitlab.example.test"
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2")
    files = ("-keyout", "/run/key.pem", "-out", "/run/certificate.pem")
    host.lab.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject)
    process = host.lab.popen(PYTHON, "-c", TLS_GITLAB)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    set_variable(host, "GITLABSETTINGS_TOKENENDPOINT", f"https://{name}:8443/oauth/token")
    distrusted = host.check()
    host.lab.run("cp", "/run/certificate.pem", "/etc/gitlab/trusted-certs/gitlab.crt")
    trusted = host.check()
    host.lab.run("rm", "/etc/gitlab/trusted-certs/gitlab.crt")
    host.lab.send_signal(process, signal.SIGTERM)
    assert (distrusted.document["probe"], trusted.document["probe"]) == ("unknown", "accepted")


@pytest.mark.parametrize("lines", RUBY_LINES)
def test_literal_credentials_in_gitlab_rb(host: Host, lines: str) -> None:
    append_to_gitlab_rb(host, lines, own(host).with_new_secret())
    checked = host.check()
    expected = {("wrong-secret", "gitlab.rb", WARNING)} if RUBY_LINES[lines] else set()
    assert {finding for finding in checked.findings if finding[1] == "gitlab.rb"} == expected
    assert ("gitlab.rb" in checked.sources) == RUBY_LINES[lines]
    assert not host.lab.path(EVALUATED).exists()


def test_a_literal_secret_alone_in_gitlab_rb(host: Host) -> None:
    """Reconfigure takes the id from gitlab-secrets.json and the secret from gitlab.rb."""
    append_to_gitlab_rb(host, "mattermost['gitlab_secret'] = 'S'", own(host).with_new_secret())
    checked = host.check()
    assert (checked.code, checked.findings) == (4, {("wrong-secret", "gitlab.rb", WARNING)})


def test_the_right_credentials_in_gitlab_rb_are_no_finding(host: Host) -> None:
    append_to_gitlab_rb(host, next(iter(RUBY_LINES)), own(host))
    checked = host.check()
    assert (checked.code, checked.findings) == (0, set())
    assert checked.sources["gitlab.rb"] is True


@pytest.mark.parametrize("kind", BAD_JSON)
def test_a_secrets_file_that_cannot_be_read(host: Host, kind: str) -> None:
    host.place("gitlab-secrets.json").write_bytes(BAD_JSON[kind])
    checked = host.check()
    assert (checked.code, checked.findings) == (1, {("unreadable", "gitlab-secrets.json", BROKEN)})
    assert "gitlab-secrets.json" in checked.document["findings"][0]["detail"]


@pytest.mark.parametrize("text", ["{}", '{"mattermost": {}}', '{"mattermost": null}'])
def test_a_secrets_file_without_the_pair(host: Host, text: str) -> None:
    host.place("gitlab-secrets.json").write_text(text)
    checked = host.check()
    assert (checked.code, checked.findings) == (4, {("missing", "gitlab-secrets.json", WARNING)})


# Go, and so Mattermost, reads bytes that are no UTF-8 as U+FFFD (encoding/json).
@pytest.mark.parametrize("kind", [text for text in BAD_JSON if text != "latin-1"])
def test_a_config_json_that_cannot_be_read(host: Host, kind: str) -> None:
    host.place("config.json").write_bytes(BAD_JSON[kind])
    checked = host.gitlab_mm("sso", "check")
    assert checked.code == 1
    assert f"{host.omnibus.home}/config.json" in checked.error()


@pytest.mark.parametrize("text", ["{}", '{"GitLabSettings": {}}', '{"GitLabSettings": null}'])
def test_a_config_json_without_the_section_leaves_the_environment_in_force(
    host: Host, text: str
) -> None:
    host.place("config.json").write_text(text)
    checked = host.check()
    assert (checked.code, checked.findings) == (0, set())
    host.restart()
    assert host.signs_in()


@pytest.mark.parametrize("text", [None, "", "\n", "  \n"])
def test_an_environment_without_the_secret(host: Host, text: str | None) -> None:
    """chpst unsets the variable for a file that is empty, or blank in its first line."""
    path = host.variable("SECRET")
    path.unlink()
    if text is not None:
        path.write_text(text)
    checked = host.check()
    assert (checked.code, checked.findings) == (1, {("no-credentials", "effective", BROKEN)})


def test_halves_of_two_pairs(host: Host) -> None:
    """The environment has lost its id: config.json's is used, with the environment's secret."""
    host.variable("ID").unlink()
    host.put("config.json", new_pair())
    checked = host.check()
    assert checked.code == 1
    broken = {finding[1] for finding in checked.findings if finding[2] == BROKEN}
    assert "environment" in broken, checked.findings


def test_trailing_blanks_and_further_lines_of_a_variable_do_not_count(host: Host) -> None:
    pair = own(host)
    host.variable("SECRET").write_text(f"{pair.secret} \t\nnot read\n")
    host.variable("ID").write_text(f"{pair.id}\n")
    assert host.check().findings == set()


def test_a_gitlab_that_is_down_is_unknown(host: Host) -> None:
    with host.stopped(host.omnibus.spec.generation.web_service):
        checked = host.check()
    assert checked.document["probe"] == checked.document["verdict"] == "unknown"
    assert (checked.code, checked.document["fix"]) == (1, ["gitlab-ctl status"])
    assert not [finding for finding in checked.findings if finding[2] == BROKEN]
    assert set(checked.sources.values()) == {True}


def test_a_database_that_is_down_is_unknown(host: Host) -> None:
    with host.stopped("postgresql"):
        checked, before = host.check(), host.files()
        repaired, rotated, after = host.repair(), host.repair("--rotate"), host.files()
    assert (checked.code, checked.findings) == (1, {("gitlab-unknown", "gitlab", WARNING)})
    assert checked.document["probe"] == checked.document["verdict"] == "unknown"
    assert set(checked.sources.values()) == {None}
    assert (repaired.code, rotated.code, after) == (1, 1, before)
    assert "could not be asked" in repaired.error()
    assert "is not clear which application" not in rotated.error()


def test_the_text_shows_four_characters_of_a_secret(host: Host) -> None:
    secret = own(host).secret
    for verb in ("check", "repair"):
        said = host.lab.run("gitlab-mm", "sso", verb, "--verbose")
        assert f"{secret[:4]}…" in said.stdout
        assert secret[:5] not in said.stdout + said.stderr
